-- unique_mode: what enqueueing does when a job that has not ended has the unique key.

CREATE TABLE customers (id integer PRIMARY KEY, email text);
CREATE TABLE mailing_list (customer integer PRIMARY KEY, email text);
INSERT INTO customers VALUES (7, 'old@example.com');

-- Copies a row as it is when the job runs.
CREATE FUNCTION sync_customer(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    seen text := (SELECT email FROM customers WHERE id = (p->>'id')::integer);
BEGIN
    PERFORM pg_advisory_xact_lock_shared(12);  -- stands for a slow service
    INSERT INTO mailing_list VALUES ((p->>'id')::integer, seen)
        ON CONFLICT (customer) DO UPDATE SET email = excluded.email;
END $$;
SELECT my_worker.create_queue('sync');

-- A debounce: of many calls one job is left, with the last payload.
SELECT my_worker.pause_queue('sync');
SELECT my_worker.enqueue('sync_customer', '{"id": 7, "because": "first"}', 'sync', unique_key := 'customer 7') AS job \gset
SELECT my_worker.enqueue('sync_customer', jsonb_build_object('id', 7, 'because', why), 'sync',
                         unique_key := 'customer 7', unique_mode := 'replace') = :job AS same_job
  FROM unnest('{second,third}'::text[]) AS why;
SELECT payload FROM my_queue WHERE id = :job;
-- The default keeps it as it is; error fails.
SELECT my_worker.enqueue('sync_customer', '{"id": 7, "because": "fourth"}', 'sync', unique_key := 'customer 7') = :job AS same_job;
SELECT payload FROM my_queue WHERE id = :job;
SELECT my_worker.enqueue('sync_customer', '{"id": 7}', 'sync', unique_key := 'customer 7', unique_mode := 'error');

-- Sync this row: a change that comes while the job runs needs another run.
SELECT pg_advisory_lock(12);
SELECT my_worker.resume_queue('sync');
DO $$
BEGIN
    WHILE NOT EXISTS (SELECT FROM my_worker.jobs WHERE queue = 'sync' AND status = 'processing') LOOP
        PERFORM pg_sleep(0.01);
    END LOOP;
END $$;
BEGIN;
UPDATE customers SET email = 'new@example.com' WHERE id = 7;
SELECT my_worker.enqueue('sync_customer', '{"id": 7}', 'sync', unique_key := 'customer 7', unique_mode := 'rerun') AS again \gset
COMMIT;
SELECT status FROM my_worker.jobs WHERE id IN (:job, :again) ORDER BY id;
-- One more is enough for all changes that come until then.
BEGIN;
UPDATE customers SET email = 'newest@example.com' WHERE id = 7;
SELECT my_worker.enqueue('sync_customer', '{"id": 7}', 'sync', unique_key := 'customer 7', unique_mode := 'rerun') = :again AS same_job;
COMMIT;
SELECT replace(my_worker.why(:again), :'job', 'N') AS why;
SELECT pg_advisory_unlock(12);
SELECT my_worker.wait(:job, '30 s'), my_worker.wait(:again, '30 s');
SELECT c.email, l.email AS copy FROM customers AS c JOIN mailing_list AS l ON l.customer = c.id;

SELECT my_worker.drop_queue('sync');
DROP TABLE customers, mailing_list;
DROP FUNCTION sync_customer;
