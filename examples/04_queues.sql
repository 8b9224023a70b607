-- Queues: a handler for all jobs of one, a bound on how many run at once, a pause.

-- A web service that allows two calls at a time. The handler notes how many it sees beside itself.
CREATE TABLE calls (job bigint, beside integer);
CREATE FUNCTION call_service(job bigint, request jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM my_worker.progress(50, 'calling');
    PERFORM pg_sleep(0.02);
    INSERT INTO calls SELECT job, count(*) FROM my_worker.workers WHERE queue = 'service';
END
$$;
SELECT my_worker.create_queue('service', handler := 'call_service', concurrency := 2, timeout := '10 s');

-- Its jobs need no handler of their own.
SELECT coalesce(max(id), 0) AS before FROM my_worker.jobs \gset
INSERT INTO my_queue (queue, payload) SELECT 'service', to_jsonb(i) FROM generate_series(1, 20) AS i;
SELECT my_worker.wait(id, '30 s') AS status, count(*) FROM my_worker.jobs WHERE id > :before GROUP BY 1;
SELECT count(*) AS calls, count(DISTINCT job) AS jobs, max(beside) <= 2 AS never_more_than_two FROM calls;

-- A pause lets running jobs end and starts no more. Enqueueing goes on.
SELECT my_worker.pause_queue('service');
SELECT my_worker.enqueue('call_service', queue := 'service') AS job \gset
SELECT my_worker.wait(:job, '100 ms') AS still_waiting;
SELECT my_worker.resume_queue('service');
SELECT my_worker.wait(:job, '30 s');

-- Settings change while it works; what is not named stays.
SELECT my_worker.alter_queue('service', concurrency := 4, retention := '30 days');
SELECT name, handler, concurrency, max_attempts, backoff, backoff_max, timeout, retention, paused
  FROM my_worker.queues WHERE name = 'service';

-- A queue without a handler holds jobs without one for consumers of your own.
SELECT my_worker.create_queue('letters');
INSERT INTO my_queue (queue, payload) VALUES ('letters', '"for the postman"');
DELETE FROM my_queue WHERE queue = 'letters' RETURNING payload;

-- A queue with jobs is not dropped by mistake.
INSERT INTO my_queue (queue, payload) VALUES ('letters', '"for nobody"');
SELECT my_worker.drop_queue('letters');
SELECT my_worker.drop_queue('letters', force := true);
SELECT my_worker.drop_queue('service');
DROP TABLE calls;
DROP FUNCTION call_service;
