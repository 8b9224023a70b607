-- What a handler may be: its signatures, what it returns, its language and attributes.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE SCHEMA work;
-- Signatures, the first that exists: f(bigint, jsonb), f(jsonb), f().
CREATE FUNCTION work.three() RETURNS text LANGUAGE sql AS $$SELECT 'f()'$$;
SELECT my_worker.enqueue('work.three') AS a \gset
SELECT my_worker.wait(:a, '30 s');
CREATE FUNCTION work.three(p jsonb) RETURNS text LANGUAGE sql AS $$SELECT 'f(jsonb) ' || p::text$$;
SELECT my_worker.enqueue('work.three', '{"p": 2}') AS b \gset
SELECT my_worker.wait(:b, '30 s');
CREATE FUNCTION work.three(i bigint, p jsonb) RETURNS text LANGUAGE sql
    AS $$SELECT 'f(bigint, jsonb) ' || p::text || ' ' || (i = my_worker.current_job())$$;
SELECT my_worker.enqueue('work.three', '{"p": 3}') AS c \gset
SELECT my_worker.wait(:c, '30 s');
-- One of them by its argument types.
SELECT my_worker.enqueue('work.three()') AS d, my_worker.enqueue('work.three(jsonb)', '4') AS e \gset
SELECT my_worker.wait(:d, '30 s'), my_worker.wait(:e, '30 s');
SELECT handler, result FROM my_worker.history WHERE id IN (:a, :b, :c, :d, :e) ORDER BY id;
-- Arguments with defaults, names or modes make no other signature.
CREATE FUNCTION work.defaults(id bigint, p jsonb DEFAULT '0', OUT doubled bigint) LANGUAGE sql
    AS 'SELECT 2 * (p->>0)::bigint';
SELECT my_worker.enqueue('work.defaults', '[21]') AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT result FROM my_worker.history WHERE id = :id;
-- A job names a handler; if not, its queue does.
SELECT my_worker.create_queue('handled', handler => 'work.three');
SELECT handler FROM my_worker.queues WHERE name = 'handled';
INSERT INTO my_queue (queue, payload) VALUES ('handled', '"by the queue"') RETURNING id AS a \gset
INSERT INTO my_queue (queue, handler) VALUES ('handled', 'work.defaults(bigint, jsonb)') RETURNING id AS b \gset
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s');
SELECT handler, result FROM my_worker.history WHERE id IN (:a, :b) ORDER BY id;
-- The result of every kind, as jsonb.
CREATE TYPE work.pair AS (a integer, b text);
CREATE DOMAIN work.small AS integer CHECK (VALUE < 10);
CREATE FUNCTION work.r_void() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION work.r_void_plpgsql() RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION work.r_null() RETURNS integer LANGUAGE sql AS 'SELECT NULL::integer';
CREATE FUNCTION work.r_nothing() RETURNS integer LANGUAGE sql AS 'SELECT 1 WHERE false';
CREATE FUNCTION work.r_json_null() RETURNS jsonb LANGUAGE sql AS $$SELECT 'null'::jsonb$$;
CREATE FUNCTION work.r_int() RETURNS integer LANGUAGE sql AS 'SELECT 42';
CREATE FUNCTION work.r_numeric() RETURNS numeric LANGUAGE sql AS 'SELECT 1.50';
CREATE FUNCTION work.r_bool() RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION work.r_text() RETURNS text LANGUAGE sql AS $$SELECT 'wörd "q"'$$;
CREATE FUNCTION work.r_json() RETURNS json LANGUAGE sql AS $$SELECT '{"b":1, "a":[2]}'::json$$;
CREATE FUNCTION work.r_jsonb() RETURNS jsonb LANGUAGE sql AS $$SELECT '{"b":1, "a":[2]}'::jsonb$$;
CREATE FUNCTION work.r_array() RETURNS integer[] LANGUAGE sql AS $$SELECT '{{1,2},{3,NULL}}'::integer[]$$;
CREATE FUNCTION work.r_row() RETURNS work.pair LANGUAGE sql AS $$SELECT 1, 'one'$$;
CREATE FUNCTION work.r_row_plpgsql() RETURNS work.pair LANGUAGE plpgsql
    AS $$BEGIN RETURN ROW(2, 'two')::work.pair; END$$;
