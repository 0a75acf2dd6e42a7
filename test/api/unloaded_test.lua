-- Development that begins with scripts that do not load: answers say why, a mend is live.
-- serve: dev --workers 2
-- scale: 4

local check  = require "check"
local client = require "client"

local function write(text)
  local file = assert(io.open(os.getenv "TEST_APP" .. "/part.lua", "w"))
  file:write(text)
  file:close()
end

local function told(message)
  local answer = client.get "/"
  return answer.status == 503 and answer.body:find(message) and answer.headers["x-omade-reload-error"]
end

return {
  { "every answer says why", function()
    check.truthy(told "The scripts do not load: .-app%.lua:3: module 'part' not found")
    check.status(client.post("/any/where", { body = { a = 1 } }), 503, "UNAVAILABLE")
    check.matches(client.get("/_dev").body, "module &?.-part")
  end },

  { "another fault is told, too", function()
    write "return {\n oops }}"
    client.eventually(20, "the other fault", function() return told "part%.lua:2:" end)
  end },

  { "a mend is live", function()
    write "return { text = 'mended' }"
    client.eventually(20, "the mend", function()
      local answer = client.get "/"
      return answer.status == 200 and answer.json().data == "mended" and not answer.headers["x-omade-reload-error"]
    end)
    check.status(client.get "/any/where", 404)
  end },
}
