--- The Redis of a test with "-- redis: own": started, stopped, killed.

local client = require "client"

local own_redis = {}

local work, socket = os.getenv "TEST_WORK", os.getenv "TEST_REDIS_SOCKET"

---@param options? string more of redis-server's; without any it keeps nothing on the disk
function own_redis.start(options)
  local out, ok = client.shell(("redis-server --port 0 --unixsocket %s --daemonize yes --dir %s --pidfile %s/redis.pid "
    .. "--logfile %s/redis.log --save '' --appendonly no %s"):format(socket, work, work, work, options or ""))
  if not ok then error(out, 2) end
  client.eventually(30, "Redis", function() return client.redis "DBSIZE":find "^[%dL]" end)
end

function own_redis.stop()
  client.redis("SHUTDOWN", "NOSAVE")
  client.eventually(30, "Redis is away", function() return client.redis "PING" ~= "PONG" end)
end

--- What kills it, for a shell.
own_redis.KILL = ("kill -9 $(cat %s/redis.pid) && rm -f %s/redis.pid"):format(work, work)

function own_redis.kill()
  local out, ok = client.shell(own_redis.KILL)
  if not ok then error(out, 2) end
end

return own_redis
