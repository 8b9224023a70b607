-- What a job says of its own end: snooze(), give_up(); and run_soon(), for who does not want to wait.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE SCHEMA work;
CREATE TABLE work.t (n serial, job bigint, said text);
CREATE FUNCTION work.said(job bigint) RETURNS text LANGUAGE sql AS $$SELECT string_agg(t.said, ', ' ORDER BY t.n) FROM work.t WHERE t.job = said.job$$;
SELECT my_worker.create_queue('nap', max_attempts => 3, backoff => '0');
-- Only within a job, and only sensible delays.
CALL pg_temp.fails($$SELECT my_worker.snooze('1 min')$$);
CALL pg_temp.fails($$SELECT my_worker.give_up('no')$$);
CREATE FUNCTION work.wrong(payload jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM my_worker.snooze((payload->>'delay')::interval);
    RETURN 'none';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
SELECT count(my_worker.enqueue('work.wrong', p, 'nap')) FROM unnest(ARRAY['{}', '{"delay": "-1 s"}', '{"delay": "1001 years"}']::jsonb[]) AS p;
CALL pg_temp.wait_until($$SELECT count(*) = 3 FROM my_worker.history WHERE queue = 'nap'$$);
SELECT payload, status, result FROM my_worker.history WHERE queue = 'nap' ORDER BY id;
-- The job comes again; what it did stays, and no attempt is charged. wait() waits on.
CREATE FUNCTION work.twice(job bigint, payload jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO work.t (job, said) VALUES (job, payload->>'say');
    IF (SELECT count(*) FROM work.t WHERE t.job = twice.job) < 3 THEN
        PERFORM my_worker.snooze('1 day');
        PERFORM my_worker.snooze('20 ms');
    END IF;
    RETURN 'done';
END $$;
SELECT my_worker.reset_stats();
SELECT my_worker.enqueue('work.twice', '{"say": "hello"}', 'nap') AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT status, attempts, result, errors, work.said(id) FROM my_worker.history WHERE id = :id;
SELECT count(*) FROM my_worker.history WHERE id = :id;
-- Naps are not counted.
SELECT completed, failed, retried, cancelled FROM my_worker.queue_stats WHERE queue = 'nap';
-- One that is rolled back does not count, nor one of an attempt that failed.
CREATE FUNCTION work.caught(job bigint, payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        PERFORM my_worker.snooze('1 day');
        RAISE 'no';
    EXCEPTION WHEN OTHERS THEN
        INSERT INTO work.t (job, said) VALUES (job, 'caught');
    END;
END $$;
CREATE FUNCTION work.failing(job bigint, payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM my_worker.snooze('1 day');
    RAISE 'no';
END $$;
SELECT my_worker.enqueue('work.caught', queue => 'nap') AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT my_worker.enqueue('work.failing', queue => 'nap') AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT status, attempts, jsonb_array_length(errors) FROM my_worker.history WHERE id = :id;
-- While it sleeps.
CREATE FUNCTION work.sleeper(job bigint, payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO work.t (job, said) VALUES (job, 'once');
    IF (SELECT count(*) FROM work.t WHERE t.job = sleeper.job) = 1 THEN
        PERFORM my_worker.snooze('1 day');
    END IF;
END $$;
SELECT my_worker.enqueue('work.sleeper', queue => 'nap', unique_key => 'k') AS id \gset
CALL pg_temp.wait_until(format('SELECT run_at > now() FROM my_queue WHERE id = %s', :id));
SELECT status, attempts, max_attempts, last_error, run_at > now() + '23 h' AS tomorrow FROM my_worker.jobs WHERE id = :id;
SELECT regexp_replace(my_worker.why(:id), 'at .*', 'at ...');
SELECT my_worker.wait(:id, '10 ms') IS NULL AS still_waits;
SELECT my_worker.enqueue('work.sleeper', queue => 'nap', unique_key => 'k') = :id AS has_its_key;
-- Run it now. True once: it waits for no later time then.
SELECT my_worker.pause_queue('nap');
SELECT my_worker.run_soon(:id) AS first, my_worker.run_soon(:id) AS again, my_worker.run_soon(-1) AS unknown;
SELECT my_worker.resume_queue('nap');
SELECT my_worker.wait(:id, '30 s');
SELECT my_worker.run_soon(:id) AS finished;
-- In its backoff.
SELECT my_worker.create_queue('slow', backoff => '1 day');
CREATE FUNCTION work.second(job bigint, payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT attempts FROM my_queue WHERE id = job) = 0 THEN
        RAISE 'not yet';
    END IF;
END $$;
SELECT my_worker.enqueue('work.second', queue => 'slow') AS id \gset
CALL pg_temp.wait_until(format('SELECT attempts = 1 FROM my_queue WHERE id = %s', :id));
SELECT my_worker.run_soon(:id);
SELECT my_worker.wait(:id, '30 s');
-- Its owner alone.
CREATE ROLE mw_napper LOGIN;
CREATE ROLE mw_stranger LOGIN;
SELECT my_worker.grant_usage(r) FROM unnest(ARRAY['mw_napper', 'mw_stranger']::regrole[]) AS r;
SET ROLE mw_napper;
SELECT my_worker.run('SELECT 1', run_at => now() + '1 day') AS id \gset
SET ROLE mw_stranger;
SELECT my_worker.run_soon(:id) AS another_roles;
SET ROLE mw_napper;
SELECT my_worker.run_soon(:id) AS its_own;
SELECT my_worker.wait(:id, '30 s');
RESET ROLE;
-- One that a consumer has stays as it is.
SELECT my_worker.create_queue('out');
SELECT my_worker.send('out') AS id \gset
SELECT id, lease FROM my_worker.receive('out') \gset
SELECT my_worker.run_soon(:id) AS received;
SELECT my_worker.nack(:id, :lease, delay => '1 day');
SELECT my_worker.run_soon(:id) AS waits;
SELECT id, lease FROM my_worker.receive('out', lease => '1 min') \gset
SELECT my_worker.run_soon(:id) AS leased;
SELECT my_worker.ack(:id, :lease);
-- Giving up: nothing of the attempt stays, and no other follows, whatever the queue says.
CREATE FUNCTION work.gives_up(job bigint, payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO work.t (job, said) VALUES (job, 'gone');
    PERFORM my_worker.give_up(payload->>'why');
END $$;
SELECT my_worker.alter_queue('nap', retry_on => '{MW}');
SELECT my_worker.enqueue('work.gives_up', '{"why": "no such customer"}', 'nap') AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT status, attempts, last_error, errors->0->>'sqlstate' AS code, work.said(id) FROM my_worker.history WHERE id = :id;
SELECT my_worker.enqueue('work.gives_up', '{}', 'nap') AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT last_error FROM my_worker.history WHERE id = :id;
SELECT my_worker.reset_queue('nap', 'retry_on');
-- Caught, it is as if nothing was raised.
CREATE FUNCTION work.thinks_better(job bigint, payload jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM my_worker.give_up('no');
EXCEPTION WHEN SQLSTATE 'MW001' THEN
    RETURN SQLERRM;
END $$;
SELECT my_worker.enqueue('work.thinks_better', queue => 'nap') AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT status, result FROM my_worker.history WHERE id = :id;
-- Commands: what they have committed counts.
SELECT my_worker.run($$INSERT INTO work.t (job, said) VALUES (my_worker.current_job(), 'ran');
    SELECT CASE WHEN count(*) < 3 THEN my_worker.snooze('10 ms') END FROM work.t WHERE job = my_worker.current_job()$$, 'nap') AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT status, attempts, work.said(id) FROM my_worker.history WHERE id = :id;
SELECT my_worker.run($$BEGIN; SELECT my_worker.snooze('1 day'); ROLLBACK; SELECT 1$$, 'nap') AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT my_worker.run($$SELECT my_worker.snooze('1 day'); SELECT 1 / 0$$, 'nap') AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT my_worker.run($$SELECT my_worker.give_up('enough')$$, 'nap', max_attempts => 3) AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT status, attempts, last_error FROM my_worker.history WHERE id = :id;
-- A batch handler's call that snoozes: all of its jobs come again.
CREATE FUNCTION work.batch(ids bigint[], payloads jsonb[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO work.t (job, said) SELECT unnest(ids), 'call of ' || cardinality(ids);
    IF (SELECT count(*) FROM work.t WHERE job = ids[1]) < 2 THEN
        PERFORM my_worker.snooze('10 ms');
    END IF;
END $$;
SELECT my_worker.pause_queue('nap');
SELECT my_worker.purge_queue('nap') > 0 AS purged;
SELECT count(*) FROM my_worker.enqueue_many('work.batch', array_fill('{}'::jsonb, '{4}'), queue => 'nap');
SELECT my_worker.resume_queue('nap');
CALL pg_temp.wait_until('SELECT count(*) = 4 FROM my_worker.history WHERE queue = ''nap''');
-- How many a later call gets, is the worker's affair.
SELECT status, attempts, regexp_replace(work.said(id), 'of .$', 'of some') AS said, count(*) FROM my_worker.history WHERE queue = 'nap' GROUP BY 1, 2, 3;
-- One that gives up is found; the others do their work.
CREATE FUNCTION work.picky(ids bigint[], payloads jsonb[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF payloads @> ARRAY['{"bad": true}'::jsonb] THEN
        PERFORM my_worker.give_up('a bad one');
    END IF;
END $$;
SELECT my_worker.pause_queue('nap');
SELECT my_worker.purge_queue('nap') > 0 AS purged;
SELECT count(*) FROM my_worker.enqueue_many('work.picky', ARRAY['{}', '{}', '{"bad": true}', '{}']::jsonb[], queue => 'nap');
SELECT my_worker.resume_queue('nap');
CALL pg_temp.wait_until('SELECT count(*) = 4 FROM my_worker.history WHERE queue = ''nap''');
SELECT payload, status, attempts, last_error, count(*) FROM my_worker.history WHERE queue = 'nap' GROUP BY 1, 2, 3, 4 ORDER BY 5;
SELECT my_worker.drop_queue(q, true) FROM unnest(ARRAY['nap', 'slow', 'out']) AS q;
SELECT my_worker.revoke_usage(r) FROM unnest(ARRAY['mw_napper', 'mw_stranger']::regrole[]) AS r;
DROP ROLE mw_napper, mw_stranger;
DROP SCHEMA work CASCADE;
