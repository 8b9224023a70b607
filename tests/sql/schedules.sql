-- Schedules as SQL shows them: definition, errors, who may do what, next_runs. Firing is tested
-- by tests/t/030_schedules.pl and its neighbours.

SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE SCHEMA schedules;
CREATE TABLE schedules.ran (at timestamptz DEFAULT clock_timestamp(), payload jsonb);
CREATE FUNCTION schedules.work(payload jsonb) RETURNS void LANGUAGE sql
    AS 'INSERT INTO schedules.ran (payload) VALUES (payload)';
CREATE FUNCTION schedules.no_handler(integer) RETURNS void LANGUAGE sql AS '';

-- Defining one.
SELECT my_worker.schedule('nightly', '0 3 * * *', 'VACUUM', timezone := 'europe/berlin') > 0 AS has_id;
SELECT my_worker.schedule('tick', 'every 1 hour', handler := 'schedules.work',
                          payload := '{"n": 1}', overlap := 'queue', catchup := 'all',
                          timeout := '1 min') > 0 AS has_id;
SELECT name, schedule, timezone, command, handler, active, next_run_at > now() AS future, last_run_at,
       last_status, last_job_id, owner = current_user::regrole AS mine, payload, queue, overlap,
       catchup, max_attempts, timeout, disabled_reason
  FROM my_worker.schedules ORDER BY name \gx
SELECT next_run_at = (SELECT * FROM my_worker.next_runs('0 3 * * *', 1, 'Europe/Berlin')) AS as_previewed
  FROM my_worker.schedules WHERE name = 'nightly';
SELECT next_run_at = created_at + interval '1 hour' AS counts_from_creation
  FROM my_worker.schedules WHERE name = 'tick';

-- Upsert: the same rule keeps its next run, another one does not; the id stays.
SELECT id, next_run_at FROM my_worker.schedules WHERE name = 'tick' \gset
SELECT my_worker.schedule('tick', 'every 1 hour', handler := 'schedules.work') = :id AS same_id;
SELECT next_run_at = :'next_run_at' AS same_next, payload, overlap, catchup, timeout
  FROM my_worker.schedules WHERE name = 'tick';
SELECT my_worker.schedule('tick', 'every 2 hours', 'SELECT 1', max_attempts := 3) = :id AS same_id;
SELECT next_run_at > :'next_run_at' AS later, command, handler, max_attempts
  FROM my_worker.schedules WHERE name = 'tick';

-- Pause and resume.
SELECT my_worker.pause_schedule('tick');
SELECT active, next_run_at FROM my_worker.schedules WHERE name = 'tick';
SELECT my_worker.schedule('tick', 'every 2 hours', 'SELECT 2') = :id AS still_paused;
SELECT active, next_run_at, command FROM my_worker.schedules WHERE name = 'tick';
SELECT my_worker.resume_schedule('tick');
SELECT active, next_run_at > now() AS future FROM my_worker.schedules WHERE name = 'tick';
SELECT my_worker.resume_schedule('tick');

-- run_now: also of a paused one.
SELECT my_worker.schedule('hand', '@yearly', handler := 'schedules.work', payload := '{"by": "hand"}') > 0 AS has_id;
SELECT my_worker.pause_schedule('hand');
SELECT my_worker.run_now('hand') AS job \gset
SELECT my_worker.wait(:job, '30 s');
SELECT active, last_status, last_job_id = :job AS that_job, last_run_at IS NOT NULL AS ran
  FROM my_worker.schedules WHERE name = 'hand';
SELECT handler, payload, status, attempts FROM my_worker.jobs WHERE id = :job;
SELECT payload FROM schedules.ran;

