-- Compares omade.survey of a restored database with the :manifest of its backup: a line per
-- table and per kind of thing, "what | in the backup | restored | ok, or what differs".
WITH m AS (
    SELECT :'manifest'::jsonb AS wanted, current_setting('omade.survey')::jsonb AS found
), tables AS (
    SELECT name, wanted -> 'tables' -> name AS w, found -> 'tables' -> name AS f
    FROM m, LATERAL (SELECT jsonb_object_keys(wanted -> 'tables')
                     UNION SELECT jsonb_object_keys(found -> 'tables')) AS all_names (name)
), kinds AS (
    SELECT name, coalesce(wanted -> 'things' -> name, '[]') AS w,
           coalesce(found -> 'things' -> name, '[]') AS f
    FROM m, LATERAL (SELECT jsonb_object_keys(wanted -> 'things')
                     UNION SELECT jsonb_object_keys(found -> 'things')) AS all_names (name)
    WHERE wanted ->> 'kind' <> 'data'
), missing AS (
    SELECT k.name, string_agg(thing, '; ') AS list FROM kinds k, LATERAL (
        SELECT jsonb_array_elements_text(k.w) EXCEPT SELECT jsonb_array_elements_text(k.f) LIMIT 3
    ) AS lost (thing) GROUP BY k.name
), extra AS (
    SELECT k.name, string_agg(thing, '; ') AS list FROM kinds k, LATERAL (
        SELECT jsonb_array_elements_text(k.f) EXCEPT SELECT jsonb_array_elements_text(k.w) LIMIT 3
    ) AS new (thing) GROUP BY k.name
), sequences AS (               -- they move on while a backup is taken, never back
    SELECT count(*) AS all, count(*) FILTER (WHERE ok) AS right,
           string_agg(s.key, '; ') FILTER (WHERE NOT ok) AS list
    FROM m, LATERAL jsonb_each_text(wanted -> 'sequences') AS s (key, value),
         LATERAL (SELECT coalesce((found -> 'sequences' ->> s.key)::numeric, -1)
                         >= s.value::numeric AS ok) AS compared
    WHERE wanted ->> 'kind' <> 'schema'
)
SELECT 'table ' || name, coalesce(w ->> 'rows', '-'), coalesce(f ->> 'rows', '-'),
       CASE WHEN w IS NULL THEN 'not in the backup'
            WHEN f IS NULL THEN 'missing'
            WHEN w -> 'rows' <> f -> 'rows' THEN 'other number of rows'
            WHEN w -> 'sum' <> f -> 'sum' THEN 'other contents'
            ELSE 'ok' END
FROM tables
UNION ALL
SELECT CASE k.name WHEN 'row security' THEN k.name WHEN 'policy' THEN 'policies'
                   WHEN 'index' THEN 'indexes' ELSE k.name || 's' END,
       jsonb_array_length(k.w)::text, jsonb_array_length(k.f)::text,
       coalesce(nullif(concat_ws(', ', 'missing: ' || missing.list, 'extra: ' || extra.list), ''), 'ok')
FROM kinds k LEFT JOIN missing USING (name) LEFT JOIN extra USING (name)
UNION ALL
SELECT 'sequences', sequences.all::text, sequences.right::text,
       coalesce('behind: ' || sequences.list, 'ok')
FROM sequences WHERE sequences.all > 0
ORDER BY 1;
