-- The five-minute tour of README.md, made from it by scripts/tour: do not edit.

CREATE TABLE welcomed (name text);

CREATE FUNCTION welcome(who jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO welcomed VALUES (who->>'name');
    RETURN jsonb_build_object('greeting', 'Hello ' || (who->>'name'));
END
$$;

SELECT my_worker.enqueue('welcome', '{"name": "Ada"}') AS job \gset
SELECT my_worker.wait(:job, '30 s');
SELECT status, attempts, result FROM my_worker.jobs WHERE id = :job;

BEGIN;
INSERT INTO my_queue (handler, payload) VALUES ('welcome', '{"name": "Nobody"}');
ROLLBACK;

INSERT INTO my_queue (handler, payload) VALUES ('welcome', '{"name": "Bob"}') RETURNING id AS job \gset
SELECT my_worker.wait(:job, '30 s');
SELECT name FROM welcomed ORDER BY name;

CREATE SEQUENCE calls;    -- a sequence remembers what a rollback forgets
CREATE FUNCTION call_flaky_service(request jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('calls') < 3 THEN
        RAISE EXCEPTION 'service is down';
    END IF;
    RETURN 'ok';
END
$$;
SELECT my_worker.create_queue('calls', handler := 'call_flaky_service', concurrency := 2,
                              max_attempts := 5, backoff := '50 ms');

INSERT INTO my_queue (queue) VALUES ('calls') RETURNING id AS job \gset
SELECT my_worker.wait(:job, '30 s');
SELECT status, attempts, result, errors->0->>'message' AS first_error FROM my_worker.jobs WHERE id = :job;

SELECT my_worker.enqueue('welcome', '{"name": "Cy"}', priority := -10, run_at := now() + '1 day') AS job \gset
SELECT my_worker.cancel(:job);
SELECT status, priority, attempts FROM my_worker.jobs WHERE id = :job;
SELECT my_worker.retry(:job);
SELECT my_worker.wait(:job, '30 s');

SELECT my_worker.enqueue('welcome', '{"name": "Di"}', run_at := now() + '1 day') AS job \gset
SET client_min_messages = warning;    -- a NOTICE tells the PID
SELECT launch_dynamic_worker(:job) > 0 AS launched;
SELECT my_worker.wait(:job, '30 s');

SELECT my_worker.run('VACUUM (ANALYZE) welcomed') AS job \gset
SELECT my_worker.wait(:job, '30 s');

SELECT my_worker.schedule('tidy up', '0 3 * * mon-fri', 'VACUUM (ANALYZE) welcomed', timezone := 'Europe/Berlin') > 0 AS scheduled;
SELECT to_char(due AT TIME ZONE 'Europe/Berlin', 'Dy YYYY-MM-DD HH24:MI') AS due
  FROM my_worker.next_runs('0 3 * * mon-fri', 3, 'Europe/Berlin', after := '2030-01-03 12:00 UTC') AS due;
SELECT my_worker.run_now('tidy up') AS job \gset
SELECT my_worker.wait(:job, '30 s');
SELECT my_worker.unschedule('tidy up');

SELECT queue, status, count(*) FROM my_worker.jobs GROUP BY 1, 2 ORDER BY 1, 2;
SELECT kind, state FROM my_worker.workers WHERE kind IN ('launcher', 'keeper') ORDER BY kind DESC;
SELECT items_processed > 0 AS at_work, last_run <= clock_timestamp() AS lately FROM my_worker_status;

SELECT my_worker.purge_queue('calls'), my_worker.drop_queue('calls');
DROP TABLE welcomed;
DROP SEQUENCE calls;
DROP FUNCTION welcome, call_flaky_service;
