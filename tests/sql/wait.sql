-- Waiting for a job to end.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE SCHEMA work;
CREATE FUNCTION work.nothing() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION work.bad() RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END $$;
CREATE FUNCTION work.gated() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_xact_lock(4711)';
SELECT my_worker.create_queue('traceless', retention => '0', max_attempts => 1);
-- The final status.
SELECT my_worker.enqueue('work.nothing') AS a, my_worker.enqueue('work.bad', max_attempts => 1) AS b,
       my_worker.enqueue('work.nothing', run_at => 'infinity') AS c \gset
SELECT my_worker.cancel(:c);
SELECT my_worker.wait(:a), my_worker.wait(:b), my_worker.wait(:c);
-- Once more, it is at hand.
SELECT my_worker.wait(:a, '0'), my_worker.wait(job_id => :b, timeout => '0'), my_worker.wait(:c, '-1 s');
-- A job that fails in a queue that keeps no completed ones leaves a trace, one that is completed does not.
SELECT my_worker.enqueue('work.nothing', queue => 'traceless') AS d,
       my_worker.enqueue('work.bad', queue => 'traceless') AS e \gset
SELECT my_worker.wait(:d, '30 s'), my_worker.wait(:e, '30 s');
SELECT handler, status FROM my_worker.jobs WHERE queue = 'traceless';
-- A job that is gone without a trace counts as completed, also if its transaction was rolled back.
BEGIN;
SELECT my_worker.enqueue('work.nothing') AS undone \gset
ROLLBACK;
SELECT my_worker.wait(:d), my_worker.wait(:undone), my_worker.wait(1);
-- An id that was never given is an error, not a job that is done.
CALL pg_temp.fails('SELECT my_worker.wait(999999999)');
CALL pg_temp.fails('SELECT my_worker.wait(-1)');
CALL pg_temp.fails('SELECT my_worker.wait(0, ''1 s'')');
CALL pg_temp.fails('SELECT my_worker.wait(9223372036854775807)');
-- NULL on time-out: a waiting job, and a running one.
SELECT my_worker.enqueue('work.nothing', run_at => 'infinity') AS id \gset
SELECT my_worker.wait(:id, '20 ms') IS NULL AS timed_out;
SELECT my_worker.cancel(:id);
SELECT pg_advisory_lock(4711);
SELECT my_worker.enqueue('work.gated') AS id \gset
CALL pg_temp.wait_until(format('SELECT status = ''processing'' FROM my_worker.jobs WHERE id = %s', :id));
SELECT my_worker.wait(:id, '20 ms') IS NULL AS timed_out;
SELECT pg_advisory_unlock(4711);
SELECT my_worker.wait(:id, '30 s');
-- NULL is no job.
CALL pg_temp.fails('SELECT my_worker.wait(NULL)');
SELECT my_worker.wait(:id, NULL);
-- Its own transaction's job is an error, not a hang, also from within a savepoint.
BEGIN;
SELECT my_worker.enqueue('work.nothing') AS id \gset
CALL pg_temp.fails(format('SELECT my_worker.wait(%s, ''30 s'')', :id));
ROLLBACK;
BEGIN;
SAVEPOINT s;
INSERT INTO my_queue (handler) VALUES ('work.nothing') RETURNING id \gset
RELEASE SAVEPOINT s;
CALL pg_temp.fails(format('SELECT my_worker.wait(%s)', :id));
COMMIT;
SELECT my_worker.wait(:id, '30 s');
-- Nor does a job wait for itself, or a session for a job that it keeps from running.
CREATE FUNCTION work.waits_for_itself() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN my_worker.wait(my_worker.current_job(), '20 s');
EXCEPTION WHEN object_in_use THEN
    RETURN 'refused';
END $$;
SELECT my_worker.enqueue('work.waits_for_itself') AS a, my_worker.run('CREATE TABLE work.said AS SELECT work.waits_for_itself()') AS b \gset
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s');
SELECT result FROM my_worker.history WHERE id = :a;
SELECT * FROM work.said;
SELECT my_worker.enqueue('work.nothing', run_at => 'infinity') AS id \gset
BEGIN;
SELECT status FROM my_queue WHERE id = :id FOR UPDATE;
CALL pg_temp.fails(format('SELECT my_worker.wait(%s, ''30 s'')', :id));
ROLLBACK;
SELECT my_worker.cancel(:id);
-- In a transaction of any isolation level the end is seen.
SELECT my_worker.enqueue('work.gated') AS id \gset
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY;
SELECT count(*) > 0 AS snapshot FROM pg_class;
SELECT my_worker.wait(:id, '30 s');
COMMIT;
-- statement_timeout ends a wait.
SELECT my_worker.enqueue('work.nothing', run_at => 'infinity') AS id \gset
SET statement_timeout = '50 ms';
SELECT my_worker.wait(:id);
RESET statement_timeout;
SELECT my_worker.cancel(:id);
-- A job may wait for another.
CREATE FUNCTION work.waits(p jsonb) RETURNS text LANGUAGE sql AS 'SELECT my_worker.wait(p::bigint, ''20 s'')';
SELECT pg_advisory_lock(4711);
SELECT my_worker.enqueue('work.gated') AS a \gset
SELECT my_worker.enqueue('work.waits', to_jsonb(:a)) AS b \gset
CALL pg_temp.wait_until(format('SELECT count(*) = 2 FROM my_worker.jobs WHERE status = ''processing'' AND id IN (%s, %s)', :a, :b));
SELECT pg_advisory_unlock(4711);
SELECT my_worker.wait(:b, '30 s');
SELECT result FROM my_worker.history WHERE id = :b;
SELECT my_worker.drop_queue('traceless');
DROP SCHEMA work CASCADE;
