-- Batch handlers: up to max_items jobs of a queue in one call, together or not at all.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE TABLE calls (jobs int);
CREATE TABLE seen (job bigint, payload jsonb);
CREATE FUNCTION take(ids bigint[], payloads jsonb[]) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO seen SELECT * FROM unnest(ids, payloads);
    INSERT INTO calls VALUES (cardinality(ids));
    IF EXISTS (SELECT FROM unnest(payloads) AS p WHERE p ? 'bad') THEN
        RAISE EXCEPTION 'a bad one among %', cardinality(ids);
    END IF;
    RETURN cardinality(ids);
END
$$;
SELECT my_worker.create_queue('batches', handler => 'take', max_attempts => 2, backoff => '1 ms');
SELECT my_worker.pause_queue('batches');
INSERT INTO my_queue (queue, payload) SELECT 'batches', jsonb_build_object('n', n) FROM generate_series(1, 10) AS n;
SELECT my_worker.resume_queue('batches');
CALL pg_temp.wait_until($$SELECT NOT EXISTS (SELECT FROM my_queue WHERE queue = 'batches')$$);
-- One call, and its result stands with each job.
SELECT jobs FROM calls;
SELECT status, attempts, result, count(*) FROM my_worker.history WHERE queue = 'batches' GROUP BY 1, 2, 3;
SELECT count(DISTINCT job), count(*) FROM seen;
-- A bad one is found, and is the only one to be charged.
TRUNCATE calls, seen;
SELECT my_worker.purge_queue('batches');
SELECT my_worker.pause_queue('batches');
INSERT INTO my_queue (queue, payload)
    SELECT 'batches', CASE n WHEN 4 THEN '{"bad": 1}' ELSE jsonb_build_object('n', n) END FROM generate_series(1, 6) AS n;
SELECT my_worker.resume_queue('batches');
CALL pg_temp.wait_until($$SELECT NOT EXISTS (SELECT FROM my_queue WHERE queue = 'batches')$$);
SELECT status, attempts, last_error, jsonb_array_length(errors) AS errors, count(*)
  FROM my_worker.history WHERE queue = 'batches' GROUP BY 1, 2, 3, 4 ORDER BY 1;
SELECT count(DISTINCT job), count(*), count(*) FILTER (WHERE payload ? 'bad') AS bad FROM seen;
-- max_items bounds a call.
TRUNCATE calls, seen;
SELECT my_worker.purge_queue('batches');
SELECT my_worker.pause_queue('batches');
INSERT INTO my_queue (queue, payload) SELECT 'batches', '{}' FROM generate_series(1, 250) AS n;
SELECT my_worker.resume_queue('batches');
CALL pg_temp.wait_until($$SELECT NOT EXISTS (SELECT FROM my_queue WHERE queue = 'batches')$$);
SELECT max(jobs) AS most, sum(jobs) AS jobs FROM calls;
SELECT my_worker.purge_queue('batches');
-- What a handler does with the rows of its own jobs works as anywhere: it reads them, locks them, refers to
-- them, changes them, deletes them, and goes on after an error.
CREATE FUNCTION does(ids bigint[], payloads jsonb[]) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    rows bigint;
BEGIN
    EXECUTE payloads[1]->>0 USING ids;
    GET DIAGNOSTICS rows = ROW_COUNT;
    INSERT INTO calls VALUES (rows - cardinality(ids));
    INSERT INTO seen SELECT id, payloads[1]->0 FROM unnest(ids) AS id;
    RETURN cardinality(ids);
END
$$;
CREATE FUNCTION goes_on(ids bigint[], payloads jsonb[]) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        UPDATE my_queue SET priority = 3 WHERE id = ANY (ids);
    EXCEPTION WHEN OTHERS THEN
        INSERT INTO calls VALUES (-1);
    END;
    INSERT INTO seen SELECT id, '"goes on"' FROM unnest(ids) AS id;
    RETURN cardinality(ids);
END
$$;
SELECT my_worker.create_queue('batches_too');
CREATE TABLE statements (n int GENERATED ALWAYS AS IDENTITY, handler text DEFAULT 'does', statement text);
INSERT INTO statements (statement) VALUES
    ('SELECT 1 FROM my_queue WHERE id = ANY ($1)'),
    ('INSERT INTO my_queue (queue, payload, run_at) SELECT ''batches_too'', ''{}'', ''infinity'' FROM unnest($1)'),
    ('SELECT 1 FROM my_queue WHERE id = ANY ($1) FOR UPDATE'),
    ('SELECT 1 FROM my_queue WHERE id = ANY ($1) FOR KEY SHARE'),
    ('UPDATE my_queue SET priority = 7 WHERE id = ANY ($1)'),
    ('WITH gone AS (DELETE FROM my_queue WHERE id = ANY ($1) RETURNING id) SELECT id FROM gone');
INSERT INTO statements (handler, statement) VALUES ('goes_on', 'goes on');
-- Each twice: the second time it is known what the handler does.
CREATE PROCEDURE run_statements() LANGUAGE plpgsql AS $$
DECLARE
    s record;
BEGIN
    FOR s IN SELECT * FROM statements, generate_series(1, 2) ORDER BY n LOOP
        PERFORM my_worker.pause_queue('batches');
        INSERT INTO my_queue (queue, handler, payload)
            SELECT 'batches', s.handler, jsonb_build_array(s.statement) FROM generate_series(1, 20);
        PERFORM my_worker.resume_queue('batches');
        COMMIT;
        CALL pg_temp.wait_until($x$SELECT NOT EXISTS (SELECT FROM my_queue WHERE queue = 'batches')$x$);
    END LOOP;
END
$$;
TRUNCATE calls, seen;
CALL run_statements();
SELECT payload->>0 AS statement, count(*), count(DISTINCT job) FROM seen GROUP BY 1 ORDER BY (payload->>0) COLLATE "C";
SELECT DISTINCT jobs AS rows_missed FROM calls;
SELECT handler, status, count(*), max(attempts) AS attempts, bool_or(errors IS NOT NULL) AS errors
    FROM my_worker.history WHERE queue = 'batches' GROUP BY 1, 2 ORDER BY 1;
SELECT my_worker.purge_queue('batches');
SELECT my_worker.drop_queue('batches_too', true);
DROP PROCEDURE run_statements();
DROP FUNCTION does(bigint[], jsonb[]), goes_on(bigint[], jsonb[]);
DROP TABLE statements;
SELECT my_worker.drop_queue('batches');
DROP FUNCTION take(bigint[], jsonb[]);
DROP TABLE calls, seen;
