-- Who may do what: nobody anything, until grant_usage(); then only with what is one's own.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE ROLE regress_mw_alice LOGIN;
CREATE ROLE regress_mw_bob LOGIN;
CREATE ROLE regress_mw_carol LOGIN;
CREATE ROLE regress_mw_watch LOGIN IN ROLE pg_monitor;
ALTER ROLE regress_mw_alice SET work_mem = '1234kB';
ALTER ROLE regress_mw_alice IN DATABASE regression SET search_path = work, pg_catalog;
CREATE SCHEMA work;
GRANT USAGE, CREATE ON SCHEMA work TO PUBLIC;
CREATE FUNCTION work.nothing() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION work.who() RETURNS text LANGUAGE sql AS
    $$SELECT session_user || ' ' || current_user || ' ' || current_setting('role') || ' ' ||
             current_setting('is_superuser') || ' ' || current_setting('work_mem') || ' ' || current_setting('search_path')$$;
CREATE FUNCTION work.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || regexp_replace(regexp_replace(SQLERRM, 'job \d+', 'job N'), '"(bobs|none)"', 'S');
END
$$;
-- Without rights.
SET SESSION AUTHORIZATION regress_mw_alice;
SELECT s AS statement, work.try(s) AS outcome FROM unnest(ARRAY[
    'SELECT my_worker.enqueue(''work.nothing'')', 'SELECT my_worker.cancel(1)', 'SELECT my_worker.wait(1)',
    'SELECT my_worker.current_job()', 'SELECT * FROM my_worker.jobs', 'SELECT * FROM my_worker.history',
    'SELECT * FROM my_worker.queues', 'SELECT * FROM my_worker.workers', 'SELECT * FROM public.my_queue',
    'INSERT INTO public.my_queue (handler) VALUES (''work.nothing'')', 'SELECT * FROM public.my_worker_status',
    'SELECT public.get_worker_stats()', 'SELECT public.launch_dynamic_worker(1)',
    'SELECT my_worker.grant_usage(''regress_mw_alice'')', 'SELECT my_worker.create_queue(''q'')']) WITH ORDINALITY AS u(s, n) ORDER BY n;
RESET SESSION AUTHORIZATION;
-- With usage.
SELECT my_worker.grant_usage('regress_mw_alice'), my_worker.grant_usage('regress_mw_bob');
SELECT my_worker.grant_usage('regress_mw_alice');
CALL pg_temp.fails($$SELECT my_worker.grant_usage('regress_mw_nobody')$$);
SET SESSION AUTHORIZATION regress_mw_bob;
SELECT my_worker.enqueue('work.nothing', '"bob''s secret"', run_at => 'infinity', unique_key => 'k') AS bob \gset
SELECT my_worker.enqueue('work.nothing', run_at => 'infinity') AS bobs_end \gset
SELECT my_worker.cancel(:bobs_end);
SET SESSION AUTHORIZATION regress_mw_alice;
SELECT my_worker.enqueue('work.who') AS a \gset
INSERT INTO public.my_queue (handler, payload) VALUES ('work.who', '"plain"') RETURNING id AS b, owner \gset
SELECT :'owner' AS owner;
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s');
-- The job runs in a session of its owner, with the owner's settings.
SELECT result->>0 AS result FROM my_worker.history WHERE id IN (:a, :b) ORDER BY id;
-- She sees her own jobs and no others, in each place.
SELECT my_worker.enqueue('work.nothing', '"alice''s"', run_at => 'infinity') AS c \gset
SELECT DISTINCT owner FROM my_worker.jobs;
SELECT DISTINCT owner FROM my_worker.history;
SELECT payload, owner FROM public.my_queue;
-- The same key of another role is another key.
SELECT my_worker.enqueue('work.nothing', run_at => 'infinity', unique_key => 'k') <> :bob AS different;
-- Others' jobs and schedules are not hers to touch, and answers do not tell them from what is not there:
-- one that waits, one that has ended, and one that is gone.
BEGIN;
SELECT my_worker.enqueue('work.nothing') AS gone \gset
ROLLBACK;
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_mw_bob;
SELECT my_worker.schedule('bobs', '@yearly', 'SELECT 1') > 0 AS scheduled;
SET SESSION AUTHORIZATION regress_mw_alice;
SELECT replace(call, '$1', 'N') AS call, work.try('SELECT ' || replace(call, '$1', :'bob')) AS waits,
       work.try('SELECT ' || replace(call, '$1', :'bobs_end')) AS has_ended,
       work.try('SELECT ' || replace(call, '$1', :'gone')) AS is_gone
  FROM unnest(ARRAY['my_worker.cancel($1)', 'my_worker.retry($1)', 'my_worker.wait($1)', 'my_worker.wait($1, ''10 ms'')',
    'my_worker.why($1)', 'public.launch_dynamic_worker($1)', 'public.launch_dynamic_worker($1::bigint)']) WITH ORDINALITY AS u(call, n) ORDER BY n;
