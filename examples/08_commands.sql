-- Commands: SQL text that runs at top level, as psql -c would run it. For what no function can do:
-- VACUUM, CREATE INDEX CONCURRENTLY, procedures that commit.

CREATE TABLE readings (sensor integer, value numeric);
INSERT INTO readings SELECT i % 10, i FROM generate_series(1, 1000) AS i;

SELECT my_worker.run('VACUUM (ANALYZE) readings') AS job \gset
SELECT my_worker.wait(:job, '60 s');
SELECT vacuum_count, analyze_count FROM pg_stat_user_tables WHERE relname = 'readings';

-- CREATE INDEX CONCURRENTLY works as well. It waits for the end of every older snapshot, and a SELECT
-- of wait() holds one: look at my_worker.jobs now and then instead.

-- The tag of the last statement is kept as the result. Several statements are one transaction.
SELECT my_worker.run('UPDATE readings SET value = -value WHERE sensor = 1;
                      DELETE FROM readings WHERE value < 0') AS job \gset
SELECT my_worker.wait(:job, '60 s');
SELECT status, attempts, max_attempts, result FROM my_worker.jobs WHERE id = :job;

-- A procedure may commit as it goes.
CREATE PROCEDURE thin_out() LANGUAGE plpgsql AS $$
BEGIN
    FOR s IN 2..5 LOOP
        DELETE FROM readings WHERE sensor = s;
        COMMIT;
    END LOOP;
END
$$;
SELECT my_worker.run('CALL thin_out()') AS job \gset
SELECT my_worker.wait(:job, '60 s');
SELECT count(*), count(DISTINCT sensor) AS sensors FROM readings;

-- A command runs at most once unless it is given more attempts: nobody can tell how far it came.
SELECT my_worker.run('SELECT 1/0') AS job \gset
SELECT my_worker.wait(:job, '60 s');
SELECT status, attempts, last_error FROM my_worker.jobs WHERE id = :job;

-- It has no client to talk to.
SELECT my_worker.run('COPY readings TO STDOUT') AS job \gset
SELECT my_worker.wait(:job, '60 s');
SELECT status, last_error FROM my_worker.jobs WHERE id = :job;

DROP TABLE readings;
DROP PROCEDURE thin_out;
