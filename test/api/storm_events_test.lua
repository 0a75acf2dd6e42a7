-- Twenty streams of one order over two workers: each sees each change once and in order,
-- also after a reconnect, and after the connection that listens was lost.
-- serve: --workers 2

local check  = require "check"
local client = require "client"
local storm  = require "storm"

local STREAMS <const> = 20

local buyer = storm.people(1)[1]
local staff = storm.people(1, "staff")[1]
local bun   = storm.products(1, 1000)[1]

local function open(order, last)
  local stream = { connection = client.connect(), seen = {}, last = last }
  stream.connection:send(client.format("GET", storm.ORDERS .. "/" .. order.id .. "/events", {
    token = buyer.token, headers = { ["Last-Event-ID"] = last } }))
  check.matches(assert(stream.connection:read_until "\r\n\r\n"), "200 OK")
  return stream
end

--- Reads until the event with this id came.
local function read_to(stream, id)
  while stream.last ~= id do
    local text = assert(stream.connection:read_until "\n\n", "the stream goes on until event " .. id)
    local this = text:match "id: ?(%d+)"
    if this then
      stream.seen[#stream.seen + 1] = this
      stream.last = this
    end
  end
end

local function ids(order)
  local list = {}
  for id in storm.value("SELECT id FROM order_status_history WHERE order_id = '%s' ORDER BY id", order.id):gmatch "%d+" do
    list[#list + 1] = id
  end
  return list
end

--- Changes of the order, at most one of each wave has an effect.
local function change(order, count)
  for i = 1, count do
    local to = storm.act("PATCH", order, "payment", staff, { payment_status = i % 2 == 1 and "failed" or "pending" })
    storm.expect(storm.times(3, to), { [200] = 3 })
  end
end

local function check_seen(stream, expected, what)
  check.equal(table.concat(stream.seen, " "), table.concat(expected, " "), what)
end

local function order() return storm.placed(storm.order(buyer, { items = { storm.one(bun) }, payment_method = "online" })) end

return storm.tests {
  { "20 streams see each change once and in order, beside those of other orders", function()
    local made, other, streams = order(), order(), {}
    for i = 1, STREAMS do streams[i] = open(made) end
    change(made, 10)
    change(other, 6)
    storm.move(made, staff, "confirmed", "preparing")
    local expected = ids(made)
    check.equal(#expected, 13)
    for i, stream in ipairs(streams) do
      read_to(stream, expected[#expected])
      check_seen(stream, expected, "stream " .. i)
      stream.connection:close()
    end
  end },

  { "who comes back with Last-Event-ID misses nothing and sees nothing twice", function()
    local made, streams = order(), {}
    change(made, 6)
    local so_far = ids(made)
    for i = 1, STREAMS do
      streams[i] = open(made)
      read_to(streams[i], so_far[1 + i % #so_far])
      streams[i].connection:close()
    end
    change(made, 6)
    for i, stream in ipairs(streams) do
      local again = open(made, stream.last)
      again.seen = stream.seen
      streams[i] = again
    end
    change(made, 4)
    local expected = ids(made)
    for i, stream in ipairs(streams) do
      read_to(stream, expected[#expected])
      check_seen(stream, expected, "stream " .. i)
      stream.connection:close()
    end
  end },

  { "the listening connection lost, again and again: nothing is missed", function()
    local made, streams = order(), {}
    for i = 1, STREAMS do streams[i] = open(made) end
    for _ = 1, 5 do
      client.sql [[SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND usename = 'app_user' AND query ILIKE 'LISTEN%']]
      change(made, 2)
    end
    local expected = ids(made)
    for i, stream in ipairs(streams) do
      read_to(stream, expected[#expected])
      check_seen(stream, expected, "stream " .. i)
      stream.connection:close()
    end
  end },

  { "a stream shows that it lives while other orders change all the time", function()
    local made, other = order(), order()
    local stream = open(made)
    read_to(stream, ids(made)[1])
    stream.connection.timeout = 0.5
    local text = ""
    for i = 1, 120 do
      local to = i % 2 == 1 and "failed" or "pending"
      check.status(storm.send(storm.act("PATCH", other, "payment", staff, { payment_status = to })), 200)
      text = text .. (stream.connection:more() or "")
      if text:find(":\n\n", 1, true) then break end
    end
    check.matches(text, ":\n\n")
    stream.connection:close()
  end },
}
