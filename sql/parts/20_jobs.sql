-- Putting jobs in.
CREATE FUNCTION my_worker.enqueue(
    handler text, payload jsonb DEFAULT '{}', queue text DEFAULT 'default',
    priority integer DEFAULT 0, run_at timestamptz DEFAULT NULL, max_attempts integer DEFAULT NULL,
    timeout interval DEFAULT NULL, unique_key text DEFAULT NULL, group_key text DEFAULT NULL, after bigint[] DEFAULT NULL,
    after_failed text DEFAULT 'cancel', expires_at timestamptz DEFAULT NULL,
    unique_mode text DEFAULT 'keep') RETURNS bigint
    AS 'MODULE_PATHNAME', 'mw_enqueue_1_1' LANGUAGE C;
COMMENT ON FUNCTION my_worker.enqueue IS 'enqueues a call of a handler function and returns the job''s id';

CREATE FUNCTION my_worker.enqueue_many(
    handler text, payloads jsonb[], queue text DEFAULT 'default', priority integer DEFAULT 0,
    run_at timestamptz DEFAULT NULL, max_attempts integer DEFAULT NULL,
    timeout interval DEFAULT NULL, group_key text DEFAULT NULL, after bigint[] DEFAULT NULL,
    after_failed text DEFAULT 'cancel', expires_at timestamptz DEFAULT NULL) RETURNS SETOF bigint
    AS 'MODULE_PATHNAME', 'mw_enqueue_many_1_1' LANGUAGE C;
COMMENT ON FUNCTION my_worker.enqueue_many IS 'enqueues one call of a handler for each payload and returns the ids';

CREATE FUNCTION my_worker.run(
    command text, queue text DEFAULT 'default', priority integer DEFAULT 0,
    run_at timestamptz DEFAULT NULL, max_attempts integer DEFAULT 1,
    timeout interval DEFAULT NULL, unique_key text DEFAULT NULL, group_key text DEFAULT NULL, after bigint[] DEFAULT NULL,
    after_failed text DEFAULT 'cancel', expires_at timestamptz DEFAULT NULL,
    unique_mode text DEFAULT 'keep') RETURNS bigint
    AS 'MODULE_PATHNAME', 'mw_run_1_1' LANGUAGE C;
COMMENT ON FUNCTION my_worker.run IS 'enqueues an SQL command, run at top level, and returns the job''s id';

-- Dealing with jobs.
CREATE FUNCTION my_worker.cancel(job_id bigint) RETURNS boolean
    AS 'MODULE_PATHNAME', 'mw_cancel' LANGUAGE C STRICT;
COMMENT ON FUNCTION my_worker.cancel IS 'cancels a waiting or running job; false if it is finished or unknown';

CREATE FUNCTION my_worker.retry(job_id bigint) RETURNS boolean
    AS 'MODULE_PATHNAME', 'mw_retry' LANGUAGE C STRICT;
COMMENT ON FUNCTION my_worker.retry IS 'puts a failed or cancelled job back into my_queue';

CREATE FUNCTION my_worker.run_soon(job_id bigint) RETURNS boolean
    AS 'MODULE_PATHNAME', 'mw_run_soon' LANGUAGE C STRICT;
COMMENT ON FUNCTION my_worker.run_soon IS 'has a job that waits for a later time run now; false for any other';

CREATE FUNCTION my_worker.snooze(delay interval) RETURNS void
    AS 'MODULE_PATHNAME', 'mw_snooze' LANGUAGE C;
COMMENT ON FUNCTION my_worker.snooze IS 'within a job: it comes again after that delay, and no attempt is charged';

CREATE FUNCTION my_worker.give_up(reason text) RETURNS void
    AS 'MODULE_PATHNAME', 'mw_give_up' LANGUAGE C;
COMMENT ON FUNCTION my_worker.give_up IS 'within a job: it fails now, whatever attempts it has left';

CREATE FUNCTION my_worker.wait(job_id bigint, timeout interval DEFAULT NULL) RETURNS text
    AS 'MODULE_PATHNAME', 'mw_wait' LANGUAGE C;
COMMENT ON FUNCTION my_worker.wait IS 'waits for a job to finish and returns its final status, NULL on time-out';

CREATE FUNCTION my_worker.perform(job_id bigint) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'mw_perform' LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION my_worker.perform IS 'runs a waiting job of the caller''s at once, in this session and transaction, and returns its result';

