#!/usr/bin/env bash
# The command line: commands, options, settings, migrations, and what it says when something
# is wrong: one line that names it, and an exit code.
#
#   test/cli/cli_test.sh BINARY
#
# TEST_DATABASE_URL (the owner), TEST_APP_DATABASE_URL and TEST_REDIS_URL name the servers.
set -euo pipefail

# shellcheck source=test/cli/asserts.sh
source "$(dirname "${BASH_SOURCE[0]}")/asserts.sh"

servers=()
database=omade_cli_test_$$

: "${TEST_DATABASE_URL:?is not set: run ./omade test}"
: "${TEST_APP_DATABASE_URL:?is not set}" "${TEST_REDIS_URL:?is not set}"

with_database() { # URL NAME: the URL of another database of the same server
  local query=''
  [[ $1 != *\?* ]] || query="?${1#*\?}"
  local base=${1%%\?*}
  printf '%s/%s%s' "${base%/*}" "$2" "$query"
}

sql() { # URL SQL
  PGOPTIONS='-c client_min_messages=warning' psql -XqAt -v ON_ERROR_STOP=1 "$1" -c "$2"
}
owner_sql() { sql "$(with_database "$TEST_DATABASE_URL" postgres)" "$1"; }

clean_up() {
  local status=$? pid
  for pid in "${servers[@]}"; do
    kill -TERM "$pid" 2>/dev/null || continue
    wait "$pid" 2>/dev/null || true
  done
  owner_sql "DROP DATABASE IF EXISTS $database WITH (FORCE)" || true
  rm -rf "$work"
  exit "$status"
}
trap clean_up EXIT

# A home of its own: tests write its .env and its migrations.
mkdir -p "$work/home/migrations"
ln -s "$home/lua" "$home/seeds" "$work/home/"
cp "$home"/migrations/*.sql "$work/home/migrations/"

owner_sql "CREATE DATABASE $database"
unset WORKERS PORT HOST LOG_LEVEL LOG_FORMAT ALLOW_OWNER
export OMADE_HOME=$work/home LOG_LEVEL=info
DATABASE_URL=$(with_database "$TEST_DATABASE_URL" "$database")
APP_DATABASE_URL=$(with_database "$TEST_APP_DATABASE_URL" "$database")
export DATABASE_URL APP_DATABASE_URL REDIS_URL=$TEST_REDIS_URL
export CURL_TRACES=$work/traces PATH=$home/test/curl:$PATH      # what curl is answered is checked
mkdir "$CURL_TRACES"
if [[ $DATABASE_URL =~ ://[^:/@]*:([^@/]*)@ ]]; then secret=${BASH_REMATCH[1]}; else secret=''; fi

# ---- a server --------------------------------------------------------------------------

# A server in the background: its log is $work/NAME.log, its port is $port.
port='' server=''
start() { # NAME ENVIRONMENT... VERB ARGUMENTS...
  local name=$1 environment=() i
  shift
  while [[ $1 == *=* ]]; do
    environment+=("$1")
    shift
  done
  : >"$work/$name.log"
  env "${environment[@]}" "$binary" "$@" >"$work/$name.log" 2>&1 &
  server=$!
  servers+=("$server")
  port=''
  for ((i = 0; i < 600; i++)); do
    port=$(sed -n 's/.* serving .*port=\([0-9]*\).*/\1/p' "$work/$name.log" | head -n 1)
    [[ -z $port ]] || return 0
    kill -0 "$server" 2>/dev/null || break
    sleep 0.05
  done
  cat "$work/$name.log"
  return 1
}

stop() {
  code=0
  kill -TERM "$server" && wait "$server" || code=$?
  servers=()
  return "$code"
}

