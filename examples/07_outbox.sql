-- The transactional outbox: an order and the messages about it are one fact. Either both are there
-- or neither, and each is worked off once, without a second system to keep in step.

CREATE TABLE orders (id integer PRIMARY KEY, customer text, total numeric);
CREATE TABLE ledger (order_id integer, amount numeric);
CREATE TABLE sent (order_id integer, message text);

-- Two handlers. Booking is exactly-once: what it writes commits together with the end of its job.
CREATE FUNCTION book(o jsonb) RETURNS void LANGUAGE sql AS $$
    INSERT INTO ledger VALUES ((o->>'id')::integer, (o->>'total')::numeric)
$$;
-- A call to the outside world cannot be rolled back: give the other side the job's id as its key, and
-- a repeated call does no harm.
CREATE FUNCTION tell_customer(job bigint, o jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO sent VALUES ((o->>'id')::integer, format('Dear %s, thank you.', o->>'customer'));
    RETURN jsonb_build_object('idempotency_key', 'job-' || job);
END
$$;
SELECT my_worker.create_queue('booking', handler := 'book');
SELECT my_worker.create_queue('mail', handler := 'tell_customer');

-- The outbox: every new order enqueues its jobs in its own transaction.
CREATE FUNCTION order_placed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO my_queue (queue, payload)
    SELECT queue, to_jsonb(NEW) FROM unnest(ARRAY['booking', 'mail']) AS queue;
    RETURN NULL;
END
$$;
CREATE TRIGGER order_placed AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION order_placed();

-- An order that does not come about leaves no message.
BEGIN;
INSERT INTO orders VALUES (1, 'Ada', 12.50);
ROLLBACK;

-- Nor does the part of a transaction that is rolled back.
BEGIN;
INSERT INTO orders VALUES (2, 'Bob', 20.00);
SAVEPOINT another;
INSERT INTO orders VALUES (3, 'Cy', 99.00);
ROLLBACK TO another;
COMMIT;

SELECT my_worker.wait(id, '30 s') AS status, queue FROM my_worker.jobs
 WHERE queue IN ('booking', 'mail') ORDER BY queue;
SELECT * FROM ledger;
SELECT * FROM sent;
SELECT result->>'idempotency_key' = 'job-' || id AS has_a_key FROM my_worker.jobs WHERE queue = 'mail';

SELECT my_worker.purge_queue(queue), my_worker.drop_queue(queue) FROM unnest(ARRAY['booking', 'mail']) AS queue;
DROP TABLE orders, ledger, sent;
DROP FUNCTION book, tell_customer, order_placed;
