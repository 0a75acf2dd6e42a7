#!/usr/bin/env bash
# What a newcomer tries first: the examples, and the first route of README.md as printed.
# Needs no database and no Redis.
#
#   test/examples/examples_test.sh BINARY
set -euo pipefail

binary=$(realpath "$1")
home=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
passed=0 failed=0 server='' port='' url=''

unset DATABASE_URL APP_DATABASE_URL REDIS_URL PORT HOST WORKERS LOG_LEVEL LOG_FORMAT
export OMADE_HOME=$home

stop() {
  [[ -n $server ]] || return 0
  local pid=$server code=0
  server=''
  kill -TERM "$pid" 2>/dev/null || true
  wait "$pid" || code=$?
  return "$code"
}

clean_up() {
  local status=$?
  stop || true
  rm -rf "$work"
  exit "$status"
}
trap clean_up EXIT

# ---- asserts ---------------------------------------------------------------------------

check() { # WHAT COMMAND: the command succeeds
  if "${@:2}"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'not ok: %s\n' "$1"
    [[ ! -e $work/log ]] || tail -n 20 "$work/log"
  fi
}

same() { # GOT WANTED
  [[ $1 == "$2" ]] || {
    printf '  got:    %s\n  wanted: %s\n' "$1" "$2"
    return 1
  }
}

until_true() { # COMMAND: within 60 s
  local i
  for ((i = 0; i < 1200; i++)); do
    ! "$@" || return 0
    sleep 0.05
  done
  return 1
}

serving() {
  port=$(sed -n 's/.* serving .*port=\([0-9]*\).*/\1/p' "$work/log" | head -n 1)
  url=http://127.0.0.1:$port
  [[ -n $port ]]
}

serving_or_ended() { serving || ! kill -0 "$server" 2>/dev/null; }

start() { # APP
  : >"$work/log"
  "$binary" dev "$1" --port 0 >"$work/log" 2>&1 &
  server=$!
  until_true serving_or_ended
  serving
}

ask() { curl -sS --max-time 60 "$@"; }

# ---- examples/hello ------------------------------------------------------------------------

check 'hello starts' start "$home/examples/hello"
check 'hello, world' same "$(ask "$url/")" '{"success":true,"data":{"message":"Hello, world!"}}'
check 'hello, Ada' same "$(ask "$url/?name=Ada")" '{"success":true,"data":{"message":"Hello, Ada!"}}'
check 'hello: no other path' same "$(ask -o /dev/null -w '%{http_code}' "$url/there")" 404
check 'hello: no other method' same "$(ask -o /dev/null -w '%{http_code}' -X POST "$url/")" 405
check 'hello ends well' stop

# ---- examples/echo -------------------------------------------------------------------------

echo_of() { # FIELD CURL-OPTIONS: a field of what was echoed
  ask "${@:2}" | lua5.4 -e 'local v = require "cjson".decode(io.read "a")
    for name in ("'"$1"'"):gmatch "[^.]+" do v = v[name] end
    io.write(tostring(v))'
}

check 'echo starts' start "$home/examples/echo"
for method in GET POST PUT PATCH DELETE; do
  for path in / /a /a/b%20c/d; do
    check "echo: $method $path" same "$(echo_of method -X $method "$url$path")" "$method"
  done
done
check 'echo: HEAD' same "$(ask -o /dev/null -w '%{http_code}' -I "$url/any")" 200
check 'echo: the path' same "$(echo_of path "$url/a/deep/path")" /a/deep/path
check 'echo: the query' same "$(echo_of query.b "$url/?a=1&b=two%20words")" 'two words'
check 'echo: the body' same "$(echo_of body -d 'some text' "$url/x")" 'some text'
check 'echo: a header' same "$(ask -H 'X-Mine: 7' "$url/x" | grep -ioE '"x-mine":"7"')" '"x-mine":"7"'

lua5.4 -e 'for i = 0, 255 do io.write(string.char(i)) end
  for i = 1, 100000 do io.write(string.char(i * i % 251), "\0\r\n") end' >"$work/bytes"
