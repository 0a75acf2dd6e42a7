-- Hot reload: swapped whole or not at all.
-- serve: dev --workers 2
-- scale: 4
-- env: ASAN_OPTIONS=detect_leaks=1:handle_segv=0
-- env: SCRIPT_LOAD_CPU=500

local check  = require "check"
local client = require "client"

local app = os.getenv "TEST_APP"

local function write(name, text)
  local f = assert(io.open(app .. "/" .. name, "w"))
  f:write(text)
  f:close()
end

local function part(text) write("part.lua", "return { text = '" .. text .. "' }") end
local function shown() return client.get("/").json().data end
local function becomes(text)
  client.eventually(20, "'" .. text .. "'", function()
    for _ = 1, 10 do if shown() ~= text then return false end end
    return true
  end)
end

--- What the supervisor and its workers use: descriptors, and resident bytes.
local function used()
  local files, bytes = 0, 0
  local supervisor = os.getenv "TEST_SERVER_PID"
  for pid in client.shell("echo " .. supervisor .. "; pgrep -P " .. supervisor):gmatch "%d+" do
    files = files + tonumber((client.shell("ls /proc/" .. pid .. "/fd | wc -l")))
    bytes = bytes + 1024 * tonumber((client.shell("sed -n 's/^VmRSS:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/" .. pid .. "/status")))
  end
  return files, bytes
end

local function error_header() return client.get("/").headers["x-omade-reload-error"] end

