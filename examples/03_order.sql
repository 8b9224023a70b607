-- Which job comes first: lower priority, then earlier run_at, then lower id.

CREATE TABLE served (turn integer GENERATED ALWAYS AS IDENTITY, who text);
CREATE FUNCTION serve(guest jsonb) RETURNS void LANGUAGE sql AS $$
    INSERT INTO served (who) VALUES (guest->>'who')
$$;

-- One at a time, so that the order can be seen; paused, so that all of them are there first.
SELECT my_worker.create_queue('counter', handler := 'serve', concurrency := 1);
SELECT my_worker.pause_queue('counter');
SELECT coalesce(max(id), 0) AS before FROM my_worker.jobs \gset
INSERT INTO my_queue (queue, payload, priority, run_at) VALUES
    ('counter', '{"who": "first come"}', 0, now()),
    ('counter', '{"who": "second come"}', 0, now()),
    ('counter', '{"who": "has waited for an hour"}', 0, now() - interval '1 hour'),
    ('counter', '{"who": "in a hurry"}', -10, now()),
    ('counter', '{"who": "has all day"}', 10, now()),
    ('counter', '{"who": "has a date tomorrow"}', -99, now() + interval '1 day');
SELECT my_worker.resume_queue('counter');
SELECT my_worker.wait(id, '30 s') AS status, count(*)
  FROM my_worker.jobs WHERE id > :before AND queue = 'counter' AND run_at <= now() GROUP BY 1;
SELECT who FROM served ORDER BY turn;

-- What is due in the future waits, whatever its priority, and holds nobody up. A date may be moved.
SELECT status, run_at > now() AS later, payload->>'who' AS who FROM my_queue WHERE queue = 'counter';
UPDATE my_queue SET run_at = clock_timestamp() + '200 ms' WHERE queue = 'counter' RETURNING id AS job \gset
SELECT my_worker.wait(:job, '30 s');

-- It started at its time: a timer wakes the pool, nothing polls.
SELECT started_at >= run_at AS not_before, started_at < run_at + interval '5 s' AS not_long_after
  FROM my_worker.jobs WHERE id = :job;

SELECT my_worker.drop_queue('counter');
DROP TABLE served;
DROP FUNCTION serve;
