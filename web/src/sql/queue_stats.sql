SELECT s.queue, s.pending, s.scheduled, s.processing, s.blocked, s.limited,
       extract(epoch FROM s.oldest_pending_age)::float8, s.completed, s.failed, s.retried, s.cancelled,
       s.wait_p50, s.wait_p95, s.wait_p99, s.run_p50, s.run_p95, s.run_p99, s.estimated
  FROM my_worker.queue_stats AS s
