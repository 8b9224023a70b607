-- launch_dynamic_worker(): a background worker of its own for one job, now.

SET client_min_messages = warning;    -- a NOTICE tells the PID, which is another one each time

CREATE FUNCTION who_runs_me() RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('backend_type', backend_type, 'name', application_name, 'pid', pid)
      FROM pg_stat_activity WHERE pid = pg_backend_pid()
$$;

-- A job that nobody else runs: its time is a year away.
SELECT my_worker.enqueue('who_runs_me', run_at := now() + interval '1 year') AS job \gset
SELECT launch_dynamic_worker(:job) AS pid \gset
SELECT my_worker.wait(:job, '30 s');
SELECT result->>'backend_type' AS backend_type, (result->>'pid')::integer = :pid AS is_the_pid
  FROM my_worker.jobs WHERE id = :job;

-- The worker starts at once and begins when the caller commits. A rollback means: nothing ran.
SELECT my_worker.enqueue('who_runs_me', run_at := now() + interval '1 year') AS job \gset
BEGIN;
SELECT launch_dynamic_worker(:job) > 0 AS started;
ROLLBACK;
SELECT status, attempts FROM my_worker.jobs WHERE id = :job;
SELECT my_worker.cancel(:job);

-- What cannot be launched says why.
SELECT launch_dynamic_worker(0);

DROP FUNCTION who_runs_me;