SELECT my_worker.cancel(:bob) AS cancel, my_worker.retry(:bobs_end) AS retry, my_worker.wait(:bob) AS wait, my_worker.wait(:bobs_end) AS wait,
       my_worker.wait(:gone) AS wait;
SELECT replace(call, '$1', 'S') AS call, work.try('SELECT ' || replace(call, '$1', '''bobs''')) AS hers_not,
       work.try('SELECT ' || replace(call, '$1', '''none''')) AS nobodys
  FROM unnest(ARRAY['my_worker.unschedule($1)', 'my_worker.unschedule($1, ''regress_mw_bob'')', 'my_worker.pause_schedule($1, ''regress_mw_bob'')',
    'my_worker.resume_schedule($1, ''regress_mw_bob'')', 'my_worker.run_now($1)', 'my_worker.run_now($1, ''regress_mw_bob'')']) WITH ORDINALITY AS u(call, n) ORDER BY n;
-- Of two rows of one id the caller's own is sent back, if there is one.
RESET SESSION AUTHORIZATION;
INSERT INTO my_worker.history SELECT * FROM my_worker.history WHERE id = :bobs_end;
UPDATE my_worker.history SET owner = 'regress_mw_alice', finished_at = finished_at - interval '1 h'
 WHERE ctid = (SELECT min(ctid) FROM my_worker.history WHERE id = :bobs_end);
SET SESSION AUTHORIZATION regress_mw_alice;
SELECT my_worker.retry(:bobs_end);
SELECT my_worker.wait(:bobs_end, '30 s');
SELECT my_worker.retry(:bobs_end);
SET SESSION AUTHORIZATION regress_mw_bob;
SELECT status FROM my_worker.jobs WHERE id IN (:bob, :bobs_end) ORDER BY id;
SELECT my_worker.unschedule('bobs');
SET SESSION AUTHORIZATION regress_mw_alice;
-- The owner cannot be forged, nor a row changed or deleted.
SELECT s AS statement, work.try(s) AS outcome FROM unnest(ARRAY[
    'INSERT INTO public.my_queue (handler, owner) VALUES (''work.nothing'', ''regress_mw_bob'')',
    'INSERT INTO public.my_queue (handler, owner) VALUES (''work.nothing'', 10)',
    'INSERT INTO public.my_queue (id, handler) VALUES (1, ''work.nothing'')',
    'INSERT INTO public.my_queue (handler, status) VALUES (''work.nothing'', ''processing'')',
    'INSERT INTO public.my_queue (handler, attempts) VALUES (''work.nothing'', -5)',
    'UPDATE public.my_queue SET owner = ''regress_mw_bob''', 'UPDATE public.my_queue SET priority = 0',
    'DELETE FROM public.my_queue', 'TRUNCATE my_worker._jobs', 'SELECT * FROM public.my_queue FOR UPDATE', 'LOCK TABLE my_worker._jobs',
    'CREATE TRIGGER t AFTER INSERT ON public.my_queue FOR EACH ROW EXECUTE FUNCTION work.nothing()',
    'CREATE RULE r AS ON INSERT TO public.my_queue DO INSTEAD NOTHING', 'CREATE INDEX ON my_worker._jobs (id)',
    'CREATE POLICY p ON my_worker._jobs', 'ALTER TABLE my_worker._jobs DISABLE ROW LEVEL SECURITY',
    'CREATE TABLE work.ref (id bigint REFERENCES public.my_queue)', 'INSERT INTO my_worker.history SELECT * FROM my_worker.history',
    'UPDATE my_worker.history SET status = ''failed''', 'DELETE FROM my_worker.history', 'UPDATE my_worker.queues SET paused = true',
    'CREATE TABLE my_worker.t ()', 'SELECT my_worker.create_queue(''q'')', 'SELECT my_worker.alter_queue(''default'')',
    'SELECT my_worker.drop_queue(''default'')', 'SELECT my_worker.pause_queue(''default'')', 'SELECT my_worker.resume_queue(''default'')',
    'SELECT my_worker.purge_queue(''default'')', 'SELECT my_worker.grant_usage(''regress_mw_carol'')', 'SELECT my_worker.revoke_usage(''regress_mw_bob'')',
    'SELECT * FROM my_worker.workers', 'SELECT public.get_worker_stats()', 'SELECT * FROM my_worker_internal.processes()', 'SELECT my_worker_internal.installed()',
    'DROP EXTENSION my_worker']) WITH ORDINALITY AS u(s, n) ORDER BY n;
