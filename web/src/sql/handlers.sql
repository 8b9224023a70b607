SELECT h.handler, h.runs, h.calls, h.failures, extract(epoch FROM h.last_call_at)::float8, h.run_mean, h.run_p50, h.run_p95, h.run_p99
  FROM my_worker.handler_stats AS h
 ORDER BY h.failures DESC NULLS LAST, h.calls DESC NULLS LAST, h.handler LIMIT 500
