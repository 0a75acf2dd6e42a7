-- Runs the tests of one file: a table of {name, function} in order.  A test fails also when
-- it overlooked an answer that is not as openapi.json says.

local contract = require "contract"
local traces   = require "traces"

local tests = dofile(arg[1])
local passed, failed = 0, 0

local function run(test)
  local ok, fault = xpcall(test, function(message) return debug.traceback(tostring(message), 2) end)
  if contract.document then traces.judge(os.getenv "CURL_TRACES") end
  local overlooked = contract.take()[1]
  if ok and overlooked then return false, overlooked end
  return ok, fault
end

for _, test in ipairs(tests) do
  local ok, fault = run(test[2])
  if ok then
    passed = passed + 1
    print("ok " .. test[1])
  else
    failed = failed + 1
    print("not ok " .. test[1] .. "\n  " .. tostring(fault):gsub("\n", "\n  "))
  end
  io.stdout:flush()
end

print(("%d passed, %d failed"):format(passed, failed))
os.exit(failed == 0 and passed > 0)
