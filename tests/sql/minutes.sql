-- How jobs ended lately: by queue and minute, and by handler.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE ROLE regress_min_alice LOGIN;
CREATE ROLE regress_min_bob LOGIN;
CREATE ROLE regress_min_watch LOGIN IN ROLE pg_monitor;
CREATE ROLE regress_min_none LOGIN;
SELECT my_worker.grant_usage('regress_min_alice'), my_worker.grant_usage('regress_min_bob');
CREATE SCHEMA work;
GRANT USAGE ON SCHEMA work TO PUBLIC;
CREATE FUNCTION work.good() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION work.bad() RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END $$;
CREATE FUNCTION work."Slow one"(payload jsonb) RETURNS void LANGUAGE sql AS $$SELECT pg_sleep((payload->>'ms')::float8 / 1000)$$;
CREATE FUNCTION work.many(ids bigint[], payloads jsonb[]) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION work.later() RETURNS void LANGUAGE sql AS $$SELECT my_worker.snooze('1 h')$$;
SELECT my_worker.reset_stats();
SELECT my_worker.create_queue('mins', max_attempts => 2, backoff => '10 ms'), my_worker.create_queue('post', max_attempts => 1),
       my_worker.create_queue('brief');
-- A minute is two while it turns, so these are sums.
CREATE VIEW work.minutes AS
    SELECT queue, sum(completed) AS completed, sum(failed) AS failed, sum(retried) AS retried, sum(cancelled) AS cancelled
      FROM my_worker.queue_minutes GROUP BY queue;
CREATE VIEW work.handlers AS SELECT handler, runs, calls, failures FROM my_worker.handler_stats;
GRANT SELECT ON work.minutes, work.handlers TO PUBLIC;
-- Nothing has ended, nothing is there.
SELECT * FROM my_worker.queue_minutes;
SELECT * FROM my_worker.handler_stats;
-- Handlers of each kind, a command, one that comes again later.
SELECT my_worker.enqueue('work.good', queue => 'mins') AS a, my_worker.enqueue('work.bad', queue => 'mins') AS b,
       my_worker.enqueue('work."Slow one"', '{"ms": 40}', queue => 'mins') AS c, my_worker.enqueue('work.many', queue => 'mins') AS d,
       my_worker.run('SELECT 1', queue => 'mins') AS e, my_worker.enqueue('work.later', queue => 'mins') AS f \gset
SELECT my_worker.wait(id, '30 s') FROM unnest(ARRAY[:a, :b, :c, :d, :e]) AS id;
CALL pg_temp.wait_until(format('SELECT run_at > now() + ''30 min'' FROM my_queue WHERE id = %s', :f));
CALL pg_temp.wait_until($$SELECT sum(completed) = 4 AND sum(failed) = 1 FROM my_worker.queue_minutes$$);
SELECT * FROM work.minutes ORDER BY queue;
SELECT * FROM work.handlers ORDER BY handler COLLATE "C", runs;
SELECT run_p50 BETWEEN 38 AND 2000 AS slow, run_p50 = run_p99 AS one, run_mean > 38 AS mean, last_call_at > now() - interval '1 min' AS late
  FROM my_worker.handler_stats WHERE handler LIKE '%Slow%';
SELECT bool_and(minute = date_trunc('minute', minute) AND minute BETWEEN now() - interval '5 min' AND now()) AS minute,
       bool_and(run_p95 > 0) AS ran, bool_and(wait_p95 > 0) AS waited, max(run_p95) >= 38 AS slow
  FROM my_worker.queue_minutes WHERE queue = 'mins';
-- From a time on; the minute of that time is among them.
SELECT (SELECT sum(completed) FROM my_worker.queue_minutes_since(now() - interval '3 min')) = 4 AS lately,
       (SELECT count(*) FROM my_worker.queue_minutes_since(now() + interval '2 min')) = 0 AS never,
       (SELECT sum(completed) FROM my_worker.queue_minutes_since('-infinity')) = 4 AS ever,
       (SELECT count(*) FROM my_worker.queue_minutes_since('infinity')) = 0 AS infinity,
       (SELECT count(*) FROM my_worker.queue_minutes_since(NULL)) = 0 AS unknown,
       (SELECT count(*) > 0 FROM my_worker.queue_minutes_since((SELECT max(minute) + interval '59 s' FROM my_worker.queue_minutes))) AS same_minute;
