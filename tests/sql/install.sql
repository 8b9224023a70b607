-- What CREATE EXTENSION brings, under the names and types of the contract, and to whom.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
SELECT extrelocatable, extnamespace::regnamespace FROM pg_extension WHERE extname = 'my_worker';
-- The jobs' columns, their types and defaults.
SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS required,
       a.attidentity <> '' AS identity, pg_get_expr(d.adbin, d.adrelid) AS "default"
  FROM pg_attribute AS a
  LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE a.attrelid = 'my_worker._jobs'::regclass AND a.attnum BETWEEN 1 AND 16 ORDER BY a.attnum;
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
 WHERE conrelid = 'my_worker._jobs'::regclass AND contype = 'p';
-- The view in the extension's schema has the same ones, and none is required of it.
SELECT count(*) AS same FROM pg_attribute AS v JOIN pg_attribute AS t USING (attname, atttypid, attnum)
 WHERE v.attrelid = 'my_queue'::regclass AND t.attrelid = 'my_worker._jobs'::regclass AND attnum BETWEEN 1 AND 16;
SELECT relkind, reloptions FROM pg_class WHERE oid = 'my_queue'::regclass;
-- The history has the same ones, and how it ended.
SELECT count(*) AS same FROM pg_attribute AS q JOIN pg_attribute AS h USING (attname, atttypid)
 WHERE q.attrelid = 'my_worker._jobs'::regclass AND h.attrelid = 'my_worker.history'::regclass
   AND q.attnum BETWEEN 1 AND 16;
SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute
 WHERE attrelid = 'my_worker.history'::regclass AND attname IN ('finished_at', 'result', 'errors')
 ORDER BY attname;
-- The view has all of them, and what runs.
SELECT count(*) AS same FROM pg_attribute AS h JOIN pg_attribute AS j USING (attname, atttypid)
 WHERE h.attrelid = 'my_worker.history'::regclass AND j.attrelid = 'my_worker.jobs'::regclass
   AND h.attnum > 0;
SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute
 WHERE attrelid = 'my_worker.jobs'::regclass AND attname IN ('pid', 'progress', 'progress_message')
 ORDER BY attname;
SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute
 WHERE attrelid = 'my_worker.workers'::regclass AND attnum > 0 ORDER BY attnum LIMIT 11;
SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute
 WHERE attrelid = 'my_worker_status'::regclass AND attnum > 0 ORDER BY attnum LIMIT 3;
-- The functions, with the names of their parameters and the defaults.
SELECT p.proname, pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result
  FROM pg_proc AS p
 WHERE (p.pronamespace = 'my_worker'::regnamespace
        AND p.proname IN ('enqueue', 'enqueue_many', 'run', 'cancel', 'retry', 'wait', 'progress',
                          'current_job', 'create_queue', 'alter_queue', 'drop_queue', 'pause_queue',
                          'resume_queue', 'purge_queue', 'grant_usage', 'revoke_usage'))
    OR (p.pronamespace = 'public'::regnamespace
        AND p.proname IN ('launch_dynamic_worker', 'get_worker_stats'))
 ORDER BY p.proname, arguments;
-- Nothing is granted to PUBLIC: no function, table, column, sequence or schema; but for what policies ask of the
-- caller's own rights.
CREATE VIEW pg_temp.members AS
    SELECT classid, objid FROM pg_depend
     WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
       AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'my_worker');
SELECT p.oid::regprocedure FROM pg_proc AS p
  JOIN pg_temp.members AS m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid,
       aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a WHERE a.grantee = 0;
SELECT c.oid::regclass FROM pg_class AS c
  JOIN pg_temp.members AS m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid,
       aclexplode(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char",
                                                c.relowner))) AS a WHERE a.grantee = 0;
SELECT c.attrelid::regclass, c.attname FROM pg_attribute AS c
  JOIN pg_temp.members AS m ON m.classid = 'pg_class'::regclass AND m.objid = c.attrelid,
       aclexplode(c.attacl) AS a WHERE a.grantee = 0;
SELECT n.nspname FROM pg_namespace AS n, aclexplode(n.nspacl) AS a
 WHERE n.nspname IN ('my_worker', 'my_worker_internal') AND a.grantee = 0;
-- What is not C has its search path pinned, and nothing runs with its definer's rights unpinned.
SELECT p.oid::regprocedure FROM pg_proc AS p
  JOIN pg_temp.members AS m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
  JOIN pg_language AS l ON l.oid = p.prolang
 WHERE (l.lanname <> 'c' OR p.prosecdef)
   AND NOT coalesce(p.proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false);
-- Rows are guarded in both tables.
SELECT relname FROM pg_class
 WHERE oid IN ('my_worker._jobs'::regclass, 'my_worker.history'::regclass) AND relrowsecurity ORDER BY relname;
-- The settings.
\x on
SELECT name, unit, vartype, min_val, max_val, enumvals, context, boot_val, short_desc FROM pg_settings
 WHERE name IN ('my_worker.naptime', 'my_worker.max_items', 'my_worker.database', 'my_worker.enabled',
                'my_worker.max_workers', 'my_worker.worker_idle_timeout', 'my_worker.log_jobs',
                'my_worker.superuser_jobs')
 ORDER BY name COLLATE "C";
\x off
-- Every setting has a line of text, and none is a user's.
SELECT name FROM pg_settings
 WHERE name LIKE 'my\_worker.%'
   AND (short_desc !~ '^[A-Z].*[.]$' OR context NOT IN ('postmaster', 'sighup', 'superuser'));
SET my_worker.naptimes = 5;
SET my_worker.naptime = 5;
SET my_worker.database = 'postgres';
-- The queue "default" is there, with the defaults of create_queue().
SELECT name, handler, concurrency, max_attempts, backoff, backoff_max, timeout, retention, paused
  FROM my_worker.queues WHERE name = 'default';
-- In another schema, and in a database that is not served: everything works, with a warning.
CREATE DATABASE regress_mw_other TEMPLATE template0;
\c regress_mw_other
\set VERBOSITY default
CREATE SCHEMA "the jobs";
CREATE EXTENSION my_worker SCHEMA "the jobs";
SELECT relname FROM pg_class WHERE relnamespace = '"the jobs"'::regnamespace
   AND relname IN ('my_queue', 'my_worker_status') ORDER BY relname;
CREATE FUNCTION public.work() RETURNS void LANGUAGE sql AS '';
BEGIN;
INSERT INTO "the jobs".my_queue (handler) VALUES ('work'), ('public.work');
-- Once a transaction.
SELECT my_worker.enqueue('work') > 0 AS enqueued;
COMMIT;
SELECT my_worker.enqueue('work') > 0 AS enqueued;
SELECT status, handler, count(*) FROM my_worker.jobs GROUP BY status, handler;
DROP EXTENSION my_worker;
SELECT count(*) FROM pg_namespace WHERE nspname = 'my_worker';
\c regression
DROP DATABASE regress_mw_other;
