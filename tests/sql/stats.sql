-- What waits, runs and was counted, by queue.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE SCHEMA work;
CREATE FUNCTION work.good() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION work.bad() RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END $$;
CREATE FUNCTION work.gated() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_xact_lock(4715)';
SELECT my_worker.reset_stats();
SELECT my_worker.create_queue('a'), my_worker.create_queue('b', backoff => '1 h', max_attempts => 2);
-- Every queue has a row; what was never counted has no percentiles.
SELECT * FROM my_worker.queue_stats WHERE queue <> 'default' ORDER BY queue;
-- What waits: due and not due, of all owners and priorities; what runs counts apart.
SELECT my_worker.pause_queue('a');
SELECT count(my_worker.enqueue('work.good', queue => 'a', priority => n % 3)) FROM generate_series(1, 6) AS n;
SELECT count(my_worker.enqueue('work.good', queue => 'a', run_at => now() + '1 h', priority => n % 3)) FROM generate_series(1, 4) AS n;
SELECT my_worker.enqueue('work.good', queue => 'a', run_at => now() - interval '1 day', priority => 9) > 0 AS old;
SELECT pg_advisory_lock(4715);
SELECT my_worker.enqueue('work.gated', queue => 'b') AS gated \gset
CALL pg_temp.wait_until(format('SELECT status = ''processing'' FROM my_worker.jobs WHERE id = %s', :gated));
SELECT queue, pending, scheduled, processing,
       oldest_pending_age BETWEEN '1 day' AND '1 day 1 h' AS a_day
  FROM my_worker.queue_stats WHERE queue IN ('a', 'b') ORDER BY queue;
SELECT pg_advisory_unlock(4715);
SELECT my_worker.wait(:gated, '30 s');
-- What an open transaction has enqueued is counted within it alone.
BEGIN;
SELECT my_worker.enqueue('work.good', queue => 'b', run_at => 'infinity') > 0 AS enqueued;
SELECT pending, scheduled FROM my_worker.queue_stats WHERE queue = 'b';
ROLLBACK;
SELECT pending, scheduled, processing, oldest_pending_age FROM my_worker.queue_stats WHERE queue = 'b';
-- What ended.
SELECT my_worker.resume_queue('a');
CALL pg_temp.wait_until('SELECT completed = 7 FROM my_worker.queue_stats WHERE queue = ''a''');
SELECT my_worker.enqueue('work.bad', queue => 'b') AS bad \gset
CALL pg_temp.wait_until('SELECT retried = 1 FROM my_worker.queue_stats WHERE queue = ''b''');
UPDATE my_queue SET run_at = now() WHERE id = :bad;
SELECT my_worker.wait(:bad, '30 s');
CALL pg_temp.wait_until('SELECT failed = 1 FROM my_worker.queue_stats WHERE queue = ''b''');
-- A cancel counts when it commits.
BEGIN;
SELECT count(my_worker.cancel(id)) FROM my_queue WHERE queue = 'a';
ROLLBACK;
BEGIN;
SELECT my_worker.cancel(min(id)) FROM my_queue WHERE queue = 'a';
SAVEPOINT s;
SELECT my_worker.cancel(min(id)) FROM my_queue WHERE queue = 'a';
ROLLBACK TO s;
SELECT my_worker.cancel(max(id)) FROM my_queue WHERE queue = 'a';
COMMIT;
SELECT queue, pending, scheduled, completed, failed, retried, cancelled
  FROM my_worker.queue_stats WHERE queue IN ('a', 'b') ORDER BY queue;
-- Durations, in milliseconds: seven jobs of which the oldest waited for a day.
SELECT wait_p50 < 60e3 AS p50, wait_p99 / 86400e3 BETWEEN 0.95 AND 1.05 AS p99, wait_mean > wait_p50 AS mean,
       run_p50 <= run_p95 AND run_p95 <= run_p99 AND run_mean > 0 AS run
  FROM my_worker.queue_stats WHERE queue = 'a';
-- A command is counted like a handler's call.
SELECT my_worker.run('VACUUM work.none', queue => 'a') AS wrong, my_worker.run('SELECT 1', queue => 'a') AS right \gset
SELECT my_worker.wait(:wrong, '30 s'), my_worker.wait(:right, '30 s');
CALL pg_temp.wait_until('SELECT completed = 8 AND failed = 1 FROM my_worker.queue_stats WHERE queue = ''a''');
-- Zero.
SELECT my_worker.reset_stats();
SELECT queue, pending, scheduled, completed, failed, retried, cancelled, wait_p50, run_mean
  FROM my_worker.queue_stats WHERE queue IN ('a', 'b') ORDER BY queue;
