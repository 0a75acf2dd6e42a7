--- Asking the database on a session of one's own: rows, or an error in one line.

local ask = {}

--- Rows of texts.
---@param s userdata session
---@param sql string
---@param ... string? parameters
---@return table[]
function ask.rows(s, sql, ...)
  local rows, why = s:query(sql, ...)
  if not rows then error("PostgreSQL: " .. why:gsub("^ERROR:%s*", ""), 0) end
  return rows
end

--- The first row.
function ask.row(s, sql, ...)
  return ask.rows(s, sql, ...)[1]
end

--- Whether the role sees what others do (pg_monitor has it).
function ask.sees_all(s)
  return ask.row(s, "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS yes").yes == "t"
end

ask.NOT_ALL = "only your own sessions and statements are shown in full: as a superuser run "
  .. "GRANT pg_monitor TO %s"

--- The schema that an extension is in, nil when it is not there.
function ask.extension(s, name)
  local row = ask.row(s, [[SELECT quote_ident(n.nspname) AS schema FROM pg_extension e
    JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = $1]], name)
  return row and row.schema
end

return ask