CREATE FUNCTION work.r_out(OUT x integer, OUT y text) LANGUAGE plpgsql AS $$BEGIN x := 3; y := 'three'; END$$;
CREATE FUNCTION work.r_record() RETURNS record LANGUAGE plpgsql AS $$BEGIN RETURN ROW(4, 'four'); END$$;
CREATE FUNCTION work.r_domain() RETURNS work.small LANGUAGE sql AS 'SELECT 5::work.small';
CREATE FUNCTION work.r_date() RETURNS date LANGUAGE sql AS $$SELECT '2024-02-29'::date$$;
CREATE FUNCTION work.r_bytea() RETURNS bytea LANGUAGE sql AS $$SELECT '\x00ff'::bytea$$;
CREATE FUNCTION work.r_infinity() RETURNS float8 LANGUAGE sql AS $$SELECT 'infinity'::float8$$;
CREATE FUNCTION work.r_range() RETURNS int4range LANGUAGE sql AS 'SELECT int4range(1, 3)';
CREATE FUNCTION work.r_class() RETURNS regclass LANGUAGE sql AS $$SELECT 'pg_catalog.pg_class'::regclass$$;
CREATE FUNCTION work.r_long() RETURNS text LANGUAGE sql AS $$SELECT repeat('x', 1000000)$$;
SELECT set_config('test.last', max(id)::text, false) IS NULL AS n FROM my_worker.jobs;
SELECT count(my_worker.enqueue('work.' || proname)) FROM pg_proc
 WHERE pronamespace = 'work'::regnamespace AND proname LIKE 'r\_%';
CALL pg_temp.wait_until('SELECT NOT EXISTS (SELECT FROM my_queue)');
SELECT handler, status, left(result::text, 40) AS result, octet_length(convert_to(result::text, 'UTF8')) AS length
  FROM my_worker.history
 WHERE handler LIKE 'work.r\_%' AND id > current_setting('test.last')::bigint ORDER BY handler COLLATE "C";
-- No sets, procedures, aggregates or window functions.
CREATE FUNCTION work.s_setof() RETURNS SETOF integer LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION work.s_table() RETURNS TABLE (a integer) LANGUAGE sql AS 'SELECT 1';
CREATE PROCEDURE work.s_procedure(p jsonb) LANGUAGE sql AS '';
CREATE AGGREGATE work.s_aggregate(jsonb) (sfunc = jsonb_concat, stype = jsonb);
CALL pg_temp.fails($$SELECT my_worker.enqueue('work.s_setof')$$);
CALL pg_temp.fails($$SELECT my_worker.enqueue('work.s_table')$$);
CALL pg_temp.fails($$SELECT my_worker.enqueue('work.s_procedure')$$);
CALL pg_temp.fails($$SELECT my_worker.enqueue('work.s_aggregate')$$);
CALL pg_temp.fails($$SELECT my_worker.enqueue('rank()')$$);
-- A trigger's function has the signature f(), but only the server can call it.
CREATE FUNCTION work.t_trigger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CALL pg_temp.fails('SELECT my_worker.enqueue(''work.t_trigger'')');
CALL pg_temp.fails('SELECT my_worker.enqueue(''plpgsql_call_handler'')');
-- STRICT, IMMUTABLE, built-in and PARALLEL functions are functions.
CREATE FUNCTION work.strict(i bigint, p jsonb) RETURNS text LANGUAGE sql STRICT IMMUTABLE PARALLEL SAFE
    AS $$SELECT 'strict ' || p::text$$;
SELECT my_worker.enqueue('work.strict', 'null') AS a, my_worker.enqueue('jsonb_pretty', '[1]') AS b \gset
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s');
SELECT handler, status, result FROM my_worker.history WHERE id IN (:a, :b) ORDER BY id;
-- SET clauses hold in the function; SECURITY DEFINER changes the current user, not the session's.
CREATE ROLE regress_mw_definer;
CREATE FUNCTION work.a_set() RETURNS text LANGUAGE sql SET search_path = pg_catalog, work SET work_mem = '123kB'
    AS $$SELECT current_setting('search_path') || ' ' || current_setting('work_mem')$$;
CREATE FUNCTION work.a_definer() RETURNS text LANGUAGE sql SECURITY DEFINER
    AS $$SELECT current_user || ' ' || (session_user <> current_user)$$;
ALTER FUNCTION work.a_definer() OWNER TO regress_mw_definer;
CREATE FUNCTION work.a_plain() RETURNS text LANGUAGE sql
    AS $$SELECT (current_user = session_user) || ' ' || (current_setting('work_mem') <> '123kB')$$;
