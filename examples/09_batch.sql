-- A batch handler gets many jobs in one call: arrays of ids and payloads. They succeed or fail
-- together; after a failure each is called alone, so that the bad one is found.

CREATE TABLE prices (article text PRIMARY KEY, price numeric CHECK (price > 0));
CREATE FUNCTION take_prices(jobs bigint[], items jsonb[]) RETURNS void LANGUAGE sql AS $$
    INSERT INTO prices
    SELECT item->>'article', (item->>'price')::numeric FROM unnest(items) AS item
$$;
SELECT my_worker.create_queue('prices', handler := 'take_prices', concurrency := 1, max_attempts := 2,
                              backoff := '20 ms');

SELECT coalesce(max(id), 0) AS before FROM my_worker.jobs \gset
INSERT INTO my_queue (queue, payload)
SELECT 'prices', jsonb_build_object('article', 'A' || i, 'price', CASE i WHEN 333 THEN 0 ELSE i END)
  FROM generate_series(1, 500) AS i;
SELECT my_worker.wait(id, '60 s') AS status, count(*) FROM my_worker.jobs WHERE id > :before GROUP BY 1 ORDER BY 1;
-- One was bad, at both attempts; it cost its neighbours nothing.
SELECT status, attempts, count(*) FROM my_worker.jobs WHERE id > :before GROUP BY 1, 2 ORDER BY 1, 2;
SELECT payload, errors->0->>'sqlstate' AS first, errors->1->>'sqlstate' AS second FROM my_worker.jobs WHERE id > :before AND status = 'failed';
SELECT count(*), bool_and(price > 0) AS all_sound FROM prices;

SELECT my_worker.purge_queue('prices'), my_worker.drop_queue('prices');
DROP TABLE prices;
DROP FUNCTION take_prices;
