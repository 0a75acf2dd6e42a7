--- /_dev, in development only: what runs, what waits, and why scripts do not load.

local engine = require "omade.core.engine"
local web    = require "omade.web"

local STYLE <const> = [[
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222 }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .25rem .75rem .25rem 0;
border-bottom: 1px solid #ddd; vertical-align: top } pre { white-space: pre-wrap; margin: 0 }
.bad { background: #fde8e8; border-left: 4px solid #c00; padding: .75rem 1rem }
.good { background: #e8f6ea; border-left: 4px solid #282; padding: .75rem 1rem } code { font-family: ui-monospace, monospace }]]

local ESCAPES <const> = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }

local function escape(text)
  return (tostring(text):gsub('[&<>"]', ESCAPES))
end

local function rows_of(list, cells)
  local rows = {}
  for i, item in ipairs(list) do
    local row = {}
    for k, cell in ipairs(cells(item)) do row[k] = "<td>" .. cell .. "</td>" end
    rows[i] = "<tr>" .. table.concat(row) .. "</tr>"
  end
  return table.concat(rows, "\n")
end

local function status()
  local fault = engine.fault()
  if fault then
    return "<div class=bad><strong>The scripts on the disk do not load</strong>; what loaded "
      .. "last serves until they do.<pre>" .. escape(fault) .. "</pre></div>"
  end
  return "<div class=good>All scripts are loaded.</div>"
end

local function words(who)
  return type(who) == "table" and table.concat(who, ", ") or who
end

local function page(routes)
  local tasks = rows_of(engine.tasks(), function(task)
    return { "<code>" .. escape(task.name) .. "</code>", escape(task.waits_for or "runs"), task.ms .. " ms",
             "<pre>" .. escape(task.traceback) .. "</pre>" }
  end)
  local table_of_routes = rows_of(routes, function(route)
    return { "<code>" .. escape(route.method) .. "</code>", "<code>" .. escape(route.path) .. "</code>",
             escape(words(route.who)), escape(route.summary or "") }
  end)

  return table.concat({
    "<!doctype html><html lang=en><meta charset=utf-8><title>Omade: development</title><style>", STYLE, "</style>",
    "<h1>Omade, development</h1>", status(),
    "<p>Generation ", engine.generation(), ", ", ("%.1f"):format(engine.memory() / 1048576), " MiB of Lua heap.</p>",
    "<h2>Tasks under way</h2><table><tr><th>task<th>waits for<th>since<th>where</tr>", tasks, "</table>",
    "<h2>Routes</h2><table><tr><th>method<th>path<th>who<th>what</tr>", table_of_routes, "</table></html>",
  })
end

--- Its route; `list` is what the app declared.
---@param list table[]
---@return table
local function routes(list)
  local function show() return web.raw(page(list), "text/html; charset=utf-8") end

  return web.routes("", { { "GET", "/_dev", show, who = "anyone", limit = false, bare = true,
                             type = "text/html", summary = "What runs just now" } })
end

return { routes = routes }
