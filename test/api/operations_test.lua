-- docs/operations.md and docs/privacy.md: what is marked to be run is run as it is printed, but
-- for ports and for systemd, which a few lines stand in for.
-- env: METRICS_TOKEN=operations-test-token
-- env: WORKERS=1

local check  = require "check"
local client = require "client"
local socket = require "socket"

local home, work = os.getenv "OMADE_HOME", os.getenv "TEST_WORK"

--- Chapters whose commands have tests of their own: test/cli/*_test.sh.
local ELSEWHERE <const> = { Monitoring = "db_test.sh", Maintenance = "db_test.sh", Backup = "backup_test.sh",
                            Doctor = "db_test.sh", Cache = "db_test.sh" }

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

--- The blocks that are marked, and those that nobody would run.
local function blocks(name)
  local run, forgotten, chapter, marked, block = {}, {}, "", false, nil
  for line in (read(home .. "/docs/" .. name) .. "\n"):gmatch "(.-)\n" do
    if block then
      if line == "```" then
        if marked then run[#run + 1] = table.concat(block, "\n")
        elseif not ELSEWHERE[chapter] and not block.why then forgotten[#forgotten + 1] = block[1] end
        block, marked = nil, false
      else
        block[#block + 1] = line
      end
    elseif line == "```sh" then
      block = { why = marked == "why" }
      if marked == "why" then marked = false end
    elseif line == "<!-- run -->" then marked = true
    elseif line:find "^<!%-%- not run: .+ %-%->$" then marked = "why"
    elseif line:find "^## " then chapter = line:sub(4) end
  end
  return run, forgotten
end

local PORT <const> = free_port()

--- systemd, as far as the blocks ask for it.
local STANDS_IN <const> = [==[
set -euo pipefail
cd "$OMADE_HOME"
export BACKUP_DIR=$TEST_WORK/backups
mkdir -p "$BACKUP_DIR"
pid_file=$TEST_WORK/operations.pid
systemctl() {
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
journalctl() { case $1 in -u) tail -n "$4" "$TEST_WORK/operations.log" ;; --disk-usage) : ;; *) return 1 ;; esac; }
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
      :gsub("omade_look", "omade_look_" .. PORT))))
  end
  file:write "\necho '== all of it'\n"
  file:close()
  local out = client.shell(("OMADE_BINARY=$(readlink -f /proc/$TEST_SERVER_PID/exe) bash '%s'"):format(path))
  client.shell(("psql -Xq \"${DATABASE_URL%%/*}/postgres\" -c 'DROP DATABASE IF EXISTS omade_look_%d WITH (FORCE)'"):format(PORT))
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
  end },

  { "when somebody asks what is kept about him", function()
    local id = client.sql("INSERT INTO orders (guest_name, guest_email, total_amount, notes) VALUES ('Greta', 'guest@example.com', 0, 'n') "
                          .. "RETURNING id")
    local out = run "privacy.md"
    check.matches(out, '"email": "john@example.com"')
    check.truthy(not out:find("$2[aby]$"), "a password's hash")
    check.equal(client.sql("SELECT concat_ws('|', guest_name, guest_email, notes) FROM orders WHERE id = '" .. id .. "'"), "Deleted guest")
  end },
}
