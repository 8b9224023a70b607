-- Queues: their settings, and what is refused.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE SCHEMA work;
CREATE FUNCTION work.nothing() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION work.other() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION work.bad() RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END $$;
CREATE VIEW pg_temp.q AS
    SELECT name, handler, concurrency, max_attempts, backoff, backoff_max, timeout, retention, paused
      FROM my_worker.queues WHERE name LIKE 'q%';
-- Defaults, and every argument.
SELECT my_worker.create_queue('q1');
SELECT my_worker.create_queue('q2', 'work.nothing', 3, 7, '1 min', '1 day', '10 s', '0');
SELECT my_worker.create_queue(name => 'q3', handler => 'work.nothing()', concurrency => 1, max_attempts => 1,
    backoff => '0', backoff_max => '0', timeout => NULL, retention => '1 year');
SELECT * FROM pg_temp.q ORDER BY name;
-- Only the arguments given change.
SELECT my_worker.alter_queue('q1');
SELECT my_worker.alter_queue('q1', concurrency => 2);
SELECT my_worker.alter_queue('q2', handler => 'work.other', timeout => '20 s');
SELECT my_worker.alter_queue('q3', NULL, NULL, 2, '1 s', '2 s', '3 s', '4 days');
SELECT * FROM pg_temp.q ORDER BY name;
-- Errors.
CALL pg_temp.fails($$SELECT my_worker.create_queue('q1')$$);
CALL pg_temp.fails($$SELECT my_worker.create_queue('default')$$);
CALL pg_temp.fails($$SELECT my_worker.create_queue('')$$);
CALL pg_temp.fails($$SELECT my_worker.create_queue(repeat('q', 64))$$);
CALL pg_temp.fails($$SELECT my_worker.create_queue(NULL)$$);
CALL pg_temp.fails($$SELECT my_worker.create_queue('q', handler => 'work.none')$$);
CALL pg_temp.fails($$SELECT my_worker.create_queue('q', concurrency => 0)$$);
CALL pg_temp.fails($$SELECT my_worker.create_queue('q', max_attempts => 0)$$);
CALL pg_temp.fails($$SELECT my_worker.create_queue('q', max_attempts => NULL)$$);
CALL pg_temp.fails($$SELECT my_worker.create_queue('q', backoff => '-1 s')$$);
CALL pg_temp.fails($$SELECT my_worker.create_queue('q', backoff_max => '-1 s')$$);
CALL pg_temp.fails($$SELECT my_worker.create_queue('q', timeout => '0')$$);
CALL pg_temp.fails($$SELECT my_worker.create_queue('q', retention => '-1 s')$$);
CALL pg_temp.fails($$SELECT my_worker.alter_queue('q')$$);
CALL pg_temp.fails($$SELECT my_worker.alter_queue('q1', concurrency => 0)$$);
CALL pg_temp.fails($$SELECT my_worker.alter_queue('q1', timeout => '-1 s')$$);
CALL pg_temp.fails($$SELECT my_worker.pause_queue('q')$$);
CALL pg_temp.fails($$SELECT my_worker.resume_queue('q')$$);
CALL pg_temp.fails($$SELECT my_worker.purge_queue('q')$$);
CALL pg_temp.fails($$SELECT my_worker.drop_queue('q')$$);
CALL pg_temp.fails($$SELECT my_worker.drop_queue('q', true)$$);
CALL pg_temp.fails($$SELECT my_worker.drop_queue('default')$$);
CALL pg_temp.fails($$SELECT my_worker.drop_queue('default', force := true)$$);
CALL pg_temp.fails($$DELETE FROM my_worker.queues WHERE name = 'default'$$);
CALL pg_temp.fails($$UPDATE my_worker.queues SET name = 'other' WHERE name = 'default'$$);
CALL pg_temp.fails($$TRUNCATE my_worker.queues$$);
CALL pg_temp.fails($$UPDATE my_worker.queues SET concurrency = 0$$);
SELECT count(*) FROM my_worker.queues;
-- Paused: jobs are taken in but not run; resumed, they are, and nothing was lost.
SELECT my_worker.pause_queue('q1');
SELECT my_worker.pause_queue('q1');
SELECT paused FROM my_worker.queues WHERE name = 'q1';
SELECT my_worker.enqueue('work.nothing', queue => 'q1') AS a, my_worker.enqueue('work.nothing') AS b \gset
SELECT my_worker.wait(:b, '30 s');
SELECT my_worker.wait(:a, '50 ms') IS NULL AS still_waits;
SELECT status, attempts FROM my_worker.jobs WHERE id = :a;
SELECT my_worker.resume_queue('q1');
SELECT my_worker.wait(:a, '30 s');
-- A pause that is rolled back does not hold anything up.
BEGIN;
SELECT my_worker.pause_queue('q1');
ROLLBACK;
SELECT my_worker.enqueue('work.nothing', queue => 'q1') AS a \gset
SELECT my_worker.wait(:a, '30 s');
-- Purged: the waiting jobs and the finished ones are gone, the running one is not.
CREATE FUNCTION work.gated() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_xact_lock(4716)';
SELECT my_worker.enqueue('work.bad', queue => 'q1', max_attempts => 1) AS a \gset
SELECT my_worker.wait(:a, '30 s');
SELECT pg_advisory_lock(4716);
SELECT my_worker.enqueue('work.gated', queue => 'q1') AS b \gset
CALL pg_temp.wait_until(format('SELECT status = ''processing'' FROM my_worker.jobs WHERE id = %s', :b));
SELECT my_worker.pause_queue('q1');
SELECT count(my_worker.enqueue('work.nothing', queue => 'q1', run_at => CASE n WHEN 1 THEN 'infinity'::timestamptz END)) FROM generate_series(1, 3) AS n;
SELECT status, count(*) FROM my_worker.jobs WHERE queue = 'q1' GROUP BY status ORDER BY status;
SELECT my_worker.purge_queue('q1');
SELECT status, count(*) FROM my_worker.jobs WHERE queue = 'q1' GROUP BY status ORDER BY status;
SELECT my_worker.purge_queue('q1') AS again;
-- A queue with jobs is not dropped, unless forced; one with a running job is not.
CALL pg_temp.fails($$SELECT my_worker.drop_queue('q1')$$);
CALL pg_temp.fails($$SELECT my_worker.drop_queue('q1', force => true)$$);
SELECT pg_advisory_unlock(4716);
SELECT my_worker.wait(:b, '30 s');
SELECT my_worker.enqueue('work.nothing', queue => 'q1') AS c \gset
CALL pg_temp.fails($$SELECT my_worker.drop_queue('q1')$$);
SELECT my_worker.drop_queue('q1', force => true);
SELECT count(*) FROM my_queue WHERE queue = 'q1';
SELECT my_worker.wait(:c) AS gone_without_a_trace;
-- What it finished stays, and cannot be put back.
SELECT status FROM my_worker.history WHERE id = :b;
SELECT my_worker.create_queue('q1', max_attempts => 1);
SELECT my_worker.enqueue('work.bad', queue => 'q1') AS d \gset
SELECT my_worker.wait(:d, '30 s');
SELECT my_worker.drop_queue('q1');
SET client_min_messages = error;
SELECT my_worker.retry(:d);
RESET client_min_messages;
CALL pg_temp.fails($$SELECT my_worker.enqueue('work.nothing', queue => 'q1')$$);
-- Created again in the transaction that enqueues.
BEGIN;
SELECT my_worker.create_queue('q1', handler => 'work.nothing');
INSERT INTO my_queue (queue) VALUES ('q1') RETURNING id \gset
COMMIT;
SELECT my_worker.wait(:id, '30 s');
SELECT my_worker.retry(:d);
SELECT my_worker.wait(:d, '10 ms') IS NULL AS waits_for_its_backoff;
BEGIN;
SELECT my_worker.create_queue('q9');
SELECT my_worker.enqueue('work.nothing', queue => 'q9') > 0 AS enqueued;
ROLLBACK;
CALL pg_temp.fails($$SELECT my_worker.enqueue('work.nothing', queue => 'q9')$$);
-- Retention '0' leaves no row of a completed job, but of a failed one.
SELECT my_worker.enqueue('work.nothing', queue => 'q2') AS a, my_worker.enqueue('work.bad', queue => 'q2', max_attempts => 1) AS b \gset
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s');
SELECT handler, status FROM my_worker.jobs WHERE queue = 'q2';
-- concurrency: never more than that at once.
SELECT my_worker.alter_queue('q1', concurrency => 2);
CREATE TABLE work.seen (running bigint);
CREATE FUNCTION work.counts() RETURNS void LANGUAGE sql AS
    $$INSERT INTO work.seen SELECT count(*) FROM my_worker.workers WHERE queue = 'q1' AND kind = 'worker'; SELECT pg_advisory_xact_lock_shared(4717) $$;
SELECT pg_advisory_lock(4717);
SELECT count(my_worker.enqueue('work.counts', queue => 'q1')) FROM generate_series(1, 6);
CALL pg_temp.wait_until('SELECT count(*) = 2 FROM pg_locks WHERE locktype = ''advisory'' AND objid = 4717 AND NOT granted');
SELECT status, count(*) FROM my_worker.jobs WHERE handler LIKE 'work.counts(%' GROUP BY status ORDER BY status;
SELECT pg_advisory_unlock(4717);
CALL pg_temp.wait_until('SELECT count(*) = 6 FROM work.seen');
SELECT max(running) FROM work.seen;
SELECT my_worker.drop_queue('q1', true), my_worker.drop_queue('q2', true), my_worker.drop_queue('q3', true);
DROP SCHEMA work CASCADE;