CREATE FUNCTION my_worker.progress(percent real, message text DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'mw_progress' LANGUAGE C;
COMMENT ON FUNCTION my_worker.progress(real, text) IS 'reports how far the running job is';

CREATE FUNCTION my_worker.current_job() RETURNS bigint
    AS 'MODULE_PATHNAME', 'mw_current_job' LANGUAGE C STABLE;
COMMENT ON FUNCTION my_worker.current_job IS 'the id of the job that runs this call, NULL outside a job';

-- What runs now, of the roles whose rights the caller has; statistics readers see the rest
-- without what the jobs say.
CREATE FUNCTION my_worker_internal.at_work(
    OUT job_id bigint, OUT pid integer, OUT started_at timestamptz, OUT progress real,
    OUT progress_message text, OUT is_consumer boolean) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'mw_at_work' LANGUAGE C STRICT VOLATILE ROWS 10;

-- What the consumer of a job whose row holds the lease has said of its progress.
CREATE FUNCTION my_worker_internal.lease_progress(
    job_id bigint, lease bigint, OUT progress real, OUT progress_message text)
    AS 'MODULE_PATHNAME', 'mw_lease_progress_of' LANGUAGE C STRICT VOLATILE;

-- Whether a job is one of those. In one statement both functions answer by one look.
CREATE FUNCTION my_worker_internal.is_running(job_id bigint) RETURNS boolean
    AS 'MODULE_PATHNAME', 'mw_is_running' LANGUAGE C STRICT VOLATILE;

-- What a job waits for, beside its time and a worker; NULL for nothing, and for jobs of roles whose rights the caller
-- does not have.
CREATE FUNCTION my_worker_internal.waits_for(job_id bigint) RETURNS text
    AS 'MODULE_PATHNAME', 'mw_waits_for' LANGUAGE C STRICT VOLATILE;

-- The status of each part is a constant, or indexed, so that a condition on it leaves out the
-- others; what waits comes in the order of "the latest first".
CREATE VIEW my_worker.jobs WITH (security_invoker = true) AS
    SELECT q.id, q.queue, 'processing'::text AS status, q.handler, q.command, q.payload, q.priority,
           q.run_at, q.created_at, r.started_at, q.attempts, q.max_attempts, q.timeout, q.unique_key,
           q.owner, q.last_error, NULL::timestamptz AS finished_at, NULL::jsonb AS result, q.errors,
           r.pid, r.progress, r.progress_message, q.kind, q.headers, q.group_key,
           CASE WHEN r.is_consumer THEN (SELECT a.application_name FROM pg_stat_get_activity(r.pid) AS a) END AS consumer,
           NULL::timestamptz AS lease_until, q.after, q.after_failed, q.expires_at, q.origin, q.schedule_id,
           NULL::text AS waits_for
      FROM my_worker_internal.at_work() AS r JOIN my_worker._jobs AS q ON q.id = r.job_id
     WHERE q.lease IS NULL
    UNION ALL
   (SELECT q.id, q.queue, 'pending', q.handler, q.command, q.payload, q.priority, q.run_at,
           q.created_at, q.started_at, q.attempts, q.max_attempts, q.timeout, q.unique_key, q.owner,
           q.last_error, NULL, NULL, q.errors, NULL, NULL, NULL, q.kind, q.headers, q.group_key, NULL, NULL,
           q.after, q.after_failed, q.expires_at, q.origin, q.schedule_id,
           CASE WHEN q.group_key IS NOT NULL THEN my_worker_internal.waits_for(q.id) END
      FROM my_worker._jobs AS q
     WHERE q.status = 'pending' AND NOT my_worker_internal.is_running(q.id) ORDER BY q.id DESC)
    UNION ALL
    SELECT q.id, q.queue, 'processing', q.handler, q.command, q.payload, q.priority, coalesce(q.lease_run_at, q.run_at),
           q.created_at, q.started_at, q.attempts, q.max_attempts, q.timeout, q.unique_key, q.owner,
           q.last_error, NULL, NULL, q.errors, NULL, p.progress, p.progress_message, q.kind, q.headers, q.group_key,
           q.consumer, CASE WHEN q.lease IS NOT NULL THEN q.run_at END,
           q.after, q.after_failed, q.expires_at, q.origin, q.schedule_id, NULL
      FROM my_worker._jobs AS q LEFT JOIN LATERAL my_worker_internal.lease_progress(q.id, q.lease) AS p ON q.lease IS NOT NULL
     WHERE q.status = 'processing' AND (q.lease IS NOT NULL OR NOT my_worker_internal.is_running(q.id))
    UNION ALL
   (SELECT q.id, q.queue, 'blocked', q.handler, q.command, q.payload, q.priority, q.run_at,
           q.created_at, q.started_at, q.attempts, q.max_attempts, q.timeout, q.unique_key, q.owner,
           q.last_error, NULL, NULL, q.errors, NULL, NULL, NULL, q.kind, q.headers, q.group_key, NULL, NULL,
           q.after, q.after_failed, q.expires_at, q.origin, q.schedule_id, my_worker_internal.waits_for(q.id)
      FROM my_worker._jobs AS q WHERE q.status = 'blocked' ORDER BY q.id DESC)
    UNION ALL
    SELECT q.id, q.queue, 'failed', q.handler, q.command, q.payload, q.priority, q.run_at,
           q.created_at, q.started_at, q.attempts, q.max_attempts, q.timeout, q.unique_key, q.owner,
           q.last_error, NULL, NULL, q.errors, NULL, NULL, NULL, q.kind, q.headers, q.group_key, NULL, NULL,
           q.after, q.after_failed, q.expires_at, q.origin, q.schedule_id, NULL
      FROM my_worker._jobs AS q WHERE q.status = 'failed'
    UNION ALL
    SELECT h.id, h.queue, h.status, h.handler, h.command, h.payload, h.priority, h.run_at,
           h.created_at, h.started_at, h.attempts, h.max_attempts, h.timeout, h.unique_key, h.owner,
           h.last_error, h.finished_at, h.result, h.errors, NULL, NULL, NULL, h.kind, h.headers, h.group_key, NULL, NULL,
           h.after, h.after_failed, h.expires_at, h.origin, h.schedule_id, NULL
      FROM my_worker.history AS h;
COMMENT ON VIEW my_worker.jobs IS 'all jobs, waiting, running and finished, one row each';

-- Dealing with queues.
CREATE FUNCTION my_worker.create_queue(
    name text, handler text DEFAULT NULL, concurrency integer DEFAULT NULL,
    max_attempts integer DEFAULT 5, backoff interval DEFAULT '5 s', backoff_max interval DEFAULT '1 h',
    timeout interval DEFAULT NULL, retention interval DEFAULT '7 days', per_key integer DEFAULT NULL,
    fifo boolean DEFAULT false, rate integer DEFAULT NULL, rate_period interval DEFAULT NULL,
    burst integer DEFAULT 1, rate_per_key boolean DEFAULT false, dead_letter text DEFAULT NULL,
    jobs_per_savepoint integer DEFAULT 1, retry_on text[] DEFAULT NULL, fail_on text[] DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'mw_create_queue_1_1' LANGUAGE C;
COMMENT ON FUNCTION my_worker.create_queue IS 'creates a queue with its settings';

CREATE FUNCTION my_worker.alter_queue(
    name text, handler text DEFAULT NULL, concurrency integer DEFAULT NULL,
    max_attempts integer DEFAULT NULL, backoff interval DEFAULT NULL,
    backoff_max interval DEFAULT NULL, timeout interval DEFAULT NULL,
    retention interval DEFAULT NULL, per_key integer DEFAULT NULL, fifo boolean DEFAULT NULL,
    rate integer DEFAULT NULL, rate_period interval DEFAULT NULL, burst integer DEFAULT NULL,
    rate_per_key boolean DEFAULT NULL, dead_letter text DEFAULT NULL, jobs_per_savepoint integer DEFAULT NULL,
    retry_on text[] DEFAULT NULL, fail_on text[] DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'mw_alter_queue_1_1' LANGUAGE C;
COMMENT ON FUNCTION my_worker.alter_queue IS 'changes the settings of a queue that are given';

CREATE FUNCTION my_worker.reset_queue(name text, VARIADIC settings text[]) RETURNS void
    AS 'MODULE_PATHNAME', 'mw_reset_queue' LANGUAGE C;
COMMENT ON FUNCTION my_worker.reset_queue IS 'puts settings of a queue back to their defaults';

CREATE FUNCTION my_worker.redrive(queue text, n integer DEFAULT NULL) RETURNS bigint
    AS 'MODULE_PATHNAME', 'mw_redrive' LANGUAGE C;
COMMENT ON FUNCTION my_worker.redrive IS 'sends waiting jobs of a dead-letter queue back to where they came from, and returns how many';

CREATE FUNCTION my_worker.drop_queue(name text, force boolean DEFAULT false) RETURNS void
    AS 'MODULE_PATHNAME', 'mw_drop_queue' LANGUAGE C;
COMMENT ON FUNCTION my_worker.drop_queue IS 'drops an empty queue, or with force a queue and its jobs';

CREATE FUNCTION my_worker.pause_queue(name text) RETURNS void
    AS 'MODULE_PATHNAME', 'mw_pause_queue' LANGUAGE C;
COMMENT ON FUNCTION my_worker.pause_queue IS 'starts no more jobs of a queue; running ones go on';

CREATE FUNCTION my_worker.resume_queue(name text) RETURNS void
    AS 'MODULE_PATHNAME', 'mw_resume_queue' LANGUAGE C;
COMMENT ON FUNCTION my_worker.resume_queue IS 'starts jobs of a paused queue again';

CREATE FUNCTION my_worker.purge_queue(name text) RETURNS bigint
    AS 'MODULE_PATHNAME', 'mw_purge_queue' LANGUAGE C;
COMMENT ON FUNCTION my_worker.purge_queue IS 'deletes the waiting jobs of a queue and its finished ones, and returns how many';