answers() { # PATH: a 200
  [[ $(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$port$1") == 200 ]]
}

conforms() { # what curl was answered is as openapi.json says
  curl -s -o "$work/openapi.json" "http://127.0.0.1:$port/api/openapi.json"
  lua5.4 "$home/test/api/lib/conforms.lua" "$work/openapi.json"
}

# ---- help ------------------------------------------------------------------------------

for arguments in help --help -h ''; do
  # shellcheck disable=SC2086 # no argument at all is one of the cases
  omade $arguments
  check "help: exit 0 ($arguments)" ended 0
  for verb in serve dev migrate seed user routes config help; do
    check "help lists $verb ($arguments)" out_has "^ +$verb +[a-z]"
  done
done
omade PORT=banana OMADE_HOME=/nonexistent help
check 'help needs no settings and no home' ended 0
for verb in serve dev migrate seed user routes config help; do
  for option in --help -h; do
    omade "$verb" "$option"
    check "$verb $option" ended 0
    check "$verb $option tells the usage" out_has "^usage: omade $verb"
  done
done

# ---- usage -----------------------------------------------------------------------------

omade banana
check 'unknown command' complains 2 "banana"
for verb in serve dev routes migrate config seed help; do
  omade "$verb" --banana
  check "$verb: unknown option" complains 2 "--banana|up, down or status"
done
for verb in serve dev routes; do
  omade "$verb" "$home/examples/hello" "$home/examples/echo"
  check "$verb: two app folders" complains 2 'echo.*usage:'
done
for option in --port --host --workers; do
  omade serve "$option"
  check "$option without its value" complains 2 "$option"
done
omade serve --port banana
check '--port banana' complains 2 "PORT is 'banana'"
omade serve --port=65536
check '--port=65536' complains 2 'PORT.*65535'
omade serve --portable=1
check 'an option that begins like another' complains 2 'portable'
omade migrate sideways
check 'migrate sideways' complains 2 'up, down or status'
omade migrate up down
check 'migrate up down' complains 2 'up, down or status'
omade seed everything
check 'seed everything' complains 2 'everything'
omade config everything
check 'config everything' complains 2 'everything'

# ---- settings --------------------------------------------------------------------------

for wrong in PORT=banana PORT=-1 PORT=3000x DB_CONNECTIONS=0 DB_CONNECTIONS=1e3 WATCH=perhaps \
  SCRIPT_MEMORY=99999999999999999999; do
  omade "$wrong" serve
  check "serve with $wrong" complains 1 "^omade: ${wrong%%=*} "
done
for wrong in LOG_LEVEL=x LOG_LEVEL=warn\|error LOG_FORMAT=xml DATABASE_URL=banana \
  APP_DATABASE_URL=http://x DATABASE_LISTEN_URL=banana; do
  for verb in serve config routes; do
    omade "$wrong" "$verb"
    check "$verb with $wrong" complains 1 "^omade: ${wrong%%=*} "
  done
done
for wrong in TAX_RATE=banana TAX_RATE=-1 TAX_RATE=100.01 TAX_RATE=8.87505 DELIVERY_FEE=-1 DELIVERY_FREE_FROM=-1 MINIMUM_ORDER=-1 \
  SHOP_CURRENCY=euro CLOSED_DAYS=sonday CLOSED_DAYS=2026-02-30 PAYMENT_METHODS=cash,shells \
  PAYMENT_URL_TEMPLATE=banana PUBLIC_URL=banana OUTBOX_WEBHOOK_URL=banana MAIL_FROM=banana BCRYPT_COST=16; do
  omade "$wrong" routes
  check "routes with $wrong, a setting of the app" complains 1 "${wrong%%=*} is '${wrong#*=}'"
done
omade FACEBOOK_CLIENT_ID=banana routes
check 'a sign-in without its issuer' complains 1 'FACEBOOK_CLIENT_ID needs FACEBOOK_ISSUER and FACEBOOK_JWKS'
omade CLOSED_DAYS=Sunday,2026-12-25 TAX_RATE=8.875 PAYMENT_METHODS=cash DELIVERY_FEE=0 routes
check 'routes with settings of the app' ended 0
omade RATE_LIMITS=banana serve --port 0
check 'serve with RATE_LIMITS=banana' complains 1 "^omade: RATE_LIMITS is 'banana'"
omade UPLOAD_DIR=/proc/none/uploads serve --port 0
check 'serve with an UPLOAD_DIR that is not there' complains 1 "^omade: UPLOAD_DIR '/proc/none/uploads'"
for wrong in banana 0 1001; do
  omade OMADE_TIME_SCALE=$wrong config
  check "OMADE_TIME_SCALE=$wrong" complains 1 "^omade: OMADE_TIME_SCALE is '$wrong', but must be a whole number from 1 to 1000"
done
omade OMADE_HOME=/nonexistent config
check 'OMADE_HOME that is no home' complains 1 'OMADE_HOME'

omade config
check 'config' ended 0
settings=$(grep -oE '\b(TEXT|NUMBER|FLAG|CHOICE|SECRET|DATABASE|PROXIES)\([a-z_]+, "[A-Z_]+"' "$home/core/config.h" | cut -d'"' -f2)
check 'there are settings' test "$(wc -l <<<"$settings")" -gt 30
for name in $settings; do check "config lists $name" out_has "^$name +[^ ]"; done
check 'config lists nothing else' test "$(grep -cE '^[A-Z]' "$work/out")" == "$(wc -l <<<"$settings")"
check 'config prints no secret' not grep -qF "${secret:-omade_owner}" "$work/out"
check 'config tells that a secret is set' out_has '^DATABASE_URL +\(set\)'
check 'config tells units and defaults' out_has '\(default 20000 ms\)'
check 'config tells choices' out_has 'debug\|info\|warn\|error\|off \(default info\)'
omade PORT=4321 config
check 'config prints what the environment says' out_has '^PORT +4321'

cat >"$work/home/.env" <<'ENV'
# comments and empty lines do not count

PORT=4001
export WORKERS = 3
SHOP_TIMEZONE="Europe/Rome"
LOG_FORMAT='json'
MY_OWN=1
ENV
omade config
check '.env: NAME=value' out_has '^PORT +4001$'
check '.env: export, spaces' out_has '^WORKERS +3$'
check '.env: quotation marks' out_has '^SHOP_TIMEZONE +Europe/Rome$'
check '.env: apostrophes' out_has '^LOG_FORMAT +json$'
omade PORT=4002 config
check 'the environment wins over .env' out_has '^PORT +4002$'
echo 'banana' >>"$work/home/.env"
omade config
check 'a wrong line of .env' complains 1 '\.env, line 8'
echo 'PORT=banana' >"$work/home/.env"
omade config
check 'a wrong value in .env' complains 1 "PORT is 'banana'"
rm "$work/home/.env"

# ---- routes ----------------------------------------------------------------------------

for lacks in APP_DATABASE_URL DATABASE_URL REDIS_URL; do unset_one+=(-u "$lacks"); done
code=0
env "${unset_one[@]}" "$binary" routes >"$work/out" 2>"$work/err" || code=$?
check 'routes, without any service' ended 0
check 'routes: the list of products' out_has '^GET +/api/v1/products +anyone'
for method in POST PATCH DELETE; do
  path=/api/v1/products
  [[ $method == POST ]] || path=$path/:id
  check "routes: $method $path" out_has "^$method +$path +.*(staff|admin)"
done
check 'routes: one product' out_has '^GET +/api/v1/products/:id +anyone'
check 'routes: nobody is forgotten' not out_has '^[A-Z]+ +/[^ ]* *$'
omade routes "$home/examples/hello"
check 'routes of another app' out_has '^GET +/ +anyone'
check 'routes of another app: one' test "$(wc -l <"$work/out")" == 1

# ---- apps that do not load ---------------------------------------------------------------

mkdir -p "$work"/apps/{empty,syntax,fails}
printf 'return {\n  routes = = 3 }\n' >"$work/apps/syntax/app.lua"
printf '\n\nerror("no luck")\n' >"$work/apps/fails/app.lua"
for verb in serve dev routes; do
  omade "$verb" "$work/apps/absent"
  check "$verb: no such app folder" complains 1 "apps/absent"
  omade "$verb" "$work/apps/empty"
  check "$verb: no app.lua" complains 1 'no app.lua.*apps/empty'
done
omade routes "$work/apps/syntax"
check 'routes: a syntax error' test "$code" == 1
check 'routes: a syntax error has its place' err_has 'app\.lua:2: '

# ---- migrations --------------------------------------------------------------------------

newest=$(basename "$(printf '%s\n' "$home"/migrations/*.sql | sort | tail -n 1)" .sql)
count=$(find "$home/migrations" -name '*.sql' | wc -l)
omade DATABASE_URL= migrate
check 'migrate without DATABASE_URL' complains 1 'DATABASE_URL is not set'
omade DATABASE_URL=postgres://nobody@127.0.0.1:1/x migrate
check 'migrate: nobody is there' complains 1 'DATABASE_URL.*(refused|connect)'
omade DATABASE_URL=postgres://nobody@127.0.0.1:1/x seed
check 'seed: nobody is there' complains 1 'DATABASE_URL.*(refused|connect)'
omade serve --port 0
check 'serve without migrations' complains 1 'omade migrate up'
omade migrate status
check 'status of an empty database' out_has "^missing +$newest$"

# Two at once: both succeed, and each file is applied once.
"$binary" migrate up >"$work/one" 2>&1 &
one=$!
"$binary" migrate up >"$work/two" 2>&1 &
two=$!
both=0
wait $one || both=1
wait $two || both=1
cat "$work/one" "$work/two" >"$work/out"
check 'two migrate at once' test $both == 0
check 'one of them applied' test "$(grep -c '^applied ' "$work/out")" == "$count"
check 'the other found nothing to do' out_has 'up to date'

omade migrate
check 'migrate again' out_has 'up to date'
check 'migrate again: exit 0' ended 0
omade migrate status
check 'status' out_has "^applied +$newest$"
check 'status: nothing is missing' not out_has '^missing'

for again in first second; do
  omade seed
  check "seed, the $again time" ended 0
  rows=$(sql "$DATABASE_URL" 'SELECT (SELECT count(*) FROM products) || $$ $$ || (SELECT count(*) FROM users)')
  check "seed has products and users, the $again time" test "${rows%% *}" -gt 0
  [[ $again == second ]] || first_rows=$rows
done
check 'seeding twice adds nothing' test "$rows" == "$first_rows"

# ---- users: the first admin ------------------------------------------------------------

signs_in() { # E-MAIL PASSWORD
  [[ $(curl -s -o /dev/null -w '%{http_code}' -H 'Content-Type: application/json' \
    -d "{\"email\":\"$1\",\"password\":\"$2\"}" "http://127.0.0.1:$port/api/v1/auth/login") == 200 ]]
}

omade BCRYPT_COST=4 user add --role admin --email Boss@cli.example --name 'The Boss'
check 'user add' out_has '^boss@cli.example is admin now$'
first_password=$(sed -n 's/^password: //p' "$work/out")
omade user add --role=admin --email=boss@cli.example
check 'user add: the address is taken' complains 1 'boss@cli.example has an account already'
check 'user add, the password from a pipe' test "$(BCRYPT_COST=4 "$binary" user add --role=staff \
  --email=piped@cli.example --password-stdin <<<'Crumb-les!42')" == 'piped@cli.example is staff now'
for weak in Aa1! 'Password1!' crumb-les42 ''; do
  check "user add: the password '$weak'" not "$binary" user add --role=staff \
    --email=weak@cli.example --password-stdin <<<"$weak" 2>"$work/err" >"$work/out"
  check "user add: why not '$weak'" err_has '^omade user: the password (must|is too common)'
done
for wrong in '' remove 'add --role king --email a@cli.example' 'add --role admin' 'add --email a@cli.example' \
  'add --role admin --email banana' 'add --role' 'add --frob' 'add --role admin --email a@cli.example --name x'; do
  # shellcheck disable=SC2086 # words
  omade user $wrong
  check "user $wrong" complains 2 'usage: omade user add'
done
omade BCRYPT_COST=99 user add --role admin --email cost@cli.example
check 'user add: BCRYPT_COST' complains 1 "BCRYPT_COST is '99'"
check 'user add leaves traces, no password' test "$(sql "$DATABASE_URL" \
  "SELECT string_agg(changes ->> 'role', ' ' ORDER BY id) FROM audit_log WHERE action = 'user.create'")" == 'admin staff'
check 'serve for them' start users serve --host 127.0.0.1 --port 0 --workers 1
check 'the printed password signs in' signs_in boss@cli.example "$first_password"
check 'the piped one, too' signs_in piped@cli.example 'Crumb-les!42'
check 'another does not' not signs_in boss@cli.example 'Crumb-les!42'
check 'signing in: as openapi.json says' conforms
check 'the server for them ends' stop

echo '-- a change' >>"$work/home/migrations/$newest.sql"
for verb in up status down; do
  omade migrate $verb
  check "migrate $verb: an applied file was changed" complains 1 "$newest.*changed"
done
cp "$home/migrations/$newest.sql" "$work/home/migrations/"

printf 'SELECT 1;\nSELECT banana;\n' >"$work/home/migrations/999_wrong.sql"
omade migrate up
check 'a migration that fails' complains 1 '999_wrong.*banana'
omade migrate status
check 'a migration that fails is not recorded' out_has '^missing +999_wrong$'
printf 'CREATE TABLE cli_test ();\n' >"$work/home/migrations/999_wrong.sql"
omade migrate up
check 'a new migration' out_has '^applied 999_wrong$'
omade migrate down
check 'no way down' complains 1 '999_wrong.*-- down'
rm "$work/home/migrations/999_wrong.sql"
sql "$DATABASE_URL" "DROP TABLE cli_test; DELETE FROM schema_migrations WHERE name = '999_wrong'"
omade migrate down
check 'migrate down' out_has "^undid $newest$"
omade migrate down
for _ in $(seq 2 "$count"); do omade migrate down; done
check 'migrate down, nothing left' out_has 'nothing is applied'
omade migrate up
check 'migrate up again' ended 0
omade seed
check 'seed again' ended 0

# ---- serve -------------------------------------------------------------------------------

for lacks in APP_DATABASE_URL REDIS_URL; do
  omade "$lacks=" serve --port 0
  check "serve without $lacks" complains 1 "^omade: $lacks is not set"
done
omade APP_DATABASE_URL="$DATABASE_URL" serve --port 0
check 'serve as the owner' complains 1 'ALLOW_OWNER'
omade APP_DATABASE_URL="$(sed -E 's#(://[^:/@]*)(:[^@]*)?@#\1:wrong@#' <<<"$APP_DATABASE_URL")" serve --port 0
check 'a wrong password' complains 1 'APP_DATABASE_URL.*password'
omade APP_DATABASE_URL=postgres://app_user:x@127.0.0.1:1/x serve --port 0
check 'PostgreSQL is not there' complains 1 'APP_DATABASE_URL.*(refused|connect)'
omade APP_DATABASE_URL="$(with_database "$APP_DATABASE_URL" omade_absent)" serve --port 0
check 'the database is not there' complains 1 'omade_absent'
omade REDIS_URL=banana serve --port 0
check 'a wrong REDIS_URL' complains 1 'REDIS_URL'
omade SHOP_TIMEZONE=Europe/Banana serve --port 0
check 'a time zone that is none' complains 1 "SHOP_TIMEZONE is 'Europe/Banana'"
omade SHOP_TIMEZONE="UTC -c x=y" serve --port 0
check 'a time zone that is an option' complains 1 "SHOP_TIMEZONE is 'UTC -c x=y'"
omade HOST=banana.invalid serve --port 0
check 'a wrong HOST' complains 1 "HOST 'banana.invalid'"
omade serve "$work/apps/syntax" --port 0
check 'serve: a syntax error' complains 1 'app\.lua:2: '
omade serve "$work/apps/fails" --port 0
check 'serve: an error while it loads' test "$code" == 1
check 'serve: an error while it loads has its place' err_has 'app\.lua:3: no luck'

check 'serve with ALLOW_OWNER=1' start owner "APP_DATABASE_URL=$DATABASE_URL" ALLOW_OWNER=1 \
  serve --host 127.0.0.1 --port 0 --workers 1
check 'it answers' answers /api/v1/products
check 'it answers as openapi.json says' conforms
check 'it ends' stop

check 'serve' start serve serve --host 127.0.0.1 --port 0 --workers 2
check 'serve: it answers' answers /api/v1/products
omade serve --host 127.0.0.1 --port "$port" --workers 1
check 'a port that is taken' complains 1 "port $port .*taken"
omade dev "$home/examples/hello" --port "$port"
check 'dev: a port that is taken' complains 1 "port $port .*taken"
check 'the first one still answers' answers /api/v1/products
check 'serve: it answers as openapi.json says' conforms
check 'serve: it ends' stop
check 'serve: exit 0' ended 0
check 'no secret in the log' not grep -qF "${secret:-no secret}" "$work/serve.log"

finish_test
