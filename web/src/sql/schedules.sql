-- Schedules by name, after one of a name and owner; runs of each come by another statement.
SELECT s.id, s.name, s.owner::text, s.schedule, s.timezone, left(coalesce(s.command, s.handler), 200), s.queue, s.active,
       extract(epoch FROM s.next_run_at)::float8, extract(epoch FROM s.last_run_at)::float8, s.last_status, s.last_job_id,
       s.overlap, s.catchup, s.disabled_reason, s.runs, extract(epoch FROM s.last_duration)::float8, s.last_error, s.held
  FROM my_worker.schedules AS s
 WHERE ($1 = '' OR strpos(s.name, $1) > 0) AND (s.name, s.id) > ($2, $3)
 ORDER BY s.name, s.id LIMIT 26
