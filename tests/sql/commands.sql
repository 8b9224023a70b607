-- Commands: SQL text at top level, as psql -c would run it.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE TABLE c (a int);
CREATE PROCEDURE committing() LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO c VALUES (100);
    COMMIT;
    INSERT INTO c VALUES (101);
    ROLLBACK;
    INSERT INTO c VALUES (102);
END
$$;
-- Runs one, waits for it, and shows how it ended.
CREATE PROCEDURE show(command text, options text DEFAULT '') LANGUAGE plpgsql AS $$
DECLARE
    job bigint;
    line text;
    patience int := 0;
BEGIN
    EXECUTE format('SELECT my_worker.run(%L %s)', command, options) INTO job;
    COMMIT;
    -- No snapshot is held meanwhile, for which CREATE INDEX CONCURRENTLY would wait.
    LOOP
        SELECT concat_ws(' | ', status, result, errors->0->>'sqlstate', last_error, attempts) INTO line
          FROM my_worker.history WHERE id = job;
        EXIT WHEN line IS NOT NULL OR patience > 2000;
        COMMIT;
        PERFORM pg_sleep(0.01);
        patience := patience + 1;
    END LOOP;
    RAISE INFO '%', coalesce(line, 'still not done');
END
$$;
CALL show('INSERT INTO c SELECT generate_series(1, 5)');
-- Several statements are one transaction, unless they say otherwise.
CALL show('INSERT INTO c VALUES (6); INSERT INTO c VALUES (7)');
CALL show('INSERT INTO c VALUES (8); SELECT 1/0');
CALL show('BEGIN; INSERT INTO c VALUES (9); COMMIT; INSERT INTO c VALUES (10); SELECT 1/0');
SELECT string_agg(a::text, ' ' ORDER BY a) AS committed FROM c;
TRUNCATE c;
-- What cannot run in a transaction, and procedures that commit.
CALL show('VACUUM c');
CALL show('CREATE INDEX CONCURRENTLY c_a ON c (a)');
CALL show('REINDEX INDEX CONCURRENTLY c_a');
CALL show('CALL committing()');
CALL show('DO $b$ BEGIN INSERT INTO c VALUES (1); COMMIT; END $b$');
CALL show('ALTER SYSTEM SET my_worker.log_jobs = ''errors''; SELECT 1');
CALL show('ALTER SYSTEM RESET my_worker.log_jobs');
CALL show('VACUUM c; VACUUM c');
SELECT string_agg(a::text, ' ' ORDER BY a) AS committed FROM c;
-- Blocks as in psql -c: one statement that cannot be in a block spoils the text, one that fails ends it.
CALL show('INSERT INTO c VALUES (20); VACUUM c');
CALL show('BEGIN; VACUUM c; COMMIT');
CALL show('INSERT INTO c VALUES (21); CALL committing()');
CALL show('INSERT INTO c VALUES (22); ALTER SYSTEM RESET my_worker.log_jobs');
CALL show('BEGIN; INSERT INTO c VALUES (23); SELECT 1/0; COMMIT');
CALL show('INSERT INTO c VALUES (24); ROLLBACK; INSERT INTO c VALUES (25)');
CALL show('BEGIN; INSERT INTO c VALUES (26); SAVEPOINT s; INSERT INTO c VALUES (27); ROLLBACK TO s; COMMIT');
CALL show('SAVEPOINT s');
CALL show('DO $b$ BEGIN INSERT INTO c VALUES (28); COMMIT; RAISE ''after the commit''; END $b$');
SELECT string_agg(a::text, ' ' ORDER BY a) AS committed FROM c;
CALL show('CREATE DATABASE regress_mw_command');
CALL show('DROP DATABASE regress_mw_command');
CALL show('BEGIN; INSERT INTO c VALUES (29); PREPARE TRANSACTION ''regress_mw''');
SELECT gid, owner = current_user AS mine FROM pg_prepared_xacts;
CALL show('COMMIT PREPARED ''regress_mw''');
CALL show('DECLARE held CURSOR WITH HOLD FOR SELECT 1');
CALL show('FETCH held');
CALL show('BEGIN; DECLARE held CURSOR WITH HOLD FOR SELECT 1; COMMIT; MOVE ALL held');
-- What needs a client.
CALL show('COPY c TO STDOUT');
CALL show('COPY (SELECT 1) TO STDOUT');
CALL show('DO $b$ BEGIN EXECUTE ''COPY c TO STDOUT''; END $b$');
CALL show('SELECT $1');
CALL show('COPY c FROM STDIN');
CALL show('LISTEN something');
-- A transaction left open is an error, not a silent rollback.
CALL show('BEGIN; INSERT INTO c VALUES (11)');
CALL show('BEGIN; COMMIT AND CHAIN');
CALL show('syntax error here');
CALL show('');
CALL show('-- only a comment');
CALL show(' ; ;');
CALL show('/* open');
-- What it says and returns goes nowhere; a long text is no burden.
CALL show('SELECT generate_series(1, 100000)');
CALL show('DO $b$ BEGIN FOR i IN 1..10000 LOOP RAISE NOTICE ''%'', i; END LOOP; END $b$');
CALL show('SELECT 1 -- ' || repeat('x', 10000000));
CREATE TABLE memory (bytes bigint);
CALL show(repeat('SELECT 1;', 20000) || 'INSERT INTO memory SELECT sum(total_bytes) FROM pg_backend_memory_contexts');
SELECT bytes < 40000000 AS plans_do_not_pile_up FROM memory;
DROP TABLE memory;
-- At most once by default; more often if asked for.
CALL show('SELECT 1/0');
SELECT my_worker.create_queue('again', backoff => '1 ms', backoff_max => '1 ms');
CALL show('SELECT 1/0', ', queue => ''again'', max_attempts => 3');
CALL show('SELECT pg_sleep(60)', ', timeout => ''100 ms''');
-- A time-out is the attempt's; statement_timeout is each statement's, and the text may set it.
CALL show('SELECT pg_sleep(0.06); SELECT pg_sleep(0.06)', ', timeout => ''100 ms''');
CALL show('SET statement_timeout = ''100 ms''; SELECT pg_sleep(60)');
CALL show('SET statement_timeout = ''10 s''; SELECT pg_sleep(60)', ', timeout => ''100 ms''');
CALL show('SET statement_timeout = ''500 ms''; SELECT pg_sleep(0.3); SELECT pg_sleep(0.3)');
CREATE ROLE regress_mw_hasty LOGIN;
ALTER ROLE regress_mw_hasty SET statement_timeout = '50 ms';
SELECT my_worker.grant_usage('regress_mw_hasty');
SET SESSION AUTHORIZATION regress_mw_hasty;
SELECT my_worker.run('SELECT pg_sleep(60)') AS a,
       my_worker.run('SET statement_timeout = 0; SELECT pg_sleep(0.1)') AS b,
       my_worker.run('SELECT pg_sleep(60)') AS c \gset
