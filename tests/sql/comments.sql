-- Whatever the extension brings says what it is: \d+, \df+ and the reference in the docs show it.
CREATE TEMP VIEW members AS
    SELECT d.classid, d.objid FROM pg_depend AS d JOIN pg_extension AS e
        ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
     WHERE e.extname = 'my_worker' AND d.deptype = 'e';
SELECT o.type, o.identity
  FROM members AS m, pg_identify_object(m.classid, m.objid, 0) AS o
 WHERE o.type IN ('schema', 'table', 'view', 'function', 'type') AND o.identity !~ '\[\]$'
   AND NOT EXISTS (SELECT FROM pg_type AS t WHERE m.classid = 'pg_type'::regclass AND t.oid = m.objid AND t.typrelid <> 0)
   AND obj_description(m.objid, m.classid::regclass::name) IS NULL
 ORDER BY 1, 2;
SELECT c.oid::regclass AS relation, a.attname AS column
  FROM members AS m JOIN pg_class AS c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid AND c.relkind IN ('r', 'v')
  JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE col_description(c.oid, a.attnum) IS NULL
 ORDER BY 1, a.attnum;
-- A comment begins in lower case, is one sentence without its period, and says something.
SELECT o.identity, d.description
  FROM members AS m JOIN pg_description AS d ON d.classoid = m.classid AND d.objoid = m.objid,
       pg_identify_object(d.classoid, d.objoid, d.objsubid) AS o
 WHERE d.description !~ '^([a-z"]|SQL|SQLSTATE)' OR d.description ~ '\.$' OR d.description ~ E'[\n\t]'
 ORDER BY 1;
-- In the schema my_worker stand the functions that users call; the others have a schema of their own.
SELECT p.oid::regprocedure AS internal FROM pg_proc AS p
 WHERE p.pronamespace = 'my_worker'::regnamespace AND (p.proname ~ '^_' OR p.prorettype = 'trigger'::regtype) ORDER BY 1;
