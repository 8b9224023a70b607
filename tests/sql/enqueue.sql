-- Putting jobs in: by function, by INSERT, by COPY; what is refused, and with which error.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE SCHEMA work;
CREATE TABLE work.done (job bigint, said jsonb);
CREATE FUNCTION work.note(id bigint, payload jsonb) RETURNS void LANGUAGE sql
    AS 'INSERT INTO work.done VALUES (id, payload)';
CREATE FUNCTION work.note(a integer) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION work.odd(a text) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION work."A ""strange"" näme"() RETURNS void LANGUAGE sql AS '';
CREATE PROCEDURE work.proc() LANGUAGE sql AS '';
-- By function, with its defaults.
SELECT my_worker.enqueue('work.note') AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT queue, status, handler, command, payload, priority, attempts, max_attempts, timeout, unique_key,
       owner = current_user::regrole AS own, last_error, result, errors
  FROM my_worker.history WHERE id = :id;
-- With all arguments, by position and by name; a job of the future waits.
SELECT my_worker.enqueue('work.note', '{"a": 1}', 'default', 7, 'infinity', 3, '1 min', 'k') AS id \gset
SELECT queue, status, handler, payload, priority, run_at, attempts, max_attempts, timeout, unique_key
  FROM my_queue WHERE id = :id;
SELECT my_worker.cancel(:id);
SELECT my_worker.enqueue(handler => 'work.note', payload => '[2]', queue => 'default', priority => -1,
    run_at => '2100-01-01', max_attempts => 1, timeout => '1 s', unique_key => 'k') AS id \gset
SELECT payload, priority, run_at = '2100-01-01' AS run_at, max_attempts, timeout, unique_key
  FROM my_queue WHERE id = :id;
SELECT my_worker.cancel(:id);
-- NULL stands for the default where there is one.
SELECT my_worker.enqueue('work.note', NULL, run_at => 'infinity', priority => NULL) AS id \gset
SELECT payload, priority FROM my_queue WHERE id = :id;
SELECT my_worker.cancel(:id);
-- By INSERT, some columns or only one; the handler is stored qualified here, too.
SET search_path = work, public;
INSERT INTO my_queue (queue, handler, payload) VALUES ('default', 'note', '{"by": "insert"}')
    RETURNING handler, status, attempts, owner = current_user::regrole AS own;
INSERT INTO my_queue (handler) SELECT 'work.note' FROM generate_series(1, 3);
RESET search_path;
-- By COPY.
COPY my_queue (handler, payload) FROM STDIN;
work.note	{"by": "copy"}
work.note	{"by": "copy"}
\.
-- Many at once.
SELECT count(*) FROM my_worker.enqueue_many('work.note', ARRAY['{"n": 1}', '{"n": 2}', NULL]::jsonb[]);
SELECT count(*) FROM my_worker.enqueue_many('work.note', '{}');
SELECT count(*) FROM my_worker.enqueue_many(handler => 'work.note', payloads => ARRAY['1']::jsonb[],
    queue => 'default', priority => 1, run_at => now(), max_attempts => 2, timeout => '1 min');
CALL pg_temp.wait_until('SELECT count(*) = 11 FROM work.done');
SELECT said, count(*), count(DISTINCT job) AS jobs FROM work.done GROUP BY said ORDER BY said;
-- The handler's name: found by the search path at once, stored qualified; with argument types if wanted.
SET search_path = work, public;
SELECT my_worker.enqueue('note', run_at => 'infinity') AS a,
       my_worker.enqueue('note(bigint, jsonb)', run_at => 'infinity') AS b,
       my_worker.enqueue('work.note(int8,jsonb)', run_at => 'infinity') AS c,
       my_worker.enqueue('"A ""strange"" näme"', run_at => 'infinity') AS d,
       my_worker.enqueue('NOTE', run_at => 'infinity') AS e \gset
