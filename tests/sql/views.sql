-- What the views show of jobs and processes while they run.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE SCHEMA work;
CREATE FUNCTION work.gated() RETURNS text LANGUAGE sql AS $$SELECT pg_advisory_xact_lock(4719); SELECT 'done'$$;
CREATE FUNCTION work.bad() RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END $$;
SELECT my_worker.create_queue('seen', backoff => '1 h');
-- One row a job, in each status.
SELECT pg_advisory_lock(4719);
SELECT my_worker.enqueue('work.gated', queue => 'seen') AS running \gset
CALL pg_temp.wait_until(format('SELECT status = ''processing'' FROM my_worker.jobs WHERE id = %s', :running));
SELECT my_worker.enqueue('work.bad', queue => 'seen') AS retried, my_worker.enqueue('work.bad', queue => 'seen', max_attempts => 1) AS failed,
       my_worker.enqueue('work.bad', queue => 'seen', run_at => 'infinity') AS scheduled \gset
CALL pg_temp.wait_until(format('SELECT attempts = 1 FROM my_worker.jobs WHERE id = %s', :retried));
SELECT my_worker.wait(:failed, '30 s'), my_worker.cancel(:scheduled);
SELECT handler, status, attempts, pid IS NOT NULL AS pid, started_at IS NOT NULL AS started_at, finished_at IS NOT NULL AS finished_at,
       last_error, jsonb_array_length(errors) AS errors, run_at > now() AS later FROM my_worker.jobs WHERE queue = 'seen' ORDER BY id;
-- The row in the table is still what it was: nothing is committed for a running job.
SELECT status, attempts, started_at FROM my_queue WHERE id = :running;
-- A process a row. The launcher has no database, the keeper no role, an idle worker no job.
SELECT kind, slot IS NULL AS no_slot, count(*) AS rows, bool_and(pid IN (SELECT pid FROM pg_stat_activity WHERE backend_type = 'my_custom_worker')) AS active,
       max(database) AS database, bool_and(role IS NULL) AS no_role, bool_and(started_at <= now()) AS started
  FROM my_worker.workers WHERE kind IN ('launcher', 'keeper') GROUP BY kind, no_slot ORDER BY kind;
SELECT state, queue, job_started_at <= now() AS job_started, jobs_done >= 0 AS jobs_done, pid = (SELECT pid FROM my_worker.jobs WHERE id = :running) AS its_pid
  FROM my_worker.workers WHERE job_id = :running;
SELECT count(*) AS rows, count(DISTINCT pid) AS processes, count(DISTINCT coalesce(slot, 0)) AS slots, count(job_id) AS jobs FROM my_worker.workers \gset
SELECT :rows = :processes AS pids, :rows = :slots AS slots, :jobs AS jobs;
-- Counted when it has ended.
SELECT items_processed AS before FROM my_worker_status \gset
SELECT pg_advisory_unlock(4719);
SELECT my_worker.wait(:running, '30 s');
SELECT status, result, attempts, pid, progress, finished_at >= started_at AS finished FROM my_worker.jobs WHERE id = :running;
CALL pg_temp.wait_until(format('SELECT items_processed > %s FROM my_worker_status', :before));
SELECT last_run <= clock_timestamp() AS last_run FROM get_worker_stats();
CALL pg_temp.wait_until('SELECT count(*) = 0 FROM my_worker.workers WHERE job_id IS NOT NULL OR queue IS NOT NULL OR job_started_at IS NOT NULL');
-- Readers of statistics see no column that holds a job's own words.
SELECT attrelid::regclass, attname FROM pg_attribute
 WHERE attrelid IN ('my_worker.workers'::regclass, 'my_worker_status'::regclass)
   AND attname IN ('payload', 'last_error', 'errors', 'result', 'command', 'handler', 'progress_message');
SELECT my_worker.drop_queue('seen', true);
DROP SCHEMA work CASCADE;
