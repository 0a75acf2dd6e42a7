--- Lists as CSV (RFC 4180), streamed in pieces; the lines are made by PostgreSQL.
--
-- Cells that a spreadsheet would take for a formula get an apostrophe in front.

local db  = require "omade.db"
local web = require "omade.web"

local csv = {}

local LINES <const> = 1000      -- a piece

--- r is the row.
local TEXT <const> = {
  plain = "r.%s::text",
  time  = [[to_char(r.%s AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')]],
}

local CELL <const> = [[COALESCE((SELECT
  CASE WHEN safe ~ '[",\r\n]' THEN '"' || replace(safe, '"', '""') || '"' ELSE safe END
  FROM (SELECT CASE WHEN t ~ '^[-=+@\t\r]' THEN '''' || t ELSE t END AS safe FROM (SELECT %s AS t) x) y), '')]]

local function line_of(columns)
  local cells = {}
  for i, column in ipairs(columns) do
    cells[i] = CELL:format(TEXT[column.kind or "plain"]:format(column.name))
  end
  return table.concat(cells, " || ',' || ")
end

local function head_of(columns)
  local names = {}
  for i, column in ipairs(columns) do names[i] = column.name end
  return table.concat(names, ",") .. "\r\n"
end

---@class bakery.csv_source
---@field columns {name: string, kind?: "time"}[]
---@field rows string a SELECT
---@field order string behind ORDER BY, by the row r; ends with a unique column
---@field values any[] the parameters of `rows`; no nils

--- Gives a function that returns the next piece, nil behind the last.
local function pieces(source)
  local sql = ("SELECT string_agg(line, '' ORDER BY n) AS lines, count(*) AS count FROM (SELECT %s || E'\\r\\n' AS line,"
    .. " row_number() OVER (ORDER BY %s) AS n FROM (%s) r ORDER BY n LIMIT %d OFFSET "):format(
    line_of(source.columns), source.order, source.rows, LINES)
  local from, done = 0, false
  return function()
    if done then return nil end
    local row = db.row(sql .. from .. ") AS piece", table.unpack(source.values))
    from, done = from + LINES, row.count < LINES
    return row.lines
  end
end

--- Answers with a file of that name.  Faults of the first piece are still told by a status.
---@param req omade.request
---@param name string
---@param source bakery.csv_source
function csv.answer(req, name, source)
  local next_piece = pieces(source)
  local piece = next_piece()
  return web.stream(req, function(stream)
    stream:write(head_of(source.columns))
    while piece do
      stream:write(piece)
      piece = next_piece()
    end
  end, { type = "text/csv; charset=utf-8",
         headers = { ["Content-Disposition"] = ('attachment; filename="%s"'):format(name) } })
end

return csv