return {
  { "an edit is live", function()
    check.equal(shown(), "one")
    part "two"
    becomes "two"
  end },

  { "a syntax error keeps the old version and says where", function()
    write("part.lua", "return {\n  text = 'three'\n  oops\n}")
    client.eventually(20, "the error", error_header)
    check.matches(error_header(), "part%.lua:3:")
    check.equal(shown(), "two")
    client.eventually(20, "the log says it, too", function()
      return io.open(os.getenv "TEST_SERVER_LOG"):read "a":find "scripts do not load.-part%.lua:3:"
    end)
    part "three"
    becomes "three"
    check.equal(error_header(), nil)
  end },

  { "here an error's text and place are in the answer", function()
    write("part.lua", "return setmetatable({}, {\n  __index = function() error('told in dev') end })")
    client.eventually(20, "the error", function()
      return client.get("/").body:find("part.lua:2: told in dev", 1, true)
    end)
    check.status(client.get "/", 500, "INTERNAL")
    part "three"
    becomes "three"
  end },

  { "so are the database's complaint, and where a loop did not end", function()
    local function told(body, message)
      write("part.lua", "local db = require 'omade.db'\nreturn setmetatable({}, {\n  __index = function() " .. body .. " end })")
      client.eventually(20, message, function() return client.get("/").body:find(message) end)
    end
    told("return db.row('SELEC 1').text", "part%.lua:3: [^\n]*42601: syntax error at or near")
    told("while true do end", "part%.lua:3: the script used up its CPU time")
    check.status(client.get "/", 503, "UNAVAILABLE")
    part "three"
    becomes "three"
  end },

  { "endless loops, blow-ups, missing files, bad routes at load", function()
    local broken = {
      "while true do end", "local t = {} while true do t[#t + 1] = ('x'):rep(10000) .. #t end", "error('no')", "return nil .. 1",
      "while true do pcall(function() while true do end end) end", "local function f() _ENV = {} end return f",
      "return require 'part'", "return require 'app'", "return require 'not.there'",
    }
    for _, text in ipairs(broken) do
      write("part.lua", text)
      client.eventually(60, "an error for " .. text, error_header)
      check.equal(shown(), "three")
      part "three"
      client.eventually(60, "no error", function() return not error_header() end)
    end
    os.remove(app .. "/part.lua")
    client.eventually(20, "an error", error_header)
    check.equal(shown(), "three")
    part "four"
    becomes "four"
    local good = io.open(app .. "/app.lua"):read "a"
    write("app.lua", (good:gsub(', who = "anyone"', "", 1)))
    client.eventually(20, "an error", error_header)
    check.matches(error_header(), "who may call it")
    write("app.lua", good)
    client.eventually(20, "no error", function() return not error_header() end)
  end },

  { "editors that replace the file, and files in new folders", function()
    write("part.lua.new", "return { text = 'five' }")
    os.rename(app .. "/part.lua.new", app .. "/part.lua")
    becomes "five"
    client.shell("mkdir -p '" .. app .. "/deep/er'")
    client.sleep(0.1)
    write("deep/er/x.lua", "return { text = 'six' }")
    write("part.lua", "return require 'deep.er.x'")
    becomes "six"
    write("deep/er/x.lua", "return { text = 'seven' }")
    becomes "seven"
  end },

  { "requests in flight finish on their generation", function()
    local c = client.connect()
    part "eight"
    becomes "eight"
    c:send(client.format("GET", "/slow"))
    client.sleep(0.05)
    part "nine"
    becomes "nine"
    check.equal(c:answer("GET").json().data, "eight")
    c:close()
  end },

  { "app.lua: no table, nothing, gone and back, far too large", function()
    local good = io.open(app .. "/app.lua"):read "a"
    for _, text in ipairs { "return 5", "return 'app'", "", "return { routes = 5 }", "return nil" } do
      write("app.lua", text)
      client.eventually(60, "an error for " .. text, error_header)
      check.equal(shown(), "nine")
      write("app.lua", good)
      client.eventually(60, "no error", function() return not error_header() end)
    end
    os.remove(app .. "/app.lua")
    client.eventually(60, "an error", error_header)
    check.equal(shown(), "nine")
    write("app.lua", good)
    client.eventually(60, "no error", function() return not error_header() end)
    client.shell("truncate -s 65M '" .. app .. "/large.lua'")
    client.eventually(60, "an error", error_header)
    check.matches(error_header(), "larger than 64 MiB")
    check.equal(shown(), "nine")
    os.remove(app .. "/large.lua")
    client.eventually(60, "no error", function() return not error_header() end)
    check.equal(shown(), "nine")
  end },

  { "files and folders that are links", function()
    local elsewhere = os.getenv "TEST_WORK" .. "/elsewhere"
    local function put(name, text)
      local f = assert(io.open(elsewhere .. "/" .. name, "w"))
      f:write(text)
      f:close()
    end
    client.shell("mkdir -p " .. elsewhere .. "/folder")
    put("file.lua", "return { text = 'link 1' }")
    put("folder/file.lua", "return { text = 'link 2' }")
    client.shell(("ln -sfn %s/file.lua '%s/part.lua' && ln -sfn %s/folder '%s/linked'"):format(elsewhere, app, elsewhere, app))
    becomes "link 1"
    put("file.lua", "return { text = 'link 3' }")
    becomes "link 3"
    put("new.lua", "return require 'linked.file'")
    os.rename(elsewhere .. "/new.lua", elsewhere .. "/file.lua")      -- as editors do
    becomes "link 2"
    put("folder/file.lua", "return { text = 'link 4' }")
    becomes "link 4"
    os.remove(app .. "/part.lua")
    os.remove(app .. "/linked")
    part "nine"
    becomes "nine"
  end },

  { "/_dev: what runs, and why scripts do not load", function()
    local c = client.connect()
    c:send(client.format("GET", "/stream"))
    c:read_until "data: nine"
    local function page() return check.status(client.get "/_dev", 200).body end
    client.eventually(20, "the stream", function() return page():find "GET /stream" end)
    check.matches(page(), "All scripts are loaded")
    write("part.lua", "return {\n <oops> }")
    client.eventually(20, "the error", error_header)
    check.matches(page(), "part%.lua:2: .-&lt;")
    part "nine"
    client.eventually(20, "no error", function() return page():find "All scripts are loaded" end)
    c:close()
  end },

  { "spawned tasks finish on their generation, jobs keep their clocks", function()
    local function worth(name) return client.get("/shared/" .. name).json().data end
    check.status(client.post "/spawned", 200)
    part "later"
    becomes "later"
    client.eventually(20, "the spawned task", function() return worth "spawned" == "nine" end)
    local before = worth "ticks"
    for i = 1, 30 do                         -- more often than the job is due
      part("tick " .. i)
      client.sleep(0.1)
    end
    client.eventually(20, "a tick", function() return worth "ticks" > before + 2 end)
    becomes "tick 30"
  end },

  -- A thousand: TEST_SAVES=1000 ./omade test --fast -R api/reload
  { "a hundred saves under load: no failed request, no more connections, nothing left", function()
    local saves = tonumber(os.getenv "TEST_SAVES" or 100)
    local function connections()
      return client.sql "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'app_user'"
    end
    local before = connections()
    local c = {}
    for i = 1, 8 do c[i] = client.connect() end
    local files, bytes = used()
    for i = 1, saves do
      part("save " .. i)
      for k = 1, 8 do c[k]:send(client.format("GET", "/")) end
      for k = 1, 8 do
        local answer = check.status(c[k]:answer "GET", 200)
        check.matches(answer.json().data, "^%w+ ?%d*$")
      end
      client.sleep(0.02)
    end
    becomes("save " .. saves)
    for k = 1, 8 do c[k]:close() end
    check.equal(connections(), before)
    client.eventually(30, "descriptors as before", function() return used() <= files end)
    local more = select(2, used()) - bytes
    print(("# %d saves: %d bytes of memory more"):format(saves, more))
    if os.getenv "TEST_SANITIZED" ~= "ON" then check.truthy(more < 8 << 20, more .. " bytes left") end
  end },

  { "a worker that crashes while a script is broken comes back with the last good ones", function()
    write("part.lua", "oops")
    client.eventually(20, "an error", error_header)
    local workers = client.shell("pgrep -P " .. os.getenv "TEST_SERVER_PID")
    for pid in workers:gmatch "%d+" do client.shell("kill -SEGV " .. pid) end
    client.eventually(30, "200 again", function()
      local ok, text = pcall(shown)
      return ok and text:find "^save"
    end)
    check.truthy(error_header(), "the error is still told")
    part "done"
    becomes "done"
  end },
}
