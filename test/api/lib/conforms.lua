-- For tests in shell: whether all that curl (test/curl/curl) was answered since the last
-- time is as openapi.json says.
--
--   lua5.4 conforms.lua DOCUMENT        which that curl has fetched; needs CURL_TRACES

package.path = arg[0]:match "^(.*)/" .. "/?.lua;" .. package.path

local contract = require "contract"
local traces   = require "traces"

local file = assert(io.open(arg[1]))
contract.load(file:read "a")
file:close()

local count  = traces.judge(os.getenv "CURL_TRACES")
local faults = contract.take()
if count < 2 then faults[#faults + 1] = "curl has left no traces but the document's" end
for _, fault in ipairs(faults) do print(fault) end
os.exit(#faults == 0)
