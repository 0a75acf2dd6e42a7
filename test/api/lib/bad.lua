--- What must be refused: values that a field must not have, by its schema, and how a refusal
-- must look: 4xx that names the field, never a 5xx, never SQL.

local check    = require "check"
local client   = require "client"

local bad = {}

---- Sending ------------------------------------------------------------------------------------

local connection, tokens = nil, {}

-- One of each role.
local people = {}
for role, id in client.sql("SELECT role, min(id::text) FROM users GROUP BY role"):gmatch "(%l+)|(%S+)" do people[role] = id end

--- How many requests were sent.
bad.count = 0

--- Over one connection as long as it lives.
function bad.send(route, path, options)
  connection = connection or client.connect()
  options.on = connection
  bad.count = bad.count + 1
  local ok, answer = pcall(client.request, route.method, path, options)
  if not ok or answer.headers.connection == "close" then
    connection:close()
    connection = nil
  end
  if not ok then error(route.method .. " " .. path .. ": " .. tostring(options.json):sub(1, 300) .. "\n" .. answer, 0) end
  local ends_sessions = route.path:find "/auth/" or route.path:find "/users"
  if answer.status < 300 and ends_sessions then tokens = {} end
  return answer
end

--- Of somebody who may call it; nil where nobody has to sign in.
function bad.token_of(route)
  if #route.operation.security == 0 then return nil end
  local roles = route.operation["x-roles"]
  local role = roles[#roles]
  tokens[role] = tokens[role] or client.session(role, people[role])
  return tokens[role]
end

--- The headers that a webhook's body needs, by PAYMENT_GENERIC_SECRET=top-secret.
function bad.headers_of(route, body)
  if not route.path:find "webhook" then return {} end
  local file = os.getenv "TEST_WORK" .. "/signed"
  local stamp = tostring(os.time())
  local f = assert(io.open(file, "wb"))
  f:write(stamp, ".", body)
  f:close()
  local hex = client.shell("openssl dgst -sha256 -hmac top-secret " .. file .. " | sed 's/.*= //'")
  return { ["X-Omade-Signature"] = "t=" .. stamp .. ",v1=" .. hex }
end

---- What an answer must be -------------------------------------------------------------------------

local SQL <const> = { "SQLSTATE", "ERROR:", "syntax error", "violates", "relation \"", "SELECT ", "UPDATE ", "LINE 1",
                      "invalid input syntax", "out of range for type", "stack traceback", "%.lua:%d" }

local function check_secrets(answer, what)
  for _, words in ipairs(SQL) do
    check.truthy(not answer.body:find(words), what .. " tells " .. words .. ": " .. answer.body:sub(1, 500))
  end
end

--- Whether a list or object of which the field is a part was named, or a part of it.
local function is_named(fields, name)
  for given in pairs(fields or {}) do
    if given:sub(1, #name) == name or name:sub(1, #given) == given then return true end
  end
  return false
end

--- A 4xx.
function bad.check_4xx(answer, what)
  check_secrets(answer, what)
  check.truthy(answer.status >= 400 and answer.status < 500, what .. ": " .. answer.status .. " " .. answer.body:sub(1, 500))
end

--- A 4xx that names the field; broken JSON and what is too large have none.
function bad.check_refused(answer, name, what)
  bad.check_4xx(answer, what)
  local body = answer.json()
  if body.code == "MALFORMED_JSON" or answer.status == 413 then return end
  check.truthy(is_named(body.fields, name), what .. " is not named: " .. answer.body:sub(1, 500))
end

--- Whatever it is, but a fault of ours.
function bad.check_no_fault(answer, what)
  check_secrets(answer, what)
  local not_set_up = answer.status == 503 and answer.body:find "PROVIDER_NOT_CONFIGURED"
  check.truthy(answer.status < 500 or not_set_up, what .. ": " .. answer.status .. " " .. answer.body:sub(1, 500))
end

---- Values -----------------------------------------------------------------------------------------

--- A schema's type, and whether null is one, too.
function bad.type_of(one)
  if type(one.type) ~= "table" then return one.type, false end
  return one.type[1] == "null" and one.type[2] or one.type[1], true
end

local WRONG_TYPES <const> = {
  string  = { "1", "true", "[]", "{}", '["x"]' },
  integer = { '"x"', '"1"', "true", "[]", "{}", "1.5", "9223372036854775808", "-9223372036854775809", "-1e30",
              "123456789012345678901234567890" },
  number  = { '"x"', '"25.99"', "true", "[]", "{}", "25.990000000000000001", "-1e30", "123456789012345678901234567890",
              "1e308" },
  boolean = { '"x"', '"true"', "1", "0", "[]", "{}" },
  array   = { "1", '"x"', "true", "{}" },
  object  = { "1", '"x"', "true", "[]" },
}

-- No JSON, or too much of it: whatever the field is.
local NO_JSON <const> = {
  "NaN", "Infinity", "-Infinity", "01", "'x'", '"\\ud800"', '"\xff\xfe"', '"\xc0\x80"', '"\xed\xa0\x80"', '"\0"', '"x\ny"',
  "1e999", "-1e999", '"\\u0000"', '"x\\u0000y"', '{"a":1,"a":1}', ("["):rep(40) .. ("]"):rep(40), ("["):rep(5000),
  ('{"a":'):rep(5000), "[" .. ("1,"):rep(9999) .. "1]",
}

local BAD_FORMS <const> = {
  uuid = { '"banana"', '"00000000-0000-0000-0000-00000000000g"', '""' },
  date = { '"2027-13-01"', '"2027-02-30"', '"tomorrow"', '""' },
  ["date-time"] = { '"2027-01-15"', '"2027-01-15T25:00:00Z"', '"2027-01-15T10:00:00"', '""' },
  email = { '"x"', '"a@b"', '"a b@example.com"', '""' },
  ["uri-reference"] = { '"javascript:alert(1)"', '"http://example.com/x"', '"/etc/passwd"', '""' },
}

local function quoted(text) return '"' .. text .. '"' end

local function add_text(list, one)
  if one.minLength and one.minLength > 0 then list[#list + 1] = quoted(("x"):rep(one.minLength - 1)) end
  if one.maxLength then list[#list + 1] = quoted(("x"):rep(one.maxLength + 1)) end
  if one.enum or one.pattern then list[#list + 1] = quoted "no such word" end
  if one.maxLength or one.enum or one.format or one.pattern then list[#list + 1] = quoted(("\u{1F382}"):rep(50000)) end
  for _, text in ipairs(BAD_FORMS[one.format] or {}) do list[#list + 1] = text end
end

local function add_number(list, one)
  if one.minimum then list[#list + 1] = ("%.14g"):format(one.minimum - 1) end
  if one.maximum then list[#list + 1] = ("%.14g"):format(one.maximum + 1) end
end

local function add_list(list, one, item)
  if one.minItems and one.minItems > 0 then list[#list + 1] = "[]" end
  if one.maxItems then list[#list + 1] = "[" .. (item .. ","):rep(one.maxItems) .. item .. "]" end
  list[#list + 1] = "[" .. (item .. ","):rep(9999) .. item .. "]"
end

--- Everything in JSON that a field of this schema must not be; `item` is what a list may hold.
function bad.values(one, is_required, item)
  local kind, nullable = bad.type_of(one)
  local list = { table.unpack(WRONG_TYPES[kind] or {}) }
  if kind == "string" then add_text(list, one) end
  if kind == "integer" or kind == "number" then add_number(list, one) end
  if kind == "array" then add_list(list, one, item or "1") end
  if is_required and not nullable then list[#list + 1] = "null" end
  return table.move(NO_JSON, 1, #NO_JSON, #list + 1, list)
end

local WRONG_TEXTS <const> = {
  integer = { "x", "1.5", "1e3", "99999999999999999999", "-99999999999999999999", "NaN", "0x10", " 1 2", "1,2", "" },
  number  = { "x", "25.990000000000000001", "1e999", "NaN", "Infinity", "--1", "123456789012345678901234567890", "1,5", "" },
  boolean = { "x", "2", "TRUE", "null", "" },
  object  = { "x", "{}", "" },
}

--- Everything as text, in queries and forms, that a field of this schema must not be.
function bad.texts(one)
  local kind = bad.type_of(one)
  local list, json = { table.unpack(WRONG_TEXTS[kind] or {}) }, {}
  if kind == "string" then add_text(json, one) end
  if kind == "integer" or kind == "number" then add_number(json, one) end
  for _, text in ipairs(json) do list[#list + 1] = text:match '^"(.*)"$' or text end
  if kind == "array" then
    for _, text in ipairs(bad.texts(one.items)) do list[#list + 1] = text ~= "" and text or nil end
    list[#list + 1] = ("x,"):rep(one.maxItems) .. "x"
    list[#list + 1] = ("x,"):rep(9999) .. "x"
  end
  return list
end

--- What is no text, wherever text is expected.
bad.NO_TEXT = { "\0", "a\0b", "\xff", "\xc0\x80", "\xed\xa0\x80", "\xf5\x80\x80\x80" }

return bad
