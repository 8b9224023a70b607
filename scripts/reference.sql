-- What the tables in docs/sql-api.md say, from the catalogs of a database that has the extension: one line a row, the
-- name of the table before it. Put there by scripts/reference, compared by tests/t/151_reference.pl.
\pset format unaligned
\pset tuples_only on
\pset fieldsep ' '
SET search_path = public, pg_catalog;
CREATE TEMP VIEW members AS
    SELECT d.classid, d.objid FROM pg_depend AS d JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
     WHERE e.extname = 'my_worker' AND d.deptype = 'e';
CREATE TEMP VIEW relations AS
    SELECT c.oid, c.oid::regclass::text AS name FROM members AS m JOIN pg_class AS c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
     WHERE c.relkind IN ('r', 'v') AND c.relname !~ '^_';
-- Names of types as one writes them.
CREATE FUNCTION pg_temp.short(type text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT replace(replace(type, 'timestamp with time zone', 'timestamptz'), 'double precision', 'float8')
$$;
CREATE TEMP VIEW functions AS
    SELECT p.* FROM members AS m JOIN pg_proc AS p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
     WHERE p.pronamespace <> 'my_worker_internal'::regnamespace;

-- Columns: defaults where a reader may leave them out, which is in the queue alone.
SELECT 'columns of ' || r.name AS "table",
       format('| `%s` | %s |%s %s |', a.attname, pg_temp.short(format_type(a.atttypid, a.atttypmod)),
              CASE WHEN r.name = 'my_queue'
                   THEN coalesce(' `' || CASE WHEN j.attidentity <> '' THEN 'identity'
                                                        WHEN a.attname = 'owner' THEN 'current_user'
                                                        ELSE regexp_replace(pg_get_expr(d.adbin, d.adrelid), '::\w+$', '') END || '` |', ' |') END,
              col_description(r.oid, a.attnum))
  FROM relations AS r JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_attribute AS j ON r.name = 'my_queue' AND j.attrelid = 'my_worker._jobs'::regclass AND j.attname = a.attname
  LEFT JOIN pg_attrdef AS d ON d.adrelid = j.attrelid AND d.adnum = j.attnum
 ORDER BY r.name, a.attnum;

SELECT 'functions', format('| `%s` | %s |', name, string_agg(DISTINCT description, '; ' ORDER BY description))
  FROM (SELECT proname AS name, obj_description(oid, 'pg_proc') AS description FROM functions) AS f
 GROUP BY name ORDER BY name;

-- How each function is called, in the notation of the page.
SELECT 'signatures',
       CASE WHEN pronamespace = 'my_worker'::regnamespace THEN 'my_worker.' ELSE '' END || proname
       || '(' || pg_temp.short(replace(regexp_replace(args, '''::(text|interval|jsonb)', '''', 'g'), ' DEFAULT ', ' = '))
       || ') returns '
       || CASE WHEN result ~ '^TABLE' THEN 'TABLE'
               WHEN outs IS NOT NULL THEN '(' || outs || ')'
               ELSE pg_temp.short(replace(result, 'SETOF', 'setof')) END
  FROM (SELECT f.*, pg_get_function_result(oid) AS result,
               regexp_replace(regexp_replace(pg_get_function_arguments(oid), '(, )?OUT [^,)]*', '', 'g'), 'NULL::(timestamp with time zone|\w+(\[\])?)', 'NULL', 'g') AS args,
               (SELECT string_agg(quote_ident(n.name) || ' ' || pg_temp.short(format_type(n.type, NULL)), ', ' ORDER BY n.place)
                  FROM unnest(f.proargnames, f.proallargtypes, f.proargmodes) WITH ORDINALITY AS n (name, type, mode, place)
                 WHERE n.mode = 'o') AS outs
          FROM functions AS f) AS f
 ORDER BY 2;
