-- Events of one order in the order in which they came; events of different orders at the same time.

CREATE TABLE events (turn integer GENERATED ALWAYS AS IDENTITY, order_no text, what text);
CREATE FUNCTION handle_event(job bigint, event jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO events (order_no, what) VALUES (event->>'order', event->>'what');
    -- The payment of order 2 does not come through at once.
    IF event->>'order' = '2' AND event->>'what' = 'paid' AND
       (SELECT attempts FROM my_queue WHERE id = job) = 0 THEN
        RAISE EXCEPTION 'the bank does not answer';
    END IF;
END
$$;

SELECT my_worker.create_queue('orders', handler := 'handle_event', fifo := true, backoff := '200 ms');
SELECT coalesce(max(id), 0) AS before FROM my_worker.jobs \gset
INSERT INTO my_queue (queue, group_key, payload)
SELECT 'orders', 'order ' || n, jsonb_build_object('order', n::text, 'what', what)
  FROM unnest('{placed,paid,shipped}'::text[]) WITH ORDINALITY AS e (what, step), generate_series(1, 3) AS n
 ORDER BY step, n;
SELECT my_worker.wait(id, '30 s') AS status, count(*) FROM my_worker.jobs WHERE id > :before AND queue = 'orders' GROUP BY 1;
SELECT order_no, string_agg(what, ', ' ORDER BY turn) AS in_order FROM events GROUP BY 1 ORDER BY 1;

-- An event that is due later holds up its order, and the view says so. Priorities do not count within a key.
SELECT my_worker.enqueue('handle_event', '{"order": "4", "what": "placed"}', 'orders', run_at := now() + '1 hour',
                         group_key := 'order 4') AS first \gset
SELECT my_worker.enqueue('handle_event', '{"order": "4", "what": "paid"}', 'orders', priority := -10,
                         group_key := 'order 4') AS second \gset
SELECT status, replace(waits_for, :'first', 'N') AS waits_for FROM my_worker.jobs WHERE id = :second;
UPDATE my_queue SET run_at = now() WHERE id = :first;
SELECT my_worker.wait(:second, '30 s');
SELECT string_agg(what, ', ' ORDER BY turn) AS in_order FROM events WHERE order_no = '4';

-- At most so many of a key at once, in no particular order: no customer keeps all workers busy.
SELECT my_worker.create_queue('reports', per_key := 2);
SELECT per_key, fifo FROM my_worker.queues WHERE name = 'reports';

SELECT my_worker.drop_queue('orders'), my_worker.drop_queue('reports');
DROP TABLE events;
DROP FUNCTION handle_event;
