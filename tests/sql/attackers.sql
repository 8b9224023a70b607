-- What roles below the extension's owner try with rights that people really grant: GRANT ALL ON ALL
-- TABLES, predefined roles, CREATE on a schema. None of it reaches into what runs with our rights, or
-- with another role's.
SET client_min_messages = warning;
CREATE ROLE att_mallory LOGIN;
CREATE ROLE att_alice LOGIN;
GRANT CREATE ON SCHEMA public TO att_mallory;
SELECT my_worker.grant_usage('att_alice'), my_worker.grant_usage('att_mallory');
GRANT ALL ON ALL TABLES IN SCHEMA public TO att_mallory;
GRANT ALL ON ALL TABLES IN SCHEMA my_worker TO att_mallory;
GRANT ALL ON ALL SEQUENCES IN SCHEMA my_worker TO att_mallory;
GRANT pg_write_all_data TO att_mallory;
SELECT my_worker.create_queue('att_calls');
CREATE FUNCTION public.att_work(jsonb) RETURNS text LANGUAGE sql AS $$ SELECT current_user::text $$;
SELECT my_worker.alter_queue('att_calls', handler := 'public.att_work');

SET ROLE att_mallory;
CREATE TABLE public.att_loot (who text DEFAULT current_user);
CREATE FUNCTION public.att_evil() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO public.att_loot DEFAULT VALUES; RETURN NEW; END $$;

-- Triggers, rules, policies and foreign keys.
CREATE TRIGGER att BEFORE INSERT ON my_worker._jobs FOR EACH ROW EXECUTE FUNCTION public.att_evil();
CREATE TRIGGER att AFTER UPDATE ON my_worker.history FOR EACH STATEMENT EXECUTE FUNCTION public.att_evil();
CREATE TRIGGER att BEFORE DELETE ON my_worker.queues FOR EACH ROW EXECUTE FUNCTION public.att_evil();
CREATE TRIGGER att BEFORE INSERT ON my_worker._schedules FOR EACH ROW EXECUTE FUNCTION public.att_evil();
CREATE TRIGGER att INSTEAD OF INSERT ON my_queue FOR EACH ROW EXECUTE FUNCTION public.att_evil();
CREATE CONSTRAINT TRIGGER att AFTER INSERT ON my_worker._jobs DEFERRABLE FOR EACH ROW EXECUTE FUNCTION public.att_evil();
CREATE RULE att AS ON INSERT TO my_worker._jobs DO ALSO INSERT INTO public.att_loot DEFAULT VALUES;
CREATE RULE att AS ON DELETE TO my_worker.queues DO INSTEAD NOTHING;
CREATE POLICY att ON my_worker._jobs USING (true);
CREATE STATISTICS public.att_stat ON queue, status FROM my_worker._jobs;
CREATE TABLE public.att_ref (job bigint REFERENCES my_worker._jobs (id));
CREATE TABLE public.att_ref (job bigint REFERENCES my_queue (id));
CREATE TABLE public.att_ref (job bigint);
ALTER TABLE public.att_ref ADD FOREIGN KEY (job) REFERENCES my_worker._jobs;
ALTER TABLE public.att_ref ADD COLUMN other bigint REFERENCES my_worker._jobs;
ALTER TABLE public.att_ref ADD COLUMN queue text REFERENCES my_worker.queues (name) ON DELETE CASCADE;
CREATE TABLE public.att_child () INHERITS (my_worker._jobs);
CREATE TABLE public.att_parts (LIKE my_worker._jobs) PARTITION BY LIST (queue);
ALTER TABLE public.att_parts ATTACH PARTITION my_worker._jobs FOR VALUES IN ('default');
LOCK TABLE my_worker._jobs;
BEGIN;
LOCK TABLE my_worker.queues IN SHARE MODE;
ROLLBACK;
CREATE VIEW public.att_view AS SELECT * FROM my_worker.history;
CREATE VIEW public.att_view_of_view AS SELECT * FROM public.att_view;
BEGIN;
LOCK TABLE public.att_view_of_view IN ACCESS EXCLUSIVE MODE;
ROLLBACK;
BEGIN;
LOCK TABLE my_worker._jobs IN ROW EXCLUSIVE MODE;
ROLLBACK;
TRUNCATE my_worker._jobs;
TRUNCATE my_worker.history;
TRUNCATE my_worker.queues CASCADE;
TRUNCATE my_worker._schedules;
DROP EXTENSION my_worker;
DROP EXTENSION IF EXISTS my_worker, plpgsql;
COMMENT ON TABLE my_worker._jobs IS 'mine';

