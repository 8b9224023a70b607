SELECT q.name, q.paused, q.handler, q.concurrency, q.max_attempts, q.backoff::text, q.backoff_max::text,
       q.timeout::text, q.retention::text, q.per_key, q.fifo, q.rate, q.rate_period::text, q.burst,
       q.rate_per_key, q.dead_letter, q.jobs_per_savepoint, q.retry_on::text, q.fail_on::text
  FROM my_worker.queues AS q
