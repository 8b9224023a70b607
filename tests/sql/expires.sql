-- Jobs that were not started before they expired (docs/flow.md).
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE SCHEMA work;
CREATE FUNCTION work.does(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep((payload->>'sleep')::float8);
    IF payload ? 'fail' THEN
        RAISE 'no';
    END IF;
END $$;
SELECT my_worker.create_queue('late', backoff := '100 ms', concurrency := 4), my_worker.create_queue('held'), my_worker.pause_queue('held');
-- In time.
SELECT my_worker.enqueue('work.does', queue := 'late', expires_at := now() + '1 h') AS a,
       my_worker.enqueue('work.does', queue := 'late', expires_at := 'infinity') AS b \gset
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s');
SELECT expires_at > now() AS kept FROM my_worker.history WHERE id = :a;
-- In a paused queue nothing starts; the job ends at its time.
SELECT my_worker.enqueue('work.does', queue := 'held', expires_at := clock_timestamp() + '1 s') AS a \gset
SELECT status, expires_at > clock_timestamp() AS in_time FROM my_worker.jobs WHERE id = :a;
SELECT my_worker.wait(:a, '30 s');
SELECT status, last_error, errors->0->>'sqlstate' AS sqlstate, errors->0->>'detail' AS detail, started_at, attempts,
       finished_at >= expires_at AS not_before, finished_at < expires_at + '5 s' AS not_long_after
  FROM my_worker.history WHERE id = :a;
-- One that has expired is enqueued, and never starts.
SELECT my_worker.enqueue('work.does', queue := 'late', expires_at := now()) AS a,
       my_worker.enqueue('work.does', queue := 'late', expires_at := '-infinity') AS b,
       my_worker.run('SELECT 1', 'late', expires_at := now() - interval '1 day') AS c,
       my_worker.send('late', expires_at := now() - interval '1 day') AS d \gset
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s'), my_worker.wait(:c, '30 s'), my_worker.wait(:d, '30 s');
SELECT count(*) FROM my_worker.history WHERE id IN (:a, :b, :c, :d) AND started_at IS NULL AND errors->0->>'sqlstate' = 'MW002';
-- A job that runs goes on; an attempt that would start too late is not made.
SELECT my_worker.enqueue('work.does', '{"sleep": 1.5}', 'late', expires_at := clock_timestamp() + '1 s') AS a,
       my_worker.enqueue('work.does', '{"fail": 1}', 'late', expires_at := clock_timestamp() + '1 s') AS b \gset
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s');
SELECT attempts BETWEEN 1 AND 4 AS attempts, errors->0->>'message' AS first, last_error AS last FROM my_worker.history WHERE id = :b;
-- Its owner may put it off. What receive() does not get any more is cancelled.
SELECT my_worker.enqueue('work.does', queue := 'held', expires_at := clock_timestamp() + '2 s') AS a \gset
UPDATE my_queue SET expires_at = now() + interval '1 day' WHERE id = :a;
SELECT my_worker.send('late', expires_at := clock_timestamp() + '300 ms') AS b \gset
SELECT my_worker.wait(:b, '30 s');
SELECT count(*) FROM my_worker.receive('late');
SELECT status FROM my_queue WHERE id = :a;
UPDATE my_queue SET expires_at = now() WHERE id = :a;
SELECT my_worker.wait(:a, '30 s');
-- A consumer that has it in time keeps it.
SELECT my_worker.send('late', expires_at := clock_timestamp() + '1 s') AS a \gset
SELECT id AS job, lease FROM my_worker.receive('late', wait := '5 s') \gset
SELECT my_worker.send('late', expires_at := clock_timestamp() + '1 s') AS b \gset
SELECT my_worker.wait(:b, '30 s');
SELECT my_worker.ack(:job, :lease);
-- retry() sends it back to run, whatever the time.
SELECT my_worker.retry(:a);
SELECT my_worker.enqueue('work.does', queue := 'late', expires_at := now()) AS a \gset
SELECT my_worker.wait(:a, '30 s');
SELECT my_worker.retry(:a);
SELECT my_worker.wait(:a, '30 s');
SELECT status, expires_at FROM my_worker.history WHERE id = :a;
-- A lease for a time, and a job that was received so, too.
SELECT my_worker.send('late', expires_at := clock_timestamp() + '1 s') AS a \gset
SELECT id AS job, lease FROM my_worker.receive('late', wait := '5 s', lease := '1 h') \gset
SELECT my_worker.send('late', expires_at := clock_timestamp() + '1 s') AS b \gset
SELECT my_worker.wait(:b, '30 s');
SELECT my_worker.nack(:job, :lease, 'no', '0');
SELECT my_worker.wait(:a, '30 s');
SELECT attempts, last_error FROM my_worker.history WHERE id = :a;
SET client_min_messages = warning;
SELECT my_worker.drop_queue('late', true), my_worker.drop_queue('held', true);
DELETE FROM my_worker.history;
DROP SCHEMA work CASCADE;
