-- Every field of every JSON body, every parameter of every query, path and header, with what
-- it must not be: 4xx that names the field, never a 5xx, never SQL.  What there is, and its
-- limits, is read from openapi.json: a new route is covered by itself.
-- only: hostile
-- serve: --workers 1
-- env: PAYMENT_GENERIC_SECRET=top-secret

local bad      = require "bad"
local cjson    = require "cjson"
local check    = require "check"
local client   = require "client"
local contract = require "contract"
local example  = require "example"
local schema   = require "schema"

local HERE <const> = "@@here@@"

---- Bodies -------------------------------------------------------------------------------------

local function send_body(route, json, values)
  local path = example.path(route, values or { provider = "generic" }) .. example.query(route.operation)
  return bad.send(route, path, { json = json, token = bad.token_of(route), headers = bad.headers_of(route, json) })
end

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

--- Calls fn with each field: {name, schema, required, text (the body as JSON with HERE in the
-- field's place), key (its own name), item (what it holds, if it is a list)}.
local function each_field(media, fn)
  local function visit(one, keys, required, value)
    one = schema.follow(one, contract.document)
    local item = type(value) == "table" and value[1] or nil
    if #keys > 0 then
      fn { name = name_of(keys), schema = one, required = required, text = with_here(media.example, keys),
           key = keys[#keys], item = item and cjson.encode(item):gsub("^$", "1") }
    end
    for name, part in pairs(one.properties or {}) do
      visit(part, joined(keys, name), requires(one, name), type(value) == "table" and value[name])
    end
    if one.items then visit(one.items, joined(keys, 1), false, item) end
  end
  visit(media.schema, {}, true, media.example)
end

local function put_in(text, value)
  local from, to = text:find('"' .. HERE .. '"', 1, true)
  return text:sub(1, from - 1) .. value .. text:sub(to + 1)
end

--- The JSON that a route takes, also with a GET: {schema, example, optional, types}.
local function media_of(route)
  local body = route.operation.requestBody or route.operation["x-body"]
  local json = body and body.content["application/json"]
  return json and { schema = json.schema, example = json.example, optional = not body.required, types = body.content }
end

local function each_body(fn)
  for _, route in ipairs(contract.routes()) do
    local media = media_of(route)
    if media then fn(route, media, route.method .. " " .. route.path) end
  end
end

---- What is odd, but right ------------------------------------------------------------------------

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
  local kind = bad.type_of(one)
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

local function check_no_fault(route, answer, what)
  bad.check_no_fault(answer, what)
  check.truthy(answer.status ~= 401 or route.operation.tags[1] == "auth", what .. ": 401")
end

---- Parameters ------------------------------------------------------------------------------------

--- Calls fn with each parameter that stands in the query, the path, or a header.
local function each_parameter(place, fn)
  local count = 0
  for _, route in ipairs(contract.routes()) do
    for _, one in ipairs(route.operation.parameters or {}) do
      if one["in"] == place then
        count = count + 1
        fn(route, one)
      end
    end
  end
  return count
end

--- Asks with these values in the query and the path, and headers.
local function ask(route, query, values, headers)
  local path = example.path(route, values) .. example.query(route.operation, query)
  local media = media_of(route)
  local answer = bad.send(route, path, { token = bad.token_of(route), headers = headers,
                                         json = media and not media.optional and "{}" or nil })
  return answer, route.method .. " " .. path:sub(1, 200)
end

return {
  { "bodies that are no object, no JSON, or too much", function()
    local bodies = { "[]", '"x"', "1", "true", "{", "", "{}{}", '{"a":1,"a":2}', '{"\xff":1}', "\xef\xbb\xbf{", '{"a":NaN}',
                     ("["):rep(5000), '{"a":' .. ("["):rep(5000), "{" .. ('"k":1,'):rep(10000) .. '"k":1}' }
    each_body(function(route, media, name)
      for _, body in ipairs(bodies) do
        local answer, what = send_body(route, body), name .. " with " .. body:sub(1, 40)
        if body == "" and media.optional then bad.check_no_fault(answer, what) else bad.check_4xx(answer, what) end
      end
    end)
    local types = { "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1",
                    "multipart/form-data; boundary=x" }
    each_body(function(route, media, name)
      if route.path:find "webhook" then return end
      for _, type in ipairs(types) do
        local answer = bad.send(route, example.path(route), { token = bad.token_of(route), body = "{}",
                                                              headers = { ["Content-Type"] = type } })
        local taken = media.types[type:match "^[^;]+"] and type ~= types[3]
        check.equal(answer.status, taken and 400 or 415, name .. " as " .. type)
      end
    end)
    for coding, status in pairs { gzip = 415, identity = 400 } do
      check.status(client.post("/api/v1/auth/login", { json = "{}", headers = { ["Content-Encoding"] = coding } }), status)
    end
  end },

  { "a megabyte is too large, and said to be", function()
    local route = contract.find("POST", "/api/v1/products")
    local answer = bad.send(route, route.path, { token = bad.token_of(route), json = '"' .. ("x"):rep(1100000) .. '"' })
    check.status(answer, 413, "PAYLOAD_TOO_LARGE")
  end },

  { "every field of every body is bounded", function()
    each_body(function(_, media, name)
      each_field(media, function(field)
        local one, kind, what = field.schema, bad.type_of(field.schema), name .. ": " .. field.name
        if kind == "string" then check.truthy(one.maxLength or one.enum or one.format or one.pattern, what)
        elseif kind == "array" then check.truthy(one.maxItems, what)
        elseif kind == "integer" or kind == "number" then check.truthy(one.minimum and one.maximum, what)
        else check.truthy(kind == "boolean" or kind == "object", what) end
      end)
    end)
  end },

  { "every field of every body", function()
    local fields, before = 0, bad.count
    each_body(function(route, media, name)
      each_field(media, function(field)
        fields = fields + 1
        local function try(value)
          bad.check_refused(send_body(route, put_in(field.text, value)), field.name,
                            ("%s: %s = %s"):format(name, field.name, value:sub(1, 60)))
        end
        for _, value in ipairs(bad.values(field.schema, field.required, field.item)) do try(value) end
        if type(field.key) == "string" then try('1,"' .. field.key .. '":1') end
        if not field.required then
          local answer = send_body(route, put_in(field.text, "null"))
          bad.check_no_fault(answer, name .. ": " .. field.name .. " = null")
        end
      end)
    end)
    print(("# %d fields, %d requests"):format(fields, bad.count - before))
    check.truthy(fields > 30, "fields: " .. fields)
  end },

  { "a body that nobody asked for is nothing", function()
    for _, route in ipairs(contract.routes()) do
      local is_upload = route.operation.requestBody ~= nil
      if not media_of(route) and not is_upload then
        for _, body in ipairs { "{", '"\xff"', "{}", ("["):rep(5000) } do
          local answer = bad.send(route, example.path(route), { json = body, token = bad.token_of(route) })
          bad.check_no_fault(answer, route.method .. " " .. route.path .. " with " .. body:sub(1, 20))
        end
      end
    end
  end },

  { "every parameter of every query", function()
    local parameters = each_parameter("query", function(route, one)
      for _, text in ipairs(bad.texts(one.schema)) do
        if #text < 5000 and text ~= "" then
          local answer, what = ask(route, { [one.name] = text })
          bad.check_refused(answer, one.name, what)
        end
      end
      for _, text in ipairs(bad.NO_TEXT) do
        local answer, what = ask(route, { [one.name] = text })
        bad.check_4xx(answer, what)
        check.equal(answer.status, 400, what)
      end
      local query = example.query(route.operation, { [one.name] = "1" })
      for _, more in ipairs { "&" .. one.name .. "=%00", "&" .. one.name .. "=x&" .. one.name .. "=", "&=&&%3D&x", "&" .. one.name .. "=%zz" } do
        local answer = bad.send(route, example.path(route) .. query .. more, { token = bad.token_of(route) })
        bad.check_no_fault(answer, route.method .. " " .. route.path .. query .. more)
      end
    end)
    check.truthy(parameters > 15, "parameters: " .. parameters)
  end },

  { "every parameter of every path", function()
    local parameters = each_parameter("path", function(route, one)
      for _, text in ipairs { "banana", "%00", "%ff", "%27%3B--", ("x"):rep(3000), "..%2f..%2fetc%2fpasswd", "%F0%9F%8E%82", "%20", "0",
                              "-1", "1e999", "99999999999999999999" } do
        local answer, what = ask(route, nil, { [one.name] = text })
        bad.check_4xx(answer, what)
        local has_form = one.schema.format == "uuid" or bad.type_of(one.schema) == "integer"
        local is_text = not text:find "%%00" and not text:find "%%ff" and not text:find "%%2f"
        if has_form and is_text then
          check.equal(answer.status, 400, what)
          bad.check_refused(answer, one.name, what)
        end
      end
    end)
    check.truthy(parameters > 15, "parameters: " .. parameters)
  end },

  { "every header, and who asks", function()
    local texts = { "banana", ("x"):rep(3000), "\xff\xfe", "\xc0\x80", "'; DROP TABLE users; --", "\u{1F382}", "-1", "99999999999999999999",
                    "00000000-0000-0000-0000-000000000000", "t=1,v1=00", "t=,v1=", "" }
    local parameters = each_parameter("header", function(route, one)
      for _, text in ipairs(texts) do
        local answer, what = ask(route, nil, nil, { [one.name] = text })
        bad.check_no_fault(answer, what .. " with " .. one.name .. ": " .. text:sub(1, 40))
      end
    end)
    check.truthy(parameters > 5, "headers: " .. parameters)
    for _, text in ipairs(texts) do
      for _, headers in ipairs { { Authorization = text }, { Authorization = "Bearer " .. text }, { Cookie = "omade_session=" .. text },
                                 { Cookie = text } } do
        check.status(client.get("/api/v1/auth/me", { headers = headers }), 401, "UNAUTHENTICATED")
      end
    end
  end },

  { "what is odd but right is taken, or refused; never a fault of ours", function()
    each_body(function(route, media, name)
      local ids = ids_of(route)
      each_field(media, function(field)
        local values, is_text = odd_values(field.schema)
        for _, value in ipairs(values) do
          local json = put_in(field.text, is_text and cjson.encode(value) or value)
          check_no_fault(route, send_body(route, json, ids), ("%s: %s = %s"):format(name, field.name, value:sub(1, 60)))
        end
      end)
    end)
    each_parameter("query", function(route, one)
      local ids = ids_of(route)
      for _, value in ipairs(odd_values(one.schema)) do
        if #value < 4000 then
          local answer, what = ask(route, { [one.name] = value }, ids)
          check_no_fault(route, answer, what)
        end
      end
    end)
  end },
}
