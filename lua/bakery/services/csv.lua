--- Lists as CSV (RFC 4180), streamed in pieces; the lines are made by PostgreSQL.
--
-- A list is one SELECT, read through a cursor: whatever is written meanwhile, each row is in
-- it once, as it was when the answer began.  Cells that a spreadsheet would take for a formula
-- get an apostrophe in front.

local config = require "omade.config"
local db     = require "omade.db"
local time   = require "omade.time"
local web    = require "omade.web"

local csv = {}

local LINES <const> = 500       -- a piece
local LONGEST <const> = 60      -- seconds that making a list may take, with a slow client
local PATIENCE <const> = 5      -- seconds that a list waits for another

local BARE <const> = {        -- what needs no quotes and is no formula
  bare = "COALESCE((%s)::text, '')",
  time = [[COALESCE(to_char((%s) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), '')]],
}

local TEXT <const> = [[COALESCE((SELECT
  CASE WHEN safe ~ '[",\r\n]' THEN '"' || replace(safe, '"', '""') || '"' ELSE safe END
  FROM (SELECT CASE WHEN t ~ '^[-=+@\t\r]' THEN '''' || t ELSE t END AS safe FROM (SELECT (%s)::text AS t) x) y), '')]]

local function line_of(columns)
  local cells = {}
  for i, column in ipairs(columns) do
    cells[i] = (BARE[column.kind] or TEXT):format(column.sql or "r." .. column.name)
  end
  return table.concat(cells, " || ',' || ")
end

local function head_of(columns)
  local names = {}
  for i, column in ipairs(columns) do names[i] = column.name end
  return table.concat(names, ",") .. "\r\n"
end

---@class bakery.csv_column
---@field name string
---@field kind? "time"|"bare" bare: a number, a date or an id; else a text
---@field sql? string of the row r; else its column of that name

---@class bakery.csv_source
---@field columns bakery.csv_column[]
---@field rows string a SELECT
---@field order string behind ORDER BY, by the row r; ends with a unique column
---@field values any[] the parameters of `rows`; no nils

local function open(source)
  db.exec(("DECLARE list NO SCROLL CURSOR FOR SELECT %s || E'\\r\\n' AS line FROM (%s) r ORDER BY %s"):format(
    line_of(source.columns), source.rows, source.order), table.unpack(source.values))
end

--- The next lines, and whether there may be more.
local function piece()
  local lines = db.rows("FETCH " .. LINES .. " FROM list")
  for i, row in ipairs(lines) do lines[i] = row.line end
  return table.concat(lines), #lines == LINES
end

--- A list holds a connection for transactions while it is made, and there are few of them: one
-- list at a time in a worker; what its client has not read yet waits in memory, up to CSV_AHEAD.
local writing

local function in_turn(fn)
  local ends = time.monotonic() + PATIENCE
  while writing do
    if time.monotonic() > ends then
      web.fail(503, "Another list is being written; try again in a moment")
    end
    sleep(0.05)
  end
  local done <close> = setmetatable({}, { __close = function() writing = nil end })
  writing = done
  return fn()
end

--- Writes all pieces but the last, which it returns.
local function all_but_last(begin)
  local ends = time.monotonic() + LONGEST
  local lines, more = piece()
  local stream = more and begin()
  while more do
    stream:write(lines, config.get "CSV_AHEAD")
    if time.monotonic() > ends then error("the client reads too slowly") end
    local ok, next_lines, next_more = pcall(piece)
    if not ok then error(tostring(next_lines)) end      -- no second try: lines have been sent
    lines, more = next_lines, next_more
  end
  return lines
end

--- Answers with a file of that name.  Faults of the first piece are still told by a status.
---@param req omade.request
---@param name string
---@param source bakery.csv_source
function csv.answer(req, name, source)
  local stream
  local function begin()
    web.stream(req, function(begun) stream = begun end, { type = "text/csv; charset=utf-8",
      headers = { ["Content-Disposition"] = ('attachment; filename="%s"'):format(name) } })
    stream:write(head_of(source.columns))
    return stream
  end
  local last = in_turn(function()
    return db.transaction(function()
      open(source)
      return all_but_last(begin)
    end)
  end)
  if not stream then begin() end
  stream:write(last)
end

return csv