for method in POST PUT PATCH; do
  ask -X $method -H 'Content-Type: application/x-own' -D "$work/head" \
    --data-binary @"$work/bytes" -o "$work/back" "$url/raw"
  check "raw: $method, byte for byte" cmp "$work/bytes" "$work/back"
  check "raw: $method, its type" grep -qi '^content-type: application/x-own' "$work/head"
done
ask -X POST -H 'Transfer-Encoding: chunked' --data-binary @"$work/bytes" -o "$work/back" "$url/raw"
check 'raw: chunked, byte for byte' cmp "$work/bytes" "$work/back"
printf '\0' >"$work/bytes"
ask --data-binary @"$work/bytes" -o "$work/back" "$url/raw"
check 'raw: one NUL' cmp "$work/bytes" "$work/back"
check 'raw: nothing' same "$(ask -X POST -o /dev/null -w '%{http_code} %{size_download}' "$url/raw")" '200 0'
check 'echo ends well' stop

# ---- README.md -----------------------------------------------------------------------------

# The shell blocks of "A first route in five minutes": the first makes the app and serves it,
# the second asks, each answer printed in the comment behind its command.
awk '/^## A first route/ { here = 1; next } /^## / { here = 0 }
  here && /^```sh$/ { n++; inside = 1; next } /^```$/ { inside = 0 }
  here && inside { print > (folder "/block" n) }' folder="$work" "$home/README.md"
check 'README: two blocks' test -s "$work/block1" -a -s "$work/block2" -a ! -e "$work/block3"
check 'README: serves /tmp/hello on 3001' grep -qxF './omade dev /tmp/hello --port 3001' "$work/block1"

# As printed, but for the folder, the binary and the port; `exec` lets it be ended.
sed -e "s#/tmp/hello#$work/hello#g" \
  -e "s#^\./omade dev \(.*\) --port 3001#exec '$binary' dev \1 --port 0#" "$work/block1" >"$work/first.sh"
: >"$work/log"
bash -e "$work/first.sh" >"$work/log" 2>&1 &
server=$!
until_true serving_or_ended
check 'README: it serves' serving

commands=$(grep -v '^#' "$work/block2" | sed "s#127\.0\.0\.1:3001#127.0.0.1:$port#g")
mapfile -t answers < <(sed -n 's/^# //p' "$work/block2")
check 'README: two commands' same "$(wc -l <<<"$commands")" 2
got=$(bash -c "$(sed -n 1p <<<"$commands")" 2>/dev/null)
check 'README: the first answer' same "$got" "${answers[0]}"
second=$(sed -n 2p <<<"$commands")
got=$(bash -c "$second -s -w ' %{http_code}'" 2>/dev/null)
wanted=$(sed -n 's/^\([0-9]*\): .*/\1/p' <<<"${answers[1]}")
check 'README: the status of the second' same "${got##* }" "$wanted"
wanted=$(sed -n 's/^[0-9]*: //p' <<<"${answers[1]}")
check 'README: the words of the second' grep -qF "$wanted" <<<"$got"

greets() { [[ $(ask "$url/hello?name=Ada") == *"$1, Ada!"* ]]; }
broken() { ask -D - -o /dev/null "$url/hello" | grep -qiE '^X-Omade-Reload-Error: .*app\.lua:[0-9]+'; }
sed -i 's/Hello, /Good morning, /' "$work/hello/app.lua"
check 'README: an edit is live' until_true greets 'Good morning'
cp "$work/hello/app.lua" "$work/good.lua"
echo 'return = 1' >>"$work/hello/app.lua"
check 'README: a broken file is told in a header' until_true broken
check 'README: the last good version goes on' greets 'Good morning'
check 'README: the terminal says where' grep -qE 'app\.lua:[0-9]+' "$work/log"
sed 's/Good morning, /Good night, /' "$work/good.lua" >"$work/hello/app.lua"
check 'README: mended, it is live again' until_true greets 'Good night'
check 'README: it ends well' stop

echo "$passed passed, $failed failed"
[[ $failed == 0 ]]
