--- What the commands `omade db` and `omade cache` print: tables for people, JSON for programs.

local files = require "omade.core.files"
local json  = require "omade.json"

local print = {}

---@class omade.cli.column
---@field key string of the row
---@field title? string the key, unless said
---@field kind? "text"|"number"|"bytes"|"percent"|"seconds"|"ms" "text", unless said
---@field width? integer the most that is shown of a text; less on a narrow terminal
---@field show? fun(text: string): string what people see of a text
---@field spare? boolean left out on a narrow terminal

local UNITS <const> = { "B", "kB", "MB", "GB", "TB" }

--- 8192 -> "8 kB"
---@param n number
---@return string
function print.bytes(n)
  local unit = 1
  while n >= 10240 and unit < #UNITS do n, unit = n / 1024, unit + 1 end
  return ("%.0f %s"):format(n, UNITS[unit])
end

--- 4000 -> "1 h 6 min"
---@param seconds number
---@return string
function print.seconds(seconds)
  if seconds < 60 then return ("%.1f s"):format(seconds) end
  local minutes = seconds // 60
  if minutes < 60 then return ("%d min"):format(minutes) end
  if minutes < 48 * 60 then return ("%d h %d min"):format(minutes // 60, minutes % 60) end
  return ("%d days"):format(minutes // 1440)
end

local FORMATS <const> = {
  number  = function(n) return n % 1 == 0 and ("%.0f"):format(n) or tostring(n) end,
  bytes   = print.bytes,
  percent = function(n) return ("%.1f %%"):format(n) end,
  seconds = print.seconds,
  ms      = function(n) return ("%.2f"):format(n) end,
}

--- At most `width` characters, the last of which tells that there were more.
---@param text string
---@param width integer
---@return string
function print.cut(text, width)
  if utf8.len(text) <= width then return text end
  return text:sub(1, utf8.offset(text, width) - 1) .. "…"
end

--- One line of text: queries have newlines and tabs, and may be long.
local function one_line(text, width)
  return print.cut(json.text(text):gsub("[%s%c]+", " "), width)
end

local function cell(row, column)
  local value = row[column.key]
  if value == nil then return "-" end
  local format = FORMATS[column.kind]
  if format then return format(tonumber(value)) end
  return one_line(column.show and column.show(value) or value, column.width or 60)
end

local function pad(text, width, right)
  local room = (" "):rep(width - utf8.len(text))
  return right and room .. text or text .. room
end

--- The cells as texts, the titles first, and how wide each column is.
local function lay_out(columns, rows)
  local lines, widths = { {} }, {}
  for i, column in ipairs(columns) do lines[1][i] = column.title or column.key end
  for r, row in ipairs(rows) do
    lines[r + 1] = {}
    for i, column in ipairs(columns) do lines[r + 1][i] = cell(row, column) end
  end
  for _, line in ipairs(lines) do
    for i, text in ipairs(line) do widths[i] = math.max(widths[i] or 0, utf8.len(text)) end
  end
  return lines, widths
end

local LEAST <const> = 30        -- what is left of a long text on a narrow terminal

local function least(column, width)
  return column.width and math.min(width, LEAST) or width
end

--- The columns that fit: spare ones go, the last one first.
local function fitting(columns, rows, room)
  local _, widths = lay_out(columns, rows)
  local kept, need = {}, -2
  for i, column in ipairs(columns) do need = need + 2 + least(column, widths[i]) end
  for i = #columns, 1, -1 do
    if need > room and columns[i].spare then
      need = need - 2 - least(columns[i], widths[i])
    else
      table.insert(kept, 1, columns[i])
    end
  end
  return kept
end

--- Takes from the columns of long texts, the last one first, what is too much.
local function narrow(columns, widths, room)
  local excess = 2 * (#widths - 1) - room
  for _, width in ipairs(widths) do excess = excess + width end
  for i = #columns, 1, -1 do
    local less = math.max(0, math.min(excess, widths[i] - least(columns[i], widths[i])))
    widths[i], excess = widths[i] - less, excess - less
  end
end

--- Aligned; numbers to the right.  On a terminal nothing is longer than a line.
---@param columns omade.cli.column[]
---@param rows table[] of texts
---@param room? integer columns of the terminal
---@return string text, boolean whole whether nothing was left out or cut
function print.table(columns, rows, room)
  local kept = room and fitting(columns, rows, room) or columns
  local lines, widths = lay_out(kept, rows)
  local out, whole = {}, #kept == #columns
  if room then narrow(kept, widths, room) end
  for l, line in ipairs(lines) do
    for i, text in ipairs(line) do
      line[i] = pad(print.cut(text, widths[i]), widths[i], FORMATS[kept[i].kind] ~= nil)
    end
    local text = table.concat(line, "  "):gsub("%s+$", "")
    out[l] = room and print.cut(text, room) or text
    whole = whole and out[l] == text
  end
  return table.concat(out, "\n") .. "\n", whole
end

--- The same as members, numbers as numbers.
---@param columns omade.cli.column[]
---@param rows table[]
---@return table[] list for json.encode
function print.members(columns, rows)
  local list = json.array {}
  for r, row in ipairs(rows) do
    local object = {}
    for _, column in ipairs(columns) do
      local value = row[column.key]
      if value ~= nil and FORMATS[column.kind] then value = tonumber(value)
      elseif value ~= nil then value = json.text(value) end
      object[column.key] = value == nil and json.null or value
    end
    list[r] = object
  end
  return list
end

--- One line of JSON.
---@param value any
function print.json(value)
  files.print(json.encode(value) .. "\n")
end

--- A list in words, but not too long: "a, b, c and 7 more".
---@param names string[]
---@param most integer
---@return string
function print.some(names, most)
  local shown = table.concat(names, ", ", 1, math.min(#names, most))
  return #names <= most and shown or shown .. (" and %d more"):format(#names - most)
end

return print
