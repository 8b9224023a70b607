-- Any name that PostgreSQL allows: quotes, spaces, dots, 63 bytes, letters of any kind.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
-- In other encodings 146_encodings has names of theirs.
SELECT getdatabaseencoding() <> 'UTF8' AS is_other \gset
\if :is_other
    \quit
\endif
CREATE TABLE public.odd (name text);
INSERT INTO odd VALUES ('two words'), ('a"quote'), ('an''apostrophe'), ('UPPER'), ('a.b'), ('back\slash'), ('$1'), ('%s'),
    ('-- c'), ('a,b'), (E'tab\tline\nfeed'), ('ünï'), ('日本語'), ('🦀'), (repeat('x', 63)), (repeat('ü', 31)), (repeat('🦀', 15)), (' '), ('NULL');
-- Queues.
SELECT count(my_worker.create_queue(name)) FROM odd;
CREATE FUNCTION public.odd_nothing() RETURNS text LANGUAGE sql AS $$SELECT queue FROM my_worker.workers WHERE job_id = my_worker.current_job()$$;
SELECT count(my_worker.enqueue('odd_nothing', queue => name)) FROM odd;
CALL pg_temp.wait_until('SELECT NOT EXISTS (SELECT FROM my_queue)');
SELECT count(*) AS jobs, count(*) FILTER (WHERE status = 'completed' AND result->>0 = queue) AS known FROM my_worker.history WHERE handler = 'public.odd_nothing()';
SELECT count(my_worker.pause_queue(name)), count(my_worker.alter_queue(name, handler => 'odd_nothing()')) FROM odd;
SELECT count(*) FROM my_worker.queues JOIN odd USING (name) WHERE paused AND handler = 'public.odd_nothing()';
SELECT count(my_worker.resume_queue(name)), sum(my_worker.purge_queue(name)), count(my_worker.drop_queue(name)) FROM odd;
CALL pg_temp.fails($$SELECT my_worker.enqueue('odd_nothing', queue => E'a"b\nc%s')$$);
CALL pg_temp.fails($$SELECT my_worker.create_queue(repeat('🦀', 16))$$);
-- Handlers, their schemas, and the roles that own the jobs.
DELETE FROM odd WHERE name = ' ';
-- Since 19 no role's name has an end of a line in it.
UPDATE odd SET name = translate(name, E'\n', ' ') WHERE current_setting('server_version_num')::int >= 190000;
CREATE FUNCTION pg_temp.create_odd(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE ROLE %I LOGIN', name);
    EXECUTE format('CREATE SCHEMA %1$I AUTHORIZATION %1$I', name);
    EXECUTE format('CREATE FUNCTION %1$I.%1$I(p jsonb) RETURNS text LANGUAGE sql AS ''SELECT session_user::text''', name);
    PERFORM my_worker.grant_usage(quote_ident(name)::regrole);
END $$;
CREATE FUNCTION pg_temp.enqueue_odd(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', name);
    PERFORM my_worker.enqueue(format('%1$I.%1$I', name), to_jsonb(ARRAY[name]));
    PERFORM my_worker.enqueue(format('%1$I.%1$I(jsonb)', name), to_jsonb(ARRAY[name]));
    RESET ROLE;
END $$;
CREATE FUNCTION pg_temp.drop_odd(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM my_worker.revoke_usage(quote_ident(name)::regrole);
    EXECUTE format('DROP SCHEMA %I CASCADE', name);
    EXECUTE format('DROP ROLE %I', name);
END $$;
SELECT count(pg_temp.create_odd(name)) FROM odd;
SELECT count(pg_temp.enqueue_odd(name)) FROM odd;
CALL pg_temp.wait_until('SELECT NOT EXISTS (SELECT FROM my_queue)', '60 s');
SELECT count(*) AS jobs, count(*) FILTER (WHERE status = 'completed' AND result->>0 = payload->>0) AS known
  FROM my_worker.history WHERE payload->>0 IN (SELECT name FROM odd);
SELECT handler FROM my_worker.history WHERE payload->>0 IN ('a"quote', 'a.b', 'UPPER') ORDER BY handler COLLATE "C";
SET client_min_messages = warning;
SELECT count(pg_temp.drop_odd(name)) FROM odd;
-- The role's OID is the owner: another role of the name has no part in the jobs, a new name keeps them.
CREATE ROLE regress_mw_alice LOGIN;
SELECT my_worker.grant_usage('regress_mw_alice');
SET SESSION AUTHORIZATION regress_mw_alice;
SELECT my_worker.enqueue('odd_nothing()', run_at => 'infinity') AS id \gset
RESET SESSION AUTHORIZATION;
ALTER ROLE regress_mw_alice RENAME TO regress_mw_eve;
CREATE ROLE regress_mw_alice LOGIN;
SELECT owner FROM my_queue;
SELECT my_worker.cancel(:id);
SELECT my_worker.revoke_usage('regress_mw_eve');
DROP ROLE regress_mw_alice, regress_mw_eve;
-- A session that has used the table goes on when its schema is renamed, whatever the old name is now.
SELECT my_worker.cancel(my_worker.enqueue('odd_nothing()', run_at => 'infinity')) AS cancelled;
BEGIN;
ALTER SCHEMA public RENAME TO odd;
CREATE SCHEMA public;
CREATE TABLE public.my_queue (LIKE odd.my_queue INCLUDING IDENTITY);
SELECT my_worker.enqueue('odd.odd_nothing()', run_at => 'infinity') AS id \gset
SELECT (SELECT count(*) FROM public.my_queue) AS other, (SELECT count(*) FROM odd.my_queue WHERE id = :id) AS ours;
ROLLBACK;
-- Another table under its name is not taken for it: nothing of ours goes by that name.
BEGIN;
ALTER TABLE my_queue RENAME TO odd_queue;
CREATE TABLE public.my_queue (LIKE public.odd_queue INCLUDING IDENTITY);
SELECT my_worker.enqueue('odd_nothing()', run_at => 'infinity') AS id \gset
SELECT (SELECT count(*) FROM public.my_queue) AS other, (SELECT count(*) FROM odd_queue WHERE id = :id) AS ours;
ROLLBACK;
-- Payloads of every kind, and one of 16 megabytes.
CREATE FUNCTION public.odd_length(p jsonb) RETURNS integer LANGUAGE sql AS 'SELECT length(p::text)';
SELECT my_worker.enqueue('odd_length', 'null') AS a, my_worker.enqueue('odd_length', '"🦀\u00e4\n"') AS b,
       my_worker.enqueue('odd_length', to_jsonb(repeat('🦀', 4000000))) AS c, my_worker.enqueue('odd_length', '[[[[[{}]]]]]') AS d \gset
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s'), my_worker.wait(:c, '30 s'), my_worker.wait(:d, '30 s');
SELECT status, result FROM my_worker.history WHERE id IN (:a, :b, :c, :d) ORDER BY id;
SELECT my_worker.purge_queue('default') > 0 AS purged;
DROP FUNCTION public.odd_nothing, public.odd_length;
DROP TABLE public.odd;