-- A function of hers that others call enqueues as her only if it is SECURITY DEFINER.
CREATE FUNCTION work.as_me() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
    AS $$SELECT my_worker.enqueue('work.nothing', run_at => 'infinity')$$;
SET SESSION AUTHORIZATION regress_mw_bob;
SELECT work.as_me() AS d \gset
RESET SESSION AUTHORIZATION;
SELECT owner FROM my_queue WHERE id = :d;
-- After SET ROLE the job is the role's whose rights are in force.
GRANT regress_mw_alice TO regress_mw_carol;
SELECT my_worker.grant_usage('regress_mw_carol');
SET SESSION AUTHORIZATION regress_mw_carol;
SET ROLE regress_mw_alice;
SELECT my_worker.enqueue('work.who') AS e \gset
RESET ROLE;
SELECT my_worker.wait(:e, '30 s');
-- A member of her role has the rights of her jobs, by inheritance.
SELECT owner, result->>0 AS result FROM my_worker.history WHERE id = :e;
SELECT my_worker.cancel(:d), my_worker.cancel(:c), my_worker.cancel(:bob);
SELECT my_worker.retry(:d);
SELECT my_worker.wait(:d, '30 s');
SELECT owner, status FROM my_worker.jobs WHERE id = :d;
-- Nobody enqueues for another role, superusers and members included.
SELECT work.try('INSERT INTO public.my_queue (handler, owner) VALUES (''work.nothing'', ''regress_mw_alice'')');
RESET SESSION AUTHORIZATION;
CALL pg_temp.fails($$INSERT INTO my_queue (handler, owner) VALUES ('work.nothing', 'regress_mw_alice')$$);
CALL pg_temp.fails($$UPDATE my_queue SET owner = 'regress_mw_alice' WHERE owner = 'regress_mw_bob'::regrole$$);
CALL pg_temp.fails(format($$MERGE INTO my_worker._jobs AS q USING (SELECT %s AS id) AS s ON q.id = s.id
    WHEN MATCHED THEN UPDATE SET owner = 'regress_mw_alice'$$, :bob));
-- Superusers see all, and may deal with all.
SELECT owner, payload, status FROM my_worker.jobs WHERE id IN (:bob, :c) ORDER BY id;
SELECT my_worker.cancel(:bob);
-- Readers of statistics see these, and no jobs.
SET SESSION AUTHORIZATION regress_mw_watch;
SELECT count(*) FROM my_worker_status;
SELECT count(*) > 0 AS workers FROM my_worker.workers;
SELECT s AS statement, work.try(s) AS outcome FROM unnest(ARRAY[
    'SELECT * FROM public.my_queue', 'SELECT * FROM my_worker.jobs', 'SELECT * FROM my_worker.history',
    'SELECT * FROM my_worker_internal.at_work()', 'SELECT my_worker.enqueue(''work.nothing'')', 'SELECT my_worker.wait(1)']) WITH ORDINALITY AS u(s, n) ORDER BY n;
