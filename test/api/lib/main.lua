-- Runs the tests of one file: a table of {name, function} in order.

local tests = dofile(arg[1])
local passed, failed = 0, 0

for _, test in ipairs(tests) do
  local ok, fault = xpcall(test[2], function(message)
    return debug.traceback(tostring(message), 2)
  end)
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
