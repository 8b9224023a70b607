-- Jobs of one key: per_key and fifo, for handlers, commands, batch handlers and consumers.
\set VERBOSITY terse
CREATE TABLE ran (n bigint GENERATED ALWAYS AS IDENTITY, job bigint, label text);
CREATE FUNCTION run_label(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ran (job, label) VALUES (id, p->>'label');
    IF p ? 'fail' THEN RAISE EXCEPTION '%', p->>'fail'; END IF;
END $$;
SELECT my_worker.create_queue('line', handler => 'run_label', fifo => true);
SELECT per_key, fifo FROM my_worker.queues WHERE name = 'line';
SELECT my_worker.create_queue('wrong', fifo => true, per_key => 2);

-- Neither priority nor run_at count within a key; jobs without a key are not bound.
SELECT my_worker.pause_queue('line');
SELECT my_worker.enqueue('run_label', '{"label": "a1"}', 'line', priority => 5, group_key => 'a') AS a1 \gset
SELECT my_worker.enqueue('run_label', '{"label": "a2"}', 'line', priority => -5, group_key => 'a') AS a2 \gset
SELECT my_worker.enqueue('run_label', '{"label": "none"}', 'line', priority => 9) AS none \gset
SELECT my_worker.resume_queue('line');
SELECT my_worker.wait(:a1, '30 s'), my_worker.wait(:a2, '30 s'), my_worker.wait(:none, '30 s');
SELECT label FROM ran ORDER BY n;
TRUNCATE ran;

-- A first job that is due later holds up its key, and no other; the view and why() name it.
SELECT my_worker.enqueue('run_label', '{"label": "b1"}', 'line', run_at => now() + '1 hour', group_key => 'b') AS b1 \gset
SELECT my_worker.enqueue('run_label', '{"label": "b2"}', 'line', group_key => 'b') AS b2 \gset
SELECT my_worker.enqueue('run_label', '{"label": "c1"}', 'line', group_key => 'c') AS c1 \gset
SELECT my_worker.wait(:c1, '30 s');
SELECT payload->>'label' AS label, status, replace(waits_for, :'b1', 'ID') AS waits_for FROM my_worker.jobs WHERE id IN (:b1, :b2) ORDER BY id;
SELECT replace(my_worker.why(:b2), :'b1', 'ID') AS why;
DO $$ BEGIN
    PERFORM launch_dynamic_worker((SELECT max(id) FROM my_queue WHERE group_key = 'b'));
EXCEPTION WHEN object_not_in_prerequisite_state THEN RAISE NOTICE 'it waits for an earlier one';
END $$;
-- It goes on when the first one is cancelled.
SELECT my_worker.cancel(:b1);
SELECT my_worker.wait(:b2, '30 s');
-- Or changes its key, its queue, or is deleted.
SELECT my_worker.enqueue('run_label', '{"label": "d1"}', 'line', run_at => now() + '1 hour', group_key => 'd') AS d1 \gset
SELECT my_worker.enqueue('run_label', '{"label": "d2"}', 'line', group_key => 'd') AS d2 \gset
SELECT my_worker.enqueue('run_label', '{"label": "d3"}', 'line', run_at => now() + '1 hour', group_key => 'd') AS d3 \gset
SELECT my_worker.enqueue('run_label', '{"label": "d4"}', 'line', group_key => 'd') AS d4 \gset
SELECT my_worker.enqueue('run_label', '{"label": "e"}', 'line', group_key => 'e') AS e \gset
SELECT my_worker.wait(:e, '30 s');
UPDATE my_queue SET group_key = 'elsewhere' WHERE id = :d1;
SELECT my_worker.wait(:d2, '30 s');
DELETE FROM my_queue WHERE id = :d3;
SELECT my_worker.wait(:d4, '30 s');
DELETE FROM my_queue WHERE id = :d1;
SELECT label FROM ran ORDER BY n;
TRUNCATE ran;

-- A job that fails for good lets the others go on; one that is retried stands before them again.
SELECT my_worker.pause_queue('line');
SELECT my_worker.enqueue('run_label', '{"label": "f1", "fail": "always"}', 'line', group_key => 'f', max_attempts => 1) AS f1 \gset
SELECT my_worker.enqueue('run_label', '{"label": "f2"}', 'line', group_key => 'f') AS f2 \gset
SELECT my_worker.resume_queue('line');
SELECT my_worker.wait(:f1, '30 s'), my_worker.wait(:f2, '30 s');
SELECT my_worker.pause_queue('line');
SELECT my_worker.enqueue('run_label', '{"label": "f3"}', 'line', group_key => 'f') AS f3 \gset
SELECT my_worker.retry(:f1);
SELECT my_worker.resume_queue('line');
SELECT my_worker.wait(:f1, '30 s'), my_worker.wait(:f3, '30 s');
SELECT label FROM ran ORDER BY n;
TRUNCATE ran;

-- Keys of 1000 bytes, and keys that differ at their ends.
SELECT my_worker.pause_queue('line');
SELECT my_worker.enqueue('run_label', '{"label": "long 1"}', 'line', run_at => now() + '1 hour', group_key => repeat('x', 1000)) AS long1 \gset
SELECT my_worker.enqueue('run_label', '{"label": "long 2"}', 'line', group_key => repeat('x', 1000)) AS long2 \gset
SELECT my_worker.enqueue('run_label', '{"label": "other"}', 'line', group_key => repeat('x', 999) || 'y') AS other \gset
SELECT my_worker.enqueue('run_label', '{}', 'line', group_key => repeat('x', 1001));
SELECT my_worker.resume_queue('line');
SELECT my_worker.wait(:other, '30 s');
SELECT my_worker.cancel(:long1);
SELECT my_worker.wait(:long2, '30 s');
TRUNCATE ran;

-- Commands go by keys, too.
SELECT my_worker.pause_queue('line');
SELECT my_worker.run('INSERT INTO ran (label) VALUES (''g1'')', 'line', group_key => 'g') AS g1 \gset
SELECT my_worker.enqueue('run_label', '{"label": "g2"}', 'line', group_key => 'g') AS g2 \gset
SELECT my_worker.run('INSERT INTO ran (label) VALUES (''g3'')', 'line', group_key => 'g') AS g3 \gset
SELECT my_worker.resume_queue('line');
SELECT my_worker.wait(:g1, '30 s'), my_worker.wait(:g2, '30 s'), my_worker.wait(:g3, '30 s');
SELECT label FROM ran ORDER BY n;
TRUNCATE ran;

-- A batch handler gets whole runs of keys in order.
CREATE FUNCTION run_batch(ids bigint[], p jsonb[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ran (job, label) SELECT i, j->>'label' FROM unnest(ids, p) AS u (i, j);
    IF EXISTS (SELECT FROM unnest(p) AS j WHERE j ? 'fail') THEN RAISE EXCEPTION 'one is bad'; END IF;
END $$;
SELECT my_worker.create_queue('batches', handler => 'run_batch', fifo => true, backoff => '10 ms', max_attempts => 2);
SELECT my_worker.pause_queue('batches');
INSERT INTO my_queue (queue, group_key, priority, payload)
SELECT 'batches', 'k' || k, (k + i) % 2, jsonb_build_object('label', format('k%s %s', k, i)) || CASE WHEN k = 2 AND i = 3 THEN '{"fail": true}' ELSE '{}' END::jsonb
  FROM generate_series(1, 5) AS i, generate_series(1, 3) AS k ORDER BY i, k;
SELECT my_worker.resume_queue('batches');
SELECT count(my_worker.wait(id, '30 s')) FROM my_worker.jobs WHERE queue = 'batches';
SELECT left(label, 2) AS key, string_agg(right(label, 1), ' ' ORDER BY n) FROM ran GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM my_worker.jobs WHERE queue = 'batches' AND status = 'failed';
TRUNCATE ran;

-- Consumers: one job a key of a fifo queue, at most per_key of the others.
SELECT my_worker.create_queue('letters', fifo => true);
SELECT count(my_worker.send('letters', to_jsonb(k || i), group_key => k)) FROM generate_series(1, 3) AS i, unnest('{a,b}'::text[]) AS k;
SELECT my_worker.send('letters', '"no key"') IS NOT NULL AS sent;
SELECT payload, group_key FROM my_worker.receive('letters', 10) ORDER BY id;
SELECT payload, waits_for FROM my_worker.jobs WHERE queue = 'letters' AND status = 'pending' AND payload = '"a2"' AND waits_for LIKE 'job % of the same key' IS FALSE;
-- A call that has nothing to take; then the session's leases end.
SELECT count(*) FROM my_worker.receive('letters', 10);
DISCARD ALL;
SELECT my_worker.purge_queue('letters') > 0 AS purged;
SELECT my_worker.create_queue('pairs', per_key => 2);
SELECT count(my_worker.send('pairs', to_jsonb(k || i), group_key => k)) FROM generate_series(1, 5) AS i, unnest('{a,b}'::text[]) AS k;
CREATE TEMPORARY TABLE mine AS SELECT * FROM my_worker.receive('pairs', 10, lease => '1 minute');
SELECT payload FROM mine ORDER BY id;
SELECT my_worker.ack(id, lease) FROM mine WHERE payload = '"a1"';
SELECT payload FROM my_worker.receive('pairs', 10, lease => '1 minute');
SELECT DISTINCT waits_for FROM my_worker.jobs WHERE queue = 'pairs' AND status = 'pending' AND group_key = 'b';
-- More may run once the setting says so.
SELECT my_worker.alter_queue('pairs', per_key => 3);
SELECT payload FROM my_worker.receive('pairs', 10, lease => '1 minute');
SELECT my_worker.reset_queue('pairs', 'per_key');
SELECT payload FROM my_worker.receive('pairs', 10, lease => '1 minute');
-- What a transaction has received of a key cannot be handed over.
SELECT count(my_worker.send('letters', '1', group_key => 'p'));
BEGIN;
SELECT count(*) FROM my_worker.receive('letters', lease => '1 minute');
PREPARE TRANSACTION 'keyed';
ROLLBACK;
SELECT bool_and(my_worker.cancel(id)) AS cancelled FROM my_queue WHERE queue IN ('letters', 'pairs');
SELECT count(my_worker.drop_queue(name, true)) FROM unnest('{line,batches,letters,pairs}'::text[]) AS name;
SELECT count(*) FROM my_queue WHERE queue IN ('letters', 'pairs');
DROP TABLE ran;
DROP FUNCTION run_label, run_batch;