-- Its past: each job knows the schedule that it comes from, also when it is retried.
SELECT j.schedule_id = s.id AS of_it FROM my_worker.jobs AS j, my_worker.schedules AS s WHERE j.id = :job AND s.name = 'hand';
SELECT my_worker.schedule('fails', '@yearly', 'SELECT 1 / 0') AS fails \gset
SELECT my_worker.run_now('fails') AS a, my_worker.run_now('fails') AS b \gset
SELECT schedule_id = :fails AS of_it FROM my_queue WHERE id = :b
 UNION ALL SELECT schedule_id = :fails FROM my_worker.history WHERE id = :b;
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s');
SELECT runs, last_duration > '0' AS lasted, last_error FROM my_worker.schedules WHERE name IN ('hand', 'fails') ORDER BY name;
SELECT my_worker.retry(:b);
SELECT my_worker.wait(:b, '30 s');
SELECT runs FROM my_worker.schedules WHERE name = 'fails';
SELECT id IN (:a, :b) AS known, status, attempts FROM my_worker.history WHERE schedule_id = :fails ORDER BY id DESC LIMIT 10;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
EXPLAIN (COSTS OFF) SELECT * FROM my_worker.history WHERE schedule_id = 7 ORDER BY id DESC LIMIT 10;
RESET enable_seqscan;
RESET enable_bitmapscan;
-- A new rule keeps the count, and what is unscheduled keeps its past.
SELECT my_worker.schedule('fails', '@monthly', 'SELECT 1') = :fails AS same_id;
SELECT runs FROM my_worker.schedules WHERE name = 'fails';
SELECT my_worker.unschedule('fails');
SELECT count(*) FROM my_worker.history WHERE schedule_id = :fails;
-- No job of others says that it is of a schedule.
CREATE ROLE schedules_stranger;
GRANT ALL ON my_queue, my_worker._jobs TO schedules_stranger;
GRANT USAGE ON SCHEMA my_worker TO schedules_stranger;
SET ROLE schedules_stranger;
\set VERBOSITY sqlstate
INSERT INTO my_worker._jobs (command, schedule_id) VALUES ('SELECT 1', 1);
\set VERBOSITY default
RESET ROLE;
DROP OWNED BY schedules_stranger;
DROP ROLE schedules_stranger;

-- Unschedule.
SELECT my_worker.unschedule('tick');
SELECT my_worker.unschedule('tick');
SELECT my_worker.pause_schedule('tick');
SELECT my_worker.resume_schedule('tick');
SELECT my_worker.run_now('tick');
SELECT name FROM my_worker.schedules ORDER BY name;

-- A rollback leaves nothing.
BEGIN;
SELECT my_worker.schedule('gone', 'every 1 second', 'SELECT 1') > 0 AS has_id;
ROLLBACK;
SELECT count(*) FROM my_worker.schedules WHERE name = 'gone';

