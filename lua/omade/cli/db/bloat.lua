--- How much of a B-tree index is air: measured by pgstattuple where it is there, else
-- estimated from the statistics: entries x (width + overhead) against the pages there are.
-- The estimate knows nothing of deduplication, so it errs on the side of too little air.

local ask = require "omade.cli.db.ask"

local bloat = {}

-- What makes a rebuild worth while.  Random inserts alone leave a quarter of a page free.
bloat.LEAST_PERCENT = 40
bloat.LEAST_BYTES   = 1 << 20

local INDEXES <const> = [[
  SELECT i.indexrelid, i.indrelid, n.nspname, t.relname AS table_name, c.relname AS index_name,
         c.relpages, c.reltuples, i.indkey, i.indnatts,
         COALESCE(substring(array_to_string(c.reloptions, ' ') FROM 'fillfactor=([0-9]+)')::numeric,
                  90) AS fillfactor
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indexrelid
  JOIN pg_class t ON t.oid = i.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_am a ON a.oid = c.relam AND a.amname = 'btree'
  WHERE i.indisvalid AND NOT i.indisexclusion AND c.relkind = 'i' AND c.relpages > 1
    AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_t(oast|emp)'
    AND pg_has_role(c.relowner, 'USAGE')]]

-- An entry: its line pointer (4), its header (8, or 16 where a column is null), its columns;
-- a page: 24 + 16 of overhead.
local ESTIMATE <const> = "WITH x AS (" .. INDEXES .. [[),
  w AS (
    SELECT x.indexrelid, sum(COALESCE(s.avg_width, 8) * (1 - COALESCE(s.null_frac, 0))) AS width,
           max(COALESCE(s.null_frac, 0)) AS nulls, bool_or(s.attname IS NULL) AS unknown
    FROM x
    JOIN pg_attribute ia ON ia.attrelid = x.indexrelid
    LEFT JOIN pg_attribute ta ON ta.attrelid = x.indrelid
      AND ta.attnum = x.indkey[ia.attnum - 1] AND ta.attnum > 0
    LEFT JOIN pg_stats s ON s.schemaname = x.nspname AND NOT s.inherited
      AND ((ta.attnum IS NOT NULL AND s.tablename = x.table_name AND s.attname = ta.attname)
        OR (ta.attnum IS NULL AND s.tablename = x.index_name AND s.attname = ia.attname))
    GROUP BY x.indexrelid),
  need AS (
    SELECT x.*, w.unknown, 1 + ceil(x.reltuples * (12 + 8 * w.nulls + 8 * ceil(w.width / 8))
             / ((current_setting('block_size')::numeric - 40) * x.fillfactor / 100)) AS pages
    FROM x JOIN w USING (indexrelid) WHERE x.reltuples >= 0)
  SELECT quote_ident(nspname) || '.' || quote_ident(index_name) AS name, table_name, index_name,
         pg_relation_size(indexrelid) AS bytes,
         floor(GREATEST(0, relpages - pages) * current_setting('block_size')::int)::bigint AS wasted,
         round((100 * GREATEST(0, relpages - pages) / relpages)::numeric, 1) AS percent
  FROM need WHERE NOT unknown
  ORDER BY wasted DESC, name]]

-- Pages that are empty are air as well, which the density of leaves leaves out.
local MEASURE <const> = "WITH x AS (" .. INDEXES .. [[),
  m AS (
    SELECT x.*, pg_relation_size(x.indexrelid) AS bytes,
           CASE WHEN p.avg_leaf_density = 'NaN' THEN 0 ELSE p.leaf_pages * p.avg_leaf_density / x.fillfactor END
             + p.internal_pages + 1 AS pages
    FROM x CROSS JOIN LATERAL %s.pgstatindex(x.indexrelid::regclass) p),
  f AS (SELECT m.*, GREATEST(0, 1 - pages * current_setting('block_size')::int / bytes) AS part FROM m)
  SELECT quote_ident(nspname) || '.' || quote_ident(index_name) AS name, table_name, index_name,
         bytes, floor(bytes * part)::bigint AS wasted, round((100 * part)::numeric, 1) AS percent
  FROM f ORDER BY wasted DESC, name]]

--- All B-tree indexes of the role, the worst first: name, table_name, index_name, bytes,
--- wasted, percent.
---@param s userdata session
---@return table[] rows
function bloat.indexes(s)
  local schema = ask.extension(s, "pgstattuple")
  local rows = schema and s:query(MEASURE:format(schema))     -- not for everybody: then the estimate
  return rows or ask.rows(s, ESTIMATE)
end

--- Whether an index is worth a rebuild.
---@param row table
---@return boolean
function bloat.is_evidence(row)
  return tonumber(row.percent) >= bloat.LEAST_PERCENT and tonumber(row.wasted) >= bloat.LEAST_BYTES
end

return bloat