-- What consumers end: done, failed; and one that perform() runs.
SELECT my_worker.send('post') AS a, my_worker.send('post') AS b \gset
CREATE TEMPORARY TABLE got AS SELECT id, lease FROM my_worker.receive('post', 2);
SELECT my_worker.ack(id, lease) FROM got WHERE id = :a;
SELECT my_worker.nack(id, lease, 'no') FROM got WHERE id = :b;
SELECT my_worker.pause_queue('brief');
SELECT my_worker.enqueue('work.good', queue => 'brief') AS p \gset
SELECT my_worker.perform(:p);
SELECT * FROM work.minutes ORDER BY queue;
SELECT * FROM work.handlers WHERE runs = 'consumer' OR handler LIKE '%good%' ORDER BY handler COLLATE "C", runs;
-- What ends without having run: cancelled, purged, expired. A rollback counts nothing.
SELECT my_worker.enqueue('work.good', queue => 'mins', run_at => 'infinity') AS c \gset
BEGIN;
SELECT my_worker.cancel(:c);
ROLLBACK;
SELECT my_worker.cancel(:c);
SELECT my_worker.pause_queue('mins');
INSERT INTO my_queue (queue, handler, expires_at) VALUES ('mins', 'work.good', now() + interval '1 s');
CALL pg_temp.wait_until($$SELECT sum(cancelled) = 2 FROM my_worker.queue_minutes WHERE queue = 'mins'$$);
SELECT my_worker.enqueue('work.good', queue => 'mins') > 0 AS waits FROM generate_series(1, 3);
SELECT my_worker.purge_queue('mins');
SELECT * FROM work.minutes ORDER BY queue;
SELECT calls FROM work.handlers WHERE handler LIKE '%good%';
-- Each sees its own, and that of roles whose rights it has; handlers, too.
SET SESSION AUTHORIZATION regress_min_alice;
SELECT my_worker.enqueue('work.good', queue => 'post') AS a, my_worker.enqueue('work.many', queue => 'post') AS b \gset
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s');
SET SESSION AUTHORIZATION regress_min_bob;
SELECT * FROM my_worker.queue_minutes;
SELECT * FROM my_worker.handler_stats;
SELECT my_worker.enqueue('work.bad', queue => 'post') AS a \gset
SELECT my_worker.wait(:a, '30 s');
CALL pg_temp.wait_until($$SELECT sum(failed) = 1 FROM my_worker.queue_minutes$$);
SELECT * FROM work.minutes ORDER BY queue;
SELECT * FROM work.handlers ORDER BY handler COLLATE "C", runs;
SET SESSION AUTHORIZATION regress_min_alice;
CALL pg_temp.wait_until($$SELECT sum(completed) = 2 FROM my_worker.queue_minutes$$);
SELECT * FROM work.minutes ORDER BY queue;
SELECT * FROM work.handlers ORDER BY handler COLLATE "C", runs;
RESET SESSION AUTHORIZATION;
GRANT regress_min_bob TO regress_min_alice;
SET SESSION AUTHORIZATION regress_min_alice;
SELECT * FROM work.minutes ORDER BY queue;
SELECT * FROM work.handlers ORDER BY handler COLLATE "C", runs;
SET SESSION AUTHORIZATION regress_min_watch;
SELECT * FROM work.minutes WHERE queue = 'post';
SELECT * FROM work.handlers WHERE runs = 'handler' ORDER BY handler COLLATE "C";
SELECT statistics, since < now() AS since, gave_way FROM my_worker.stats_reach ORDER BY statistics;
SET SESSION AUTHORIZATION regress_min_none;
CALL pg_temp.fails('SELECT * FROM my_worker.queue_minutes');
CALL pg_temp.fails('SELECT * FROM my_worker.handler_stats');
CALL pg_temp.fails('SELECT * FROM my_worker.stats_reach');
RESET SESSION AUTHORIZATION;
-- A dropped queue has no rows, nor has another one of its name; its handlers stay.
SELECT my_worker.drop_queue('post', true), my_worker.create_queue('post');
SELECT * FROM work.minutes ORDER BY queue;
SELECT count(*) FROM my_worker.handler_stats WHERE runs = 'consumer';
-- Tidy up.
SELECT my_worker.reset_stats();
SELECT * FROM my_worker.queue_minutes;
SELECT * FROM my_worker.handler_stats;
SELECT my_worker.revoke_usage('regress_min_alice'), my_worker.revoke_usage('regress_min_bob');
SET client_min_messages = warning;
SELECT my_worker.drop_queue('mins', true), my_worker.drop_queue('post', true), my_worker.drop_queue('brief', true);
DROP SCHEMA work CASCADE;
DROP ROLE regress_min_alice, regress_min_bob, regress_min_watch, regress_min_none;