SELECT my_worker.wait(:a, '30 s') AS a, my_worker.wait(:b, '30 s') AS b, my_worker.wait(:c, '30 s') AS c;
RESET SESSION AUTHORIZATION;
SELECT my_worker.revoke_usage('regress_mw_hasty');
DROP ROLE regress_mw_hasty;
-- What a command leaves in its session is gone before the next one.
CALL show('SET search_path = nowhere; CREATE TEMP TABLE c AS SELECT 1; PREPARE p AS SELECT 1; SELECT pg_advisory_lock(99)');
CALL show('SELECT 1 / (current_setting(''search_path'') <> ''nowhere'' AND to_regclass(''pg_temp.c'') IS NULL '
    'AND NOT EXISTS (SELECT FROM pg_prepared_statements))::int');
SELECT pg_try_advisory_lock(99) AS free, pg_advisory_unlock(99) AS given_back;
-- It knows its job.
CALL show('INSERT INTO c SELECT 1000 WHERE my_worker.current_job() IS NOT NULL');
-- Nobody waits for the job that he is.
CREATE FUNCTION wait_for_me(id bigint, payload jsonb) RETURNS text LANGUAGE sql AS 'SELECT my_worker.wait(id)';
SELECT my_worker.enqueue('wait_for_me', max_attempts => 1, timeout => '10 s') AS job \gset
SELECT my_worker.wait(:job);
SELECT errors->0->>'sqlstate' AS sqlstate FROM my_worker.history WHERE id = :job;
DROP FUNCTION wait_for_me;
-- A running one is cancelled.
SELECT my_worker.run('SELECT pg_sleep(60)') AS job \gset
CALL pg_temp.wait_until(format('SELECT status = ''processing'' FROM my_worker.jobs WHERE id = %s', :job));
SELECT my_worker.cancel(:job);
SELECT my_worker.wait(:job);
SELECT status, attempts FROM my_worker.history WHERE id = :job;
-- Also in the moment at which it is charged, before its text runs.
CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock_shared(4811);
    RETURN NEW;
END
$$;
CREATE TRIGGER gate BEFORE UPDATE ON my_worker._jobs FOR EACH ROW WHEN (NEW.command = 'SELECT 4811') EXECUTE FUNCTION gate();
SELECT pg_advisory_lock(4811);
SELECT my_worker.run('SELECT 4811') AS job \gset
DO $$
BEGIN
    FOR i IN 1..2000 LOOP
        EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 4811 AND NOT granted);
        PERFORM pg_sleep(0.01);
    END LOOP;
END
$$;
SELECT my_worker.cancel(:job);
SELECT pg_advisory_unlock(4811);
SELECT my_worker.wait(:job);
SELECT status, attempts FROM my_worker.history WHERE id = :job;
DROP TRIGGER gate ON my_worker._jobs;
DROP FUNCTION gate;
-- One that goes on regardless, and so has done its work, has completed.
SELECT my_worker.run('DO $b$ BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN INSERT INTO c VALUES (30); END $b$') AS job \gset
DO $$
BEGIN
    FOR i IN 1..2000 LOOP
        EXIT WHEN EXISTS (SELECT FROM my_worker.jobs AS j JOIN pg_stat_activity AS a USING (pid)
                           WHERE j.command LIKE 'DO %' AND j.status = 'processing' AND a.wait_event = 'PgSleep');
        PERFORM pg_sleep(0.01);
    END LOOP;
END
$$;
SELECT my_worker.cancel(:job);
SELECT my_worker.wait(:job);
SELECT status, attempts FROM my_worker.history WHERE id = :job;
SELECT count(*) FROM c WHERE a = 30;
SELECT count(*) AS live FROM my_queue;
SELECT my_worker.drop_queue('again');
DROP TABLE c;
DROP PROCEDURE committing(), show(text, text);
