-- Why a job is not running: each reason, as a sentence.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
CREATE SCHEMA work;
CREATE FUNCTION work.good() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION work.bad() RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE 'a secret'; END $$;
CREATE FUNCTION work.gated() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_xact_lock(4716)';
-- Numbers and times stand for themselves.
CREATE FUNCTION pg_temp.why(job bigint) RETURNS text LANGUAGE sql AS $$
    SELECT regexp_replace(regexp_replace(regexp_replace(my_worker.why(job), '\d{4}-\d\d-\d\d [0-9:.+]+', 'TIME'),
                                         '(job|process) -?\d+', '\1 N'), 'infinity', 'INFINITY')
$$;
-- Unknown, NULL.
SELECT pg_temp.why(-1), my_worker.why(NULL) IS NULL AS "null";
-- Finished.
SELECT my_worker.enqueue('work.good') AS good, my_worker.enqueue('work.bad', max_attempts => 1) AS bad,
       my_worker.enqueue('work.good', run_at => 'infinity') AS later \gset
SELECT my_worker.wait(:good, '30 s'), my_worker.wait(:bad, '30 s');
SELECT pg_temp.why(:good), pg_temp.why(:bad);
-- Due later, for the first time and again.
SELECT pg_temp.why(:later);
SELECT my_worker.why(my_worker.enqueue('work.good', run_at => '2100-01-01'));
SELECT my_worker.create_queue('slow', backoff => '1 h');
SELECT my_worker.enqueue('work.bad', queue => 'slow') AS again \gset
CALL pg_temp.wait_until(format('SELECT attempts = 1 FROM my_queue WHERE id = %s', :again));
SELECT pg_temp.why(:again);
-- A queue that is paused.
SELECT my_worker.pause_queue('slow');
SELECT pg_temp.why(my_worker.enqueue('work.good', queue => 'slow'));
-- Running; and a queue that is full by it.
SELECT my_worker.create_queue('one', concurrency => 1);
SELECT pg_advisory_lock(4716);
SELECT my_worker.enqueue('work.gated', queue => 'one') AS running \gset
CALL pg_temp.wait_until(format('SELECT status = ''processing'' FROM my_worker.jobs WHERE id = %s', :running));
SELECT my_worker.enqueue('work.good', queue => 'one') AS behind \gset
SELECT pg_temp.why(:running), pg_temp.why(:behind);
SELECT pg_advisory_unlock(4716);
SELECT my_worker.wait(:behind, '30 s');
-- Nobody is told what to do.
INSERT INTO my_queue DEFAULT VALUES RETURNING id AS held \gset
SELECT pg_temp.why(:held);
-- Locked by a session, here this one.
BEGIN;
SELECT my_worker.enqueue('work.good', queue => 'one') AS locked \gset
COMMIT;
SELECT my_worker.wait(:locked, '30 s');
INSERT INTO my_queue (handler, run_at) VALUES ('work.good', now() + interval '0.2 s') RETURNING id AS locked \gset
BEGIN;
SELECT id = :locked AS locked FROM my_queue WHERE id = :locked FOR UPDATE;
CALL pg_temp.wait_until(format('SELECT run_at <= clock_timestamp() FROM my_queue WHERE id = %s', :locked));
SELECT my_worker.why(:locked) = format('its row is locked by process %s', pg_backend_pid()) AS locked;
COMMIT;
SELECT my_worker.wait(:locked, '30 s');
-- An owner that cannot have a session.
CREATE ROLE regress_why_nobody;
GRANT USAGE ON SCHEMA work TO regress_why_nobody;
SELECT my_worker.grant_usage('regress_why_nobody');
BEGIN;
SET LOCAL ROLE regress_why_nobody;
SELECT pg_temp.why(my_worker.enqueue('work.good'));
ROLLBACK;
-- Others learn nothing, not even that it is there.
SET ROLE regress_why_nobody;
SELECT my_worker.why(:bad) = format('job %s is unknown, or belongs to another role', :bad) AS finished,
       my_worker.why(:held) = format('job %s is unknown, or belongs to another role', :held) AS waiting;
RESET ROLE;
-- Tidy up.
SELECT my_worker.revoke_usage('regress_why_nobody');
REVOKE USAGE ON SCHEMA work FROM regress_why_nobody;
DROP ROLE regress_why_nobody;
SELECT my_worker.drop_queue('slow', true), my_worker.drop_queue('one', true);
SELECT my_worker.purge_queue('default') > 0 AS purged;
DROP SCHEMA work CASCADE;
