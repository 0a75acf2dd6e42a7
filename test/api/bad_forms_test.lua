-- Every field of every form, and forms that are none: what a field must not be is refused by
-- its name, a broken body as a whole; never a 5xx, never SQL, and no file is kept.  Forms and
-- fields are those of openapi.json.
-- only: hostile
-- serve: --workers 1

local bad      = require "bad"
local check    = require "check"
local client   = require "client"
local contract = require "contract"
local example  = require "example"

local MULTIPART <const>, PLAIN <const> = "multipart/form-data", "application/x-www-form-urlencoded"
local PNG <const> = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR" .. (">I4I4"):pack(8, 8) .. "\8\6\0\0\0crc."

---- Forms: lists of {name, value}, or {name, value, filename} -----------------------------------

local function part_of(field)
  local file = field[3] and '; filename="' .. field[3] .. '"\r\nContent-Type: image/png' or ""
  return '--XyZ\r\nContent-Disposition: form-data; name="' .. field[1] .. '"' .. file .. "\r\n\r\n" .. field[2] .. "\r\n"
end

local function multipart(fields)
  local parts = {}
  for i, field in ipairs(fields) do parts[i] = part_of(field) end
  return table.concat(parts) .. "--XyZ--\r\n"
end

local function encoded(text)
  return (text:gsub("[^%w]", function(c) return ("%%%02X"):format(c:byte()) end))
end

local function urlencoded(fields)
  local parts = {}
  for i, field in ipairs(fields) do parts[i] = encoded(field[1]) .. "=" .. encoded(field[2]) end
  return table.concat(parts, "&")
end

local WRITERS <const> = { [MULTIPART] = multipart, [PLAIN] = urlencoded }

local function is_file(one) return one.format == "binary" end

--- A value as a form has it; nil where there is none.
local function as_text(value)
  if type(value) == "table" then return #value > 0 and table.concat(value, ",") or nil end
  if type(value) == "number" then return ("%.14g"):format(value) end
  return value ~= nil and tostring(value) or nil
end