-- With many jobs the pages of the index are counted: the same numbers, in a queue without dead rows.
SELECT my_worker.create_queue('c'), my_worker.pause_queue('c');
INSERT INTO my_queue (queue, handler, run_at, priority)
SELECT 'c', 'work.good', now() + CASE WHEN n % 4 = 0 THEN interval '1 h' ELSE interval '-1 h' END, n % 3
  FROM generate_series(1, 20000) AS n;
INSERT INTO my_queue (queue, handler, run_at) SELECT 'b', 'work.good', 'infinity' FROM generate_series(1, 10);
SELECT queue, pending, scheduled, oldest_pending_age BETWEEN '1 h' AND '2 h' AS an_hour
  FROM my_worker.queue_stats WHERE queue IN ('b', 'c') ORDER BY queue;
DELETE FROM my_queue WHERE queue = 'c';
CALL pg_temp.wait_until($$SELECT pending + scheduled = 0 FROM my_worker.queue_stats WHERE queue = 'c'$$);
SELECT queue, pending, scheduled, oldest_pending_age FROM my_worker.queue_stats WHERE queue IN ('b', 'c') ORDER BY queue;
-- What waited and was purged counts as cancelled, when it commits. What PREPARE TRANSACTION carries away does not count.
SELECT my_worker.create_queue('d'), my_worker.pause_queue('d');
SELECT count(my_worker.enqueue('work.good', queue => 'd')) FROM generate_series(1, 5);
BEGIN;
SELECT my_worker.purge_queue('d');
ROLLBACK;
SELECT pending, cancelled FROM my_worker.queue_stats WHERE queue = 'd';
BEGIN;
SELECT my_worker.cancel(min(id)) FROM my_queue WHERE queue = 'd';
PREPARE TRANSACTION 'regress_stats';
COMMIT PREPARED 'regress_stats';
SELECT pending, cancelled FROM my_worker.queue_stats WHERE queue = 'd';
SELECT my_worker.purge_queue('d');
SELECT pending, cancelled FROM my_worker.queue_stats WHERE queue = 'd';
SELECT my_worker.drop_queue('d');
-- A job that is due since ever has an age; it has waited only since it is there.
SELECT my_worker.reset_stats(), my_worker.pause_queue('c');
SELECT my_worker.enqueue('work.good', queue => 'c', run_at => '-infinity') AS id \gset
SELECT pending, oldest_pending_age > '6000 years' AS age FROM my_worker.queue_stats WHERE queue = 'c';
SELECT ok FROM my_worker.health() WHERE "check" = 'backlog';
SELECT my_worker.resume_queue('c');
SELECT my_worker.wait(:id, '30 s');
CALL pg_temp.wait_until($$SELECT completed = 1 AND wait_mean < 60000 FROM my_worker.queue_stats WHERE queue = 'c'$$);
-- Who may.
CREATE ROLE regress_stats_none;
CREATE ROLE regress_stats_user;
CREATE ROLE regress_stats_monitor;
GRANT pg_monitor TO regress_stats_monitor;
SELECT my_worker.grant_usage('regress_stats_user');
SET ROLE regress_stats_none;
CALL pg_temp.fails('SELECT * FROM my_worker.queue_stats');
SET ROLE regress_stats_user;
SELECT count(*) > 2 AS queues FROM my_worker.queue_stats;
CALL pg_temp.fails('SELECT my_worker.reset_stats()');
SET ROLE regress_stats_monitor;
SELECT count(*) > 2 AS monitor FROM my_worker.queue_stats;
CALL pg_temp.fails('SELECT my_worker.reset_stats()');
RESET ROLE;
-- Tidy up.
SELECT my_worker.revoke_usage('regress_stats_user');
DROP ROLE regress_stats_none, regress_stats_user, regress_stats_monitor;
SELECT my_worker.drop_queue('a', true), my_worker.drop_queue('b', true), my_worker.drop_queue('c', true);
SELECT my_worker.purge_queue('default') >= 0 AS purged;
DROP SCHEMA work CASCADE;
