-- Batch handlers: up to max_items jobs of a queue in one call, together or not at all.
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
SELECT my_worker.wait(max(id)) FROM my_queue WHERE queue = 'batches';
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
DO $$
BEGIN
    FOR i IN 1..2000 LOOP
        EXIT WHEN NOT EXISTS (SELECT FROM my_queue WHERE queue = 'batches');
        PERFORM pg_sleep(0.01);
    END LOOP;
END
$$;
SELECT status, attempts, last_error, jsonb_array_length(errors) AS errors, count(*)
  FROM my_worker.history WHERE queue = 'batches' GROUP BY 1, 2, 3, 4 ORDER BY 1;
SELECT count(DISTINCT job), count(*), count(*) FILTER (WHERE payload ? 'bad') AS bad FROM seen;
-- max_items bounds a call.
TRUNCATE calls, seen;
SELECT my_worker.purge_queue('batches');
SELECT my_worker.pause_queue('batches');
INSERT INTO my_queue (queue, payload) SELECT 'batches', '{}' FROM generate_series(1, 250) AS n;
SELECT my_worker.resume_queue('batches');
SELECT my_worker.wait(max(id)) FROM my_queue WHERE queue = 'batches';
DO $$
BEGIN
    FOR i IN 1..2000 LOOP
        EXIT WHEN NOT EXISTS (SELECT FROM my_queue WHERE queue = 'batches');
        PERFORM pg_sleep(0.01);
    END LOOP;
END
$$;
SELECT max(jobs) AS most, sum(jobs) AS jobs FROM calls;
SELECT my_worker.purge_queue('batches');
SELECT my_worker.drop_queue('batches');
DROP FUNCTION take(bigint[], jsonb[]);
DROP TABLE calls, seen;