SELECT my_worker.enqueue('work.a_set') AS a, my_worker.enqueue('work.a_definer') AS b,
       my_worker.enqueue('work.a_plain') AS c \gset
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s'), my_worker.wait(:c, '30 s');
SELECT handler, result FROM my_worker.history WHERE id IN (:a, :b, :c) ORDER BY id;
-- The caller's COMMIT is the job's: transaction control is refused inside a function.
CREATE FUNCTION work.c_commit() RETURNS void LANGUAGE plpgsql AS 'BEGIN COMMIT; END';
CREATE FUNCTION work.c_block() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 / 0;
EXCEPTION WHEN division_by_zero THEN
    RETURN 'caught';
END $$;
SELECT my_worker.enqueue('work.c_commit', max_attempts => 1) AS a, my_worker.enqueue('work.c_block') AS b \gset
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s');
SELECT handler, status, result, errors->0->>'sqlstate' AS sqlstate, last_error FROM my_worker.history
 WHERE id IN (:a, :b) ORDER BY id;
-- A quoted name may hold anything, a parenthesis too.
CREATE FUNCTION work."odd (name"(jsonb) RETURNS text LANGUAGE sql AS $$SELECT 'odd'$$;
SELECT my_worker.enqueue('work."odd (name"') AS a, my_worker.enqueue('work."odd (name"(jsonb)') AS b \gset
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s');
SELECT handler, result FROM my_worker.history WHERE id IN (:a, :b) ORDER BY id;
-- One that replaces itself, also among jobs that share a transaction: the next ones call the new one.
CREATE FUNCTION work.r_warms() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION work.r_replaced() RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    DROP FUNCTION work.r_replaced();
    CREATE FUNCTION work.r_replaced() RETURNS text LANGUAGE sql AS 'SELECT ''new''::text';
    RETURN 1;
END $$;
SELECT my_worker.create_queue('replaced', concurrency => 1, max_attempts => 1);
SELECT count(my_worker.enqueue('work.r_warms', queue => 'replaced')) FROM generate_series(1, 40);
CALL pg_temp.wait_until('SELECT NOT EXISTS (SELECT FROM my_queue WHERE queue = ''replaced'')');
SELECT my_worker.pause_queue('replaced');
SELECT count(my_worker.enqueue('work.r_replaced', queue => 'replaced')) FROM generate_series(1, 3);
SELECT my_worker.resume_queue('replaced');
CALL pg_temp.wait_until('SELECT NOT EXISTS (SELECT FROM my_queue WHERE queue = ''replaced'')');
SELECT status, result, errors FROM my_worker.history WHERE handler LIKE 'work.r_replaced(%' ORDER BY id;
SELECT my_worker.drop_queue('replaced');
-- A handler may enqueue, and write with many subtransactions.
CREATE TABLE work.t (n integer);
CREATE FUNCTION work.e_child() RETURNS void LANGUAGE sql AS 'INSERT INTO work.t VALUES (0)';
CREATE FUNCTION work.e_parent() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. 100 LOOP
        BEGIN
            INSERT INTO work.t VALUES (i);
        EXCEPTION WHEN OTHERS THEN
            RAISE;
        END;
    END LOOP;
    RETURN my_worker.enqueue('work.e_child');
END $$;
SELECT my_worker.enqueue('work.e_parent') AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT my_worker.wait((SELECT result::bigint FROM my_worker.history WHERE id = :id), '30 s');
SELECT count(*), min(n), max(n) FROM work.t;
-- A session that names a handler again hears of what has changed meanwhile.
CREATE SCHEMA work_first;
CREATE FUNCTION work.named(jsonb) RETURNS void LANGUAGE sql AS '';
SET search_path = work_first, work, public;
BEGIN;
SELECT my_worker.enqueue('named', run_at => 'infinity') IS NOT NULL AS enqueued;
SELECT my_worker.enqueue('named', run_at => 'infinity') IS NOT NULL AS again;
CREATE FUNCTION work_first.named(jsonb) RETURNS void LANGUAGE sql AS '';
SELECT my_worker.enqueue('named', run_at => 'infinity') IS NOT NULL AS another_one_is_first;
DROP FUNCTION work_first.named(jsonb);
SELECT my_worker.enqueue('named', run_at => 'infinity') IS NOT NULL AS it_is_gone;
CREATE FUNCTION work.named(bigint, jsonb) RETURNS void LANGUAGE sql AS '';
SELECT my_worker.enqueue('named', run_at => 'infinity') IS NOT NULL AS another_signature_is_first;
SELECT handler FROM my_queue WHERE handler LIKE '%named(%' ORDER BY id;
ROLLBACK;
RESET search_path;
DROP SCHEMA work_first;
SELECT my_worker.drop_queue('handled');
DROP SCHEMA work CASCADE;
DROP ROLE regress_mw_definer;
