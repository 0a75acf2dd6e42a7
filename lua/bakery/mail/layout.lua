--- From what a letter says to its text and its HTML.  Letters hold plain text only: all of
-- it is escaped here.
--
-- A part is a paragraph, {link = url, label = "..."} or {rows = {{"a", "b"}, ...}}.

local layout = {}

local ENTITIES <const> = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#39;" }

---@param text any
---@return string
function layout.escape(text) return (tostring(text):gsub("[&<>\"']", ENTITIES)) end

local escape <const> = layout.escape

local function text_rows(rows)
  local lines = {}
  for i, row in ipairs(rows) do lines[i] = tostring(row[1]) .. "  " .. tostring(row[2]) end
  return table.concat(lines, "\n")
end

local function html_rows(rows)
  local lines = {}
  for i, row in ipairs(rows) do
    lines[i] = ('<tr><td style="padding:2px 24px 2px 0">%s</td><td style="text-align:right">%s</td></tr>')
      :format(escape(row[1]), escape(row[2]))
  end
  return "<table>" .. table.concat(lines) .. "</table>"
end

local function as_text(part)
  if type(part) == "string" then return part end
  if part.link then return part.label .. ":\n" .. part.link end
  return text_rows(part.rows)
end

local function as_html(part)
  if type(part) == "string" then return "<p>" .. escape(part) .. "</p>" end
  if part.link then return ('<p><a href="%s">%s</a></p>'):format(escape(part.link), escape(part.label)) end
  return html_rows(part.rows)
end

local function each(parts, how)
  local list = {}
  for i, part in ipairs(parts) do list[i] = how(part) end
  return list
end

---@param parts (string|table)[]
---@return string
function layout.text(parts) return table.concat(each(parts, as_text), "\n\n") .. "\n" end

---@param subject string
---@param parts (string|table)[]
---@return string
function layout.html(subject, parts)
  return ('<!DOCTYPE html><html><head><meta charset="utf-8"><title>%s</title></head>'
    .. '<body style="font-family:sans-serif;max-width:36em;margin:auto">%s</body></html>')
    :format(escape(subject), table.concat(each(parts, as_html), "\n"))
end

return layout
