-- Jobs that have failed for good go on in a queue of their own, where somebody looks after them, and come back
-- once what was wrong is mended.

CREATE TABLE prices (item text PRIMARY KEY, price numeric NOT NULL);
CREATE TABLE booked (item text, price numeric);
CREATE FUNCTION book(order_line jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO booked SELECT p.item, p.price FROM prices AS p WHERE p.item = order_line->>'item';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no price of "%"', order_line->>'item' USING ERRCODE = 'no_data_found';
    END IF;
END
$$;

SELECT my_worker.create_queue('dead');
SELECT my_worker.create_queue('orders', handler := 'book', max_attempts := 2, backoff := '20 ms', dead_letter := 'dead');

INSERT INTO my_queue (queue, payload) VALUES ('orders', '{"item": "tea"}') RETURNING id AS job \gset
-- For whoever waits for it, it has failed.
SELECT my_worker.wait(:job, '30 s');
SELECT queue, origin, status, attempts, payload, last_error FROM my_worker.jobs WHERE id = :job;

-- Each error is there. A handler of the queue "dead", or a consumer that receives from it, could do something
-- about it now; here a person does.
SELECT e->>'attempt' AS attempt, e->>'sqlstate' AS sqlstate FROM my_queue, jsonb_array_elements(errors) AS e
 WHERE id = :job ORDER BY 1;
INSERT INTO prices VALUES ('tea', 4.20);

-- Mended: the same job, with all its attempts ahead of it.
SELECT my_worker.redrive('dead');
SELECT my_worker.wait(:job, '30 s');
SELECT queue, origin, status, attempts FROM my_worker.jobs WHERE id = :job;
SELECT * FROM booked;

SELECT my_worker.drop_queue('orders');
SELECT my_worker.drop_queue('dead');
DROP TABLE prices, booked;
DROP FUNCTION book;
