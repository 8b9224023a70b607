-- What waits, runs and was counted, one row a queue.
CREATE FUNCTION my_worker._queue_stats(
    OUT queue text, OUT pending bigint, OUT scheduled bigint, OUT processing bigint,
    OUT oldest timestamptz, OUT completed bigint, OUT failed bigint, OUT retried bigint,
    OUT cancelled bigint, OUT wait_mean float8, OUT wait_p50 float8, OUT wait_p95 float8,
    OUT wait_p99 float8, OUT run_mean float8, OUT run_p50 float8, OUT run_p95 float8,
    OUT run_p99 float8) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'mw_queue_stats' LANGUAGE C STRICT VOLATILE ROWS 10;

CREATE VIEW my_worker.queue_stats AS
    SELECT s.queue, s.pending, s.scheduled, s.processing,
           clock_timestamp() - s.oldest AS oldest_pending_age, s.completed, s.failed, s.retried,
           s.cancelled, s.wait_mean, s.wait_p50, s.wait_p95, s.wait_p99, s.run_mean, s.run_p50,
           s.run_p95, s.run_p99
      FROM my_worker._queue_stats() AS s;
COMMENT ON VIEW my_worker.queue_stats IS 'what waits, runs and was counted since the server''s start, one row a queue; durations in milliseconds';

CREATE FUNCTION my_worker.reset_stats() RETURNS void
    AS 'MODULE_PATHNAME', 'mw_reset_stats' LANGUAGE C STRICT;
COMMENT ON FUNCTION my_worker.reset_stats IS 'zeroes the counters of this database''s queues';
