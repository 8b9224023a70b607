SELECT j.id, j.queue, j.status, j.handler, j.command,
       CASE WHEN pg_column_size(j.payload) < 200000 THEN left(jsonb_pretty(j.payload), 100000)
            ELSE format('(%s, too long to show here)', pg_size_pretty(pg_column_size(j.payload)::bigint)) END,
       j.priority, extract(epoch FROM j.run_at)::float8, extract(epoch FROM j.created_at)::float8,
       extract(epoch FROM j.started_at)::float8, extract(epoch FROM j.finished_at)::float8, j.attempts, j.max_attempts,
       j.timeout::text, j.unique_key, j.owner::text, j.last_error,
       CASE WHEN pg_column_size(j.result) < 200000 THEN left(jsonb_pretty(j.result), 100000)
            WHEN j.result IS NOT NULL THEN '(too long to show here)' END,
       j.pid, j.progress, j.progress_message, j.kind,
       CASE WHEN pg_column_size(j.headers) < 20000 THEN jsonb_pretty(j.headers) END,
       j.group_key, j.consumer, extract(epoch FROM j.lease_until)::float8, j.after[1:200], j.after_failed,
       extract(epoch FROM j.expires_at)::float8, j.origin, j.schedule_id, j.waits_for
  FROM my_worker.jobs AS j WHERE j.id = $1 LIMIT 1
