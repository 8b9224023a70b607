-- What runs in this database: shared memory says which jobs, their rows are read by id.
SELECT j.id, j.pid, left(coalesce(j.handler, j.command, j.kind), 200), j.progress, j.progress_message, j.queue, j.owner::text
  FROM my_worker.jobs AS j
 WHERE j.pid IS NOT NULL
