-- Jobs that come after others (docs/flow.md).
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE SCHEMA work;
CREATE TABLE work.ran (turn integer GENERATED ALWAYS AS IDENTITY, who text);
CREATE FUNCTION work.does(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF payload ? 'fail' THEN
        RAISE 'no';
    END IF;
    INSERT INTO work.ran (who) VALUES (payload->>'who');
END $$;
-- How a job ended, without the ids of others.
CREATE FUNCTION work.ended(job bigint) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(': ', h.status, h.errors->-1->>'sqlstate', regexp_replace(h.last_error, '\d+', 'N'))
      FROM my_worker.history AS h WHERE h.id = job
$$;
SELECT my_worker.create_queue('after', max_attempts := 1), my_worker.create_queue('held'), my_worker.pause_queue('held');
-- A job waits until the one that it comes after has ended; it says so everywhere.
SELECT my_worker.enqueue('work.does', '{"who": "first"}', 'held') AS a \gset
SELECT my_worker.enqueue('work.does', '{"who": "second"}', 'after', after := ARRAY[:a]) AS b \gset
SELECT status, after = ARRAY[:a::bigint] AS after, after_failed FROM my_queue WHERE id = :b;
SELECT status, attempts, started_at, after = ARRAY[:a::bigint] AS after FROM my_worker.jobs WHERE id = :b;
SELECT my_worker.why(:b) = format('comes after job %s', :a) AS says_why;
SELECT queue, pending, scheduled, processing, oldest_pending_age, blocked FROM my_worker.queue_stats WHERE queue = 'after';
SELECT ok FROM my_worker.health('0') WHERE "check" = 'backlog';
SELECT my_worker.wait(:b, '0') IS NULL AS waits;
SET client_min_messages = notice;
CALL pg_temp.fails(format('SELECT launch_dynamic_worker(%s)', :b));
RESET client_min_messages;
SELECT my_worker.resume_queue('held');
SELECT my_worker.wait(:b, '30 s');
SELECT who FROM work.ran ORDER BY turn;
SELECT after = ARRAY[:a::bigint] AS after, after_failed, run_at >= created_at AS from_then_on FROM my_worker.history WHERE id = :b;
SELECT my_worker.pause_queue('held');
-- One enqueued in the same transaction, in the same statement, by COPY; a job may be named twice.
TRUNCATE work.ran;
BEGIN;
SELECT my_worker.enqueue('work.does', '{"who": "first"}', 'held') AS a \gset
SELECT my_worker.enqueue('work.does', '{"who": "second"}', 'held', after := ARRAY[:a, :a]) AS b \gset
INSERT INTO my_queue (queue, handler, payload, after) VALUES ('held', 'work.does', '{"who": "third"}', ARRAY[:a, :b]) RETURNING id AS c \gset
COMMIT;
SELECT status, after = ARRAY[:a::bigint] AS once FROM my_queue WHERE id = :b;
SELECT my_worker.why(:c) = format('comes after job %s and 1 more', :a) AS says_why;
WITH one AS (INSERT INTO my_queue (queue, handler, payload) VALUES ('held', 'work.does', '{"who": "fourth"}') RETURNING id)
INSERT INTO my_queue (queue, handler, payload, after, priority)
SELECT 'held', 'work.does', '{"who": "fifth"}', ARRAY[id, :c], -5 FROM one RETURNING id AS e \gset
COPY my_queue (queue, handler, payload, after) FROM STDIN;
held	work.does	{"who": "no one"}	{}
\.
SELECT status, payload->>'who' AS who FROM my_queue WHERE queue = 'held' ORDER BY id;
SELECT my_worker.resume_queue('held');
SELECT my_worker.wait(:e, '30 s');
CALL pg_temp.wait_until('SELECT count(*) = 6 FROM work.ran');
SELECT string_agg(who, ', ' ORDER BY turn) FROM work.ran WHERE who IN ('first', 'second', 'third', 'fifth');
SELECT count(*) FROM my_worker._dependencies;
-- A handler that enqueues what comes after itself, alone and in a batch.
CREATE FUNCTION work.goes_on(id bigint, payload jsonb) RETURNS bigint LANGUAGE sql AS $$
    SELECT my_worker.enqueue('work.does', '{"who": "goes on"}', 'after', after := ARRAY[id])
$$;
CREATE FUNCTION work.all_go_on(ids bigint[], payloads jsonb[]) RETURNS bigint LANGUAGE sql AS $$
    SELECT my_worker.enqueue('work.does', '{"who": "goes on"}', 'after', after := ids)
$$;
SELECT my_worker.enqueue('work.goes_on') AS a \gset
SELECT count(*) FROM my_worker.enqueue_many('work.all_go_on', array_fill('{}'::jsonb, ARRAY[5]));
CALL pg_temp.wait_until('SELECT NOT EXISTS (SELECT FROM my_queue)');
SELECT count(*) >= 2 AS both FROM work.ran WHERE who = 'goes on';
-- What has ended well, or is gone without a trace, is not waited for.
SELECT my_worker.pause_queue('held');
SELECT my_worker.enqueue('work.does', queue := 'held', after := ARRAY[:a, :b]) AS d \gset
SELECT status FROM my_queue WHERE id = :d;
DELETE FROM my_worker.history WHERE id IN (:a, :b);
SELECT my_worker.enqueue('work.does', queue := 'held', after := ARRAY[:a, :b]) AS d \gset
SELECT status FROM my_queue WHERE id = :d;
-- A job that fails, or is cancelled, cancels those after it, and those after them; the error names it.
SELECT my_worker.enqueue('work.does', '{"fail": 1}', 'held') AS a \gset
SELECT my_worker.alter_queue('held', max_attempts := 1);
SELECT my_worker.enqueue('work.does', queue := 'after', after := ARRAY[:a]) AS b,
       my_worker.enqueue('work.does', '{"who": "runs"}', 'after', after := ARRAY[:a], after_failed := 'run') AS r \gset
SELECT my_worker.enqueue('work.does', queue := 'after', after := ARRAY[:b, :r]) AS c \gset
SELECT my_worker.resume_queue('held');
SELECT my_worker.wait(:b, '30 s') AS b, my_worker.wait(:c, '30 s') AS c, my_worker.wait(:r, '30 s') AS r;
SELECT work.ended(:b) AS b, work.ended(:c) AS c, work.ended(:r) AS r;
SELECT errors->0->>'message' = format('job %s failed, which this job comes after', :a) AS names_the_first,
       errors->0->>'detail' = format('It comes after job %s.', :b) AS names_the_next, started_at, attempts
  FROM my_worker.history WHERE id = :c;
-- One that has ended so already: the new job is enqueued, and cancelled right after COMMIT.
SELECT my_worker.enqueue('work.does', queue := 'after', after := ARRAY[:a, :r]) AS d \gset
SELECT my_worker.wait(:d, '30 s');
SELECT work.ended(:d);
SELECT my_worker.enqueue('work.does', queue := 'after', after := ARRAY[:a], after_failed := 'run') AS d \gset
SELECT my_worker.wait(:d, '30 s');
-- Cancelled by hand.
SELECT my_worker.pause_queue('held');
SELECT my_worker.enqueue('work.does', queue := 'held') AS a \gset
SELECT my_worker.enqueue('work.does', queue := 'after', after := ARRAY[:a]) AS b \gset
SELECT my_worker.enqueue('work.does', queue := 'after', after := ARRAY[:b]) AS c \gset
BEGIN;
SELECT my_worker.cancel(:a);
ROLLBACK;
SELECT status FROM my_queue WHERE id = :b;
SELECT my_worker.cancel(:b);
SELECT my_worker.wait(:c, '30 s');
SELECT work.ended(:c), work.ended(:b) AS by_hand;
SELECT status FROM my_queue WHERE id = :a;
-- retry() of a job that was cancelled so: it waits for what has not ended, however the rest ended.
SELECT my_worker.retry(:b);
SELECT status FROM my_queue WHERE id = :b;
SELECT my_worker.cancel(:a);
SELECT my_worker.wait(:b, '30 s');
SELECT my_worker.retry(:b);
SELECT my_worker.wait(:b, '30 s');
SELECT my_worker.retry(:c);
SELECT my_worker.wait(:c, '30 s');
-- What is deleted leaves no trace: it counts as completed.
SELECT my_worker.enqueue('work.does', queue := 'held') AS a \gset
SELECT my_worker.enqueue('work.does', queue := 'after', after := ARRAY[:a]) AS b \gset
DELETE FROM my_queue WHERE id = :a;
SELECT my_worker.wait(:b, '30 s');
SELECT my_worker.enqueue('work.does', queue := 'held') AS a \gset
SELECT my_worker.enqueue('work.does', queue := 'held', after := ARRAY[:a]) AS b \gset
SELECT my_worker.enqueue('work.does', queue := 'after', after := ARRAY[:b]) AS c \gset
SELECT my_worker.purge_queue('held') > 0 AS purged;
SELECT my_worker.wait(:c, '30 s');
SELECT my_worker.create_queue('gone'), my_worker.pause_queue('gone');
SELECT my_worker.enqueue('work.does', queue := 'gone') AS a \gset
SELECT my_worker.enqueue('work.does', queue := 'gone', after := ARRAY[:a]) AS b \gset
SELECT my_worker.enqueue('work.does', queue := 'after', after := ARRAY[:b]) AS c \gset
SELECT my_worker.drop_queue('gone', true);
SELECT my_worker.wait(:c, '30 s');
-- Together with run_at, a unique key, expires_at.
SELECT my_worker.enqueue('work.does', queue := 'held') AS a \gset
SELECT my_worker.enqueue('work.does', queue := 'after', after := ARRAY[:a], run_at := 'infinity', unique_key := 'k') AS b \gset
SELECT my_worker.enqueue('work.does', queue := 'after', after := ARRAY[:a], unique_key := 'k') = :b AS same;
SELECT my_worker.enqueue('work.does', queue := 'after', after := ARRAY[:a], expires_at := clock_timestamp() + '100 ms') AS e \gset
SELECT my_worker.enqueue('work.does', queue := 'after', after := ARRAY[:e]) AS f \gset
SELECT my_worker.wait(:e, '30 s'), my_worker.wait(:f, '30 s');
SELECT work.ended(:e), work.ended(:f);
SELECT my_worker.resume_queue('held');
CALL pg_temp.wait_until(format('SELECT status = ''pending'' AND run_at = ''infinity'' FROM my_queue WHERE id = %s', :b));
SELECT my_worker.cancel(:b);
-- A command, and a job for a consumer.
SELECT my_worker.pause_queue('held');
SELECT my_worker.enqueue('work.does', queue := 'held') AS a \gset
SELECT my_worker.run('INSERT INTO work.ran (who) VALUES (''command'')', 'after', after := ARRAY[:a]) AS b,
       my_worker.send('after', '{"who": "consumer"}', after := ARRAY[:a]) AS c \gset
SELECT count(*) FROM my_worker.receive('after');
SELECT my_worker.resume_queue('held');
SELECT my_worker.wait(:b, '30 s');
SELECT id = :c AS same, payload FROM my_worker.receive('after', wait := '5 s') \gset got_
SELECT :'got_same', :'got_payload';
DISCARD ALL;
SELECT my_worker.cancel(:c) IS NOT NULL AS cancelled;
-- What is refused.
\i :helpers
SET client_min_messages = warning;
SELECT my_worker.pause_queue('held');
SELECT my_worker.enqueue('work.does', queue := 'held') AS a \gset
SELECT my_worker.enqueue('work.does', queue := 'held', after := ARRAY[:a]) AS b \gset
CALL pg_temp.fails('SELECT my_worker.enqueue(''work.does'', after := ARRAY[0])');
CALL pg_temp.fails('SELECT my_worker.enqueue(''work.does'', after := ARRAY[-1])');
CALL pg_temp.fails('SELECT my_worker.enqueue(''work.does'', after := ARRAY[1000000000])');
CALL pg_temp.fails('INSERT INTO my_queue (handler, after) VALUES (''work.does'', ARRAY[1000000000])');
CALL pg_temp.fails('SELECT my_worker.enqueue(''work.does'', after := ARRAY[NULL]::bigint[])');
CALL pg_temp.fails('SELECT my_worker.enqueue(''work.does'', after := (SELECT array_agg(n) FROM generate_series(1, 10001) AS n))');
CALL pg_temp.fails('SELECT my_worker.enqueue(''work.does'', after := ARRAY[1], after_failed := ''maybe'')');
CALL pg_temp.fails('INSERT INTO my_queue (handler, status) VALUES (''work.does'', ''blocked'')');
CALL pg_temp.fails(format('UPDATE my_queue SET after = NULL WHERE id = %s', :b));
UPDATE my_queue SET priority = 7, payload = '{"who": "changed"}', after_failed = 'run' WHERE id = :b RETURNING status, priority;
-- Other roles: their jobs are as if they were not there.
CREATE ROLE regress_after_one LOGIN;
CREATE ROLE regress_after_two LOGIN;
SELECT my_worker.grant_usage('regress_after_one'), my_worker.grant_usage('regress_after_two');
GRANT USAGE ON SCHEMA work TO regress_after_one, regress_after_two;
SET ROLE regress_after_one;
SELECT my_worker.enqueue('work.does', queue := 'held') AS one \gset
SELECT my_worker.enqueue('work.does', queue := 'held', after := ARRAY[:one]) AS other \gset
CALL pg_temp.fails(format('UPDATE my_queue SET status = ''pending'' WHERE id = %s', :other));
RESET ROLE;
SET ROLE regress_after_two;
CALL pg_temp.fails(format('SELECT my_worker.enqueue(''work.does'', queue := ''held'', after := ARRAY[%s])', :one));
CALL pg_temp.fails(format('INSERT INTO my_queue (handler, queue, after) VALUES (''work.does'', ''held'', ARRAY[%s])', :one));
CALL pg_temp.fails('SELECT count(*) FROM my_worker._dependencies');
RESET ROLE;
-- With its rights they are.
GRANT regress_after_one TO regress_after_two;
SET ROLE regress_after_two;
SELECT my_worker.enqueue('work.does', queue := 'held', after := ARRAY[:one]) > 0 AS enqueued;
RESET ROLE;
GRANT pg_write_all_data, pg_read_all_data TO regress_after_two;
SET ROLE regress_after_two;
CALL pg_temp.fails('DELETE FROM my_worker._dependencies');
SELECT count(*) FROM my_worker._dependencies;
RESET ROLE;
SELECT my_worker.drop_queue('held', true), my_worker.drop_queue('after', true);
DELETE FROM my_worker.history;
DROP OWNED BY regress_after_one, regress_after_two;
DROP ROLE regress_after_one, regress_after_two;
DROP SCHEMA work CASCADE;
CALL pg_temp.wait_until('SELECT NOT EXISTS (SELECT FROM my_worker._dependencies)');
