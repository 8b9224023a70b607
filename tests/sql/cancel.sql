-- Cancelling a job in every status.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE SCHEMA work;
CREATE TABLE work.t (said text);
CREATE FUNCTION work.gated() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO work.t VALUES ('effect');
    PERFORM pg_advisory_xact_lock(4712);
END $$;
CREATE FUNCTION work.bad() RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END $$;
-- Waiting: cancelled at once, within the caller's transaction.
SELECT my_worker.enqueue('work.gated', '{"a": 1}', run_at => 'infinity', priority => 3, unique_key => 'k') AS id \gset
BEGIN;
SELECT my_worker.cancel(:id);
SELECT status, payload, priority, unique_key, attempts, started_at, result, errors, last_error, finished_at <= clock_timestamp() AS finished
  FROM my_worker.jobs WHERE id = :id;
ROLLBACK;
SELECT status FROM my_worker.jobs WHERE id = :id;
SELECT my_worker.cancel(:id);
SELECT status, attempts FROM my_worker.jobs WHERE id = :id;
SELECT my_worker.wait(:id);
-- Finished, unknown, NULL.
SELECT my_worker.cancel(:id) AS cancelled, my_worker.cancel(-1) AS unknown, my_worker.cancel(NULL) IS NULL AS "null";
-- The unique key is free again.
SELECT my_worker.enqueue('work.gated', run_at => 'infinity', unique_key => 'k') > :id AS another;
SELECT my_worker.cancel(id) FROM my_queue;
-- Running: its query is cancelled, its effects are gone, it is not tried again.
SELECT pg_advisory_lock(4712);
SELECT my_worker.enqueue('work.gated') AS id \gset
CALL pg_temp.wait_until(format('SELECT status = ''processing'' FROM my_worker.jobs WHERE id = %s', :id));
SELECT my_worker.cancel(:id);
SELECT my_worker.wait(:id, '30 s');
SELECT status, attempts, started_at <= finished_at AS ran, last_error, errors FROM my_worker.history WHERE id = :id;
SELECT count(*) AS effects FROM work.t;
SELECT my_worker.cancel(:id) AS again;
-- Cancelling does not harm the next job of the same process.
SELECT my_worker.enqueue('work.gated') AS a, my_worker.enqueue('work.gated') AS b \gset
CALL pg_temp.wait_until(format('SELECT status = ''processing'' FROM my_worker.jobs WHERE id = %s', :a));
SELECT my_worker.cancel(:a);
SELECT my_worker.wait(:a, '30 s');
SELECT pg_advisory_unlock(4712);
SELECT my_worker.wait(:b, '30 s');
-- A cancelled job can be retried.
SELECT my_worker.retry(:a);
SELECT my_worker.wait(:a, '30 s');
SELECT count(*) AS effects FROM work.t;
-- Completed and failed ones stay what they are.
SELECT my_worker.enqueue('work.bad', max_attempts => 1) AS c \gset
SELECT my_worker.wait(:c, '30 s');
SELECT my_worker.cancel(:b) AS completed, my_worker.cancel(:c) AS failed;
SELECT status FROM my_worker.history WHERE id IN (:b, :c) ORDER BY id;
-- Cancelled between two attempts: what went wrong is kept.
SELECT my_worker.create_queue('later', backoff => '1 h');
SELECT my_worker.enqueue('work.bad', queue => 'later') AS id \gset
CALL pg_temp.wait_until(format('SELECT attempts = 1 FROM my_queue WHERE id = %s', :id));
SELECT my_worker.cancel(:id);
SELECT status, attempts, last_error, jsonb_array_length(errors) AS errors FROM my_worker.history WHERE id = :id;
-- The server's own way: pg_cancel_backend() fails the attempt as any error does.
TRUNCATE work.t;
SELECT pg_advisory_lock(4712);
SELECT my_worker.enqueue('work.gated', max_attempts => 1) AS id \gset
CALL pg_temp.wait_until(format('SELECT status = ''processing'' FROM my_worker.jobs WHERE id = %s', :id));
CALL pg_temp.wait_until('SELECT count(*) = 1 FROM pg_locks WHERE locktype = ''advisory'' AND objid = 4712 AND NOT granted');
SELECT pg_cancel_backend(pid) FROM my_worker.jobs WHERE id = :id;
SELECT my_worker.wait(:id, '30 s');
SELECT status, attempts, errors->0->>'sqlstate' AS sqlstate, last_error FROM my_worker.history WHERE id = :id;
-- pg_terminate_backend() costs no attempt: another worker runs the job.
SELECT my_worker.enqueue('work.gated', max_attempts => 1) AS id \gset
CALL pg_temp.wait_until('SELECT count(*) = 1 FROM pg_locks WHERE locktype = ''advisory'' AND objid = 4712 AND NOT granted');
SELECT pid AS first FROM my_worker.jobs WHERE id = :id \gset
SELECT pg_terminate_backend(:first);
CALL pg_temp.wait_until(format('SELECT pid <> %s FROM my_worker.jobs WHERE id = %s', :first, :id));
SELECT pg_advisory_unlock(4712);
SELECT my_worker.wait(:id, '30 s');
SELECT status, attempts FROM my_worker.history WHERE id = :id;
SELECT count(*) AS effects FROM work.t;
-- Two jobs that cancel the same two others, each in its order: a deadlock, which the server ends.
CREATE FUNCTION work.both(jobs jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM my_worker.cancel((jobs->>0)::bigint), pg_advisory_xact_lock_shared(4713);
    WHILE (SELECT count(*) < 2 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4713) LOOP
        PERFORM pg_sleep(0.01);
    END LOOP;
    PERFORM my_worker.cancel((jobs->>1)::bigint);
END $$;
SELECT my_worker.enqueue('work.bad', run_at => 'infinity') AS a, my_worker.enqueue('work.bad', run_at => 'infinity') AS b \gset
SELECT my_worker.enqueue('work.both', jsonb_build_array(:a, :b), max_attempts => 1) AS c,
       my_worker.enqueue('work.both', jsonb_build_array(:b, :a), max_attempts => 1) AS d \gset
SELECT my_worker.wait(:c, '30 s') IS NOT NULL AS c, my_worker.wait(:d, '30 s') IS NOT NULL AS d;
SELECT status, errors->0->>'sqlstate' AS sqlstate FROM my_worker.history WHERE id IN (:c, :d) ORDER BY status;
SELECT status, errors FROM my_worker.jobs WHERE id IN (:a, :b);
SELECT my_worker.drop_queue('later');
DROP SCHEMA work CASCADE;