--- Fields of a form that would be taken, but for what is left out and what comes instead.
local function form_of(media, json, without, instead)
  local fields = {}
  for name, one in pairs(media.schema.properties) do
    local value = is_file(one) and PNG or as_text(json and json.example[name])
    if name ~= without and value then fields[#fields + 1] = { name, value, is_file(one) and "a.png" or nil } end
  end
  table.sort(fields, function(a, b) return a[1] < b[1] end)
  return table.move(instead or {}, 1, #(instead or {}), #fields + 1, fields)
end

--- Calls fn(form) for each form that a route takes: {type, schema, name, new(without, instead),
-- send(fields), raw(body, type)}.
local function each_form(fn)
  local count = 0
  for _, route in ipairs(contract.routes()) do
    for type, media in pairs((route.operation.requestBody or { content = {} }).content) do
      if WRITERS[type] then
        local json = example.media(route.operation)
        local form = { type = type, schema = media.schema, name = route.method .. " " .. route.path .. " as " .. type }
        function form.raw(body, content_type)
          return bad.send(route, example.path(route), { token = bad.token_of(route), body = body,
            headers = { ["Content-Type"] = content_type or type == MULTIPART and type .. "; boundary=XyZ" or type } })
        end
        function form.new(without, instead) return form_of(media, json, without, instead) end
        function form.send(fields) return form.raw(WRITERS[type](fields)) end
        count = count + 1
        fn(form)
      end
    end
  end
  return count
end

local function each_field(fn)
  each_form(function(form)
    for name, one in pairs(form.schema.properties) do fn(form, name, one, form.name .. ": " .. name) end
  end)
end

local function kept() return tonumber((client.shell 'ls -A "$UPLOAD_DIR" | wc -l')) end

--- A test that ends with as many files as it began with.
local function keeps_nothing(fn)
  return function()
    local before = kept()
    fn()
    check.equal(kept(), before, "files")
  end
end

--- A text field that is refused, whatever this is.
local function refuse(form, name, value, what)
  bad.check_refused(form.send(form.new(name, { { name, value } })), name, ("%s = %q"):format(what, value:sub(1, 60)))
end

return {
  { "every text field: wrong types, limits, no text", keeps_nothing(function()
    local before, fields = bad.count, 0
    each_field(function(form, name, one, what)
      fields = fields + 1
      for _, text in ipairs(is_file(one) and { "x", "", (PNG:gsub("%W", "")) } or bad.texts(one)) do
        local is_nothing = text == "" and bad.type_of(one) == "array"
        if not is_nothing then refuse(form, name, text, what) end
      end
      for _, text in ipairs(bad.NO_TEXT) do
        local answer = form.send(form.new(name, { { name, text } }))
        bad.check_4xx(answer, what)
        if form.type == MULTIPART then bad.check_refused(answer, name, what) end
      end
    end)
    print(("# %d fields, %d requests"):format(fields, bad.count - before))
    check.truthy(fields > 10, "fields: " .. fields)
  end) },

  { "a field twice, missing, as a file, or a file as text", keeps_nothing(function()
    each_field(function(form, name, one, what)
      local fields = form.new(name)
      local one_value = { name, is_file(one) and PNG or "1", is_file(one) and "a.png" or nil }
      table.insert(fields, one_value)
      table.insert(fields, one_value)
      bad.check_refused(form.send(fields), name, what .. " twice")
      for _, required in ipairs(form.schema.required or {}) do
        if required == name then bad.check_refused(form.send(form.new(name)), name, what .. " is missing") end
      end
      if form.type ~= MULTIPART then return end
      local other = is_file(one) and { name, "text" } or { name, PNG, "a.png" }
      bad.check_refused(form.send(form.new(name, { other })), name, what .. " of the other kind")
      bad.check_refused(form.send(form.new(name, { other, one_value })), name, what .. " as both")
      if is_file(one) then
        bad.check_refused(form.send(form.new(name, { { name, "no picture", "a.png" } })), name, what .. " is no picture")
        bad.check_refused(form.send(form.new(name, { { name, PNG .. ("x"):rep(10 << 20), "a.png" } })), name, what .. " is too large")
      end
    end)
  end) },

  { "what nobody knows is ignored, if it is text or a file at all", keeps_nothing(function()
    each_form(function(form)
      local bad_name = { next(form.schema.properties) }
      for _, more in ipairs { { { "id", "x" } }, { { "__proto__", "x" }, { "", "x" }, { "x.y[0]", "x" } }, { { "u", PNG, "u.png" } } } do
        -- with something that is refused, so that nothing is made
        table.insert(more, { bad_name[1], "\0" })
        local answer = form.send(form.new(bad_name[1], more))
        bad.check_4xx(answer, form.name)
        for name in pairs(answer.json().fields or {}) do check.equal(name, bad_name[1], form.name) end
      end
      if form.type == MULTIPART then
        bad.check_refused(form.send(form.new(nil, { { "unknown", "\xff" } })), "unknown", form.name)
        bad.check_refused(form.send(form.new(nil, { { "unknown", "1" }, { "unknown", "2" } })), "unknown", form.name)
      end
      local many = {}
      for i = 1, 10000 do many[i] = { "field" .. i, "x" } end
      table.insert(many, { bad_name[1], "\0" })
      bad.check_4xx(form.send(many), form.name .. " with 10,000 fields")
      bad.check_4xx(form.send { { bad_name[1], "\0" }, { "large", ("x"):rep(2 << 20) } }, form.name .. " with 2 MB of text")
    end)
  end) },

  { "bodies that are no form", keeps_nothing(function()
    each_form(function(form)
      if form.type ~= MULTIPART then
        for _, body in ipairs { "%", "%z=1", "a=%", "a=%ff", "%00=1", "a=%00", "a=1&a=1", "\xff", "\0" } do
          bad.check_4xx(form.raw(body), form.name .. " " .. body)
        end
        return
      end
      local whole = multipart(form.new())
      local part = part_of { "field", "x" }
      local file = part_of { "image", PNG, "a.png" }
      local function head(text) return "--XyZ\r\n" .. text .. "\r\n\r\nx\r\n--XyZ--\r\n" end
      local broken = {
        "", "\0", "x", "--", "--XyZ", "--XyZ\r\n", "--XyZ\r\n\r\n", "--XyZ\n", "XyZ", "--xyz--\r\n", "--XyZ-", part, file, file .. part,
        (part:gsub("\r\n", "\n") .. "--XyZ--\n"), "--XyZ\r\n" .. whole, part .. "--XyZ\r\n--XyZ--\r\n", part:gsub("\r\n\r\n", "\r\n"),
        whole:sub(1, -10), whole:sub(1, #whole // 2), part:rep(101) .. "--XyZ--\r\n", file:rep(101) .. "--XyZ--\r\n",
        head 'Content-Disposition: form-data', head 'Content-Disposition: form-data; filename="a.png"', head "Content-Type: text/plain",
        head 'Content-Disposition: form-data; nam="a"', head 'Content-Disposition: attachment; name="a"', head 'X',
        head 'Content-Disposition: form-data; name="a"\r\nContent-Disposition: form-data; name="b"', head ': x',
        head 'Content-Disposition: form-data; name="\xff"', head 'Content-Disposition: form-data; name="a\0b"',
        head('Content-Disposition: form-data; name="a"\r\nX: ' .. "\1"),
      }
      for _, body in ipairs(broken) do
        local answer, what = form.raw(body), ("%s %q"):format(form.name, body:sub(1, 80))
        bad.check_4xx(answer, what)
        check.equal(answer.status, 400, what)
      end
      for _, type in ipairs { MULTIPART, MULTIPART .. "; boundary=", MULTIPART .. '; boundary=""', MULTIPART .. "; boundary=other",
                              MULTIPART .. "; boundary=" .. ("x"):rep(71), MULTIPART .. "; bound=XyZ",
                              MULTIPART .. "; boundary=XyZ; x=" .. ("y"):rep(400), MULTIPART .. "; boundary=\xff" } do
        check.equal(form.raw(whole, type).status, 400, form.name .. " as " .. type)
      end
    end)
  end) },

  { "and the forms that they were made from are taken", function()
    local count = each_form(function(form)
      local answer = form.send(form.new())
      bad.check_no_fault(answer, form.name)
      check.truthy(answer.status ~= 400 or answer.json().code == "INVALID_TOKEN", form.name .. ": " .. answer.body)
    end)
    check.truthy(count >= 5, "forms: " .. count)
  end },
}
