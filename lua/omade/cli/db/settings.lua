--- Settings of PostgreSQL for a machine: the seed document's, which fit one of 1 GB, grown
-- with the memory.

local files   = require "omade.core.files"
local machine = require "omade.core.machine"

local settings = {}

local MB <const> = 1 << 20
local GB <const> = 1 << 30

---- The machine ---------------------------------------------------------------------------

local function number_in(path)
  local text = files.read(path)
  return text and tonumber(text:match "^%d+")
end

--- Bytes that processes here may have: a container's bound counts.
---@return integer
function settings.memory()
  local bound = number_in "/sys/fs/cgroup/memory.max" or number_in "/sys/fs/cgroup/memory/memory.limit_in_bytes"
  return math.min(machine.memory(), math.tointeger(bound) or math.maxinteger)
end

--- Whether a folder lies on a disk that turns; nil where the kernel does not say.
---@param device string? of machine.disk
---@return boolean?
function settings.rotates(device)
  if not device then return nil end
  local at = "/sys/dev/block/" .. device
  local found = number_in(at .. "/queue/rotational") or number_in(at .. "/../queue/rotational")
  if not found then return nil end
  return found == 1
end

---- What is recommended -------------------------------------------------------------------

local function in_mb(bytes) return ("%dMB"):format(bytes // MB) end

local function between(least, value, most) return math.max(least, math.min(value // 1, most)) end

---@class omade.cli.setting
---@field name string
---@field value string as in postgresql.conf
---@field why string
---@field half? boolean the doctor minds less than half of it
---@field exact? boolean the doctor minds any other value

--- For a server that shares its machine with Omade.
---@param memory integer bytes
---@param cores integer
---@param rotates boolean? the disk
---@return omade.cli.setting[]
function settings.recommend(memory, cores, rotates)
  local list = {}
  local function set(name, value, why, mind)
    list[#list + 1] = { name = name, value = value, why = why, half = mind == "half", exact = mind == "exact" }
  end

  set("shared_buffers", in_mb(between(128 * MB, memory // 4, 8 * GB)), "a quarter of the memory; needs a restart", "half")
  set("effective_cache_size", in_mb(memory // 4 * 3), "what the kernel and PostgreSQL keep of files", "half")
  set("work_mem", in_mb(between(4 * MB, memory // 1600, 64 * MB)), "for each sort or hash, of up to 100 sessions", "half")
  set("maintenance_work_mem", in_mb(between(64 * MB, memory // 16, 2 * GB)), "for VACUUM and CREATE INDEX")
  set("wal_buffers", "16MB", "needs a restart")
  set("min_wal_size", "256MB", "files kept for the next busy hour")
  set("max_wal_size", "2GB", "fewer checkpoints, a longer start after a crash")
  set("checkpoint_completion_target", "0.9", "writes of a checkpoint spread over its interval", "exact")
  set("random_page_cost", rotates and "4" or "1.1",
      rotates and "a disk that turns" or "SSD: random reads cost little more than sequential ones", "exact")
  set("effective_io_concurrency", rotates and "2" or "200", rotates and "a disk that turns" or "SSD")
  set("max_worker_processes", tostring(math.max(8, cores)), "needs a restart")
  set("max_parallel_workers", tostring(cores), "the cores")
  set("max_parallel_workers_per_gather", tostring(between(0, cores // 2, 4)), "half of the cores, for reports")
  set("jit", "off", "short statements are done before they are compiled")
  set("autovacuum_vacuum_scale_factor", "0.05", "orders and stock change all day")
  set("autovacuum_analyze_scale_factor", "0.02", "so do the planner's figures")
  set("shared_preload_libraries", "'pg_stat_statements'", "for omade db slow; needs a restart, and CREATE EXTENSION")
  set("track_io_timing", "on", "tells waiting for the disk from work")
  set("log_min_duration_statement", "500ms", "slow statements in the log")
  set("log_lock_waits", "on", "waits of more than a second in the log")
  set("idle_in_transaction_session_timeout", "10min", "a forgotten transaction holds locks and keeps VACUUM from its work")
  set("password_encryption", "'scram-sha-256'", "no md5", "exact")
  set("timezone", "'UTC'", "the server sends the shop's zone with each session")
  return list
end

--- A fragment of postgresql.conf.
---@param memory integer
---@param cores integer
---@param rotates boolean?
---@return string
function settings.fragment(memory, cores, rotates)
  local lines = {
    ("# For a machine of %d MB and %d cores with %s."):format(memory // MB, cores,
                                                             rotates and "a disk that turns" or "an SSD"),
    "# Virtual disks often say that they turn: --disk ssd knows better.",
    "# Put it into conf.d of the cluster (include_dir = 'conf.d'), then restart PostgreSQL.",
  }
  for _, setting in ipairs(settings.recommend(memory, cores, rotates)) do
    lines[#lines + 1] = ("%-48s# %s"):format(setting.name .. " = " .. setting.value, setting.why)
  end
  return table.concat(lines, "\n") .. "\n"
end

local NEEDS <const> = { ["--memory"] = "megabytes, 256 or more", ["--disk"] = "ssd or hdd" }

--- omade db conf [--memory MB] [--disk ssd|hdd]
---@param arguments string[]
---@return integer? code, string? wrong
function settings.main(arguments)
  local memory, rotates = settings.memory(), nil
  for i = 1, #arguments, 2 do
    local option, value = arguments[i], arguments[i + 1]
    if option == "--memory" and (value or ""):find "^%d+$" and #value < 10 and tonumber(value) >= 256 then
      memory = math.tointeger(value) * MB
    elseif option == "--disk" and (value == "ssd" or value == "hdd") then
      rotates = value == "hdd"
    else
      return nil, NEEDS[option] and option .. " needs " .. NEEDS[option] or "unexpected argument '" .. option .. "'"
    end
  end
  if rotates == nil then
    local _, _, device = machine.disk "/var/lib"
    rotates = settings.rotates(device)
  end
  files.print(settings.fragment(memory, machine.cores(), rotates))
  return 0
end

return settings