RESET SESSION AUTHORIZATION;
-- Usage taken back: no new jobs; what was enqueued runs.
SET SESSION AUTHORIZATION regress_mw_alice;
SELECT my_worker.enqueue('work.who', run_at => clock_timestamp() + '200 ms') AS f \gset
RESET SESSION AUTHORIZATION;
SELECT my_worker.revoke_usage('regress_mw_alice');
SELECT my_worker.wait(:f, '30 s');
SET SESSION AUTHORIZATION regress_mw_alice;
SELECT work.try('SELECT my_worker.enqueue(''work.nothing'')'), work.try('INSERT INTO public.my_queue (handler) VALUES (''work.nothing'')'),
       work.try('SELECT * FROM public.my_queue');
RESET SESSION AUTHORIZATION;
-- Owners that may not log in, may not connect, or are gone: the job fails and says so.
SET SESSION AUTHORIZATION regress_mw_bob;
SELECT my_worker.enqueue('work.nothing', run_at => clock_timestamp() + '300 ms') AS g \gset
INSERT INTO public.my_queue (payload) VALUES ('"held"') RETURNING id AS held \gset
RESET SESSION AUTHORIZATION;
ALTER ROLE regress_mw_bob NOLOGIN;
SELECT my_worker.wait(:g, '30 s');
SELECT last_error, attempts, errors->0->>'sqlstate' AS sqlstate FROM my_worker.history WHERE id = :g;
-- Those that wait for other consumers still do.
DELETE FROM my_queue WHERE id = :held RETURNING status;
ALTER ROLE regress_mw_bob LOGIN;
SELECT my_worker.retry(:g);
SELECT my_worker.wait(:g, '30 s');
REVOKE CONNECT ON DATABASE regression FROM PUBLIC;
SELECT my_worker.retry(:bob);
SELECT my_worker.wait(:bob, '30 s');
SELECT last_error, errors->0->>'sqlstate' AS sqlstate FROM my_worker.history WHERE id = :bob;
GRANT CONNECT ON DATABASE regression TO PUBLIC;
SET SESSION AUTHORIZATION regress_mw_bob;
SELECT my_worker.enqueue('work.nothing', run_at => clock_timestamp() + '2 s') AS h \gset
RESET SESSION AUTHORIZATION;
SELECT my_worker.revoke_usage('regress_mw_bob');
DROP ROLE regress_mw_bob;
-- Another look before the job is due does not forget it.
SELECT my_worker.resume_queue('default');
SELECT my_worker.wait(:h, '30 s');
SELECT regexp_replace(last_error, '\d+', 'N') AS last_error, errors->0->>'sqlstate' AS sqlstate FROM my_worker.history WHERE id = :h;
SELECT my_worker.purge_queue('default') > 0 AS purged;
-- Her settings may make a session another role's; her jobs are hers all the same.
SELECT count(pg_terminate_backend(pid)) >= 0 AS gone FROM my_worker.workers WHERE role = 'regress_mw_carol';
GRANT regress_mw_watch TO regress_mw_carol;
ALTER ROLE regress_mw_carol SET role = 'regress_mw_watch';
CREATE FUNCTION work.resets() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'RESET ROLE';
    RETURN current_user || ' of ' || session_user;
END $$;
SET SESSION AUTHORIZATION regress_mw_carol;
SELECT my_worker.enqueue('work.who') AS a, my_worker.enqueue('work.resets') AS b \gset
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s');
SELECT result->>0 AS result FROM my_worker.history WHERE id IN (:a, :b) ORDER BY id;
RESET SESSION AUTHORIZATION;
-- What is no role.
CALL pg_temp.fails('SELECT my_worker.grant_usage(NULL)');
CALL pg_temp.fails('SELECT my_worker.revoke_usage(0)');
SELECT my_worker.revoke_usage('regress_mw_carol');
DROP OWNED BY regress_mw_alice, regress_mw_carol, regress_mw_watch;
DROP SCHEMA work CASCADE;
DROP ROLE regress_mw_alice, regress_mw_carol, regress_mw_watch;