RESET search_path;
SELECT handler FROM my_queue WHERE id IN (:a, :b, :c, :d, :e) ORDER BY id;
SELECT count(my_worker.cancel(id)) FROM my_queue;
-- No such handler, or none of an accepted signature.
CALL pg_temp.fails($$SELECT my_worker.enqueue('note')$$);
CALL pg_temp.fails($$SELECT my_worker.enqueue('work.none')$$);
CALL pg_temp.fails($$SELECT my_worker.enqueue('nowhere.note')$$);
CALL pg_temp.fails($$SELECT my_worker.enqueue('work.odd')$$);
CALL pg_temp.fails($$SELECT my_worker.enqueue('work.odd(text)')$$);
CALL pg_temp.fails($$SELECT my_worker.enqueue('work.note(integer)')$$);
CALL pg_temp.fails($$SELECT my_worker.enqueue('work.note(bigint)')$$);
CALL pg_temp.fails($$SELECT my_worker.enqueue('nowhere.note(bigint, jsonb)')$$);
CALL pg_temp.fails($$SELECT my_worker.enqueue('work.note(no_type)')$$);
CALL pg_temp.fails($$SELECT my_worker.enqueue('work.proc')$$);
CALL pg_temp.fails($$SELECT my_worker.enqueue('count(*)')$$);
CALL pg_temp.fails($$SELECT my_worker.enqueue('')$$);
CALL pg_temp.fails($$SELECT my_worker.enqueue('a.b.c.d')$$);
CALL pg_temp.fails($$SELECT my_worker.enqueue('work..note')$$);
CALL pg_temp.fails($$SELECT my_worker.enqueue('work.note(')$$);
CALL pg_temp.fails($$SELECT my_worker.enqueue(NULL)$$);
CALL pg_temp.fails($$INSERT INTO my_queue (handler) VALUES ('work.none')$$);
CALL pg_temp.fails($$SELECT my_worker.enqueue_many('work.none', '{}')$$);
-- Other arguments that are refused.
CALL pg_temp.fails($$SELECT my_worker.enqueue('work.note', queue => 'none')$$);
CALL pg_temp.fails($$SELECT my_worker.enqueue('work.note', queue => NULL)$$);
CALL pg_temp.fails($$SELECT my_worker.enqueue('work.note', max_attempts => 0)$$);
CALL pg_temp.fails($$SELECT my_worker.enqueue('work.note', timeout => '0')$$);
CALL pg_temp.fails($$SELECT my_worker.enqueue('work.note', timeout => '-1 s')$$);
CALL pg_temp.fails($$SELECT my_worker.enqueue('work.note', unique_key => repeat('x', 10000))$$);
CALL pg_temp.fails($$SELECT my_worker.enqueue_many('work.note', NULL)$$);
CALL pg_temp.fails($$INSERT INTO my_queue (queue, handler) VALUES ('none', 'work.note')$$);
CALL pg_temp.fails($$INSERT INTO my_queue (queue, handler) VALUES (NULL, 'work.note')$$);
CALL pg_temp.fails($$INSERT INTO my_queue (handler, command) VALUES ('work.note', 'SELECT 1')$$);
CALL pg_temp.fails($$INSERT INTO my_queue (handler, max_attempts) VALUES ('work.note', 0)$$);
CALL pg_temp.fails($$INSERT INTO my_queue (handler, timeout) VALUES ('work.note', '0 s')$$);
CALL pg_temp.fails($$INSERT INTO my_queue (handler, status) VALUES ('work.note', 'completed')$$);
CALL pg_temp.fails($$INSERT INTO my_queue (handler, payload) VALUES ('work.note', NULL)$$);
CALL pg_temp.fails($$INSERT INTO my_queue (handler, payload) VALUES ('work.note', '{')$$);
-- Nothing is left of what was refused.
SELECT count(*) FROM my_queue;
-- No right to execute the handler.
CREATE ROLE regress_mw_alice LOGIN;
GRANT USAGE ON SCHEMA work TO regress_mw_alice;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA work FROM PUBLIC;
SELECT my_worker.grant_usage('regress_mw_alice');
CREATE FUNCTION public.fails_too(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
SET SESSION AUTHORIZATION regress_mw_alice;
SELECT public.fails_too($$SELECT my_worker.enqueue('work.note')$$);
SELECT public.fails_too($$SELECT my_worker.enqueue('work.note(bigint, jsonb)')$$);
SELECT public.fails_too($$SELECT my_worker.enqueue_many('work.note', ARRAY['1'::jsonb])$$);
SELECT public.fails_too($$INSERT INTO my_queue (handler) VALUES ('work.note')$$);
RESET SESSION AUTHORIZATION;
GRANT EXECUTE ON FUNCTION work.note(bigint, jsonb) TO regress_mw_alice;
GRANT INSERT ON work.done TO regress_mw_alice;
SET SESSION AUTHORIZATION regress_mw_alice;
SELECT my_worker.enqueue('work.note', '"alice"') AS id \gset
SELECT my_worker.wait(:id, '30 s');
-- A right that was taken back meanwhile counts when the job runs.
SELECT my_worker.enqueue('work.note', run_at => 'infinity', max_attempts => 1) AS id \gset
RESET SESSION AUTHORIZATION;
REVOKE EXECUTE ON FUNCTION work.note(bigint, jsonb) FROM regress_mw_alice;
UPDATE my_queue SET run_at = now() WHERE id = :id;
SELECT my_worker.wait(:id, '30 s');
SELECT status, errors->0->>'sqlstate' AS sqlstate, last_error FROM my_worker.history WHERE id = :id;
-- So does a handler that is gone meanwhile.
SELECT my_worker.enqueue('work.note', run_at => 'infinity', max_attempts => 1) AS id \gset
DROP FUNCTION work.note(bigint, jsonb);
UPDATE my_queue SET run_at = now() WHERE id = :id;
SELECT my_worker.wait(:id, '30 s');
SELECT status, errors->0->>'sqlstate' AS sqlstate, last_error FROM my_worker.history WHERE id = :id;
-- A queue without a handler holds jobs that name none, for other consumers.
INSERT INTO my_queue (payload) VALUES ('"held"') RETURNING id \gset
BEGIN;
DELETE FROM my_queue WHERE id = :id RETURNING payload, status, attempts;
COMMIT;
SELECT my_worker.revoke_usage('regress_mw_alice');
DROP FUNCTION public.fails_too;
DROP SCHEMA work CASCADE;
DROP ROLE regress_mw_alice;
SELECT my_worker.purge_queue('default') > 0 AS purged;
-- An empty search path alone is no restore of a dump: whoever hardens a function so is checked as ever.
SET search_path = '';
CALL pg_temp.fails($$INSERT INTO public.my_queue (queue, handler) VALUES ('nowhere', 'public.nothing')$$);
CALL pg_temp.fails($$INSERT INTO public.my_queue (handler) VALUES ('public.nothing')$$);
CREATE ROLE regress_mw_other;
CALL pg_temp.fails($$INSERT INTO public.my_queue (command, owner) VALUES ('SELECT 1', 'regress_mw_other')$$);
DROP ROLE regress_mw_other;
RESET search_path;
