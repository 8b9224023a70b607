-- The large server of bench/dashboard: thousand queues, of which each third runs what it gets, the second is paused, the
-- third has no handler and waits for consumers. Most jobs are a superuser's, some a role's, a hundred another's.
\set ON_ERROR_STOP on
CREATE EXTENSION my_worker;
CREATE ROLE dash LOGIN SUPERUSER;
ALTER ROLE dash SET log_statement_stats = on;
CREATE ROLE shop LOGIN;
ALTER ROLE shop SET log_statement_stats = on;
CREATE ROLE rare LOGIN;
ALTER ROLE rare SET log_statement_stats = on;
SELECT my_worker.grant_usage('shop'), my_worker.grant_usage('rare');
GRANT CREATE ON DATABASE postgres TO rare;
CREATE SCHEMA app;
GRANT USAGE ON SCHEMA app TO PUBLIC;
CREATE FUNCTION app.work(job jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN
    IF random() < 0.02 THEN RAISE EXCEPTION 'the mail server does not answer' USING ERRCODE = 'connection_failure'; END IF;
    RETURN job;
END $$;
CREATE FUNCTION app.slow(job jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 0 .. 100000 LOOP
        PERFORM my_worker.progress(i % 101, format('step %s', i));
        PERFORM pg_sleep(0.5);
    END LOOP;
END $$;

CREATE FUNCTION app.queue(n integer) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'queue ' || lpad(n::text, 4, '0') $$;
SELECT my_worker.create_queue('lost ' || n) FROM generate_series(1, 10) AS n;
SELECT my_worker.create_queue(app.queue(n), handler := CASE WHEN n % 3 < 2 THEN 'app.work' END, max_attempts := 1 + n % 5,
           concurrency := CASE WHEN n % 7 = 0 THEN 2 END, dead_letter := CASE WHEN n % 20 = 0 THEN 'lost ' || 1 + n / 20 % 10 END)
  FROM generate_series(1, :queues - 10) AS n;
SELECT my_worker.pause_queue(app.queue(n)) FROM generate_series(1, :queues - 10, 3) AS n;

-- What the last minutes show: jobs of all the queues that run.
CREATE PROCEDURE app.feed(rounds integer) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. rounds LOOP
        INSERT INTO my_queue (queue, payload) SELECT q.name, '{}' FROM my_worker.queues AS q, generate_series(1, 3)
         WHERE q.handler IS NOT NULL AND NOT q.paused AND random() < 0.3;
        COMMIT;
        PERFORM pg_sleep(1);
    END LOOP;
END $$;
CALL app.feed(5);

-- Rows as workers and enqueuers leave them, without what they would have cost: no trigger.
SET session_replication_role = replica;
SET synchronous_commit = off;
BEGIN;
TRUNCATE my_worker.history;
INSERT INTO my_worker.history (id, queue, status, handler, payload, priority, run_at, created_at, started_at, attempts, max_attempts,
        owner, finished_at, result, last_error, errors, kind, schedule_id)
SELECT n, app.queue(1 + (n * 7919 % (:queues - 10))::integer), CASE WHEN f THEN 'failed' ELSE 'completed' END,
       CASE WHEN n % 1000003 = 5 THEN 'app.rare' ELSE 'app.work' END, jsonb_build_object('order', n, 'to', 'ada@example.com'), 0, t, t, t + '1 s',
       1, 3, CASE WHEN n BETWEEN 1000 AND 1099 THEN 'rare' WHEN n % 10 = 0 THEN 'shop' ELSE 'postgres' END::regrole, t + '2 s',
       CASE WHEN NOT f THEN jsonb_build_object('done', n) END, CASE WHEN f THEN 'the mail server does not answer' END,
       CASE WHEN f THEN jsonb_build_array(jsonb_build_object('attempt', 1, 'at', t, 'sqlstate', '08006', 'message', 'the mail server does not answer')) END,
       CASE WHEN n % 2000003 = 5 THEN 'rare' WHEN n % 3 = 0 THEN 'mail' END, CASE WHEN n % 50 = 0 THEN 1 + n / 50 % :schedules END
  FROM generate_series(1::bigint, :history) AS n,
       LATERAL (SELECT now() - interval '6 days' + n * interval '6 days' / :history AS t, n % 40 = 7 AS f) AS x;
COMMIT;
INSERT INTO my_worker._jobs (id, queue, handler, payload, priority, run_at, created_at, owner, kind, unique_key)
SELECT n + :history, q, CASE WHEN substr(q, 7)::integer % 3 = 1 THEN 'app.work' END, jsonb_build_object('order', n, 'to', 'bob@example.com'), n % 3,
       CASE WHEN n % 10 = 3 THEN now() + interval '2 days' + n * interval '1 ms' ELSE t END, t,
       CASE WHEN n % 10 = 0 THEN 'shop' ELSE 'postgres' END::regrole, CASE WHEN n % 3 = 0 THEN 'mail' END, CASE WHEN n % 100 = 0 THEN 'key ' || n END
  FROM generate_series(1::bigint, :waiting) AS n,
       LATERAL (SELECT app.queue((1 + 3 * (CASE WHEN n % 3 = 0 THEN n % 10 ELSE n * 104729 % ((:queues - 10) / 3 - 1) END) + n % 2)::integer) AS q,
                       now() - interval '1 day' + n * interval '20 h' / :waiting AS t) AS x;
INSERT INTO my_worker._jobs (id, queue, status, payload, owner, after)
SELECT :history + :waiting + n, app.queue(2), 'blocked', '{}', 'postgres'::regrole, ARRAY[:history + n * 3] FROM generate_series(1, 10000) AS n;
INSERT INTO my_worker._dependencies (job, after) SELECT :history + :waiting + n, :history + n * 3 FROM generate_series(1, 10000) AS n;
INSERT INTO my_worker._jobs (id, queue, payload, owner, origin, last_error)
SELECT :history + :waiting + 10000 + n, 'lost ' || 1 + n % 10, '{"dead": 1}', 'postgres'::regrole, app.queue(20), 'the mail server does not answer'
  FROM generate_series(1, 20000) AS n;
SELECT setval(pg_get_serial_sequence('my_worker._jobs', 'id'), :history + :waiting + 40000);
RESET session_replication_role;
SELECT my_worker.schedule('schedule ' || lpad(n::text, 5, '0'), '0 3 1 1 *', handler := 'app.work') FROM generate_series(1, :schedules) AS n;
VACUUM ANALYZE my_worker._jobs;
VACUUM ANALYZE my_worker.history;
VACUUM ANALYZE my_worker._dependencies;
CALL app.feed(:feed);
CHECKPOINT;
INSERT INTO my_queue (queue, handler, payload) SELECT 'default', 'app.slow', '{}' FROM generate_series(1, 3);
