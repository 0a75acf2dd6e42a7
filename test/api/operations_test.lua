-- docs/operations.md and docs/privacy.md: what is marked to be run is run as it is printed, but
-- for ports, for folders of the machine and for systemd, which a few lines stand in for: who
-- enables a timer runs what its service would.
-- only: release
-- env: METRICS_TOKEN=operations-test-token
-- env: WORKERS=1

local check  = require "check"
local client = require "client"
local socket = require "socket"

local home, work = os.getenv "OMADE_HOME", os.getenv "TEST_WORK"

--- Programs of the machine and scripts: nothing of them differs under the sanitizers.
local ONCE <const> = { Backup = true }
local SANITIZED <const> = os.getenv "TEST_SANITIZED" == "ON"

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "a"
  file:close()
  return text
end

local function free_port()
  local server = assert(socket.bind("127.0.0.1", 0))
  local _, port = server:getsockname()
  server:close()
  return port
end

--- The blocks that are to be run here, and those that nobody would run.
local function blocks(name)
  local run, forgotten, chapter, mark, block = {}, {}, "", nil, nil
  for line in (read(home .. "/docs/" .. name) .. "\n"):gmatch "(.-)\n" do
    if block then
      if line ~= "```" then
        block[#block + 1] = line
      else
        local script = mark and mark:match "^run by (%S+)$"
        if mark == "run" then
          if not (SANITIZED and ONCE[chapter]) then run[#run + 1] = table.concat(block, "\n") end
        elseif script and not read(home .. "/" .. script):find(name, 1, true)
          or not script and not (mark and mark:find "^not run: .") then
          forgotten[#forgotten + 1] = block[1]
        end
        block, mark = nil, nil
      end
    elseif line:find "^```sh" then block = {}
    else
      mark = line:match "^<!%-%- (.+) %-%->$"
      chapter = line:match "^## (.+)" or chapter
    end
  end
  return run, forgotten
end

local PORT <const> = free_port()

--- The machine, as far as the blocks ask for it.
local STANDS_IN <const> = [==[
set -euo pipefail
cd "$OMADE_HOME"
export BACKUP_DIR=$TEST_WORK/backups
mkdir -p "$BACKUP_DIR"
pid_file=$TEST_WORK/operations.pid
units=$TEST_WORK/units
mkdir -p "$units"
install() { mkdir -p "${@: -1}"; }
watched() { # what goes on until it is ended
  local code=0
  timeout 2 "$@" || code=$?
  [[ $code == 124 ]]
}
unit() { # TIMER: what its service would run
  local command
  grep -q '^OnCalendar=' "$units/$1"
  command=$(sed -n 's/^ExecStart=//p' "$units/${1%.timer}.service")
  command=${command//\/opt\/omade\/build\/release\/omade/$OMADE_BINARY}
  command=${command//\/opt\/omade/$OMADE_HOME}
  command=${command//\/var\/backups\/omade/$BACKUP_DIR}
  eval "${command//\$\$/\$}"
}
systemctl() {
  case $1 in
    daemon-reload) return 0 ;;
    enable)
      [[ $2 == --now ]]
      for timer in "${@:3}"; do unit "$timer"; done
      return
      ;;
  esac
  [[ "$*" != 'restart postgresql' ]] || { grep -q '^shared_buffers = ' "$TEST_WORK/omade.conf"; return; }
  [[ $2 == omade ]] || { echo "systemctl $*: not known here" >&2; return 1; }
  case $1 in
    start)
      "$OMADE_BINARY" serve --host 127.0.0.1 --port PORT >>"$TEST_WORK/operations.log" 2>&1 &
      echo $! >"$pid_file"
      curl -fsS --retry 100 --retry-delay 1 --retry-connrefused -o /dev/null http://127.0.0.1:PORT/health
      ;;
    stop) kill -TERM "$(<"$pid_file")"; wait "$(<"$pid_file")"; rm "$pid_file" ;;
    restart) systemctl stop omade; systemctl start omade ;;
    *) return 1 ;;
  esac
}
journalctl() { case $1 in -u) [[ $2 != omade ]] || tail -n "$4" "$TEST_WORK/operations.log" ;; --disk-usage) : ;; *) return 1 ;; esac; }
trap '[[ ! -e $pid_file ]] || systemctl stop omade' EXIT
]==]