-- Writing past the functions.
UPDATE my_worker.queues SET handler = 'public.att_evil()' WHERE name = 'att_calls';
INSERT INTO my_worker.queues (name) VALUES ('att_mine');
DELETE FROM my_worker.queues WHERE name = 'att_calls';
INSERT INTO my_worker._schedules (name, schedule, timezone, command, next_run_at) VALUES ('att', '@daily', 'UTC', 'SELECT 1', now());
UPDATE my_worker._schedules SET owner = 'postgres'::regrole;
INSERT INTO my_worker.history (id, queue, status, payload, priority, run_at, created_at, attempts, owner, finished_at)
    VALUES (1, 'default', 'failed', '{}', 0, now(), now(), 1, 'att_mallory', now());
COPY my_worker.queues (name) FROM STDIN;
\.
-- What only the engine sets in a job.
INSERT INTO my_queue (id, handler) VALUES (2000000000, 'public.att_work');
INSERT INTO my_queue (status, handler) VALUES ('processing', 'public.att_work');
INSERT INTO my_queue (attempts, handler) VALUES (-5, 'public.att_work');
INSERT INTO my_queue (started_at, handler) VALUES (now(), 'public.att_work');
INSERT INTO my_queue (last_error, handler) VALUES ('x', 'public.att_work');
INSERT INTO my_queue (errors, handler) VALUES ('[]', 'public.att_work');
INSERT INTO my_queue (created_at, handler) VALUES ('infinity', 'public.att_work');
INSERT INTO my_queue (owner, handler) VALUES ('postgres', 'public.att_work');
INSERT INTO my_worker._jobs (handler, handler_owner) VALUES ('public.att_work', 'postgres');
COPY my_worker._jobs (id, handler) FROM STDIN;
2000000000	public.att_work
\.
INSERT INTO my_queue (handler, run_at) SELECT 'public.att_work', 'infinity' FROM generate_series(1, 3) ORDER BY 1;
INSERT INTO my_queue (handler, run_at) VALUES ('public.att_work', 'infinity'), ('public.att_work', 'infinity') RETURNING status;
UPDATE my_queue SET status = 'processing';
UPDATE my_queue SET id = id + 100000;
UPDATE my_queue SET attempts = 7;
UPDATE my_queue SET owner = 'postgres';
UPDATE my_worker._jobs SET handler_owner = 'postgres';
UPDATE my_queue SET priority = 7, payload = '{"a": 1}';
SELECT priority, payload, count(*) FROM my_queue GROUP BY 1, 2;
DELETE FROM my_queue;
SELECT count(*) FROM public.att_loot;
RESET ROLE;

-- The jobs of others are as they were.
SET ROLE att_alice;
SELECT my_worker.enqueue('public.att_work') AS job \gset
SELECT my_worker.wait(:job, '30 s');
SELECT result FROM my_worker.jobs WHERE id = :job;
RESET ROLE;

-- A trigger that was made where nobody refused it: nothing of ours goes on with it.
BEGIN;
CREATE TRIGGER att BEFORE INSERT ON my_worker._jobs FOR EACH ROW EXECUTE FUNCTION public.att_evil();
\set VERBOSITY verbose
SELECT my_worker.enqueue('public.att_work');
\set VERBOSITY default
ROLLBACK;
SELECT count(*) FROM public.att_loot;

