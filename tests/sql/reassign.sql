-- reassign(): jobs and schedules go from one role to another.
\set VERBOSITY terse
CREATE ROLE leaver LOGIN;
CREATE ROLE heir LOGIN;
CREATE ROLE stranger LOGIN;
CREATE ROLE "no login";
SELECT my_worker.grant_usage(r) FROM unnest('{leaver, heir, stranger}'::regrole[]) AS r;
SELECT my_worker.create_queue('handed');
CREATE TABLE ran_as (role text, label text);
GRANT INSERT ON ran_as TO PUBLIC;

SET ROLE leaver;
SELECT my_worker.run($$INSERT INTO ran_as VALUES (session_user, 'later')$$, 'handed', run_at => now() + interval '1 h') AS later \gset
SELECT my_worker.run($$INSERT INTO ran_as VALUES (session_user, 'keyed')$$, 'handed', run_at => 'infinity', unique_key => 'k') > 0 AS keyed;
SELECT my_worker.schedule('handed', '@yearly', $$INSERT INTO ran_as VALUES (session_user, 'schedule')$$) > 0 AS schedule;
-- Only with the rights of both.
SELECT my_worker.reassign('leaver', 'heir');
RESET ROLE;
SET ROLE stranger;
SELECT my_worker.reassign('leaver', 'stranger');
SELECT my_worker.reassign('stranger', 'leaver');
RESET ROLE;

-- A key that the heir has himself.
SET ROLE heir;
SELECT my_worker.run('SELECT 1', 'handed', run_at => 'infinity', unique_key => 'k') AS rival \gset
RESET ROLE;
SELECT my_worker.reassign('leaver', 'heir');
SELECT my_worker.cancel(:rival);
SELECT my_worker.reassign('leaver', 'heir');
SELECT my_worker.reassign('leaver', 'heir');
SELECT owner, count(*) FROM my_queue WHERE queue = 'handed' GROUP BY 1;
SELECT name, owner FROM my_worker.schedules WHERE name = 'handed';

-- They run as the heir.
UPDATE my_queue SET run_at = now() WHERE id = :later;
SELECT my_worker.wait(:later, '30 s');
SET ROLE heir;
SELECT my_worker.run_now('handed') AS now \gset
SELECT my_worker.wait(:now, '30 s');
RESET ROLE;
SELECT * FROM ran_as ORDER BY label;

-- A function of the old owner, who may change it, never runs as the heir.
GRANT CREATE ON SCHEMA public TO leaver;
SET ROLE leaver;
CREATE FUNCTION public.leavers() RETURNS void LANGUAGE sql AS $$INSERT INTO public.ran_as VALUES (session_user, 'handler')$$;
GRANT EXECUTE ON FUNCTION public.leavers() TO PUBLIC;
SELECT my_worker.enqueue('public.leavers', queue => 'handed', run_at => 'infinity', max_attempts => 1) AS called \gset
RESET ROLE;
SELECT my_worker.reassign('leaver', 'heir');
SET ROLE leaver;
SELECT my_worker.schedule('calls', '@yearly', handler => 'public.leavers') > 0 AS schedule, my_worker.cancel(:called);
RESET ROLE;
SELECT my_worker.reassign('leaver', 'heir');
SELECT my_worker.unschedule('calls', 'leaver');
SET ROLE leaver;
SELECT my_worker.enqueue('public.leavers', queue => 'handed', run_at => 'infinity') AS called \gset
DROP FUNCTION public.leavers();
RESET ROLE;
SELECT my_worker.reassign('leaver', 'heir');
SELECT my_worker.cancel(:called);
SELECT count(*) FROM ran_as WHERE label = 'handler';
-- Handed over, it does.
SET ROLE leaver;
CREATE FUNCTION public.leavers() RETURNS void LANGUAGE sql AS $$INSERT INTO public.ran_as VALUES (session_user, 'handler')$$;
SELECT my_worker.enqueue('public.leavers', queue => 'handed', run_at => 'infinity', max_attempts => 1) AS called \gset
RESET ROLE;
ALTER FUNCTION public.leavers() OWNER TO heir;
SELECT my_worker.reassign('leaver', 'heir');
UPDATE my_queue SET run_at = now() WHERE id = :called;
SELECT my_worker.wait(:called, '30 s');
SELECT owner, last_error FROM my_worker.history WHERE id = :called;
SELECT count(*) FROM ran_as WHERE label = 'handler';
DROP FUNCTION public.leavers();
REVOKE CREATE ON SCHEMA public FROM leaver;

-- Of a role that is gone, by its OID; the new owner must be there, and is warned of if it may not log in.
SELECT oid AS heir FROM pg_roles WHERE rolname = 'heir' \gset
SELECT my_worker.revoke_usage('heir');
DROP ROLE heir;
SELECT my_worker.reassign('leaver', '999999');
SELECT my_worker.reassign(:'heir', '"no login"');
SELECT my_worker.reassign('"no login"', 'leaver');
SELECT my_worker.reassign(NULL, 'leaver');
SELECT owner, count(*) FROM my_queue WHERE queue = 'handed' GROUP BY 1;
SELECT my_worker.unschedule('handed', 'leaver');

SELECT my_worker.purge_queue('handed') > 0 AS purged;
SELECT my_worker.drop_queue('handed', force => true);
DROP TABLE ran_as;
SELECT my_worker.revoke_usage(r) FROM unnest('{leaver, stranger}'::regrole[]) AS r;
DROP ROLE leaver, stranger, "no login";
