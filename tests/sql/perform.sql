-- perform(): runs a waiting job at once, in this session and transaction.
\set VERBOSITY terse
CREATE ROLE regress_mw_actor LOGIN;
CREATE ROLE regress_mw_boss LOGIN;
SELECT my_worker.grant_usage('regress_mw_actor'), my_worker.grant_usage('regress_mw_boss');
SELECT my_worker.create_queue('stage', backoff => '10 ms', max_attempts => 3);
SELECT my_worker.create_queue('plain');
SELECT my_worker.pause_queue('stage');
CREATE TABLE played (job bigint, n int, role text DEFAULT session_user || ' ' || current_user, pid int DEFAULT pg_backend_pid());
GRANT SELECT, INSERT ON played TO PUBLIC;
CREATE FUNCTION public.play(id bigint, p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.played (job, n) VALUES (id, (p->>'n')::int);
    PERFORM my_worker.progress(50, 'half');
    IF p ? 'fail' THEN
        RAISE EXCEPTION 'fell off the stage' USING ERRCODE = '22012';
    END IF;
    RETURN jsonb_build_object('n', p->'n', 'own', my_worker.current_job() = id);
END $$;
CREATE FUNCTION public.play_payload(p jsonb) RETURNS text LANGUAGE sql AS $$SELECT 'got ' || (p->>'n')$$;
CREATE FUNCTION public.play_nothing() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION public.play_batch(ids bigint[], p jsonb[]) RETURNS int LANGUAGE sql AS $$SELECT cardinality(ids) + cardinality(p)$$;

-- Enqueued and performed in one transaction; the queue is paused, and the job would be due later.
BEGIN;
SELECT my_worker.enqueue('public.play', '{"n": 1}', 'stage', run_at => now() + interval '1 h') AS job \gset
SELECT my_worker.perform(:job);
SELECT count(*) FROM my_queue WHERE id = :job;
COMMIT;
SELECT n, job = :job AS job, pid = pg_backend_pid() AS here FROM played;
SELECT status, attempts, result, started_at <= finished_at AS times FROM my_worker.history WHERE id = :job;
SELECT my_worker.wait(:job), my_worker.current_job();
SELECT completed, failed FROM my_worker.queue_stats WHERE queue = 'stage';
-- In one statement.
SELECT my_worker.perform(my_worker.enqueue('public.play', '{"n": 2}', 'stage'));
SELECT my_worker.create_queue('narrow', concurrency => 1, fifo => true);
SELECT my_worker.perform(my_worker.enqueue('public.play', '{"n": 2}', 'narrow', group_key => 'k'));
SELECT my_worker.drop_queue('narrow', true);

-- A rollback, also to a savepoint, leaves it waiting.
SELECT my_worker.enqueue('public.play', '{"n": 3}', 'stage') AS job \gset
BEGIN;
SAVEPOINT s;
SELECT my_worker.perform(:job);
ROLLBACK TO s;
SELECT count(*) FROM my_worker.history WHERE id = :job;
SELECT my_worker.perform(:job);
ROLLBACK;
SELECT status, attempts, n FROM my_queue LEFT JOIN played ON job = id WHERE id = :job;
-- It is there to be performed once.
SELECT my_worker.perform(:job);
\set VERBOSITY sqlstate
SELECT my_worker.perform(:job);
\set VERBOSITY terse
SELECT count(*) FROM played WHERE job = :job;

-- All signatures; a handler of the queue; a result of any type.
SELECT my_worker.perform(my_worker.enqueue('public.play_payload', '{"n": 4}', 'stage')) AS payload,
       my_worker.perform(my_worker.enqueue('public.play_nothing', queue => 'stage')) IS NULL AS nothing,
       my_worker.perform(my_worker.enqueue('public.play_batch', queue => 'stage')) AS batch;
SELECT my_worker.create_queue('handled', handler => 'public.play_payload', retention => '0');
SELECT my_worker.pause_queue('handled');
INSERT INTO my_queue (queue, payload) VALUES ('handled', '{"n": 5}') RETURNING id AS job \gset
SELECT my_worker.perform(:job);
SELECT count(*) FROM my_worker.jobs WHERE id = :job;

-- An error is the caller's, and charges nothing.
SELECT my_worker.enqueue('public.play', '{"n": 6, "fail": true}', 'stage', max_attempts => 1) AS job \gset
\set VERBOSITY default
\set SHOW_CONTEXT never
SELECT my_worker.perform(:job);
\set VERBOSITY terse
SELECT status, attempts, last_error FROM my_queue WHERE id = :job;
DO $$ BEGIN
    PERFORM my_worker.perform((SELECT max(id) FROM my_queue WHERE queue = 'stage'));
EXCEPTION WHEN division_by_zero THEN
    RAISE NOTICE 'caught, within job %', my_worker.current_job();
END $$;
SELECT count(*) FROM played WHERE job = :job;
SELECT my_worker.cancel(:job);

-- A handler that changes its own row, or deletes it.
CREATE FUNCTION public.play_own_row(id bigint, p jsonb) RETURNS int LANGUAGE plpgsql AS $$
DECLARE n int;
BEGIN
    IF p ? 'delete' THEN
        DELETE FROM public.my_queue AS q WHERE q.id = play_own_row.id;
    ELSE
        UPDATE public.my_queue AS q SET priority = 9 WHERE q.id = play_own_row.id;
    END IF;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;
SELECT my_worker.enqueue('public.play_own_row', queue => 'stage') AS a,
       my_worker.enqueue('public.play_own_row', '{"delete": true}', 'stage') AS b \gset
SELECT my_worker.perform(:a), my_worker.perform(:b);
SELECT count(*), min(status) FROM my_worker.jobs WHERE id IN (:a, :b);

-- One that cancels itself has failed, and waits.
CREATE FUNCTION public.play_cancel(id bigint, p jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT my_worker.cancel(id)';
SELECT my_worker.enqueue('public.play_cancel', queue => 'stage') AS job \gset
SELECT my_worker.perform(:job);
SELECT status FROM my_worker.jobs WHERE id = :job;
SELECT my_worker.cancel(:job);

-- What a job enqueues, also by the constraints that it defers.
CREATE TABLE parents (id int PRIMARY KEY);
CREATE TABLE children (parent int REFERENCES parents DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION public.play_orphan() RETURNS bigint LANGUAGE sql AS $$
    INSERT INTO public.children VALUES (1);
    SELECT my_worker.enqueue('public.play', '{"n": 7}', 'stage');
$$;
SELECT my_worker.enqueue('public.play_orphan', queue => 'stage') AS job \gset
SELECT my_worker.perform(:job) > '0' AS enqueued;
SELECT count(*) FROM my_queue WHERE queue = 'stage';
BEGIN;
SELECT my_worker.perform(:job) > '0' AS enqueued;
INSERT INTO parents VALUES (1);
COMMIT;
SELECT count(*) FROM my_queue WHERE queue = 'stage';
SELECT my_worker.purge_queue('stage') > 0 AS purged;

-- What is not to be performed.
SELECT my_worker.run('SELECT 1', 'stage') AS command, my_worker.send('plain') AS message,
       my_worker.enqueue('public.play', queue => 'stage', run_at => 'infinity') AS held \gset
SELECT my_worker.perform(NULL);
\set VERBOSITY sqlstate
SELECT my_worker.perform(-5);
SELECT my_worker.perform(:command);
SELECT my_worker.perform(:message);
SELECT my_worker.perform(:held);
SELECT count(*) FROM my_worker.receive('plain');
SELECT my_worker.perform(:message);
DISCARD ALL;
SELECT my_worker.purge_queue('plain') >= 0 AS purged;
SELECT my_worker.enqueue('public.play', '{"n": 8}', 'stage') AS job \gset
BEGIN READ ONLY;
SELECT my_worker.perform(:job);
ROLLBACK;
-- Within a job, by whatever way that runs.
CREATE FUNCTION public.play_within(id bigint, p jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT my_worker.perform((p->>'job')::bigint)$$;
SELECT my_worker.perform(my_worker.enqueue('public.play_within', jsonb_build_object('job', :job), 'stage'));
SELECT my_worker.enqueue('public.play_within', jsonb_build_object('job', :job), max_attempts => 1) AS outer \gset
SELECT my_worker.wait(:outer, '30 s');
SELECT errors->0->>'sqlstate' AS sqlstate FROM my_worker.history WHERE id = :outer;
-- Within a function that lends its owner's rights, and where the server calls code of others.
CREATE FUNCTION public.play_lent(job bigint) RETURNS jsonb LANGUAGE sql SECURITY DEFINER AS $$SELECT my_worker.perform(job)$$;
SELECT public.play_lent(:job);
CREATE FUNCTION public.play_index(job bigint) RETURNS int LANGUAGE sql IMMUTABLE AS $$SELECT 1 FROM my_worker.perform(job)$$;
CREATE TABLE indexed AS SELECT :job::bigint AS job;
CREATE INDEX ON indexed (public.play_index(job));

-- Whose: one's own alone. Who has the owner's rights is told so, all others as of none that is there.
SET ROLE regress_mw_actor;
SELECT my_worker.perform(:job);
\set VERBOSITY terse
SELECT my_worker.enqueue('public.play', '{"n": 9}', 'stage') AS actors \gset
RESET ROLE;
SELECT my_worker.perform(:actors);
GRANT regress_mw_actor TO regress_mw_boss;
SET ROLE regress_mw_boss;
SELECT my_worker.perform(:actors);
SET ROLE regress_mw_actor;
SELECT my_worker.perform(:actors);
RESET ROLE;
SELECT role LIKE '% regress_mw_actor' AS role FROM played WHERE n = 9;
-- A superuser runs no function that came into other hands.
CREATE FUNCTION public.play_handed() RETURNS int LANGUAGE sql AS 'SELECT 1';
SELECT my_worker.enqueue('public.play_handed', queue => 'stage') AS handed \gset
GRANT CREATE ON SCHEMA public TO regress_mw_actor;
ALTER FUNCTION public.play_handed() OWNER TO regress_mw_actor;
SELECT my_worker.perform(:handed);
DROP FUNCTION public.play_handed();
SELECT my_worker.perform(:handed);

-- The queue's limit holds, also for what runs in a session.
SELECT my_worker.create_queue('narrow', concurrency => 1);
CREATE FUNCTION public.play_until(key bigint, p jsonb) RETURNS void LANGUAGE sql AS $$SELECT pg_advisory_lock(7007); SELECT pg_advisory_unlock(7007)$$;
SELECT pg_advisory_lock(7007);
SELECT my_worker.enqueue('public.play_until', queue => 'narrow') AS busy \gset
SELECT my_worker.enqueue('public.play', '{"n": 10}', 'narrow', run_at => now() + interval '1 h') AS job,
       my_worker.enqueue('public.play', '{"n": 11}', 'narrow', run_at => now() + interval '1 h') AS more \gset
DO $$ BEGIN
    WHILE NOT EXISTS (SELECT FROM my_worker.jobs WHERE queue = 'narrow' AND status = 'processing') LOOP
        PERFORM pg_sleep(0.01);
    END LOOP;
END $$;
SELECT my_worker.perform(:job);
\set VERBOSITY sqlstate
SELECT my_worker.perform(:busy);
\set VERBOSITY terse
SELECT pg_advisory_unlock(7007);
SELECT my_worker.wait(:busy, '30 s');
BEGIN;
SELECT my_worker.perform(:job);
SELECT kind, state, queue, pid = pg_backend_pid() AS here FROM my_worker.workers WHERE queue = 'narrow';
SELECT my_worker.perform(:more);
COMMIT;
SELECT count(*) FROM my_worker.workers WHERE queue = 'narrow';

SELECT my_worker.purge_queue('stage') > 0 AS purged;
SELECT my_worker.drop_queue(q, force => true) FROM unnest('{stage, plain, handled, narrow}'::text[]) AS q;
DROP TABLE played, indexed, children, parents;
DROP FUNCTION public.play, public.play_payload, public.play_nothing, public.play_batch, public.play_own_row, public.play_cancel, public.play_orphan,
    public.play_within, public.play_lent, public.play_index, public.play_until;
SELECT my_worker.revoke_usage('regress_mw_actor'), my_worker.revoke_usage('regress_mw_boss');
REVOKE CREATE ON SCHEMA public FROM regress_mw_actor;
DROP ROLE regress_mw_actor, regress_mw_boss;
