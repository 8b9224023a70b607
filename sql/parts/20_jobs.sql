-- Putting jobs in.
CREATE FUNCTION my_worker.enqueue(
    handler text, payload jsonb DEFAULT '{}', queue text DEFAULT 'default',
    priority integer DEFAULT 0, run_at timestamptz DEFAULT NULL, max_attempts integer DEFAULT NULL,
    timeout interval DEFAULT NULL, unique_key text DEFAULT NULL) RETURNS bigint
    AS 'MODULE_PATHNAME', 'mw_enqueue' LANGUAGE C;
COMMENT ON FUNCTION my_worker.enqueue IS 'enqueues a call of a handler function and returns the job''s id';

CREATE FUNCTION my_worker.enqueue_many(
    handler text, payloads jsonb[], queue text DEFAULT 'default', priority integer DEFAULT 0,
    run_at timestamptz DEFAULT NULL, max_attempts integer DEFAULT NULL,
    timeout interval DEFAULT NULL) RETURNS SETOF bigint
    AS 'MODULE_PATHNAME', 'mw_enqueue_many' LANGUAGE C;
COMMENT ON FUNCTION my_worker.enqueue_many IS 'enqueues one call of a handler for each payload and returns the ids';

CREATE FUNCTION my_worker.run(
    command text, queue text DEFAULT 'default', priority integer DEFAULT 0,
    run_at timestamptz DEFAULT NULL, max_attempts integer DEFAULT 1,
    timeout interval DEFAULT NULL, unique_key text DEFAULT NULL) RETURNS bigint
    AS 'MODULE_PATHNAME', 'mw_run' LANGUAGE C;
COMMENT ON FUNCTION my_worker.run IS 'enqueues an SQL command, run at top level, and returns the job''s id';

-- Dealing with jobs.
CREATE FUNCTION my_worker.cancel(job_id bigint) RETURNS boolean
    AS 'MODULE_PATHNAME', 'mw_cancel' LANGUAGE C STRICT;
COMMENT ON FUNCTION my_worker.cancel IS 'cancels a waiting or running job; false if it is finished or unknown';

CREATE FUNCTION my_worker.retry(job_id bigint) RETURNS boolean
    AS 'MODULE_PATHNAME', 'mw_retry' LANGUAGE C STRICT;
COMMENT ON FUNCTION my_worker.retry IS 'puts a failed or cancelled job back into my_queue';

CREATE FUNCTION my_worker.wait(job_id bigint, timeout interval DEFAULT NULL) RETURNS text
    AS 'MODULE_PATHNAME', 'mw_wait' LANGUAGE C;
COMMENT ON FUNCTION my_worker.wait IS 'waits for a job to finish and returns its final status, NULL on time-out';

CREATE FUNCTION my_worker.progress(percent real, message text DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'mw_progress' LANGUAGE C;
COMMENT ON FUNCTION my_worker.progress IS 'reports how far the running job is';

CREATE FUNCTION my_worker.current_job() RETURNS bigint
    AS 'MODULE_PATHNAME', 'mw_current_job' LANGUAGE C STABLE;
COMMENT ON FUNCTION my_worker.current_job IS 'the id of the job that runs this call, NULL outside a job';

-- Dealing with queues.
CREATE FUNCTION my_worker.create_queue(
    name text, handler text DEFAULT NULL, concurrency integer DEFAULT NULL,
    max_attempts integer DEFAULT 5, backoff interval DEFAULT '5 s', backoff_max interval DEFAULT '1 h',
    timeout interval DEFAULT NULL, retention interval DEFAULT '7 days') RETURNS void
    AS 'MODULE_PATHNAME', 'mw_create_queue' LANGUAGE C;
COMMENT ON FUNCTION my_worker.create_queue IS 'creates a queue with its settings';

CREATE FUNCTION my_worker.alter_queue(
    name text, handler text DEFAULT NULL, concurrency integer DEFAULT NULL,
    max_attempts integer DEFAULT NULL, backoff interval DEFAULT NULL,
    backoff_max interval DEFAULT NULL, timeout interval DEFAULT NULL,
    retention interval DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'mw_alter_queue' LANGUAGE C;
COMMENT ON FUNCTION my_worker.alter_queue IS 'changes the settings of a queue that are given';

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
