/* my_worker--1.0--1.1.sql: what changes from 1.0 to 1.1 */

-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION my_worker UPDATE TO '1.1'" to load this file. \quit

-- Every name below is qualified; the path is pinned so that none can be captured.
SET LOCAL search_path TO pg_catalog, pg_temp;

-- Jobs whose end could not be written stay as failed ones; they are found as claimed commands are, and so
-- are jobs that are due later than they came.
DROP INDEX @extschema@.my_queue_processing_idx;
CREATE INDEX _jobs_later_idx ON @extschema@.my_queue (status, owner, queue, run_at)
    WHERE status <> 'pending' OR run_at > created_at;

-- The status of each part is a constant, or indexed, so that a condition on it leaves out the
-- others; what waits comes in the order of "the latest first".
CREATE OR REPLACE VIEW my_worker.jobs WITH (security_invoker = true) AS
    SELECT q.id, q.queue, 'processing'::text AS status, q.handler, q.command, q.payload, q.priority,
           q.run_at, q.created_at, r.started_at, q.attempts, q.max_attempts, q.timeout, q.unique_key,
           q.owner, q.last_error, NULL::timestamptz AS finished_at, NULL::jsonb AS result, q.errors,
           r.pid, r.progress, r.progress_message
      FROM my_worker._running() AS r JOIN @extschema@.my_queue AS q ON q.id = r.job_id
    UNION ALL
   (SELECT q.id, q.queue, 'pending', q.handler, q.command, q.payload, q.priority, q.run_at,
           q.created_at, q.started_at, q.attempts, q.max_attempts, q.timeout, q.unique_key, q.owner,
           q.last_error, NULL, NULL, q.errors, NULL, NULL, NULL
      FROM @extschema@.my_queue AS q
     WHERE q.status = 'pending' AND NOT my_worker._is_running(q.id) ORDER BY q.id DESC)
    UNION ALL
    SELECT q.id, q.queue, 'processing', q.handler, q.command, q.payload, q.priority, q.run_at,
           q.created_at, q.started_at, q.attempts, q.max_attempts, q.timeout, q.unique_key, q.owner,
           q.last_error, NULL, NULL, q.errors, NULL, NULL, NULL
      FROM @extschema@.my_queue AS q
     WHERE q.status = 'processing' AND NOT my_worker._is_running(q.id)
    UNION ALL
    SELECT q.id, q.queue, 'failed', q.handler, q.command, q.payload, q.priority, q.run_at,
           q.created_at, q.started_at, q.attempts, q.max_attempts, q.timeout, q.unique_key, q.owner,
           q.last_error, NULL, NULL, q.errors, NULL, NULL, NULL
      FROM @extschema@.my_queue AS q WHERE q.status = 'failed'
    UNION ALL
    SELECT h.id, h.queue, h.status, h.handler, h.command, h.payload, h.priority, h.run_at,
           h.created_at, h.started_at, h.attempts, h.max_attempts, h.timeout, h.unique_key, h.owner,
           h.last_error, h.finished_at, h.result, h.errors, NULL, NULL, NULL
      FROM my_worker.history AS h;
