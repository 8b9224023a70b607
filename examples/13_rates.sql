-- Rates: a queue that calls a service which allows so many calls in a time.

CREATE FUNCTION call_api(request jsonb) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
SELECT my_worker.create_queue('api', handler := 'call_api', rate := 10, rate_period := '1 s');

-- Ten jobs that are due at once start one after the other, 100 ms apart.
INSERT INTO my_queue (queue, payload) SELECT 'api', to_jsonb(i) FROM generate_series(1, 10) AS i;
SELECT max(my_worker.wait(id, '30 s')) AS status, count(*) FROM my_worker.jobs WHERE queue = 'api';
SELECT count(*) AS calls, min(apart) >= '100 ms' AS spaced
  FROM (SELECT started_at - lag(started_at) OVER (ORDER BY started_at) FROM my_worker.history WHERE queue = 'api') AS c (apart);

-- With a burst, up to so many follow each other at once after a rest. No second has more than 10 + 5 - 1 starts.
SELECT my_worker.alter_queue('api', burst := 5);
SELECT pg_sleep(0.5);
INSERT INTO my_queue (queue, payload) SELECT 'api', to_jsonb(i) FROM generate_series(11, 16) AS i;
SELECT max(my_worker.wait(id, '30 s')) AS status FROM my_worker.jobs WHERE queue = 'api';
SELECT count(*) FILTER (WHERE after < '100 ms') AS at_once, count(*) FILTER (WHERE after >= '100 ms') AS spaced
  FROM (SELECT started_at - min(started_at) OVER () FROM my_worker.history WHERE queue = 'api' AND (payload::int) > 10) AS c (after);

-- A rate for each customer: one that is busy does not hold up another.
SELECT my_worker.create_queue('sms', handler := 'call_api', rate := 1, rate_period := '100 ms', rate_per_key := true);
INSERT INTO my_queue (queue, group_key, payload)
SELECT 'sms', who, jsonb_build_object('to', who) FROM unnest('{ann, ann, ann, bob}'::text[]) AS who;
SELECT max(my_worker.wait(id, '30 s')) AS status FROM my_worker.jobs WHERE queue = 'sms';
SELECT group_key, count(*) AS sent, bool_and(apart >= '100 ms') AS spaced
  FROM (SELECT group_key, started_at - lag(started_at) OVER (PARTITION BY group_key ORDER BY started_at)
          FROM my_worker.history WHERE queue = 'sms') AS c (group_key, apart)
 GROUP BY group_key ORDER BY group_key;

-- Why a job waits, and the end of the limit.
SELECT my_worker.alter_queue('api', rate := 1, rate_period := '1 h', burst := 1);
SELECT my_worker.enqueue('call_api', '17', queue := 'api') AS job \gset
SELECT split_part(my_worker.why(:job), ' at ', 1) AS why, limited FROM my_worker.queue_stats WHERE queue = 'api';
SELECT my_worker.reset_queue('api', 'rate', 'rate_period');
SELECT my_worker.wait(:job, '30 s');
SELECT my_worker.drop_queue('api'), my_worker.drop_queue('sms');
DROP FUNCTION call_api;