-- Whoever may create in a handler's schema adds functions beside it.
SELECT my_worker.enqueue('public.att_work', run_at := now() + '1 hour') AS job \gset
SELECT handler FROM my_queue WHERE id = :job;
SET ROLE att_mallory;
CREATE FUNCTION public.att_work(bigint, jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.att_loot DEFAULT VALUES $$;
CREATE FUNCTION public.att_work() RETURNS void LANGUAGE sql AS $$ INSERT INTO public.att_loot DEFAULT VALUES $$;
RESET ROLE;
UPDATE my_queue SET run_at = now() WHERE id = :job;
SELECT my_worker.wait(:job, '30 s');
SELECT count(*) FROM public.att_loot;
INSERT INTO my_queue (queue) VALUES ('att_calls') RETURNING id AS job \gset
SELECT my_worker.wait(:job, '30 s');
SELECT count(*) FROM public.att_loot;
DROP FUNCTION public.att_work(bigint, jsonb), public.att_work();

-- A temporary function is nobody's but this session's.
CREATE FUNCTION pg_temp.att_temp(jsonb) RETURNS void LANGUAGE sql AS '';
SELECT my_worker.enqueue('pg_temp.att_temp');
INSERT INTO my_queue (handler) VALUES ('pg_temp.att_temp(jsonb)');
SELECT my_worker.schedule('att', '@daily', handler := 'pg_temp.att_temp');
SELECT my_worker.create_queue('att_temp', handler := 'pg_temp.att_temp');
DO $$
BEGIN
    PERFORM my_worker.enqueue(pg_my_temp_schema()::regnamespace || '.att_temp');
EXCEPTION WHEN feature_not_supported THEN
    RAISE WARNING '%', regexp_replace(SQLERRM, 'pg_temp_\d+', 'pg_temp_N');
END
$$;

-- A superuser's job runs a function of somebody else only while it is his who had it when it was named.
GRANT CREATE ON SCHEMA public TO att_alice;
SET ROLE att_alice;
CREATE FUNCTION public.att_shared() RETURNS text LANGUAGE sql AS $$ SELECT 'alice' $$;
RESET ROLE;
SELECT my_worker.enqueue('public.att_shared') AS job \gset
SELECT my_worker.wait(:job, '30 s');
SELECT my_worker.enqueue('public.att_shared', run_at := now() + '1 hour', max_attempts := 1) AS job \gset
SELECT my_worker.create_queue('att_shared', handler := 'public.att_shared', max_attempts := 1);
SELECT my_worker.schedule('att_shared', '@yearly', handler := 'public.att_shared', max_attempts := 1) > 0 AS made;
INSERT INTO my_queue (handler, run_at, max_attempts) VALUES ('public.att_shared', now() + '1 hour', 1) RETURNING id AS inserted \gset
DROP FUNCTION public.att_shared();
SET ROLE att_mallory;
CREATE FUNCTION public.att_shared() RETURNS void LANGUAGE sql AS $$ INSERT INTO public.att_loot DEFAULT VALUES $$;
RESET ROLE;
UPDATE my_queue SET run_at = now() WHERE id IN (:job, :inserted);
SELECT my_worker.wait(:job, '30 s'), my_worker.wait(:inserted, '30 s');
INSERT INTO my_queue (queue) VALUES ('att_shared') RETURNING id AS of_queue \gset
SELECT my_worker.run_now('att_shared') AS of_schedule \gset
SELECT my_worker.wait(:of_queue, '30 s'), my_worker.wait(:of_schedule, '30 s');
SELECT errors->0->>'sqlstate' AS sqlstate, errors->0->>'message' AS message, errors->0->>'detail' AS detail
  FROM my_worker.jobs WHERE id IN (:job, :inserted, :of_queue, :of_schedule);
-- Sent back it is still not trusted; named again it is.
SELECT my_worker.retry(:job);
SELECT my_worker.wait(:job, '30 s');
SELECT count(*) FROM public.att_loot;
SELECT my_worker.enqueue('public.att_shared') AS job \gset
SELECT my_worker.wait(:job, '30 s');
SELECT count(*) FROM public.att_loot;

SELECT my_worker.unschedule('att_shared');
SELECT my_worker.purge_queue('att_shared') > 0, my_worker.drop_queue('att_shared'), my_worker.purge_queue('att_calls') > 0, my_worker.drop_queue('att_calls');
DROP VIEW public.att_view_of_view, public.att_view;
DROP TABLE public.att_loot, public.att_ref, public.att_parts;
DROP FUNCTION public.att_shared(), public.att_evil(), public.att_work(jsonb);
DELETE FROM my_queue WHERE owner IN ('att_alice'::regrole, 'att_mallory'::regrole);
DROP OWNED BY att_mallory, att_alice;
DROP ROLE att_mallory, att_alice;
