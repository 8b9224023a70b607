-- What a job says of itself while it runs, and which job it is.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE SCHEMA work;
CREATE FUNCTION work.reports(id bigint, p jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM my_worker.progress(12.5);
    PERFORM pg_advisory_xact_lock(4713);
    PERFORM my_worker.progress(100, 'nearly dönè');
    PERFORM pg_advisory_xact_lock(4714);
    RETURN id = my_worker.current_job();
END $$;
CREATE FUNCTION work.which() RETURNS bigint LANGUAGE sql AS 'SELECT my_worker.current_job()';
-- Outside of a job.
SELECT my_worker.current_job() IS NULL AS none;
CALL pg_temp.fails('SELECT my_worker.progress(1)');
-- Inside: visible at once to others.
SELECT pg_advisory_lock(4713), pg_advisory_lock(4714);
SELECT my_worker.enqueue('work.reports') AS id \gset
CALL pg_temp.wait_until('SELECT count(*) = 1 FROM pg_locks WHERE locktype = ''advisory'' AND objid = 4713 AND NOT granted');
SELECT status, progress, progress_message, started_at <= clock_timestamp() AS started, attempts FROM my_worker.jobs WHERE id = :id;
SELECT a.backend_type, a.query LIKE '%work.reports%' AS query, a.query LIKE format('%%%s%%', :id) AS names_job, a.wait_event_type, a.wait_event
  FROM my_worker.jobs AS j JOIN pg_stat_activity AS a USING (pid) WHERE j.id = :id;
SELECT kind, database, role = current_user AS own, state, job_id = :id AS job, queue, job_started_at <= clock_timestamp() AS started
  FROM my_worker.workers WHERE job_id = :id;
SELECT pg_advisory_unlock(4713);
CALL pg_temp.wait_until('SELECT count(*) = 1 FROM pg_locks WHERE locktype = ''advisory'' AND objid = 4714 AND NOT granted');
SELECT status, progress, progress_message FROM my_worker.jobs WHERE id = :id;
SELECT pg_advisory_unlock(4714);
SELECT my_worker.wait(:id, '30 s');
SELECT status, result, pid, progress, progress_message FROM my_worker.jobs WHERE id = :id;
-- The next job of the same process begins with nothing.
CREATE FUNCTION work.silent() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_xact_lock(4713)';
SELECT my_worker.create_queue('one', concurrency => 1);
SELECT my_worker.pause_queue('one');
SELECT my_worker.enqueue('work.which', queue => 'one') AS a, my_worker.enqueue('work.reports', queue => 'one') AS b,
       my_worker.enqueue('work.silent', queue => 'one') AS c \gset
SELECT pg_advisory_lock(4713);
SELECT pg_advisory_lock(4714);
SELECT my_worker.resume_queue('one');
CALL pg_temp.wait_until(format('SELECT progress = 12.5 FROM my_worker.jobs WHERE id = %s', :b));
SELECT pg_advisory_unlock(4714);
BEGIN;
SELECT pg_advisory_unlock(4713);
SELECT my_worker.wait(:b, '30 s');
COMMIT;
SELECT my_worker.wait(:c, '30 s');
SELECT result = to_jsonb(id) AS its_own FROM my_worker.history WHERE id = :a;
SELECT pg_advisory_lock(4713);
SELECT my_worker.enqueue('work.silent', queue => 'one') AS c \gset
CALL pg_temp.wait_until('SELECT count(*) = 1 FROM pg_locks WHERE locktype = ''advisory'' AND objid = 4713 AND NOT granted');
SELECT status, progress, progress_message FROM my_worker.jobs WHERE id = :c;
SELECT pg_advisory_unlock(4713);
SELECT my_worker.wait(:c, '30 s');
-- What is no percentage is refused; a long message is cut between characters.
CREATE FUNCTION work.says(p jsonb) RETURNS void LANGUAGE sql AS
    'SELECT my_worker.progress((p->>0)::real, p->>1)';
SELECT my_worker.enqueue('work.says', '[101]', max_attempts => 1) AS a,
       my_worker.enqueue('work.says', '[-0.1]', max_attempts => 1) AS b,
       my_worker.enqueue('work.says', '["NaN"]', max_attempts => 1) AS c,
       my_worker.enqueue('work.says', '[null]', max_attempts => 1) AS d,
       my_worker.enqueue('work.says', jsonb_build_array(0, repeat('ä', 10000)), max_attempts => 1) AS e \gset
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s'), my_worker.wait(:c, '30 s'), my_worker.wait(:d, '30 s'), my_worker.wait(:e, '30 s');
SELECT left(payload::text, 5) AS payload, status, errors->0->>'sqlstate' AS sqlstate, last_error FROM my_worker.history
 WHERE id IN (:a, :b, :c, :d, :e) ORDER BY id;
SELECT my_worker.drop_queue('one');
DROP SCHEMA work CASCADE;
