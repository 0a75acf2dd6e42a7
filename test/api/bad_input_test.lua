-- Every field of every body and every query with what it must not be: 4xx that names the
-- field, never a 5xx, never SQL.  Fields and limits are those of openapi.json.
-- serve: --workers 1
-- env: PAYMENT_GENERIC_SECRET=top-secret

local cjson    = require "cjson"
local check    = require "check"
local client   = require "client"
local contract = require "contract"
local example  = require "example"
local schema   = require "schema"

local HERE <const> = "@@here@@"

---- Sending ------------------------------------------------------------------------------------

local connection, count = nil, 0

--- Over one connection as long as it lives.
local function send(route, path, options)
  connection = connection or client.connect()
  options.on = connection
  count = count + 1
  local ok, answer = pcall(client.request, route.method, path, options)
  if not ok or answer.headers.connection == "close" then
    connection:close()
    connection = nil
  end
  if not ok then error(route.method .. " " .. path .. ": " .. tostring(options.json):sub(1, 300) .. "\n" .. answer, 0) end
  return answer
end

local tokens = {}

local function token_of(route)
  if #route.operation.security == 0 then return nil end
  local roles = route.operation["x-roles"]
  local role = roles[#roles]
  tokens[role] = tokens[role] or client.session(role, client.sql("SELECT id FROM users WHERE role = '" .. role
                                                                 .. "' ORDER BY id LIMIT 1"))
  return tokens[role]
end

local function signature(body)
  local file = os.getenv "TEST_WORK" .. "/signed"
  local stamp = tostring(os.time())
  local f = assert(io.open(file, "wb"))
  f:write(stamp, ".", body)
  f:close()
  local hex = client.shell("openssl dgst -sha256 -hmac top-secret " .. file .. " | sed 's/.*= //'")
  return { ["X-Omade-Signature"] = "t=" .. stamp .. ",v1=" .. hex }
end

local function send_body(route, json)
  local path = example.path(route, { provider = "generic" }) .. example.query(route.operation)
  local headers = route.path:find "webhook" and signature(json) or nil
  return send(route, path, { json = json, token = token_of(route), headers = headers })
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

local function check_refused(answer, name, what)
  check_secrets(answer, what)
  check.truthy(answer.status >= 400 and answer.status < 500, what .. ": " .. answer.status .. " " .. answer.body:sub(1, 500))
  local body = answer.json()
  if body.code == "MALFORMED_JSON" or answer.status == 413 then return end
  check.truthy(is_named(body.fields, name), what .. " is not named: " .. answer.body:sub(1, 500))
end

---- What a field must not be -------------------------------------------------------------------------

local WRONG_TYPES <const> = {
  string  = { "1", "true", "[]", "{}", '["x"]' },
  integer = { '"x"', '"1"', "true", "[]", "{}", "1.5", "9223372036854775808", "-1e30" },
  number  = { '"x"', '"25.99"', "true", "[]", "{}", "25.990000000000000001", "-1e30", "123456789012345678901234567890" },
  boolean = { '"x"', '"true"', "1", "0", "[]", "{}" },
  array   = { "1", '"x"', "true", "{}" },
  object  = { "1", '"x"', "true", "[]" },
}

-- No JSON, or too much of it: whatever the field is.
local NO_JSON <const> = { "NaN", "Infinity", "01", "'x'", '"\\ud800"', '"\xff\xfe"', '"\xc0\x80"', ("["):rep(40) .. ("]"):rep(40),
                          "[" .. ("1,"):rep(9999) .. "1]", "1e999", "-1e999", '"\\u0000"', '"x\\u0000y"' }

local BAD_FORMS <const> = {
  uuid = { '"banana"', '"00000000-0000-0000-0000-00000000000g"', '""' },
  date = { '"2027-13-01"', '"2027-02-30"', '"tomorrow"', '""' },
  ["date-time"] = { '"2027-01-15"', '"2027-01-15T25:00:00Z"', '"2027-01-15T10:00:00"', '""' },
  email = { '"x"', '"a@b"', '"a b@example.com"', '""' },
  ["uri-reference"] = { '"javascript:alert(1)"', '"http://example.com/x"', '"/etc/passwd"' },
}

local function type_of(one)
  if type(one.type) ~= "table" then return one.type, false end
  return one.type[1] == "null" and one.type[2] or one.type[1], true
end

local function quoted(text) return '"' .. text .. '"' end

local function add_text(list, one)
  if one.minLength and one.minLength > 0 then list[#list + 1] = quoted(("x"):rep(one.minLength - 1)) end
  if one.maxLength then list[#list + 1] = quoted(("x"):rep(one.maxLength + 1)) end
  if one.enum then list[#list + 1] = quoted "no such word" end
  if one.maxLength or one.enum or one.format then list[#list + 1] = quoted(("\u{1F382}"):rep(50000)) end
  for _, text in ipairs(BAD_FORMS[one.format] or {}) do list[#list + 1] = text end
end

local function add_number(list, one)
  if one.minimum then list[#list + 1] = ("%.14g"):format(one.minimum - 1) end
  if one.maximum then list[#list + 1] = ("%.14g"):format(one.maximum + 1) end
end

local function add_list(list, one)
  if one.minItems and one.minItems > 0 then list[#list + 1] = "[]" end
  if one.maxItems then list[#list + 1] = "[" .. ("1,"):rep(one.maxItems) .. "1]" end
end

--- Everything in JSON that a field of this schema must not be.
local function bad_values(one, is_required)
  local kind, nullable = type_of(one)
  local list = {}
  for _, text in ipairs(WRONG_TYPES[kind] or {}) do list[#list + 1] = text end
  if kind == "string" then add_text(list, one) end
  if kind == "integer" or kind == "number" then add_number(list, one) end
  if kind == "array" then add_list(list, one) end
  if is_required and not nullable then list[#list + 1] = "null" end
  for _, text in ipairs(NO_JSON) do list[#list + 1] = text end
  return list
end

---- Fields of a body -----------------------------------------------------------------------------------

local function copy(value)
  if type(value) ~= "table" then return value end
  local result = {}
  for key, part in pairs(value) do result[key] = copy(part) end
  return result
end

local function joined(keys, key)
  local list = { table.unpack(keys) }
  list[#list + 1] = key
  return list
end

--- The example as JSON, with HERE in the place that `keys` lead to.
local function with_here(body, keys)
  body = copy(body)
  local at = body
  for i = 1, #keys - 1 do
    if type(at[keys[i]]) ~= "table" then at[keys[i]] = {} end
    at = at[keys[i]]
  end
  at[keys[#keys]] = HERE
  return cjson.encode(body)
end

--- {"items", 1, "id"} as "items[0].id".
local function name_of(keys)
  local name = ""
  for _, key in ipairs(keys) do
    if type(key) == "number" then name = ("%s[%d]"):format(name, key - 1)
    else name = name == "" and key or name .. "." .. key end
  end
  return name
end

local function requires(one, name)
  for _, word in ipairs(one.required or {}) do if word == name then return true end end
  return false
end

--- Calls fn(name, schema, required, the body as JSON with HERE in the field's place).
local function each_field(media, fn)
  local function visit(one, keys, required)
    one = schema.follow(one, contract.document)
    if #keys > 0 then fn(name_of(keys), one, required, with_here(media.example, keys)) end
    for name, part in pairs(one.properties or {}) do
      visit(part, joined(keys, name), requires(one, name))
    end
    if one.items then visit(one.items, joined(keys, 1), false) end
  end
  visit(media.schema, {}, true)
end

local function put_in(text, value)
  local from, to = text:find('"' .. HERE .. '"', 1, true)
  return text:sub(1, from - 1) .. value .. text:sub(to + 1)
end

local function each_body(fn)
  for _, route in ipairs(contract.routes()) do
    local media = example.media(route.operation)
    if media then fn(route, media, route.method .. " " .. route.path) end
  end
end

---- What is odd, but right ------------------------------------------------------------------------------------

local ODD_FORMS <const> = {
  date = { "0001-01-01", "0000-01-01", "9999-12-31", "2028-02-29" },
  ["date-time"] = { "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59",
                    "9999-12-31T23:59:60Z", "2027-01-15T10:30:00.123456789Z" },
  uuid = { "00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF" },
  email = { ("a"):rep(243) .. "@example.com", "o'hara+%_\\@example.com" },
}

local ODD_TEXTS <const> = { "'; DROP TABLE users; --", "%_\\\\", "$1 {} :x", "\u{202E}\u{FEFF}\u{FFFF}", "NULL", "0", "<script>" }

--- Values, as text, that a field may have, at the ends of what it may be.
local function odd_values(one)
  local kind = type_of(one)
  local list = { table.unpack(ODD_FORMS[one.format] or {}) }
  if kind == "string" and not one.enum and not one.format then
    for _, text in ipairs(ODD_TEXTS) do list[#list + 1] = text end
    if one.maxLength then list[#list + 1] = ("\u{1F382}"):rep(one.maxLength) end
  end
  if kind == "integer" or kind == "number" then
    for _, limit in ipairs { one.minimum or -9e15, one.maximum or 9e15, 0 } do list[#list + 1] = ("%.14g"):format(limit) end
  end
  return list, kind == "string"
end

--- Things that are there, for paths.
local function ids_of(route)
  local tables = { orders = "orders", reviews = "reviews", users = "users", customers = "users", products = "products",
                   promo = "promo_codes", delivery = route.path:find "/orders/" and "orders" or "delivery_schedules" }
  local name = tables[route.operation.tags[1]]
  local id = name and client.sql("SELECT id FROM " .. name .. " ORDER BY id DESC LIMIT 1") or example.ABSENT
  return { id = id, productId = id, provider = "generic" }
end

local function check_no_fault(answer, what)
  check_secrets(answer, what)
  local not_set_up = answer.status == 503 and answer.body:find "PROVIDER_NOT_CONFIGURED"
  check.truthy(answer.status < 500 or not_set_up, what .. ": " .. answer.status .. " " .. answer.body:sub(1, 500))
  if answer.status < 300 then tokens = {} end
end

---- Queries -------------------------------------------------------------------------------------------------

local BAD_TEXT <const> = {
  integer = { "x", "1.5", "1e3", "99999999999999999999", "NaN", "0x10" },
  number  = { "x", "25.990000000000000001", "1e999", "NaN", "Infinity", "--1" },
  boolean = { "x", "2", "TRUE" },
}

local function bad_texts(one)
  local kind = type_of(one)
  local list = { table.unpack(BAD_TEXT[kind] or {}) }
  local more = {}
  if kind == "string" then add_text(more, one) end
  if kind == "integer" or kind == "number" then add_number(more, one) end
  for _, text in ipairs(more) do
    text = text:match '^"(.*)"$' or text
    if #text > 0 and #text < 5000 then list[#list + 1] = text end
  end
  return list
end

return {
  { "bodies that are no object, no JSON, or too much", function()
    local bodies = { "[]", '"x"', "1", "true", "{", "", "{}{}", '{"a":1,"a":2}', '{"\xff":1}', "\xef\xbb\xbf{", '{"a":NaN}',
                     ("["):rep(5000), '{"a":' .. ("["):rep(5000), "{" .. ('"k":1,'):rep(10000) .. '"k":1}' }
    each_body(function(route, _, name)
      for _, body in ipairs(bodies) do
        local answer = send_body(route, body)
        local what = name .. " with " .. body:sub(1, 40)
        check_secrets(answer, what)
        local may_be_absent = body == "" and not route.operation.requestBody.required
        check.truthy(answer.status >= 400 and answer.status < 500 or may_be_absent,
                     what .. ": " .. answer.status .. " " .. answer.body:sub(1, 500))
      end
    end)
    local types = { "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1",
                    "multipart/form-data; boundary=x" }
    each_body(function(route, _, name)
      if route.path:find "webhook" then return end
      for _, type in ipairs(types) do
        local answer = send(route, example.path(route), { token = token_of(route), body = "{}",
                                                          headers = { ["Content-Type"] = type } })
        local taken = route.operation.requestBody.content[type:match "^[^;]+"] and type ~= types[3]
        check.equal(answer.status, taken and 400 or 415, name .. " as " .. type)
      end
    end)
  end },

  { "a megabyte is too large, and said to be", function()
    local route = contract.find("POST", "/api/v1/products")
    local answer = send(route, route.path, { token = token_of(route), json = '"' .. ("x"):rep(1100000) .. '"' })
    check.status(answer, 413, "PAYLOAD_TOO_LARGE")
  end },

  { "every field of every body", function()
    local fields, before = 0, count
    each_body(function(route, media, name)
      each_field(media, function(field, one, required, text)
        fields = fields + 1
        for _, value in ipairs(bad_values(one, required)) do
          check_refused(send_body(route, put_in(text, value)), field,
                        ("%s: %s = %s"):format(name, field, value:sub(1, 60)))
        end
        if not required then
          local answer = send_body(route, put_in(text, "null"))
          check_secrets(answer, name)
          check.truthy(answer.status < 500 or answer.status == 503, name .. ": " .. field .. " = null: " .. answer.body)
          if answer.status < 300 then tokens = {} end
        end
      end)
    end)
    print(("# %d fields, %d requests"):format(fields, count - before))
    check.truthy(fields > 30, "fields: " .. fields)
  end },

  { "every parameter of every query", function()
    local parameters = 0
    for _, route in ipairs(contract.routes()) do
      for _, one in ipairs(route.operation.parameters or {}) do
        if one["in"] == "query" then
          parameters = parameters + 1
          local function ask(text)
            local path = example.path(route) .. example.query(route.operation, { [one.name] = text })
            return send(route, path, { token = token_of(route) }), route.method .. " " .. path:sub(1, 200)
          end
          for _, text in ipairs(bad_texts(one.schema)) do
            local answer, what = ask(text)
            check_refused(answer, one.name, what)
          end
          for _, text in ipairs { "\0", "a\0b", "\xff", "\xc0\x80", "\xed\xa0\x80" } do
            local answer, what = ask(text)
            check_secrets(answer, what)
            check.equal(answer.status, 400, what)
          end
        end
      end
    end
    check.truthy(parameters > 15, "parameters: " .. parameters)
  end },

  { "what is odd but right is taken, or refused; never a fault of ours", function()
    each_body(function(route, media, name)
      local path = example.path(route, ids_of(route)) .. example.query(route.operation)
      each_field(media, function(field, one, _, text)
        local values, is_text = odd_values(one)
        for _, value in ipairs(values) do
          local json = put_in(text, is_text and cjson.encode(value) or value)
          local headers = route.path:find "webhook" and signature(json) or nil
          local answer = send(route, path, { json = json, token = token_of(route), headers = headers })
          check_no_fault(answer, ("%s: %s = %s"):format(name, field, value:sub(1, 60)))
        end
      end)
    end)
    for _, route in ipairs(contract.routes()) do
      for _, one in ipairs(route.operation.parameters or {}) do
        for _, value in ipairs(one["in"] == "query" and odd_values(one.schema) or {}) do
          local path = example.path(route, ids_of(route)) .. example.query(route.operation, { [one.name] = value })
          if #path < 4000 then
            check_no_fault(send(route, path, { token = token_of(route) }), route.method .. " " .. path:sub(1, 200))
          end
        end
      end
    end
  end },

  { "every parameter of every path", function()
    for _, route in ipairs(contract.routes()) do
      local token = token_of(route)
      for name in route.path:gmatch "{([^}]+)}" do
        for _, text in ipairs { "banana", "%00", "%ff", "%27%3B--", ("x"):rep(3000), "..%2f..%2fetc%2fpasswd", "%F0%9F%8E%82" } do
          local answer = send(route, example.path(route, { [name] = text }),
                              { token = token, json = route.operation.requestBody and "{}" or nil })
          local what = route.method .. " " .. route.path .. " with " .. text:sub(1, 30)
          check_secrets(answer, what)
          check.truthy(answer.status >= 400 and answer.status < 500, what .. ": " .. answer.status .. " " .. answer.body)
        end
      end
    end
  end },
}
