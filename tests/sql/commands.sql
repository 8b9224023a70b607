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
-- What needs a client.
CALL show('COPY c TO STDOUT');
CALL show('COPY c FROM STDIN');
CALL show('LISTEN something');
-- A transaction left open is an error, not a silent rollback.
CALL show('BEGIN; INSERT INTO c VALUES (11)');
CALL show('syntax error here');
CALL show('');
CALL show('SELECT generate_series(1, 100000)');
-- At most once by default; more often if asked for.
CALL show('SELECT 1/0');
SELECT my_worker.create_queue('again', backoff => '1 ms', backoff_max => '1 ms');
CALL show('SELECT 1/0', ', queue => ''again'', max_attempts => 3');
CALL show('SELECT pg_sleep(60)', ', timeout => ''100 ms''');
-- What a command leaves in its session is gone before the next one.
CALL show('SET search_path = nowhere; CREATE TEMP TABLE c AS SELECT 1; PREPARE p AS SELECT 1; SELECT pg_advisory_lock(99)');
CALL show('SELECT 1 / (current_setting(''search_path'') <> ''nowhere'' AND to_regclass(''pg_temp.c'') IS NULL '
    'AND NOT EXISTS (SELECT FROM pg_prepared_statements))::int');
SELECT pg_try_advisory_lock(99) AS free, pg_advisory_unlock(99) AS given_back;
-- It knows its job.
CALL show('INSERT INTO c SELECT 1000 WHERE my_worker.current_job() IS NOT NULL');
-- A running one is cancelled.
SELECT my_worker.run('SELECT pg_sleep(60)') AS job \gset
CALL pg_temp.wait_until(format('SELECT status = ''processing'' FROM my_worker.jobs WHERE id = %s', :job));
SELECT my_worker.cancel(:job);
SELECT my_worker.wait(:job);
SELECT status, attempts FROM my_worker.history WHERE id = :job;
SELECT count(*) AS live FROM my_queue;
SELECT my_worker.drop_queue('again');
DROP TABLE c;
DROP PROCEDURE committing(), show(text, text);
