-- The tutorial's own session. Its rows hold pids and times; the shape of each result is shown,
-- and what in it is always the same.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE SCHEMA work;
CREATE TABLE work.done (payload jsonb, by text);
CREATE FUNCTION work.note(payload jsonb) RETURNS void LANGUAGE sql
    AS 'INSERT INTO work.done SELECT payload, backend_type FROM pg_stat_activity WHERE pid = pg_backend_pid()';
INSERT INTO my_queue (handler, payload) VALUES ('work.note', '{"task": 1}'), ('work.note', '{"task": 2}');
CALL pg_temp.wait_until('SELECT count(*) = 2 FROM work.done');
-- Check if worker is running
SELECT count(*) > 0 AS running FROM (
SELECT * FROM pg_stat_activity
WHERE backend_type = 'my_custom_worker'
) AS t;
-- The processes of the pool are told apart by their application name.
SELECT DISTINCT application_name FROM pg_stat_activity WHERE backend_type = 'my_custom_worker' ORDER BY 1;
-- Get worker statistics
SELECT items_processed >= 2 AS items_processed, last_run <= now() AS last_run, status <> '' AS status FROM (
SELECT * FROM my_worker_status
) AS t;
SELECT items_processed >= 2 AS items_processed, last_run <= now() AS last_run, status <> '' AS status FROM (
SELECT * FROM get_worker_stats()
) AS t;
-- Check logs
SELECT count(*) > 0 AS lines, bool_and(applied) AS applied FROM (
SELECT * FROM pg_catalog.pg_file_settings
WHERE name LIKE 'my_worker%'
) AS t;
-- Run one job now, by a worker of its own. This one would wait for its time otherwise.
INSERT INTO my_queue (handler, payload, run_at) VALUES ('work.note', '{"task": 3}', 'infinity') RETURNING id \gset
-- A NOTICE tells the PID, too.
SET client_min_messages = warning;
SELECT launch_dynamic_worker(:id) > 0 AS pid;
SELECT my_worker.wait(:id, '30 s');
SELECT * FROM work.done ORDER BY payload;
-- Its PID, its name while it runs, and that nothing starts before COMMIT.
CREATE FUNCTION work.gated() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_xact_lock(4715)';
SELECT pg_advisory_lock(4715);
BEGIN;
INSERT INTO my_queue (handler, run_at) VALUES ('work.gated', 'infinity') RETURNING id::text \gset
SELECT launch_dynamic_worker(:id) AS pid \gset
CALL pg_temp.wait_until(format('SELECT backend_type = ''dynamic_worker'' FROM pg_stat_activity WHERE pid = %s', :pid));
SELECT kind, state, job_id FROM my_worker.workers WHERE pid = :pid;
SELECT count(*) FROM pg_stat_activity WHERE pid = :pid AND wait_event = 'advisory';
-- Once is enough.
CALL pg_temp.fails(format('SELECT launch_dynamic_worker(%s)', :id));
COMMIT;
CALL pg_temp.wait_until(format('SELECT status = ''processing'' FROM my_worker.jobs WHERE id = %s', :id));
SELECT pid = :pid AS same_pid FROM my_worker.jobs WHERE id = :id;
SELECT kind, state, job_id = :id AS job FROM my_worker.workers WHERE pid = :pid;
CALL pg_temp.fails(format('SELECT launch_dynamic_worker(%s)', :id));
SELECT pg_advisory_unlock(4715);
SELECT my_worker.wait(:id, '30 s');
-- It is gone afterwards.
CALL pg_temp.wait_until(format('SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = %s)', :pid));
-- If the caller rolls back, nothing ran, also not for a savepoint.
INSERT INTO my_queue (handler, payload, run_at) VALUES ('work.note', '{"task": 4}', 'infinity') RETURNING id \gset
BEGIN;
SELECT launch_dynamic_worker(:id) AS pid \gset
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT launch_dynamic_worker(:id) AS pid \gset
ROLLBACK TO s;
COMMIT;
CALL pg_temp.wait_until('SELECT NOT EXISTS (SELECT FROM my_worker.workers WHERE kind = ''dynamic'')');
SELECT status, attempts FROM my_queue WHERE id = :id;
-- The other argument type, and a failing job.
SELECT launch_dynamic_worker(:id::bigint) > 0 AS pid;
SELECT my_worker.wait(:id, '30 s');
CREATE FUNCTION work.bad() RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END $$;
INSERT INTO my_queue (handler, max_attempts, run_at) VALUES ('work.bad', 1, 'infinity') RETURNING id \gset
SELECT launch_dynamic_worker(:id) > 0 AS pid;
SELECT my_worker.wait(:id, '30 s');
-- A deferred constraint of its job fails at its COMMIT.
CREATE TABLE work.p (id integer PRIMARY KEY);
CREATE TABLE work.c (id integer REFERENCES work.p DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION work.child() RETURNS void LANGUAGE sql AS 'INSERT INTO work.c VALUES (1)';
INSERT INTO my_queue (handler, max_attempts, run_at) VALUES ('work.child', 1, 'infinity') RETURNING id \gset
SELECT launch_dynamic_worker(:id) > 0 AS pid;
SELECT my_worker.wait(:id, '30 s');
SELECT status, errors->0->>'sqlstate' AS sqlstate FROM my_worker.history WHERE id = :id;
-- No such job, a finished one, no job.
CALL pg_temp.fails('SELECT launch_dynamic_worker(-1)');
CALL pg_temp.fails(format('SELECT launch_dynamic_worker(%s)', :id));
SELECT launch_dynamic_worker(NULL::integer) IS NULL AS "null";
-- No free place for one.
SELECT pg_advisory_lock(4715);
INSERT INTO my_queue (handler, run_at) SELECT 'work.gated', 'infinity' FROM generate_series(1, 5);
CALL pg_temp.wait_until('SELECT NOT EXISTS (SELECT FROM my_worker.workers WHERE kind = ''dynamic'')');
SELECT count(launch_dynamic_worker(id)) FROM (SELECT id FROM my_queue ORDER BY id LIMIT 4) AS q;
CALL pg_temp.fails('SELECT launch_dynamic_worker(max(id)) FROM my_queue');
SELECT pg_advisory_unlock(4715);
CALL pg_temp.wait_until('SELECT count(*) = 1 FROM my_queue');
SELECT my_worker.cancel(id) FROM my_queue;
DROP SCHEMA work CASCADE;
