-- A job that fails is tried again, later each time; after its last attempt it is kept as failed,
-- with every error, until somebody retries or purges it: the "dead letters".

CREATE TABLE shipped (parcel text PRIMARY KEY);
CREATE TABLE addresses (parcel text PRIMARY KEY, address text NOT NULL);

CREATE FUNCTION ship(parcel jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO shipped VALUES (parcel->>'id');
    -- What a failed attempt did is rolled back: the row above does not stay without this one.
    IF NOT EXISTS (SELECT FROM addresses AS a WHERE a.parcel = ship.parcel->>'id') THEN
        RAISE EXCEPTION 'parcel % has no address', parcel->>'id'
            USING ERRCODE = 'no_data_found', HINT = 'Ask the customer.';
    END IF;
END
$$;

-- 3 attempts: at once, after about 20 ms, and after about 40 ms more.
SELECT my_worker.create_queue('parcels', handler := 'ship', max_attempts := 3, backoff := '20 ms');

INSERT INTO my_queue (queue, payload) VALUES ('parcels', '{"id": "P1"}') RETURNING id AS job \gset
SELECT my_worker.wait(:job, '30 s');
SELECT status, attempts, last_error FROM my_worker.jobs WHERE id = :job;
SELECT e->>'attempt' AS attempt, e->>'sqlstate' AS sqlstate, e->>'message' AS message, e->>'hint' AS hint
  FROM my_worker.jobs, jsonb_array_elements(errors) AS e WHERE id = :job ORDER BY 1;

-- No attempt left a trace.
SELECT * FROM shipped;

-- The dead letters of a queue.
SELECT payload->>'id' AS parcel, attempts, last_error FROM my_worker.history
 WHERE queue = 'parcels' AND status = 'failed';

-- Mend what was wrong, and retry: the same job, with all its attempts ahead of it.
INSERT INTO addresses VALUES ('P1', '12 St James''s Square');
SELECT my_worker.retry(:job);
SELECT my_worker.wait(:job, '30 s');
SELECT status, attempts FROM my_worker.jobs WHERE id = :job;
SELECT * FROM shipped;

-- A time-out is a failure like any other.
CREATE FUNCTION dawdle() RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(60)';
SELECT my_worker.enqueue('dawdle', timeout := '100 ms', max_attempts := 1) AS job \gset
SELECT my_worker.wait(:job, '30 s');
SELECT last_error, errors->0->>'sqlstate' AS sqlstate FROM my_worker.jobs WHERE id = :job;

-- Purging forgets what waits in a queue and what has ended.
SELECT my_worker.purge_queue('parcels');
SELECT my_worker.drop_queue('parcels');
DROP TABLE shipped, addresses;
DROP FUNCTION ship, dawdle;
