-- application_name is asked for consumers alone: each of these looks at one process.
SELECT w.pid, w.kind, w.database::text, w.role::text, w.state, w.job_id, w.queue,
       extract(epoch FROM w.job_started_at)::float8, w.jobs_done, extract(epoch FROM w.started_at)::float8,
       CASE WHEN w.kind = 'consumer' THEN (SELECT a.application_name FROM pg_stat_get_activity(w.pid) AS a) END
  FROM my_worker.workers AS w
 ORDER BY w.kind <> 'launcher', w.kind <> 'keeper', w.started_at, w.pid