-- What is refused.
CREATE FUNCTION schedules.refused(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text; message text; detail text; hint text;
BEGIN
    EXECUTE sql;
    RETURN 'accepted: ' || sql;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
        detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN format('%s: %s | %s | %s', state, message, detail, hint);
END
$$;
SELECT schedules.refused(format($$SELECT my_worker.schedule('x', %L, 'SELECT 1')$$, schedule))
  FROM (VALUES (1, ''), (2, '* * * *'), (3, '61 * * * *'), (4, '0 0 30 2 *'), (5, '@often'),
               (6, 'every'), (7, 'every second way'), (8, 'every 500 milliseconds'), (9, 'every 0'),
               (10, 'every -1 hour'), (11, 'every 100000 years'), (12, '*/0 * * * *'),
               (13, '5-1 * * * *'), (14, 'x * * * *'), (15, 'every century'),
               (16, repeat('1,', 600) || '1 * * * *')) AS v(n, schedule)
 ORDER BY n;
SELECT schedules.refused(sql) FROM (VALUES
    (1, $$SELECT my_worker.schedule('x', '@daily')$$),
    (2, $$SELECT my_worker.schedule('x', '@daily', 'SELECT 1', 'schedules.work')$$),
    (3, $$SELECT my_worker.schedule('x', '@daily', 'SELECT 1', timezone := 'Mars/Phobos')$$),
    (4, $$SELECT my_worker.schedule('x', '@daily', 'SELECT 1', timezone := '')$$),
    (5, $$SELECT my_worker.schedule('x', '@daily', 'SELECT 1', overlap := 'never')$$),
    (6, $$SELECT my_worker.schedule('x', '@daily', 'SELECT 1', catchup := 'two')$$),
    (7, $$SELECT my_worker.schedule('x', '@daily', 'SELECT 1', queue := 'nowhere')$$),
    (8, $$SELECT my_worker.schedule('x', '@daily', handler := 'schedules.nothing')$$),
    (9, $$SELECT my_worker.schedule('x', '@daily', handler := 'schedules.no_handler')$$),
    (10, $$SELECT my_worker.schedule('x', '@daily', 'SELECT 1', max_attempts := 0)$$),
    (11, $$SELECT my_worker.schedule('x', '@daily', 'SELECT 1', timeout := '-1 s')$$),
    (12, $$SELECT my_worker.schedule('', '@daily', 'SELECT 1')$$),
    (13, $$SELECT my_worker.schedule(repeat('x', 64), '@daily', 'SELECT 1')$$),
    (14, $$SELECT my_worker.schedule(NULL, '@daily', 'SELECT 1')$$),
    (15, $$SELECT my_worker.schedule('x', NULL, 'SELECT 1')$$),
    (16, $$SELECT my_worker.schedule('x', '@daily', 'SELECT 1', overlap := NULL)$$),
    (17, $$SELECT my_worker.schedule('x', '@daily', 'SELECT 1', queue := NULL)$$),
    (18, $$SELECT * FROM my_worker.next_runs('@daily', -1)$$),
    (19, $$SELECT * FROM my_worker.next_runs('@daily', NULL)$$),
    (20, $$SELECT * FROM my_worker.next_runs('@daily', timezone := 'Mars/Phobos')$$),
    (21, $$SELECT my_worker.unschedule(NULL)$$)) AS v(n, sql)
 ORDER BY n;
SELECT count(*) FROM my_worker.schedules WHERE name IN ('x', '');

-- Names and texts beyond ASCII; the longest name.
SELECT my_worker.schedule('zeitplan "täglich" ø', '@daily', 'SELECT ''ä''') > 0 AS has_id;
SELECT name, command FROM my_worker.schedules WHERE name LIKE 'zeit%';
SELECT my_worker.unschedule('zeitplan "täglich" ø');
SELECT schedules.refused($$SELECT my_worker.schedule('x', 'täglich', 'SELECT 1')$$);
SELECT my_worker.schedule(repeat('n', 63), '@daily', 'SELECT 1') > 0 AS has_id;
SELECT my_worker.unschedule(repeat('n', 63));

-- Who may do what: nothing without grant_usage(), then one's own.
CREATE ROLE schedules_alice LOGIN;
CREATE ROLE schedules_bob LOGIN;
CREATE ROLE schedules_boss LOGIN IN ROLE schedules_alice, schedules_bob;
GRANT USAGE ON SCHEMA schedules TO schedules_alice, schedules_bob, schedules_boss;
SELECT p.proname FROM pg_proc AS p, aclexplode(p.proacl) AS a
 WHERE p.pronamespace = 'my_worker'::regnamespace AND a.grantee = 0;
SET ROLE schedules_alice;
SELECT schedules.refused($$SELECT my_worker.schedule('x', '@daily', 'SELECT 1')$$);
SELECT schedules.refused($$SELECT * FROM my_worker.schedules$$);
RESET ROLE;
SELECT my_worker.grant_usage('schedules_alice');
SELECT my_worker.grant_usage('schedules_bob');
SELECT my_worker.grant_usage('schedules_boss');
REVOKE EXECUTE ON FUNCTION schedules.work FROM PUBLIC;
SET ROLE schedules_alice;
SELECT my_worker.schedule('nightly', '@weekly', 'SELECT ''alice''') > 0 AS has_id;
SELECT my_worker.schedule('hers', '@weekly', 'SELECT ''alice''') > 0 AS has_id;
SELECT schedules.refused($$SELECT my_worker.schedule('x', '@daily', handler := 'schedules.work')$$);
SELECT schedules.refused($$UPDATE my_worker._schedules SET owner = 'pg_monitor'$$);
SELECT schedules.refused($$INSERT INTO my_worker._schedules (name, schedule, timezone, command) VALUES ('x', '', '', '')$$);
SET ROLE schedules_bob;
SELECT my_worker.schedule('nightly', '@monthly', 'SELECT ''bob''') > 0 AS has_id;
SELECT name, owner FROM my_worker.schedules;
SELECT schedules.refused($$SELECT my_worker.unschedule('hers')$$);
SELECT schedules.refused($$SELECT my_worker.unschedule('hers', 'schedules_alice')$$);
SELECT schedules.refused($$SELECT my_worker.run_now('hers')$$);
SET ROLE schedules_boss;
SELECT name, owner FROM my_worker.schedules ORDER BY name, owner::text;
SELECT schedules.refused($$SELECT my_worker.pause_schedule('nightly')$$);
SELECT my_worker.pause_schedule('nightly', 'schedules_bob');
SELECT my_worker.pause_schedule('hers');
RESET ROLE;
SELECT name, owner, active FROM my_worker.schedules WHERE owner <> current_user::regrole ORDER BY name, owner::text;
SELECT my_worker.run_now('nightly', 'schedules_alice') AS job \gset
SELECT owner, command FROM my_worker.jobs WHERE id = :job;
SELECT my_worker.unschedule('nightly', 'schedules_alice');
SELECT my_worker.unschedule('nightly', 'schedules_bob');
SELECT my_worker.unschedule('hers');

-- next_runs: the grammar.
\pset tuples_only on
\pset format unaligned
SELECT schedule, array_to_string(array_agg(t), ', ')
  FROM (VALUES (1, '*/15 9-17 * * mon-fri'), (2, '0 12 1,15 * *'), (3, '30 4 L * *'), (4, '0 0 29 2 *'),
               (5, '0 0 1 * mon'), (6, '15 30 2 * * *'), (7, '*/20 * * * * *'), (8, '@hourly'),
               (9, '@daily'), (10, '@weekly'), (11, '@monthly'), (12, '@yearly'), (13, 'every 90 minutes'),
               (14, 'every 1 month'), (15, 'EVERY  1 day 02:00'), (16, 'every PT5M'), (17, '0 0 30 2 *'),
               (18, '5 4 * jan,jul sun')) AS v(n, schedule),
       LATERAL (SELECT * FROM my_worker.next_runs(schedule, 4, 'UTC', '2024-01-31 10:07:30.5+00')) AS r(t)
 GROUP BY n, schedule ORDER BY n;
SELECT count(*) FROM my_worker.next_runs('@daily');
SELECT count(*) FROM my_worker.next_runs('@daily', 0);
SELECT count(*) FROM my_worker.next_runs('* * * * *', 10000);
SELECT count(*) FROM my_worker.next_runs('@daily', after := 'infinity');
SELECT * FROM my_worker.next_runs('@yearly', 2, after := '9998-06-01');
SELECT min(t) > now() FROM my_worker.next_runs('@hourly', after := NULL) AS t;

-- Spring: 02:30 does not exist in Berlin on 30 March 2025, so the run is at the next valid instant.
SELECT t AT TIME ZONE 'Europe/Berlin' FROM my_worker.next_runs('30 2 * * *', 3, 'Europe/Berlin', '2025-03-28 12:00+00') AS t;
-- Several skipped readings are one run.
SELECT t AT TIME ZONE 'Europe/Berlin' FROM my_worker.next_runs('*/20 2,3 * * *', 4, 'Europe/Berlin', '2025-03-29 12:00+00') AS t;
-- Autumn: 02:30 comes twice on 26 October 2025 and runs once.
SELECT t, t AT TIME ZONE 'Europe/Berlin' FROM my_worker.next_runs('30 2 * * *', 3, 'Europe/Berlin', '2025-10-24 12:00+00') AS t;
-- Every hour goes on every hour.
SELECT t FROM my_worker.next_runs('0 * * * *', 4, 'Europe/Berlin', '2025-10-25 23:30+00') AS t;
-- A day keeps its time of day, 24 hours do not.
SELECT t AT TIME ZONE 'America/New_York' FROM my_worker.next_runs('every 1 day', 2, 'America/New_York', '2025-03-08 12:00+00') AS t;
SELECT t AT TIME ZONE 'America/New_York' FROM my_worker.next_runs('every 24 hours', 2, 'America/New_York', '2025-03-08 12:00+00') AS t;
-- Half an hour, a quarter, and a day that Samoa left out.
SELECT t AT TIME ZONE 'Australia/Lord_Howe' FROM my_worker.next_runs('15 2 * * *', 2, 'Australia/Lord_Howe', '2025-10-03 16:00+00') AS t;
SELECT t FROM my_worker.next_runs('0 0 * * *', 2, 'Asia/Kathmandu', '2025-10-03 16:00+00') AS t;
SELECT t AT TIME ZONE 'Pacific/Apia' FROM my_worker.next_runs('0 12 * * *', 3, 'Pacific/Apia', '2011-12-29 10:00+00') AS t;
\pset tuples_only off
\pset format aligned

SELECT my_worker.unschedule(name) FROM my_worker.schedules ORDER BY name;
SELECT my_worker.revoke_usage('schedules_boss');
SELECT my_worker.revoke_usage('schedules_alice');
SELECT my_worker.revoke_usage('schedules_bob');
SET client_min_messages = warning;
DROP SCHEMA schedules CASCADE;
DROP ROLE schedules_alice, schedules_bob, schedules_boss;
