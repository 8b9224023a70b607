-- schedule(): jobs at their time. Rules, a preview, a run by hand, a pause.

CREATE TABLE visits (day date);
INSERT INTO visits SELECT (now() AT TIME ZONE 'UTC')::date - i FROM generate_series(0, 99) AS i;
CREATE FUNCTION forget_visits(payload jsonb) RETURNS text LANGUAGE sql AS $$
    WITH gone AS (DELETE FROM visits WHERE day < (now() AT TIME ZONE 'UTC')::date - (payload->>'keep')::integer RETURNING 1)
    SELECT count(*) || ' forgotten' FROM gone
$$;

-- Try a rule before you use it: 17:00 on the last day of each month.
SELECT t AT TIME ZONE 'Europe/Berlin' AS local
  FROM my_worker.next_runs('0 17 L * *', 3, 'Europe/Berlin', '2025-01-01') AS t;

-- The clock jumps from 02:00 to 03:00: the run is at the next valid instant.
SELECT t AT TIME ZONE 'Europe/Berlin' AS local
  FROM my_worker.next_runs('30 2 * * *', 2, 'Europe/Berlin', '2025-03-29 12:00+01') AS t;

-- A call of a function every night, and a command at top level every Sunday.
SELECT my_worker.schedule('forget', '0 3 * * *', handler := 'forget_visits', payload := '{"keep": 29}') > 0 AS made;
SELECT my_worker.schedule('tidy', '0 4 * * sun', 'VACUUM visits', timezone := 'Europe/Berlin') > 0 AS made;

-- Do not wait for the night.
SELECT my_worker.run_now('forget') AS job \gset
SELECT my_worker.wait(:job, '30 s');
SELECT result FROM my_worker.jobs WHERE id = :job;
SELECT my_worker.run_now('tidy') AS job \gset
SELECT my_worker.wait(:job, '30 s');

SELECT name, schedule, active, next_run_at > now() AS next, last_status FROM my_worker.schedules ORDER BY name;

SELECT my_worker.pause_schedule('tidy');
SELECT name, active, next_run_at FROM my_worker.schedules WHERE name = 'tidy';
SELECT my_worker.resume_schedule('tidy');

SELECT my_worker.unschedule('forget'), my_worker.unschedule('tidy');
DROP TABLE visits;
DROP FUNCTION forget_visits;
