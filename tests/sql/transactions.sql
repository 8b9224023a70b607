-- Enqueueing is part of the caller's transaction.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE SCHEMA work;
CREATE TABLE work.done (said text);
CREATE FUNCTION work.note(p jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO work.done VALUES (p->>0)';
-- Rolled back: nothing was there. What comes after is served all the same.
BEGIN;
SELECT my_worker.enqueue('work.note', '["rolled back"]') > 0 AS enqueued;
INSERT INTO my_queue (handler, payload) VALUES ('work.note', '["rolled back"]');
ROLLBACK;
SELECT my_worker.enqueue('work.note', '["after"]') AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT * FROM work.done;
-- Savepoints: what is rolled back to is not run, what is released is.
TRUNCATE work.done;
BEGIN;
SELECT my_worker.enqueue('work.note', '["outer"]') > 0 AS enqueued;
SAVEPOINT a;
SELECT my_worker.enqueue('work.note', '["a, released"]') > 0 AS enqueued;
SAVEPOINT b;
SELECT my_worker.enqueue('work.note', '["b, rolled back"]') > 0 AS enqueued;
ROLLBACK TO b;
SELECT my_worker.enqueue('work.note', '["b, again"]') > 0 AS enqueued;
RELEASE a;
SAVEPOINT c;
SELECT my_worker.enqueue('work.note', '["c, rolled back"]') > 0 AS enqueued;
ROLLBACK TO c;
COMMIT;
CALL pg_temp.wait_until('SELECT NOT EXISTS (SELECT FROM my_queue)');
SELECT said FROM work.done ORDER BY said;
-- Only in a savepoint.
TRUNCATE work.done;
BEGIN;
SAVEPOINT a;
SELECT my_worker.enqueue('work.note', '["only"]') > 0 AS enqueued;
RELEASE a;
COMMIT;
CALL pg_temp.wait_until('SELECT count(*) = 1 FROM work.done');
-- An error in PL/pgSQL that is caught takes its jobs with it.
TRUNCATE work.done;
DO $$
BEGIN
    PERFORM my_worker.enqueue('work.note', '["before"]');
    BEGIN
        PERFORM my_worker.enqueue('work.note', '["inside"]');
        PERFORM 1 / 0;
    EXCEPTION WHEN division_by_zero THEN
        PERFORM my_worker.enqueue('work.note', '["handler"]');
    END;
END $$;
CALL pg_temp.wait_until('SELECT NOT EXISTS (SELECT FROM my_queue)');
SELECT said FROM work.done ORDER BY said;
-- A procedure that commits.
TRUNCATE work.done;
CREATE PROCEDURE work.commits() LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. 4 LOOP
        PERFORM my_worker.enqueue('work.note', to_jsonb(ARRAY[i::text]));
        IF i % 2 = 0 THEN COMMIT; ELSE ROLLBACK; END IF;
    END LOOP;
END $$;
CALL work.commits();
CALL pg_temp.wait_until('SELECT count(*) = 2 FROM work.done');
SELECT said FROM work.done ORDER BY said;
-- Two-phase: nothing before COMMIT PREPARED, within a nap after; never after ROLLBACK PREPARED.
TRUNCATE work.done;
BEGIN;
SELECT my_worker.enqueue('work.note', '["prepared"]') > 0 AS enqueued;
PREPARE TRANSACTION 'regress_mw_1';
BEGIN;
INSERT INTO my_queue (handler, payload) VALUES ('work.note', '["never"]');
PREPARE TRANSACTION 'regress_mw_2';
SELECT my_worker.enqueue('work.note', '["plain"]') AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT said FROM work.done ORDER BY said;
ROLLBACK PREPARED 'regress_mw_2';
COMMIT PREPARED 'regress_mw_1';
CALL pg_temp.wait_until('SELECT count(*) = 2 FROM work.done');
SELECT said FROM work.done ORDER BY said;
SELECT count(*) FROM my_queue;
-- A launched worker cannot wait for that.
INSERT INTO my_queue (handler, run_at) VALUES ('work.note', 'infinity') RETURNING id \gset
SET client_min_messages = warning;
BEGIN;
SELECT launch_dynamic_worker(:id) > 0 AS pid;
PREPARE TRANSACTION 'regress_mw_3';
RESET client_min_messages;
SELECT status, my_worker.cancel(id) FROM my_queue;
-- Many rows of many savepoints.
TRUNCATE work.done;
DO $$
BEGIN
    FOR i IN 1 .. 1000 LOOP
        BEGIN
            PERFORM my_worker.enqueue('work.note', to_jsonb(ARRAY[i::text]));
            IF i % 10 = 0 THEN RAISE 'no'; END IF;
        EXCEPTION WHEN raise_exception THEN NULL;
        END;
    END LOOP;
END $$;
CALL pg_temp.wait_until('SELECT NOT EXISTS (SELECT FROM my_queue)', '60 s');
SELECT count(*), count(DISTINCT said), count(*) FILTER (WHERE said::integer % 10 = 0) AS rolled_back FROM work.done;
-- Read-only transactions enqueue nothing.
BEGIN READ ONLY;
CALL pg_temp.fails($$SELECT my_worker.enqueue('work.note')$$);
ROLLBACK;
-- Nor does an index's expression, which others' maintenance may run.
CREATE FUNCTION work.sneaks(a integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    PERFORM my_worker.enqueue('work.note', '["sneaked in"]');
    RETURN a;
END $$;
CREATE FUNCTION work.inserts() RETURNS void LANGUAGE sql AS
    $$INSERT INTO public.my_queue (handler, payload) VALUES ('work.note', '["sneaked in"]')$$;
CREATE FUNCTION work.sneaks_more(a integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    PERFORM work.inserts();
    RETURN a;
END $$;
CREATE TABLE work.t (a integer);
INSERT INTO work.t VALUES (1);
CALL pg_temp.fails('CREATE INDEX ON work.t (work.sneaks(a))');
CALL pg_temp.fails('CREATE INDEX ON work.t (work.sneaks_more(a))');
SELECT count(*) FROM my_queue;
DROP SCHEMA work CASCADE;