local function run(name)
  local list = blocks(name)
  check.truthy(#list > 2, name .. ": " .. #list)
  local path = work .. "/" .. name .. ".sh"
  local file = assert(io.open(path, "w"))
  file:write((STANDS_IN:gsub("PORT", PORT)))
  for i, block in ipairs(list) do
    file:write(("\necho '== block %d'\n%s\n"):format(i, (block:gsub("127%.0%.0%.1:3000", "127.0.0.1:" .. PORT)
      :gsub("omade_look", "omade_look_" .. PORT):gsub("omade_beside", "omade_beside_" .. PORT)
      :gsub("/etc/systemd/system/", "$units"):gsub("/etc/postgresql/15/main/conf.d", "$TEST_WORK")
      :gsub("/var/backups/omade", "$BACKUP_DIR"):gsub("%./omade [^\n]+ %-%-watch", "watched %0"))))
  end
  file:write "\necho '== all of it'\n"
  file:close()
  local out = client.shell(("OMADE_BINARY=$(readlink -f /proc/$TEST_SERVER_PID/exe) bash '%s'"):format(path))
  client.shell(([[psql -Xq "${DATABASE_URL%%/*}/postgres" <<SQL
    SELECT format('DROP DATABASE %%I WITH (FORCE)', datname) FROM pg_database
    WHERE datname IN ('omade_look_%d', 'omade_beside_%d') OR datname LIKE '${DATABASE_URL##*/}\_before\_%%' \gexec
SQL
]]):format(PORT, PORT))
  check.matches(out, "== all of it$", out)
  return out
end

return {
  { "every block of commands is run, here or elsewhere", function()
    for _, name in ipairs { "operations.md", "privacy.md" } do
      local _, forgotten = blocks(name)
      check.equal(table.concat(forgotten, "\n"), "", name)
    end
  end },

  { "every ./omade that the pages mention is one", function()
    local seen = {}
    for _, path in ipairs { "README.md", "docs/configuration.md", "docs/data.md", "docs/decisions.md", "docs/lua.md",
                            "docs/operations.md", "docs/privacy.md", "docs/rules.md" } do
      for words in read(home .. "/" .. path):gmatch "%./omade ([a-z][a-z -]*)" do
        local command, sub = words:match "^([a-z-]+) ?([a-z]*)"
        seen[command == "db" and "db " .. sub or command == "cache" and "cache " .. sub or command] = path
      end
    end
    local wrong = {}
    for words, path in pairs(seen) do
      local command, sub = words:match "^(%S+) ?(%S*)"
      local usage = client.shell(("'%s/omade' %s --help 2>&1 || true"):format(home, command))
      if not usage:find("usage: ./omade " .. command, 1, true) or not usage:find(sub, 1, true) then
        wrong[#wrong + 1] = path .. ": ./omade " .. words
      end
    end
    check.equal(table.concat(wrong, "\n"), "")
  end },

  { "the night shift", function()
    -- Made from a template, the database has not the rights that migrations give on their own.
    client.sql [[DO $$ BEGIN EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
      EXECUTE format('GRANT CONNECT ON DATABASE %I TO app_user, readonly_user', current_database()); END $$]]
    client.sql("INSERT INTO outbox (topic, aggregate_id, failed_at, last_error) VALUES ('order.created', gen_random_uuid(), now(), 'away')")
    local out = run "operations.md"
    check.equal(client.sql "SELECT count(*) FROM users WHERE email = 'night@example.com' AND role = 'admin'", "1")
    check.equal(client.sql "SELECT count(*) FROM outbox WHERE failed_at IS NOT NULL", "0")
    check.matches(out, "Execution Time")
    check.matches(out, "\n0 problems, ")
    check.equal(client.redis("KEYS", "session*"), "")
  end },

  { "when somebody asks what is kept about him", function()
    local id = client.sql("INSERT INTO orders (guest_name, guest_email, total_amount, notes) VALUES ('Greta', 'guest@example.com', 0, 'n') "
                          .. "RETURNING id")
    client.sql(([[INSERT INTO order_status_history (order_id, status, note, by_role) VALUES ('%s', 'pending', 'Greta called', 'staff');
      INSERT INTO newsletter_subscribers (email) VALUES ('guest@example.com');
      INSERT INTO outbox (topic, aggregate_id, payload) VALUES ('newsletter.subscribed', gen_random_uuid(), '{"email": "guest@example.com"}')]])
      :format(id))
    local out = run "privacy.md"
    check.matches(out, '"email": "john@example.com"')
    check.truthy(not out:find("$2[aby]$"), "a password's hash")
    check.equal(client.sql([[SELECT (SELECT count(*) FROM outbox WHERE payload::text ~ 'guest@example')
      + (SELECT count(*) FROM newsletter_subscribers WHERE email = 'guest@example.com')
      + (SELECT count(*) FROM order_status_history WHERE note ~ 'Greta')]]), "0")
    check.equal(client.sql("SELECT concat_ws('|', guest_name, guest_email, notes) FROM orders WHERE id = '" .. id .. "'"), "Deleted guest")
  end },
}
