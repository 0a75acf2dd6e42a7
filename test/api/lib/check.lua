--- Assertions that say what was wrong.

local cjson = require "cjson"

local check = {}

local function show(value)
  if type(value) == "table" then
    local ok, text = pcall(cjson.encode, value)
    if ok then return text end
    local parts = {}
    for key, part in pairs(value) do parts[#parts + 1] = tostring(key) .. " = " .. tostring(part) end
    return "{ " .. table.concat(parts, ", ") .. " }"
  end
  return type(value) == "string" and ("%q"):format(value) or tostring(value)
end

function check.equal(got, expected, what)
  if got ~= expected then
    error(("%s: expected %s, got %s"):format(what or "value", show(expected), show(got)), 2)
  end
end

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for key, value in pairs(a) do if not same(value, b[key]) then return false end end
  for key in pairs(b) do if a[key] == nil then return false end end
  return true
end

--- Equal in depth.
function check.same(got, expected, what)
  if not same(got, expected) then
    error(("%s: expected %s, got %s"):format(what or "value", show(expected), show(got)), 2)
  end
end

function check.truthy(value, what)
  if not value then error((what or "value") .. " is " .. tostring(value), 2) end
  return value
end

function check.status(answer, status, code)
  if answer.status ~= status then
    error(("expected status %d, got %d: %s"):format(status, answer.status, answer.body), 2)
  end
  if code then
    local body = answer.json()
    if body.code ~= code then error(("expected code %s, got %s"):format(code, answer.body), 2) end
    if body.success ~= false or type(body.error) ~= "string" or type(body.request_id) ~= "string" then
      error("malformed error answer: " .. answer.body, 2)
    end
  end
  return answer
end

function check.matches(text, pattern, what)
  if not tostring(text):find(pattern) then
    error(("%s: %s does not match %s"):format(what or "text", show(text), pattern), 2)
  end
end

return check
