/* my_worker--1.0--1.1.sql: built from sql/updates and sql/parts by "make sql", do not edit */

-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION my_worker UPDATE TO '1.1'" to load this file. \quit

-- Every name below is qualified; the path is pinned so that none can be captured.
SET LOCAL search_path TO pg_catalog, pg_temp;

-- The target schema keeps its name until the script has ended: whoever owns it could rename it and
-- put a look-alike in its place between two statements, since these find it by its name.
DO $$
DECLARE
    name text;
BEGIN
    SELECT quote_ident(n.nspname) INTO name
      FROM pg_namespace AS n
     WHERE n.oid = (SELECT e.extnamespace FROM pg_extension AS e WHERE e.extname = 'my_worker')
       FOR UPDATE;
    IF name IS DISTINCT FROM '@extschema@' THEN
        RAISE object_in_use USING MESSAGE = 'the schema of the extension was renamed meanwhile';
    END IF;
END
$$;

-- Under 1.0 whoever had TRIGGER on these tables could make triggers, which would run within the UPDATEs below.
DO $$
DECLARE
    found text;
BEGIN
    LOCK TABLE @extschema@.my_queue, my_worker.history, my_worker.queues, my_worker._schedules IN SHARE ROW EXCLUSIVE MODE;
    SELECT string_agg(format('trigger %I on table %s', t.tgname, t.tgrelid::regclass), ', ') INTO found
      FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
     WHERE t.tgrelid IN ('@extschema@.my_queue'::regclass, 'my_worker.history'::regclass,
                         'my_worker.queues'::regclass, 'my_worker._schedules'::regclass)
       AND NOT t.tgisinternal
       AND EXISTS (
           -- What it calls, and what its condition is made of.
           SELECT FROM pg_depend AS d
             LEFT JOIN pg_proc AS p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
             LEFT JOIN pg_operator AS o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
             LEFT JOIN pg_type AS y ON d.refclassid = 'pg_type'::regclass AND y.oid = d.refobjid
             JOIN pg_roles AS r ON r.oid = coalesce(p.proowner, o.oprowner, y.typowner)
            WHERE d.classid = 'pg_trigger'::regclass AND d.objid = t.oid AND r.oid <> c.relowner AND NOT r.rolsuper);
    IF found IS NOT NULL THEN
        RAISE insufficient_privilege
        USING MESSAGE = 'a trigger on a table of my_worker is not its owner''s',
              DETAIL = 'There is ' || found || '. It would run with the rights of whoever updates the extension.',
              HINT = 'Drop it, then update the extension.';
    END IF;
END
$$;

-- Foreign keys to the queue cannot hold: jobs leave it without firing their triggers.
DO $$
DECLARE
    found text;
BEGIN
    SELECT string_agg(format('constraint %I on table %s', c.conname, c.conrelid::regclass), ', ') INTO found
      FROM pg_constraint AS c
     WHERE c.contype = 'f' AND c.confrelid IN ('@extschema@.my_queue'::regclass, 'my_worker.history'::regclass,
                                               'my_worker.queues'::regclass, 'my_worker._schedules'::regclass);
    IF found IS NOT NULL THEN
        RAISE feature_not_supported
        USING MESSAGE = 'foreign keys to tables of my_worker are not supported',
              DETAIL = 'There is ' || found || '.',
              HINT = 'Drop them, then update the extension.';
    END IF;
END
$$;

CREATE SCHEMA my_worker_internal;
COMMENT ON SCHEMA my_worker_internal IS 'my_worker: functions that its own tables, views and functions call';

ALTER FUNCTION my_worker._caller() SET SCHEMA my_worker_internal;
ALTER FUNCTION my_worker_internal._caller() RENAME TO caller;
ALTER FUNCTION my_worker._before_write() SET SCHEMA my_worker_internal;
ALTER FUNCTION my_worker_internal._before_write() RENAME TO before_job_write;
ALTER FUNCTION my_worker._before_queue_write() SET SCHEMA my_worker_internal;
ALTER FUNCTION my_worker_internal._before_queue_write() RENAME TO before_queue_write;
ALTER FUNCTION my_worker._queues_changed() SET SCHEMA my_worker_internal;
ALTER FUNCTION my_worker_internal._queues_changed() RENAME TO queues_changed;
ALTER FUNCTION my_worker._is_running(bigint) SET SCHEMA my_worker_internal;
ALTER FUNCTION my_worker_internal._is_running(bigint) RENAME TO is_running;
ALTER FUNCTION my_worker._installed() SET SCHEMA my_worker_internal;
ALTER FUNCTION my_worker_internal._installed() RENAME TO installed;
-- It answers more now.
DROP FUNCTION my_worker._health();
ALTER FUNCTION my_worker._before_schedule_write() SET SCHEMA my_worker_internal;
ALTER FUNCTION my_worker_internal._before_schedule_write() RENAME TO before_schedule_write;
ALTER FUNCTION my_worker._usage_rights() SET SCHEMA my_worker_internal;
ALTER FUNCTION my_worker_internal._usage_rights() RENAME TO usage_rights;
ALTER FUNCTION my_worker._change_usage(text, regrole) SET SCHEMA my_worker_internal;
ALTER FUNCTION my_worker_internal._change_usage(text, regrole) RENAME TO change_usage;

-- The queue moves into a schema that belongs to the extension.
ALTER TABLE @extschema@.my_queue SET SCHEMA my_worker;
ALTER TABLE my_worker.my_queue RENAME TO _jobs;
ALTER SEQUENCE my_worker.my_queue_id_seq RENAME TO _jobs_id_seq;
ALTER INDEX my_worker.my_queue_pkey RENAME TO _jobs_pkey;
ALTER INDEX my_worker.my_queue_claim_idx RENAME TO _jobs_claim_idx;
ALTER INDEX my_worker.my_queue_unique_key_idx RENAME TO _jobs_unique_key_idx;

-- Since PostgreSQL 18 NOT NULL is a constraint with a name, which comes from the table's.
DO $$
DECLARE
    old_name name;
BEGIN
    FOR old_name IN
        SELECT k.conname FROM pg_catalog.pg_constraint AS k
         WHERE k.conrelid = 'my_worker._jobs'::pg_catalog.regclass AND k.contype = 'n' AND k.conname LIKE 'my\_queue\_%'
    LOOP
        EXECUTE pg_catalog.format('ALTER TABLE my_worker._jobs RENAME CONSTRAINT %I TO %I', old_name,
                                  pg_catalog.regexp_replace(old_name, '^my_queue', '_jobs'));
    END LOOP;
END
$$;
-- Jobs whose end could not be written stay as failed ones; they are found as claimed commands are, and so
-- are jobs that are due later than they came.
DROP INDEX my_worker.my_queue_processing_idx;
CREATE INDEX _jobs_later_idx ON my_worker._jobs (status, owner, queue, run_at)
    WHERE status <> 'pending' OR run_at > created_at;
-- What health() and bulk retries look for.
CREATE INDEX history_failed_idx ON my_worker.history (owner, finished_at) WHERE status = 'failed';
ALTER TRIGGER my_queue_before_write ON my_worker._jobs RENAME TO jobs_before_write;
ALTER POLICY my_queue_own ON my_worker._jobs RENAME TO jobs_own;

ALTER TABLE my_worker.queues ADD COLUMN handler_owner regrole;
ALTER TABLE my_worker._jobs ADD COLUMN handler_owner regrole;
ALTER TABLE my_worker.history ADD COLUMN handler_owner regrole;
ALTER TABLE my_worker._schedules ADD COLUMN handler_owner regrole;

-- Consumers.
ALTER TABLE my_worker._jobs ADD COLUMN kind text, ADD COLUMN headers jsonb, ADD COLUMN group_key text COLLATE "C",
    ADD COLUMN lease bigint, ADD COLUMN lease_run_at timestamptz, ADD COLUMN consumer text;
ALTER TABLE my_worker.history ADD COLUMN kind text, ADD COLUMN headers jsonb, ADD COLUMN group_key text COLLATE "C";
CREATE INDEX _jobs_key_idx ON my_worker._jobs (queue, owner, group_key, status, id) WHERE group_key IS NOT NULL;
CREATE INDEX _jobs_key_order_idx ON my_worker._jobs (queue, owner, group_key, priority, run_at, id)
    WHERE group_key IS NOT NULL AND status = 'pending';
CREATE TABLE my_worker._consumers (
    queue text COLLATE "C" NOT NULL,
    role  regrole NOT NULL,
    PRIMARY KEY (queue, role)
);

-- Flow.
ALTER TABLE my_worker.queues ADD COLUMN per_key integer CHECK (per_key > 0), ADD COLUMN fifo boolean NOT NULL DEFAULT false,
    ADD COLUMN rate integer CHECK (rate > 0), ADD COLUMN rate_period interval CHECK (rate_period BETWEEN '1 ms' AND '1000 years'),
    ADD COLUMN burst integer NOT NULL DEFAULT 1 CHECK (burst > 0), ADD COLUMN rate_per_key boolean NOT NULL DEFAULT false,
    ADD COLUMN dead_letter text COLLATE "C",
    ADD COLUMN jobs_per_savepoint integer NOT NULL DEFAULT 1 CHECK (jobs_per_savepoint BETWEEN 1 AND 1000),
    ADD COLUMN retry_on text[], ADD COLUMN fail_on text[];
ALTER TABLE my_worker.history ADD COLUMN after bigint[], ADD COLUMN after_failed text, ADD COLUMN expires_at timestamptz,
    ADD COLUMN origin text COLLATE "C", ADD COLUMN schedule_id bigint;
CREATE INDEX history_schedule_idx ON my_worker.history (schedule_id, id) WHERE schedule_id IS NOT NULL;

-- Where this database is at home; all that stands in it is.
CREATE FUNCTION my_worker_internal.home() RETURNS bigint
    AS 'MODULE_PATHNAME', 'mw_home' LANGUAGE C STABLE PARALLEL SAFE;
CREATE FUNCTION my_worker_internal.identity() RETURNS text
    AS 'MODULE_PATHNAME', 'mw_identity' LANGUAGE C VOLATILE;
DO $$
BEGIN
    EXECUTE format('CREATE FUNCTION my_worker_internal.birth() RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS %L',
                   format('SELECT %L', ('x' || right(replace(gen_random_uuid()::text, '-', ''), 15))::bit(60)::bigint
                                       || ' ' || my_worker_internal.identity()));
END
$$;
ALTER TABLE my_worker._jobs ADD COLUMN home bigint NOT NULL DEFAULT my_worker_internal.home();
ALTER TABLE my_worker._jobs ADD COLUMN after bigint[], ADD COLUMN after_failed text, ADD COLUMN expires_at timestamptz,
    ADD COLUMN origin text COLLATE "C", ADD COLUMN schedule_id bigint, ADD COLUMN rerun boolean NOT NULL DEFAULT false;
CREATE TABLE my_worker._dependencies (
    job   bigint NOT NULL,
    after bigint NOT NULL,
    PRIMARY KEY (job, after)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX _dependencies_after_idx ON my_worker._dependencies (after, job);
ALTER TABLE my_worker._dependencies ENABLE ROW LEVEL SECURITY;
CREATE TABLE my_worker._expiring (
    expires_at timestamptz NOT NULL,
    job        bigint NOT NULL,
    PRIMARY KEY (expires_at, job)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE my_worker._expiring ENABLE ROW LEVEL SECURITY;
DROP INDEX my_worker._jobs_unique_key_idx;
CREATE UNIQUE INDEX _jobs_unique_key_idx ON my_worker._jobs (queue, owner, unique_key, rerun)
    WHERE unique_key IS NOT NULL AND origin IS NULL;
ALTER TABLE my_worker._schedules ADD COLUMN home bigint NOT NULL DEFAULT my_worker_internal.home(),
    ADD COLUMN runs bigint NOT NULL DEFAULT 0;

-- These take more arguments now, so they are other functions, which get the rights of the old ones below.
ALTER FUNCTION my_worker.enqueue(text, jsonb, text, integer, timestamptz, integer, interval, text) RENAME TO _old_enqueue;
ALTER FUNCTION my_worker.enqueue_many(text, jsonb[], text, integer, timestamptz, integer, interval) RENAME TO _old_enqueue_many;
ALTER FUNCTION my_worker.run(text, text, integer, timestamptz, integer, interval, text) RENAME TO _old_run;
ALTER FUNCTION my_worker.create_queue(text, text, integer, integer, interval, interval, interval, interval) RENAME TO _old_create_queue;
ALTER FUNCTION my_worker.alter_queue(text, text, integer, integer, interval, interval, interval, interval) RENAME TO _old_alter_queue;

COMMENT ON SCHEMA my_worker IS 'my_worker: jobs, queues, schedules and what they report';
COMMENT ON SCHEMA my_worker_internal IS 'my_worker: functions that its own tables, views and functions call';
CREATE OR REPLACE FUNCTION my_worker_internal.caller() RETURNS regrole
    AS 'MODULE_PATHNAME', 'mw_caller' LANGUAGE C STABLE PARALLEL SAFE;
CREATE OR REPLACE FUNCTION my_worker_internal.home() RETURNS bigint
    AS 'MODULE_PATHNAME', 'mw_home' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON COLUMN my_worker.queues.handler_owner IS 'who owned the handler when it was named, unless that was a superuser';
COMMENT ON TABLE my_worker.queues IS 'queues and their settings; change them by alter_queue() and its like';
CREATE OR REPLACE FUNCTION my_worker_internal.columns_of_authors() RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'queue, handler, command, payload, priority, run_at, max_attempts, timeout, unique_key, kind, headers, group_key, after, after_failed, expires_at'
$$;
COMMENT ON TABLE my_worker._jobs IS 'jobs still to be done, behind the view my_queue';
COMMENT ON COLUMN my_worker._jobs.lease IS 'the number of a lease that ends at run_at';
COMMENT ON COLUMN my_worker._jobs.lease_run_at IS 'what run_at was before such a lease';
COMMENT ON COLUMN my_worker._jobs.consumer IS 'application_name of the session that has such a lease';
COMMENT ON COLUMN my_worker._jobs.home IS 'the home of the database that the job was enqueued in';
COMMENT ON COLUMN my_worker._jobs.after IS 'the jobs that must have ended before this one starts';
COMMENT ON COLUMN my_worker._jobs.after_failed IS 'what becomes of this job if one of those fails: cancel (NULL) or run';
COMMENT ON COLUMN my_worker._jobs.origin IS 'the queue that the job failed in, before it went to this dead-letter queue';
COMMENT ON COLUMN my_worker._jobs.schedule_id IS 'the schedule that enqueued the job';
COMMENT ON COLUMN my_worker._jobs.rerun IS 'the job waits until the one that has its unique key has ended';
COMMENT ON COLUMN my_worker._jobs.handler_owner IS 'who owned the handler when it was named, unless that was a superuser or the job''s owner';
COMMENT ON TABLE my_worker._dependencies IS 'jobs that have not ended, and the jobs that come after them';
COMMENT ON TABLE my_worker._expiring IS 'when jobs expire; some of them may have ended';
CREATE OR REPLACE VIEW @extschema@.my_queue WITH (security_invoker = true) AS
    SELECT j.id, j.queue, j.status, j.handler, j.command, j.payload, j.priority, j.run_at, j.created_at,
           j.started_at, j.attempts, j.max_attempts, j.timeout, j.unique_key, j.owner, j.last_error,
           j.errors, j.kind, j.headers, j.group_key, j.after, j.after_failed, j.expires_at, j.origin, j.schedule_id
      FROM my_worker._jobs AS j;
COMMENT ON VIEW @extschema@.my_queue IS 'jobs still to be done; enqueue by INSERT or my_worker.enqueue()';
COMMENT ON TABLE my_worker.history IS 'jobs that are completed, failed or cancelled, kept for their queue''s retention';
CREATE OR REPLACE FUNCTION my_worker_internal.before_job_write() RETURNS trigger
    AS 'MODULE_PATHNAME', 'mw_before_write' LANGUAGE C;
CREATE OR REPLACE FUNCTION my_worker_internal.before_job_delete() RETURNS trigger
    AS 'MODULE_PATHNAME', 'mw_before_delete' LANGUAGE C;
CREATE OR REPLACE FUNCTION my_worker_internal.before_queue_write() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    applies boolean := current_setting('session_replication_role') = 'replica';
BEGIN
    IF TG_OP = 'INSERT' THEN
        DELETE FROM my_worker.queues WHERE name = NEW.name AND (applies OR NEW.name = 'default');
        -- The only one that may have this number is the row that CREATE EXTENSION has made.
        UPDATE my_worker.queues SET id = nextval('my_worker.queues_id_seq')
         WHERE id = NEW.id AND (applies OR name = 'default');
        RETURN NEW;
    END IF;
    IF TG_OP = 'DELETE' THEN
        IF OLD.name = 'default' AND pg_trigger_depth() = 1 AND NOT applies THEN
            RAISE object_not_in_prerequisite_state USING MESSAGE = 'cannot drop queue "default"';
        END IF;
        RETURN OLD;
    END IF;
    IF TG_OP = 'TRUNCATE' THEN
        RAISE object_not_in_prerequisite_state USING MESSAGE = 'cannot drop queue "default"';
    END IF;
    IF pg_trigger_depth() = 1 AND NOT applies THEN
        RAISE feature_not_supported USING MESSAGE = 'cannot rename a queue';
    END IF;
    RETURN NEW;
END
$$;
CREATE OR REPLACE FUNCTION my_worker_internal.queues_changed() RETURNS trigger
    AS 'MODULE_PATHNAME', 'mw_queues_changed' LANGUAGE C;
CREATE OR REPLACE FUNCTION my_worker_internal.only_owner() RETURNS trigger
    AS 'MODULE_PATHNAME', 'mw_only_owner' LANGUAGE C;
CREATE OR REPLACE FUNCTION my_worker.enqueue(
    handler text, payload jsonb DEFAULT '{}', queue text DEFAULT 'default',
    priority integer DEFAULT 0, run_at timestamptz DEFAULT NULL, max_attempts integer DEFAULT NULL,
    timeout interval DEFAULT NULL, unique_key text DEFAULT NULL, group_key text DEFAULT NULL, after bigint[] DEFAULT NULL,
    after_failed text DEFAULT 'cancel', expires_at timestamptz DEFAULT NULL,
    unique_mode text DEFAULT 'keep') RETURNS bigint
    AS 'MODULE_PATHNAME', 'mw_enqueue_1_1' LANGUAGE C;
COMMENT ON FUNCTION my_worker.enqueue IS 'enqueues a call of a handler function and returns the job''s id';
CREATE OR REPLACE FUNCTION my_worker.enqueue_many(
    handler text, payloads jsonb[], queue text DEFAULT 'default', priority integer DEFAULT 0,
    run_at timestamptz DEFAULT NULL, max_attempts integer DEFAULT NULL,
    timeout interval DEFAULT NULL, group_key text DEFAULT NULL, after bigint[] DEFAULT NULL,
    after_failed text DEFAULT 'cancel', expires_at timestamptz DEFAULT NULL) RETURNS SETOF bigint
    AS 'MODULE_PATHNAME', 'mw_enqueue_many_1_1' LANGUAGE C;
COMMENT ON FUNCTION my_worker.enqueue_many IS 'enqueues one call of a handler for each payload and returns the ids';
CREATE OR REPLACE FUNCTION my_worker.run(
    command text, queue text DEFAULT 'default', priority integer DEFAULT 0,
    run_at timestamptz DEFAULT NULL, max_attempts integer DEFAULT 1,
    timeout interval DEFAULT NULL, unique_key text DEFAULT NULL, group_key text DEFAULT NULL, after bigint[] DEFAULT NULL,
    after_failed text DEFAULT 'cancel', expires_at timestamptz DEFAULT NULL,
    unique_mode text DEFAULT 'keep') RETURNS bigint
    AS 'MODULE_PATHNAME', 'mw_run_1_1' LANGUAGE C;
COMMENT ON FUNCTION my_worker.run IS 'enqueues an SQL command, run at top level, and returns the job''s id';
CREATE OR REPLACE FUNCTION my_worker.cancel(job_id bigint) RETURNS boolean
    AS 'MODULE_PATHNAME', 'mw_cancel' LANGUAGE C STRICT;
COMMENT ON FUNCTION my_worker.cancel IS 'cancels a waiting or running job; false if it is finished or unknown';
CREATE OR REPLACE FUNCTION my_worker.retry(job_id bigint) RETURNS boolean
    AS 'MODULE_PATHNAME', 'mw_retry' LANGUAGE C STRICT;
COMMENT ON FUNCTION my_worker.retry IS 'puts a failed or cancelled job back into my_queue';
CREATE OR REPLACE FUNCTION my_worker.run_soon(job_id bigint) RETURNS boolean
    AS 'MODULE_PATHNAME', 'mw_run_soon' LANGUAGE C STRICT;
COMMENT ON FUNCTION my_worker.run_soon IS 'has a job that waits for a later time run now; false for any other';
CREATE OR REPLACE FUNCTION my_worker.snooze(delay interval) RETURNS void
    AS 'MODULE_PATHNAME', 'mw_snooze' LANGUAGE C;
COMMENT ON FUNCTION my_worker.snooze IS 'within a job: it comes again after that delay, and no attempt is charged';
CREATE OR REPLACE FUNCTION my_worker.give_up(reason text) RETURNS void
    AS 'MODULE_PATHNAME', 'mw_give_up' LANGUAGE C;
COMMENT ON FUNCTION my_worker.give_up IS 'within a job: it fails now, whatever attempts it has left';
CREATE OR REPLACE FUNCTION my_worker.wait(job_id bigint, timeout interval DEFAULT NULL) RETURNS text
    AS 'MODULE_PATHNAME', 'mw_wait' LANGUAGE C;
COMMENT ON FUNCTION my_worker.wait IS 'waits for a job to finish and returns its final status, NULL on time-out';
CREATE OR REPLACE FUNCTION my_worker.perform(job_id bigint) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'mw_perform' LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION my_worker.perform IS 'runs a waiting job of the caller''s at once, in this session and transaction, and returns its result';
CREATE OR REPLACE FUNCTION my_worker.progress(percent real, message text DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'mw_progress' LANGUAGE C;
COMMENT ON FUNCTION my_worker.progress(real, text) IS 'reports how far the running job is';
CREATE OR REPLACE FUNCTION my_worker.current_job() RETURNS bigint
    AS 'MODULE_PATHNAME', 'mw_current_job' LANGUAGE C STABLE;
COMMENT ON FUNCTION my_worker.current_job IS 'the id of the job that runs this call, NULL outside a job';
CREATE OR REPLACE FUNCTION my_worker_internal.at_work(
    OUT job_id bigint, OUT pid integer, OUT started_at timestamptz, OUT progress real,
    OUT progress_message text, OUT is_consumer boolean) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'mw_at_work' LANGUAGE C STRICT VOLATILE ROWS 10;
CREATE OR REPLACE FUNCTION my_worker_internal.lease_progress(
    job_id bigint, lease bigint, OUT progress real, OUT progress_message text)
    AS 'MODULE_PATHNAME', 'mw_lease_progress_of' LANGUAGE C STRICT VOLATILE;
CREATE OR REPLACE FUNCTION my_worker_internal.is_running(job_id bigint) RETURNS boolean
    AS 'MODULE_PATHNAME', 'mw_is_running' LANGUAGE C STRICT VOLATILE;
CREATE OR REPLACE FUNCTION my_worker_internal.waits_for(job_id bigint) RETURNS text
    AS 'MODULE_PATHNAME', 'mw_waits_for' LANGUAGE C STRICT VOLATILE;
CREATE OR REPLACE VIEW my_worker.jobs WITH (security_invoker = true) AS
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
CREATE OR REPLACE FUNCTION my_worker.create_queue(
    name text, handler text DEFAULT NULL, concurrency integer DEFAULT NULL,
    max_attempts integer DEFAULT 5, backoff interval DEFAULT '5 s', backoff_max interval DEFAULT '1 h',
    timeout interval DEFAULT NULL, retention interval DEFAULT '7 days', per_key integer DEFAULT NULL,
    fifo boolean DEFAULT false, rate integer DEFAULT NULL, rate_period interval DEFAULT NULL,
    burst integer DEFAULT 1, rate_per_key boolean DEFAULT false, dead_letter text DEFAULT NULL,
    jobs_per_savepoint integer DEFAULT 1, retry_on text[] DEFAULT NULL, fail_on text[] DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'mw_create_queue_1_1' LANGUAGE C;
COMMENT ON FUNCTION my_worker.create_queue IS 'creates a queue with its settings';
CREATE OR REPLACE FUNCTION my_worker.alter_queue(
    name text, handler text DEFAULT NULL, concurrency integer DEFAULT NULL,
    max_attempts integer DEFAULT NULL, backoff interval DEFAULT NULL,
    backoff_max interval DEFAULT NULL, timeout interval DEFAULT NULL,
    retention interval DEFAULT NULL, per_key integer DEFAULT NULL, fifo boolean DEFAULT NULL,
    rate integer DEFAULT NULL, rate_period interval DEFAULT NULL, burst integer DEFAULT NULL,
    rate_per_key boolean DEFAULT NULL, dead_letter text DEFAULT NULL, jobs_per_savepoint integer DEFAULT NULL,
    retry_on text[] DEFAULT NULL, fail_on text[] DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'mw_alter_queue_1_1' LANGUAGE C;
COMMENT ON FUNCTION my_worker.alter_queue IS 'changes the settings of a queue that are given';
CREATE OR REPLACE FUNCTION my_worker.reset_queue(name text, VARIADIC settings text[]) RETURNS void
    AS 'MODULE_PATHNAME', 'mw_reset_queue' LANGUAGE C;
COMMENT ON FUNCTION my_worker.reset_queue IS 'puts settings of a queue back to their defaults';
CREATE OR REPLACE FUNCTION my_worker.redrive(queue text, n integer DEFAULT NULL) RETURNS bigint
    AS 'MODULE_PATHNAME', 'mw_redrive' LANGUAGE C;
COMMENT ON FUNCTION my_worker.redrive IS 'sends waiting jobs of a dead-letter queue back to where they came from, and returns how many';
CREATE OR REPLACE FUNCTION my_worker.drop_queue(name text, force boolean DEFAULT false) RETURNS void
    AS 'MODULE_PATHNAME', 'mw_drop_queue' LANGUAGE C;
COMMENT ON FUNCTION my_worker.drop_queue IS 'drops an empty queue, or with force a queue and its jobs';
CREATE OR REPLACE FUNCTION my_worker.pause_queue(name text) RETURNS void
    AS 'MODULE_PATHNAME', 'mw_pause_queue' LANGUAGE C;
COMMENT ON FUNCTION my_worker.pause_queue IS 'starts no more jobs of a queue; running ones go on';
CREATE OR REPLACE FUNCTION my_worker.resume_queue(name text) RETURNS void
    AS 'MODULE_PATHNAME', 'mw_resume_queue' LANGUAGE C;
COMMENT ON FUNCTION my_worker.resume_queue IS 'starts jobs of a paused queue again';
CREATE OR REPLACE FUNCTION my_worker.purge_queue(name text) RETURNS bigint
    AS 'MODULE_PATHNAME', 'mw_purge_queue' LANGUAGE C;
COMMENT ON FUNCTION my_worker.purge_queue IS 'deletes the waiting jobs of a queue and its finished ones, and returns how many';
COMMENT ON TABLE my_worker._consumers IS 'roles that receive the jobs of all owners from a queue; see grant_consume()';
CREATE OR REPLACE FUNCTION my_worker_internal.may_consume(queue text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'mw_may_consume' LANGUAGE C STABLE STRICT;
CREATE OR REPLACE FUNCTION my_worker.send(
    queue text, payload jsonb DEFAULT '{}', kind text DEFAULT NULL, headers jsonb DEFAULT NULL,
    priority integer DEFAULT 0, run_at timestamptz DEFAULT NULL, max_attempts integer DEFAULT NULL,
    timeout interval DEFAULT NULL, unique_key text DEFAULT NULL, group_key text DEFAULT NULL,
    after bigint[] DEFAULT NULL, after_failed text DEFAULT 'cancel',
    expires_at timestamptz DEFAULT NULL, unique_mode text DEFAULT 'keep') RETURNS bigint
    AS 'MODULE_PATHNAME', 'mw_send' LANGUAGE C;
COMMENT ON FUNCTION my_worker.send IS 'enqueues a job for a consumer and returns its id';
CREATE OR REPLACE FUNCTION my_worker.send_many(
    queue text, payloads jsonb[], kind text DEFAULT NULL, headers jsonb DEFAULT NULL,
    priority integer DEFAULT 0, run_at timestamptz DEFAULT NULL, max_attempts integer DEFAULT NULL,
    timeout interval DEFAULT NULL, group_key text DEFAULT NULL, after bigint[] DEFAULT NULL, after_failed text DEFAULT 'cancel',
    expires_at timestamptz DEFAULT NULL) RETURNS SETOF bigint
    AS 'MODULE_PATHNAME', 'mw_send_many' LANGUAGE C;
COMMENT ON FUNCTION my_worker.send_many IS 'enqueues a job for a consumer for each payload and returns the ids';
CREATE OR REPLACE FUNCTION my_worker.receive(
    queue text, n integer DEFAULT 1, wait interval DEFAULT '0', lease interval DEFAULT NULL,
    kinds text[] DEFAULT NULL)
    RETURNS TABLE (id bigint, lease bigint, kind text, payload jsonb, headers jsonb, attempt integer,
                   max_attempts integer, priority integer, run_at timestamptz, created_at timestamptz,
                   owner regrole, group_key text)
    AS 'MODULE_PATHNAME', 'mw_receive' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION my_worker.receive IS 'takes due jobs of a queue, each with a lease, and waits for some if asked to';
CREATE OR REPLACE FUNCTION my_worker.ack(job_id bigint, lease bigint, result jsonb DEFAULT NULL) RETURNS boolean
    AS 'MODULE_PATHNAME', 'mw_ack' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION my_worker.ack IS 'completes a received job; false if the lease was lost';
CREATE OR REPLACE FUNCTION my_worker.ack_many(job_ids bigint[], leases bigint[]) RETURNS bigint[]
    AS 'MODULE_PATHNAME', 'mw_ack_many' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION my_worker.ack_many IS 'completes received jobs and returns the ids of those whose leases were valid';
CREATE OR REPLACE FUNCTION my_worker.nack(
    job_id bigint, lease bigint, error text DEFAULT NULL, delay interval DEFAULT NULL,
    fail boolean DEFAULT false) RETURNS boolean
    AS 'MODULE_PATHNAME', 'mw_nack' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION my_worker.nack IS 'fails the attempt of a received job; false if the lease was lost';
CREATE OR REPLACE FUNCTION my_worker.release(job_id bigint, lease bigint, delay interval DEFAULT NULL) RETURNS boolean
    AS 'MODULE_PATHNAME', 'mw_release' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION my_worker.release IS 'gives a received job back uncharged; false if the lease was lost';
CREATE OR REPLACE FUNCTION my_worker.extend(job_id bigint, lease bigint, by interval) RETURNS boolean
    AS 'MODULE_PATHNAME', 'mw_extend' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION my_worker.extend IS 'has a lease end so much after now; false if it was lost: stop working';
CREATE OR REPLACE FUNCTION my_worker.progress(job_id bigint, lease bigint, percent real, message text DEFAULT NULL) RETURNS boolean
    AS 'MODULE_PATHNAME', 'mw_lease_progress' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION my_worker.progress(bigint, bigint, real, text) IS 'reports how far a received job is; false if the lease was lost';
CREATE OR REPLACE FUNCTION @extschema@.launch_dynamic_worker(task_id integer) RETURNS integer
    AS 'MODULE_PATHNAME', 'mw_launch_dynamic_worker' LANGUAGE C STRICT;
CREATE OR REPLACE FUNCTION @extschema@.launch_dynamic_worker(task_id bigint) RETURNS integer
    AS 'MODULE_PATHNAME', 'mw_launch_dynamic_worker_bigint' LANGUAGE C STRICT;
COMMENT ON FUNCTION @extschema@.launch_dynamic_worker(integer)
    IS 'starts a one-shot background worker for the job of that id, after COMMIT, and returns its PID';
COMMENT ON FUNCTION @extschema@.launch_dynamic_worker(bigint)
    IS 'starts a one-shot background worker for the job of that id, after COMMIT, and returns its PID';
CREATE OR REPLACE FUNCTION @extschema@.get_worker_stats(
    OUT items_processed bigint, OUT last_run timestamptz, OUT status text)
    AS 'MODULE_PATHNAME', 'mw_get_worker_stats' LANGUAGE C STRICT;
COMMENT ON FUNCTION @extschema@.get_worker_stats()
    IS 'jobs finished since the server started, time of the last run, and what goes on';
CREATE OR REPLACE VIEW @extschema@.my_worker_status AS
    SELECT s.items_processed, s.last_run, s.status FROM @extschema@.get_worker_stats() AS s;
COMMENT ON VIEW @extschema@.my_worker_status IS 'get_worker_stats() as a view';
CREATE OR REPLACE FUNCTION my_worker_internal.processes(
    OUT slot integer, OUT pid integer, OUT kind text, OUT database oid, OUT role oid,
    OUT state text, OUT job_id bigint, OUT queue text, OUT job_started_at timestamptz,
    OUT jobs_done bigint, OUT started_at timestamptz, OUT queue_id integer) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'mw_processes' LANGUAGE C STRICT VOLATILE ROWS 10;
CREATE OR REPLACE VIEW my_worker.workers AS
    SELECT w.slot, w.pid, w.kind, d.datname AS database, r.rolname AS role, w.state, w.job_id,
           coalesce(w.queue, (SELECT q.name FROM my_worker.queues AS q WHERE q.id = w.queue_id AND d.datname = current_database())) COLLATE "default" AS queue,
           w.job_started_at, w.jobs_done, w.started_at
      FROM my_worker_internal.processes() AS w
      LEFT JOIN pg_database AS d ON d.oid = w.database
      LEFT JOIN pg_roles AS r ON r.oid = w.role;
COMMENT ON VIEW my_worker.workers IS 'the processes of my_worker, one row each';
CREATE OR REPLACE FUNCTION my_worker_internal.installed() RETURNS void
    AS 'MODULE_PATHNAME', 'mw_installed' LANGUAGE C STRICT;
CREATE OR REPLACE FUNCTION my_worker_internal.queue_stats(
    OUT queue text, OUT pending bigint, OUT scheduled bigint, OUT processing bigint,
    OUT oldest timestamptz, OUT completed bigint, OUT failed bigint, OUT retried bigint,
    OUT cancelled bigint, OUT failed_at timestamptz, OUT wait_mean float8, OUT wait_p50 float8,
    OUT wait_p95 float8, OUT wait_p99 float8, OUT run_mean float8, OUT run_p50 float8,
    OUT run_p95 float8, OUT run_p99 float8, OUT blocked bigint, OUT limited boolean, OUT estimated boolean)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'mw_queue_stats_1_1' LANGUAGE C STRICT VOLATILE ROWS 10;
CREATE OR REPLACE VIEW my_worker.queue_stats AS
    SELECT s.queue, s.pending, s.scheduled, s.processing,
           clock_timestamp() - s.oldest AS oldest_pending_age, s.completed, s.failed, s.retried,
           s.cancelled, s.wait_mean, s.wait_p50, s.wait_p95, s.wait_p99, s.run_mean, s.run_p50,
           s.run_p95, s.run_p99, s.blocked, s.limited, s.estimated
      FROM my_worker_internal.queue_stats() AS s;
COMMENT ON VIEW my_worker.queue_stats IS 'what waits, runs and was counted since the server''s start, one row a queue; durations in milliseconds';
CREATE OR REPLACE FUNCTION my_worker.queue_minutes_since(
    since timestamptz, OUT queue text, OUT minute timestamptz, OUT completed bigint, OUT failed bigint,
    OUT retried bigint, OUT cancelled bigint, OUT wait_p95 float8, OUT run_p95 float8) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'mw_queue_minutes_since' LANGUAGE C STRICT VOLATILE ROWS 1000;
COMMENT ON FUNCTION my_worker.queue_minutes_since IS 'the rows of my_worker.queue_minutes from the minute of that time on';
CREATE OR REPLACE VIEW my_worker.queue_minutes AS
    SELECT m.queue, m.minute, m.completed, m.failed, m.retried, m.cancelled, m.wait_p95, m.run_p95
      FROM my_worker.queue_minutes_since('-infinity') AS m;
COMMENT ON VIEW my_worker.queue_minutes IS 'how jobs ended by queue and minute of the last 24 hours, where any did; durations in milliseconds';
CREATE OR REPLACE FUNCTION my_worker_internal.handler_stats(
    OUT handler text, OUT runs text, OUT calls bigint, OUT failures bigint, OUT last_call_at timestamptz,
    OUT run_mean float8, OUT run_p50 float8, OUT run_p95 float8, OUT run_p99 float8) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'mw_handler_stats' LANGUAGE C STRICT VOLATILE ROWS 50;
CREATE OR REPLACE VIEW my_worker.handler_stats AS
    SELECT h.handler, h.runs, h.calls, h.failures, h.last_call_at, h.run_mean, h.run_p50, h.run_p95, h.run_p99
      FROM my_worker_internal.handler_stats() AS h;
COMMENT ON VIEW my_worker.handler_stats IS 'how the calls of each handler ended since the server''s start; durations in milliseconds';
CREATE OR REPLACE FUNCTION my_worker_internal.stats_reach(
    OUT statistics text, OUT since timestamptz, OUT gave_way bigint) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'mw_stats_reach' LANGUAGE C STRICT VOLATILE ROWS 2;
CREATE OR REPLACE VIEW my_worker.stats_reach AS
    SELECT r.statistics, r.since, r.gave_way FROM my_worker_internal.stats_reach() AS r;
COMMENT ON VIEW my_worker.stats_reach IS 'since when queue_minutes and handler_stats count, and how much of them gave way to newer entries';
CREATE OR REPLACE FUNCTION my_worker.reset_stats() RETURNS void
    AS 'MODULE_PATHNAME', 'mw_reset_stats' LANGUAGE C STRICT;
COMMENT ON FUNCTION my_worker.reset_stats IS 'zeroes the counters of this database''s queues';
CREATE OR REPLACE FUNCTION my_worker.why(job_id bigint) RETURNS text
    AS 'MODULE_PATHNAME', 'mw_why' LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION my_worker.why IS 'says why a job is not running';
CREATE OR REPLACE FUNCTION my_worker_internal.health_facts(
    OUT loaded boolean, OUT recovery boolean, OUT served boolean, OUT enabled boolean,
    OUT launcher integer, OUT keepers integer, OUT workers integer, OUT max_workers integer,
    OUT free_slots integer, OUT refused boolean, OUT library text, OUT no_slot boolean,
    OUT away integer, OUT capped integer)
    AS 'MODULE_PATHNAME', 'mw_health_1_1' LANGUAGE C STRICT VOLATILE;
CREATE OR REPLACE FUNCTION my_worker_internal.named_databases() RETURNS SETOF text
    AS 'MODULE_PATHNAME', 'mw_named_databases' LANGUAGE C STRICT VOLATILE ROWS 5;
CREATE OR REPLACE FUNCTION my_worker_internal.altered_columns() RETURNS SETOF text
    AS 'MODULE_PATHNAME', 'mw_altered_columns' LANGUAGE C STRICT VOLATILE ROWS 5;
CREATE OR REPLACE FUNCTION my_worker_internal.has_consumer(queue text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'mw_has_consumer' LANGUAGE C STRICT VOLATILE;
CREATE OR REPLACE FUNCTION my_worker_internal.late_schedules(OUT name text, OUT disabled boolean) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'mw_late_schedules' LANGUAGE C STRICT VOLATILE ROWS 5;
CREATE OR REPLACE FUNCTION my_worker_internal.oldest_jobs(OUT queue text, OUT oldest timestamptz) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'mw_oldest_jobs' LANGUAGE C STRICT VOLATILE ROWS 10;
CREATE OR REPLACE FUNCTION my_worker_internal.failed_jobs(OUT queue text, OUT failed bigint, OUT last timestamptz)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'mw_failed_jobs' LANGUAGE C STRICT VOLATILE ROWS 5;
CREATE OR REPLACE FUNCTION my_worker.health(
    max_age interval DEFAULT '5 min', OUT "check" text, OUT ok boolean, OUT detail text)
    RETURNS SETOF record
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    SET intervalstyle = postgres AS $$
DECLARE
    f record;
    found record;
    objects record;
    needed integer;
    allowed integer := current_setting('max_worker_processes');
    version text := (SELECT e.extversion FROM pg_extension AS e WHERE e.extname = 'my_worker');
    list text := format('my_worker.database is %L', current_setting('my_worker.database', true));
BEGIN
    SELECT h.* INTO f FROM my_worker_internal.health_facts() AS h;
    RETURN QUERY VALUES
        ('loaded', f.loaded, CASE WHEN f.loaded THEN 'yes'
            ELSE 'add my_worker to shared_preload_libraries and restart the server' END),
        ('versions', starts_with(f.library || '.', version || '.'),
            format('library %s, extension %s', f.library, version));
    -- Our tables, their columns and indexes, and foreign keys that were made where nobody refused them.
    SELECT string_agg(o.trouble, ', ' ORDER BY o.stops DESC, o.trouble) AS trouble,
           coalesce(bool_or(o.stops), false) AS stops
      INTO objects
      FROM (SELECT format('table my_worker.%s is missing', t.name), true
              FROM (VALUES ('_jobs'), ('history'), ('queues'), ('_schedules'), ('_consumers'), ('_dependencies'), ('_expiring')) AS t (name)
             WHERE NOT EXISTS (
                   SELECT FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
                    WHERE d.classid = 'pg_class'::regclass AND d.objid = to_regclass('my_worker.' || t.name)
                      AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'my_worker')
            UNION ALL
            SELECT format('index my_worker.%s is %s', x.name,
                          CASE WHEN i.indexrelid IS NULL THEN 'missing' ELSE 'invalid' END), x.stops
              FROM (VALUES ('_jobs', '_jobs_pkey', true), ('_jobs', '_jobs_claim_idx', true),
                           ('_jobs', '_jobs_unique_key_idx', false), ('_jobs', '_jobs_later_idx', false),
                           ('history', 'history_id_idx', false), ('history', 'history_finished_at_idx', false),
                           ('history', 'history_failed_idx', false), ('history', 'history_schedule_idx', false),
                           ('_jobs', '_jobs_key_idx', true), ('_jobs', '_jobs_key_order_idx', true),
                           ('_jobs', '_jobs_strangers_idx', true), ('_schedules', '_schedules_strangers_idx', true),
                           ('_consumers', '_consumers_pkey', true), ('_dependencies', '_dependencies_pkey', false),
                           ('_dependencies', '_dependencies_after_idx', false), ('_expiring', '_expiring_pkey', false), ('queues', 'queues_pkey', true), ('queues', 'queues_id_key', false),
                           ('_schedules', '_schedules_pkey', false), ('_schedules', '_schedules_owner_name_key', false),
                           ('_schedules', '_schedules_name_idx', false),
                           ('_schedules', '_schedules_next_run_at_idx', false),
                           ('_schedules', '_schedules_held_idx', false)) AS x (of, name, stops)
              LEFT JOIN pg_index AS i ON i.indexrelid = to_regclass('my_worker.' || x.name)
                                     AND i.indrelid = to_regclass('my_worker.' || x.of)
             WHERE (i.indisvalid AND i.indisready AND i.indislive) IS NOT TRUE
            UNION ALL
            SELECT a.trouble, true FROM my_worker_internal.altered_columns() AS a (trouble)
            UNION ALL
            SELECT format('foreign key %I of table %s refers to %s, and does not hold: drop it',
                          c.conname, c.conrelid::regclass, c.confrelid::regclass), false
              FROM pg_constraint AS c
             WHERE c.contype = 'f' AND c.confrelid IN (SELECT r.oid FROM pg_class AS r
                                                        WHERE r.relnamespace = 'my_worker'::regnamespace))
           AS o (trouble, stops);
    RETURN QUERY VALUES
        ('objects', objects.trouble IS NULL,
            coalesce(CASE WHEN objects.stops THEN 'no job runs: ' ELSE '' END || objects.trouble, 'all there'));
    IF NOT f.loaded THEN
        RETURN;
    END IF;
    -- The launcher, the keepers, the workers, and one for a role that runs nothing.
    needed := 1 + f.keepers + f.max_workers + 1;
    RETURN QUERY VALUES
        ('enabled', f.enabled, CASE WHEN f.enabled THEN 'yes' ELSE 'my_worker.enabled is off' END),
        ('served', f.served, CASE WHEN f.served THEN 'yes: ' || list
            WHEN EXISTS (SELECT FROM my_worker_internal.named_databases() AS n (name) WHERE n.name IS NULL)
            THEN 'no: the value of my_worker.database was refused: see the server log'
            ELSE 'no: ' || list END),
        ('launcher', f.recovery OR f.launcher IS NOT NULL,
            CASE WHEN f.recovery THEN 'standby: jobs run on the primary server'
                 WHEN f.launcher IS NULL THEN 'not running'
                 ELSE format('running in process %s', f.launcher) END),
        ('slots', f.free_slots > 0 AND NOT f.refused AND NOT f.no_slot,
            CASE WHEN f.no_slot THEN 'work waits for a free worker slot: raise max_worker_processes'
                 WHEN f.refused THEN 'a worker could not be started: see the server log'
                 ELSE format('%s of %s workers, %s slots free', least(f.workers, f.max_workers),
                             f.max_workers, f.free_slots)
                      || CASE WHEN f.workers > f.max_workers
                              THEN '; the one beyond them is in use, too' ELSE '' END
                      || CASE WHEN f.capped > 0
                              THEN format('; %s roles have max_workers_per_role', f.capped) ELSE '' END END),
        ('max_worker_processes', needed <= allowed,
            format('%s, of which my_worker may take %s', allowed, needed)
            || CASE WHEN f.away > 0 THEN format('; %s keepers gave way to work', f.away) ELSE '' END);
    RETURN QUERY
        SELECT 'databases', count(*) = 0,
               coalesce(string_agg(CASE WHEN n.name IS NULL THEN 'the list was refused: see the server log'
                                        WHEN d.oid IS NULL THEN format('"%s" does not exist', n.name)
                                        ELSE format('"%s" is a template, or does not accept connections', n.name)
                                   END, ', ' ORDER BY n.name), 'those that are named are there')
          FROM my_worker_internal.named_databases() AS n (name) LEFT JOIN pg_database AS d ON d.datname = n.name
         WHERE d.oid IS NULL OR d.datistemplate OR NOT d.datallowconn;
    -- What follows reads these tables.
    IF objects.stops THEN
        RETURN;
    END IF;
    RETURN QUERY
        SELECT 'home', c.reason IS NULL, coalesce(c.reason, 'not a copy')
          FROM my_worker_internal.why_copy() AS c (reason);
    SELECT string_agg(format('queue "%s" is %s behind', s.queue, date_trunc('second', now.at - s.oldest)),
                      ', ' ORDER BY s.oldest)
               FILTER (WHERE NOT q.paused AND s.oldest < now.at - max_age
                         -- What waits for a consumer is no alarm while there is one.
                         AND NOT my_worker_internal.has_consumer(s.queue)) AS backlog
      INTO found
      FROM my_worker_internal.oldest_jobs() AS s JOIN my_worker.queues AS q ON q.name = s.queue,
           (SELECT clock_timestamp()) AS now (at);
    RETURN QUERY VALUES
        ('backlog', found.backlog IS NULL, coalesce(found.backlog, 'none'));
    SELECT string_agg(format('queue "%s": %s failed, the last %s ago', h.queue,
                             h.failed || CASE WHEN h.failed >= 1000 THEN ' or more' ELSE '' END, ago.text),
                      ', ' ORDER BY h.last DESC) FILTER (WHERE h.failed > 0) AS failures,
           min(ago.text) FILTER (WHERE h.failed = 0) AS before
      INTO found
      FROM my_worker_internal.failed_jobs() AS h,
           format('%s', CASE WHEN isfinite(h.last)
                             THEN date_trunc('second', clock_timestamp() - h.last)::text ELSE 'some time' END) AS ago (text);
    RETURN QUERY VALUES
        ('failures', found.failures IS NULL,
            coalesce(found.failures, 'none within a day; of those before, the last one was ' || found.before || ' ago',
                     'none'));
    RETURN QUERY
        SELECT 'paused', count(*) = 0,
               coalesce(string_agg(format('queue "%s"', q.name), ', ' ORDER BY q.name), 'no queue')
          FROM my_worker.queues AS q WHERE q.paused;
    RETURN QUERY
        SELECT 'schedules', count(*) = 0,
               coalesce(string_agg(format('"%s" %s', s.name, CASE WHEN s.disabled
                                   THEN 'is disabled' ELSE 'is late' END), ', ' ORDER BY s.name), 'on time')
          FROM my_worker_internal.late_schedules() AS s;
    RETURN QUERY
        SELECT 'vacuum', count(*) = 0,
               coalesce(string_agg(format('%s has held a snapshot for %s', o.holder,
                                          date_trunc('second', clock_timestamp() - o.since)), ', '
                                   ORDER BY o.since), 'not held back')
          FROM (SELECT format('process %s', a.pid), a.xact_start FROM pg_stat_activity AS a
                 WHERE a.backend_xmin IS NOT NULL AND a.backend_type <> 'walsender'
                   AND (a.datname = current_database() OR a.datname IS NULL)
                UNION ALL
                SELECT format('prepared transaction "%s"', p.gid), p.prepared FROM pg_prepared_xacts AS p
                 WHERE p.database = current_database()) AS o (holder, since)
         WHERE o.since < clock_timestamp() - interval '1 h';
END
$$;
COMMENT ON FUNCTION my_worker.health IS 'checks whether jobs can run and keep up, one row a check';
COMMENT ON COLUMN my_worker._schedules.runs IS 'how many jobs the schedule has enqueued';
COMMENT ON COLUMN my_worker._schedules.home IS 'the home of the database that the schedule was defined in';
COMMENT ON COLUMN my_worker._schedules.handler_owner IS 'who owned the handler when it was named, unless that was a superuser or the schedule''s owner';
COMMENT ON TABLE my_worker._schedules IS 'what the view my_worker.schedules shows, and what the keeper needs to know';
CREATE OR REPLACE FUNCTION my_worker_internal.before_schedule_write() RETURNS trigger
    AS 'MODULE_PATHNAME', 'mw_before_schedule_write' LANGUAGE C;
CREATE OR REPLACE VIEW my_worker.schedules WITH (security_invoker = true) AS
    SELECT s.name, s.schedule, s.timezone, s.command, s.handler, s.active, s.next_run_at,
           CASE WHEN s.last_job_id IS NOT NULL
                THEN coalesce(r.started_at, j.started_at, s.last_enqueued_at) END AS last_run_at,
           CASE WHEN s.last_job_id IS NULL THEN NULL
                WHEN r.job_id IS NOT NULL THEN 'processing'
                ELSE coalesce(j.status, 'completed') END AS last_status,
           s.last_job_id, s.owner, s.id, s.payload, s.queue, s.overlap, s.catchup, s.max_attempts,
           s.timeout, s.last_due, s.last_skipped_at, cardinality(s.held_jobs) AS held,
           s.disabled_reason, s.created_at, s.runs, e.finished_at - e.started_at AS last_duration,
           CASE WHEN e.status = 'failed' THEN e.last_error END AS last_error
      FROM my_worker._schedules AS s
      LEFT JOIN my_worker_internal.at_work() AS r ON r.job_id = s.last_job_id
      LEFT JOIN LATERAL (
               SELECT CASE WHEN q.origin IS NULL THEN q.status ELSE 'failed' END AS status, q.started_at
                 FROM my_worker._jobs AS q WHERE q.id = s.last_job_id
               UNION ALL
               SELECT h.status, h.started_at FROM my_worker.history AS h WHERE h.id = s.last_job_id
               LIMIT 1) AS j ON true
      LEFT JOIN LATERAL (
               SELECT h.status, h.started_at, h.finished_at, h.last_error FROM my_worker.history AS h
                WHERE h.schedule_id = s.id ORDER BY h.id DESC LIMIT 1) AS e ON true;
COMMENT ON VIEW my_worker.schedules IS 'schedules with their next and last run';
CREATE OR REPLACE FUNCTION my_worker.schedule(
    name text, schedule text, command text DEFAULT NULL, handler text DEFAULT NULL,
    payload jsonb DEFAULT '{}', queue text DEFAULT 'default', timezone text DEFAULT NULL,
    overlap text DEFAULT 'skip', catchup text DEFAULT 'one', max_attempts integer DEFAULT NULL,
    timeout interval DEFAULT NULL) RETURNS bigint
    AS 'MODULE_PATHNAME', 'mw_schedule' LANGUAGE C;
COMMENT ON FUNCTION my_worker.schedule IS 'enqueues a command or a call of a handler whenever the schedule is due; replaces the caller''s schedule of that name, and returns its id';
CREATE OR REPLACE FUNCTION my_worker.unschedule(name text, owner regrole DEFAULT NULL) RETURNS boolean
    AS 'MODULE_PATHNAME', 'mw_unschedule' LANGUAGE C;
COMMENT ON FUNCTION my_worker.unschedule IS 'removes a schedule; jobs that wait for an earlier run are cancelled';
CREATE OR REPLACE FUNCTION my_worker.pause_schedule(name text, owner regrole DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'mw_pause_schedule' LANGUAGE C;
COMMENT ON FUNCTION my_worker.pause_schedule IS 'enqueues nothing for a schedule until it is resumed';
CREATE OR REPLACE FUNCTION my_worker.resume_schedule(name text, owner regrole DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'mw_resume_schedule' LANGUAGE C;
COMMENT ON FUNCTION my_worker.resume_schedule IS 'resumes a paused or disabled schedule; what it missed meanwhile is left out';
CREATE OR REPLACE FUNCTION my_worker.run_now(name text, owner regrole DEFAULT NULL) RETURNS bigint
    AS 'MODULE_PATHNAME', 'mw_run_now' LANGUAGE C;
COMMENT ON FUNCTION my_worker.run_now IS 'enqueues a job of a schedule at once and returns its id';
CREATE OR REPLACE FUNCTION my_worker.next_runs(
    schedule text, n integer DEFAULT 5, timezone text DEFAULT NULL,
    after timestamptz DEFAULT now()) RETURNS SETOF timestamptz
    AS 'MODULE_PATHNAME', 'mw_next_runs' LANGUAGE C STABLE ROWS 5;
COMMENT ON FUNCTION my_worker.next_runs IS 'the next times at which a schedule would be due';
CREATE OR REPLACE FUNCTION my_worker_internal.identity() RETURNS text
    AS 'MODULE_PATHNAME', 'mw_identity' LANGUAGE C VOLATILE;
CREATE OR REPLACE FUNCTION my_worker_internal.set_birth(home bigint DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    home := coalesce(home, ('x' || right(replace(gen_random_uuid()::text, '-', ''), 15))::bit(60)::bigint);
    EXECUTE format('CREATE OR REPLACE FUNCTION my_worker_internal.birth() RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS %L',
                   format('SELECT %L', home || ' ' || my_worker_internal.identity()));
    RETURN home;
END
$$;
CREATE OR REPLACE FUNCTION my_worker_internal.index_strangers(home bigint) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
BEGIN
    DROP INDEX IF EXISTS my_worker._jobs_strangers_idx, my_worker._schedules_strangers_idx;
    EXECUTE format('CREATE INDEX _jobs_strangers_idx ON my_worker._jobs (home) WHERE home <> %L::bigint', home);
    EXECUTE format('CREATE INDEX _schedules_strangers_idx ON my_worker._schedules (home) WHERE home <> %L::bigint', home);
END
$$;
CREATE OR REPLACE FUNCTION my_worker_internal.why_copy() RETURNS text
    AS 'MODULE_PATHNAME', 'mw_why_copy' LANGUAGE C STRICT VOLATILE;
CREATE OR REPLACE FUNCTION my_worker.adopt(force boolean DEFAULT false) RETURNS text
    AS 'MODULE_PATHNAME', 'mw_adopt' LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION my_worker.adopt IS 'makes this database, a copy, the home of the jobs and schedules that came with it';
CREATE OR REPLACE FUNCTION my_worker.reassign(old_owner regrole, new_owner regrole) RETURNS bigint
    AS 'MODULE_PATHNAME', 'mw_reassign' LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION my_worker.reassign IS 'hands the waiting jobs and the schedules of one role over to another one, and returns how many';
CREATE OR REPLACE FUNCTION my_worker_internal.is_trusted(role oid) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.rolsuper OR r.rolname = current_user FROM pg_roles AS r WHERE r.oid = role
$$;
CREATE OR REPLACE FUNCTION my_worker_internal.has_code(source regclass, event integer) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT bool_or(
               EXISTS (SELECT FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
                        WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgtype::integer & event <> 0
                          AND (t.tgqual IS NOT NULL OR my_worker_internal.is_trusted(p.proowner) IS NOT TRUE))
               OR my_worker_internal.is_trusted(c.relowner) IS NOT TRUE AND (
                   c.relkind NOT IN ('r', 'p') OR c.relhasrules OR c.relrowsecurity OR c.relhassubclass AND c.relkind = 'r'
                   OR EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)
                   OR EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND num_nonnulls(i.indexprs, i.indpred) > 0)
                   OR EXISTS (SELECT FROM pg_constraint AS k WHERE k.conrelid = c.oid AND k.contype = 'c')
                   OR EXISTS (SELECT FROM pg_statistic_ext AS x WHERE x.stxrelid = c.oid AND x.stxexprs IS NOT NULL)
                   OR EXISTS (SELECT FROM pg_partitioned_table AS p WHERE p.partrelid = c.oid AND p.partexprs IS NOT NULL)))
      FROM pg_class AS c
     WHERE c.oid = source OR c.oid IN (SELECT t.relid FROM pg_partition_tree(source) AS t)
$$;
CREATE OR REPLACE FUNCTION my_worker_internal.import_pg_cron_job(
    jobid bigint, jobname text, schedule text, command text, nodename text, nodeport integer, database text,
    username text, active boolean, write boolean) RETURNS text[]
    AS 'MODULE_PATHNAME', 'mw_import_pg_cron_job' LANGUAGE C VOLATILE;
CREATE OR REPLACE FUNCTION my_worker_internal.pg_cron_table(dry_run boolean, OUT source regclass, OUT may_update boolean)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    owners oid[];
    may_alter boolean;
BEGIN
    SELECT c.oid, ARRAY[c.relowner, n.nspowner] INTO source, owners
      FROM pg_extension AS e
      JOIN pg_depend AS d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
                         AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'
      JOIN pg_class AS c ON c.oid = d.objid
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE e.extname = 'pg_cron' AND n.nspname = 'cron' AND c.relname = 'job' AND c.relkind = 'r';
    IF source IS NULL THEN
        RAISE undefined_table USING MESSAGE = 'this database has no table cron.job of extension pg_cron',
            HINT = 'Call it in the database that the setting "cron.database_name" names.';
    END IF;
    IF EXISTS (SELECT FROM unnest(owners) AS o (role) WHERE my_worker_internal.is_trusted(o.role) IS NOT TRUE) THEN
        RAISE insufficient_privilege USING MESSAGE = 'cron.job belongs to a role that is no superuser',
            HINT = 'Call it as the owner of the schema and the table.';
    END IF;
    may_update := has_column_privilege(source, 'active', 'UPDATE');
    IF dry_run THEN
        RETURN;
    END IF;
    -- So that no trigger comes after the look.
    IF has_table_privilege(source, 'UPDATE') THEN
        EXECUTE format('LOCK TABLE %s IN ROW EXCLUSIVE MODE', source);
    END IF;
    IF my_worker_internal.has_code(source, 16) THEN
        RAISE insufficient_privilege USING MESSAGE = 'cron.job has a trigger of a role that is no superuser',
            HINT = 'Drop the trigger, or call it as that role.';
    ELSIF may_update THEN
        RETURN;
    END IF;
    SELECT bool_or(has_function_privilege(p.oid, 'EXECUTE')) INTO may_alter
      FROM pg_proc AS p
      JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
      JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
     WHERE e.extname = 'pg_cron' AND p.oid = to_regprocedure('cron.alter_job(bigint,text,text,text,text,boolean)');
    IF may_alter IS NOT TRUE THEN
        RAISE insufficient_privilege USING MESSAGE = 'permission denied to switch off jobs of pg_cron',
            HINT = 'Have a superuser import them, or GRANT UPDATE (active) ON cron.job.';
    END IF;
END
$$;
CREATE OR REPLACE FUNCTION my_worker.import_pg_cron(dry_run boolean DEFAULT true)
    RETURNS TABLE (source_id bigint, name text, outcome text, detail text)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    source regclass;
    may_update boolean;
    job record;
    verdict text[];
    changed bigint;
BEGIN
    IF dry_run IS NULL THEN
        RAISE null_value_not_allowed USING MESSAGE = 'dry_run must not be null';
    END IF;
    SELECT t.source, t.may_update INTO source, may_update
      FROM my_worker_internal.pg_cron_table(dry_run) AS t;
    FOR job IN EXECUTE format(
        'SELECT j.jobid, j.schedule, j.command, j.nodename, j.nodeport, j.database, j.username, j.active,
                to_jsonb(j) ->> ''jobname'' AS jobname
           FROM %s AS j ORDER BY j.jobid %s', source, CASE WHEN may_update AND NOT dry_run THEN 'FOR UPDATE' END)
    LOOP
        verdict := my_worker_internal.import_pg_cron_job(job.jobid, job.jobname, job.schedule, job.command,
            job.nodename, job.nodeport, job.database, job.username, job.active, false);
        IF NOT dry_run AND verdict[2] = 'would be imported' THEN
            IF job.active AND may_update THEN
                EXECUTE format('UPDATE %s SET active = false WHERE jobid = $1', source) USING job.jobid;
                GET DIAGNOSTICS changed = ROW_COUNT;
                IF changed <> 1 THEN
                    RAISE object_not_in_prerequisite_state
                        USING MESSAGE = format('could not switch off job %s of pg_cron', job.jobid);
                END IF;
            ELSIF job.active THEN
                -- All types, so that no function of another signature is taken for it.
                PERFORM cron.alter_job(job.jobid::bigint, NULL::text, NULL::text, NULL::text, NULL::text, false);
            END IF;
            verdict := my_worker_internal.import_pg_cron_job(job.jobid, job.jobname, job.schedule, job.command,
                job.nodename, job.nodeport, job.database, job.username, job.active, true);
            IF verdict[2] <> 'imported' THEN
                RAISE object_in_use USING MESSAGE = format('could not import job %s of pg_cron: %s', job.jobid, verdict[3]),
                    HINT = 'Call it again.';
            END IF;
        END IF;
        source_id := job.jobid;
        name := verdict[1];
        outcome := verdict[2];
        detail := nullif(verdict[3], '');
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION my_worker.import_pg_cron IS 'makes jobs of pg_cron schedules of their users, and switches them off there; says what would happen unless dry_run is false';
CREATE OR REPLACE FUNCTION my_worker_internal.take_over(
    queue text, payloads jsonb[], headers jsonb[], run_at timestamptz[], created_at timestamptz[], attempts bigint[])
    RETURNS bigint[]
    AS 'MODULE_PATHNAME', 'mw_take_over' LANGUAGE C VOLATILE;
CREATE OR REPLACE FUNCTION my_worker_internal.pgmq_table(queue text, OUT source regclass, OUT has_headers boolean)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    schema_owner oid;
BEGIN
    SELECT c.oid, n.nspowner INTO source, schema_owner
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE n.nspname = 'pgmq' AND c.relname::text = lower('q_' || queue) AND c.relkind IN ('r', 'p');
    IF source IS NULL THEN
        RAISE undefined_table USING MESSAGE = format('pgmq has no queue "%s" in this database', queue),
            HINT = 'The names of its queues stand in pgmq.meta.';
    ELSIF my_worker_internal.is_trusted(schema_owner) IS NOT TRUE THEN
        RAISE insufficient_privilege USING MESSAGE = 'schema pgmq belongs to a role that is no superuser',
            HINT = 'Call it as the owner of the schema.';
    END IF;
    EXECUTE format('LOCK TABLE %s IN ROW EXCLUSIVE MODE', source);
    IF my_worker_internal.has_code(source, 8) THEN
        RAISE insufficient_privilege
            USING MESSAGE = format('the table of queue "%s" of pgmq may run code of others', queue),
                  DETAIL = 'It has triggers, rules, policies, expressions or constraints of a role that is no superuser.',
                  HINT = 'Call it as that role, or without the code.';
    END IF;
    IF (SELECT count(*) FROM pg_attribute AS a
         WHERE a.attrelid = source AND a.attnum > 0 AND NOT a.attisdropped
           AND (a.attname, a.atttypid) IN (('msg_id', 'bigint'::regtype), ('read_ct', 'integer'::regtype),
               ('enqueued_at', 'timestamptz'::regtype), ('vt', 'timestamptz'::regtype), ('message', 'jsonb'::regtype))) < 5 THEN
        RAISE datatype_mismatch USING MESSAGE = format('the table of queue "%s" has not the columns of pgmq', queue),
            HINT = 'They are msg_id bigint, read_ct integer, enqueued_at timestamptz, vt timestamptz and message jsonb.';
    END IF;
    has_headers := EXISTS (SELECT FROM pg_attribute AS a
        WHERE a.attrelid = source AND a.attname = 'headers' AND a.atttypid = 'jsonb'::regtype AND NOT a.attisdropped);
END
$$;
CREATE OR REPLACE FUNCTION my_worker_internal.pgmq_headers(msg_id bigint, headers jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE jsonb_typeof(headers)
               WHEN 'object' THEN headers
               ELSE jsonb_strip_nulls(jsonb_build_object('pgmq_headers', headers))
           END || jsonb_build_object('pgmq_msg_id', msg_id)
$$;
CREATE OR REPLACE FUNCTION my_worker.import_pgmq(queue text, dry_run boolean DEFAULT true)
    RETURNS TABLE (source_id bigint, name text, outcome text, detail text)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    source regclass;
    has_headers boolean;
    handler text;
    most bigint;
    last bigint;
    batch record;
    jobs bigint[];
BEGIN
    IF queue IS NULL OR dry_run IS NULL THEN
        RAISE null_value_not_allowed
            USING MESSAGE = format('%s must not be null', CASE WHEN queue IS NULL THEN 'queue' ELSE 'dry_run' END);
    END IF;
    SELECT q.handler INTO handler FROM my_worker.queues AS q WHERE q.name = import_pgmq.queue;
    IF NOT FOUND THEN
        RAISE undefined_object USING MESSAGE = format('queue "%s" does not exist', queue),
            HINT = 'Create it with my_worker.create_queue(), without a handler.';
    ELSIF handler IS NOT NULL THEN
        RAISE object_not_in_prerequisite_state USING MESSAGE = format('queue "%s" has a handler', queue),
            HINT = 'Messages of pgmq are for consumers: import them while the queue has none.';
    END IF;
    SELECT t.source, t.has_headers INTO source, has_headers
      FROM my_worker_internal.pgmq_table(queue) AS t;
    name := queue;
    IF dry_run THEN
        FOR source_id, detail IN EXECUTE format(
            'SELECT m.msg_id, concat_ws('', '', CASE WHEN m.vt > now() THEN format(''from %%s on'', m.vt) END,
                                         CASE WHEN m.read_ct > 0 THEN format(''read %%s times'', m.read_ct) END)
               FROM %s AS m ORDER BY m.msg_id', source)
        LOOP
            detail := nullif(detail, '');
            outcome := 'would be imported';
            RETURN NEXT;
        END LOOP;
        RETURN;
    END IF;
    EXECUTE format('SELECT max(m.msg_id), min(m.msg_id) - 1 FROM %s AS m', source) INTO most, last;
    LOOP
        -- Up to 2000 messages or 2 MB, as they are stored, at a time. A message whose row somebody has is passed.
        EXECUTE format(
            'WITH next AS MATERIALIZED (
                 SELECT m.msg_id, pg_column_size(m.message) AS bytes FROM %1$s AS m
                  WHERE m.msg_id > $1 AND m.msg_id <= $2 ORDER BY m.msg_id LIMIT 2000),
             part AS MATERIALIZED (
                 SELECT n.msg_id FROM (
                     SELECT x.msg_id, sum(x.bytes) OVER (ORDER BY x.msg_id) - coalesce(x.bytes, 0) AS before FROM next AS x) AS n
                  WHERE coalesce(n.before, 0) < 2097152),
             free AS MATERIALIZED (
                 SELECT m.msg_id FROM %1$s AS m
                  WHERE m.msg_id IN (SELECT p.msg_id FROM part AS p) ORDER BY m.msg_id FOR UPDATE SKIP LOCKED),
             gone AS (
                 DELETE FROM %1$s AS m USING free AS f WHERE m.msg_id = f.msg_id
                 RETURNING m.msg_id, m.message, %2$s AS headers, m.vt, m.enqueued_at, m.read_ct)
             SELECT (SELECT max(p.msg_id) FROM part AS p) AS last, count(*) AS n,
                    array_agg(g.msg_id ORDER BY g.msg_id) AS ids, array_agg(g.message ORDER BY g.msg_id) AS messages,
                    array_agg(my_worker_internal.pgmq_headers(g.msg_id, g.headers) ORDER BY g.msg_id) AS headers,
                    array_agg(g.vt ORDER BY g.msg_id) AS vts, array_agg(g.enqueued_at ORDER BY g.msg_id) AS times,
                    array_agg(g.read_ct::bigint ORDER BY g.msg_id) AS reads
               FROM gone AS g', source, CASE WHEN has_headers THEN 'm.headers' ELSE 'NULL::jsonb' END)
           INTO batch USING last, most;
        EXIT WHEN batch.last IS NULL;
        last := batch.last;
        CONTINUE WHEN batch.n = 0;
        jobs := my_worker_internal.take_over(queue, batch.messages, batch.headers, batch.vts, batch.times, batch.reads);
        RETURN QUERY SELECT b.id, queue, 'imported', format('job %s', b.job)
                       FROM ROWS FROM (unnest(batch.ids), unnest(jobs)) AS b (id, job);
    END LOOP;
    -- What was there at the beginning, and still is, somebody else had.
    FOR source_id IN EXECUTE format('SELECT m.msg_id FROM %s AS m WHERE m.msg_id <= $1 ORDER BY m.msg_id', source) USING most
    LOOP
        outcome := 'locked';
        detail := 'another transaction has it; call again';
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION my_worker.import_pgmq IS 'makes the messages of a queue of pgmq jobs for consumers of the queue of the same name, and deletes them there; says what would happen unless dry_run is false';
CREATE OR REPLACE FUNCTION my_worker_internal.usage_rights() RETURNS SETOF text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format(r.item, e.extnamespace::regnamespace, my_worker_internal.columns_of_authors())
      FROM pg_extension AS e, (
    VALUES ('USAGE ON SCHEMA my_worker'),
           ('USAGE ON SCHEMA my_worker_internal'),
           ('SELECT ON %1$s.my_queue'),
           ('SELECT ON my_worker._jobs'),
           ('INSERT (%2$s) ON %1$s.my_queue'),
           ('INSERT (%2$s) ON my_worker._jobs'),
           ('SELECT ON my_worker.history'),
           ('SELECT ON my_worker.jobs'),
           ('SELECT ON my_worker.queues'),
           ('SELECT ON my_worker._schedules'),
           ('SELECT ON my_worker.schedules'),
           -- statistics: of its own jobs, which each of these sees to
           ('SELECT ON %1$s.my_worker_status'),
           ('SELECT ON my_worker.workers'),
           ('SELECT ON my_worker.queue_stats'),
           ('SELECT ON my_worker.queue_minutes'),
           ('SELECT ON my_worker.handler_stats'),
           ('SELECT ON my_worker.stats_reach')) AS r (item)
     WHERE e.extname = 'my_worker'
    UNION ALL
    SELECT format('EXECUTE ON FUNCTION %s', p.oid::regprocedure)
      FROM pg_extension AS e
      JOIN pg_depend AS d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
                         AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
      JOIN pg_proc AS p ON p.oid = d.objid
     WHERE e.extname = 'my_worker'
       AND p.proname IN (
           'enqueue', 'enqueue_many', 'run', 'cancel', 'retry', 'redrive', 'run_soon', 'snooze', 'give_up', 'wait', 'why', 'progress', 'current_job',
           'schedule', 'unschedule', 'pause_schedule', 'resume_schedule', 'run_now', 'next_runs', 'reassign',
           'launch_dynamic_worker', 'perform', 'caller', 'home', 'at_work', 'is_running', 'waits_for',
           -- consumers
           'send', 'send_many', 'receive', 'ack', 'ack_many', 'nack', 'release', 'extend', 'lease_progress',
           -- imports
           'import_pg_cron', 'import_pgmq', 'import_pg_cron_job', 'pg_cron_table', 'take_over', 'pgmq_table', 'pgmq_headers',
           'is_trusted', 'has_code',
           -- statistics
           'get_worker_stats', 'processes', 'queue_stats', 'queue_minutes_since', 'handler_stats', 'stats_reach', 'health', 'health_facts', 'named_databases',
           'altered_columns', 'has_consumer', 'late_schedules', 'oldest_jobs', 'failed_jobs', 'why_copy')
$$;
CREATE OR REPLACE FUNCTION my_worker_internal.run_outside_script(statement text) RETURNS void
    AS 'MODULE_PATHNAME', 'mw_run_outside_script_sql' LANGUAGE C STRICT VOLATILE;
CREATE OR REPLACE FUNCTION my_worker_internal.schema_usage_given() RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS '';
CREATE OR REPLACE FUNCTION my_worker_internal.consume_rights() RETURNS SETOF text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    VALUES ('USAGE ON SCHEMA my_worker'), ('USAGE ON SCHEMA my_worker_internal'), ('SELECT ON my_worker._jobs'),
           ('SELECT ON my_worker.history'), ('SELECT ON my_worker.jobs'), ('REFERENCES ON my_worker._consumers')
    UNION ALL
    SELECT format('EXECUTE ON FUNCTION %s', p.oid::regprocedure)
      FROM pg_extension AS e
      JOIN pg_depend AS d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
                         AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
      JOIN pg_proc AS p ON p.oid = d.objid
     WHERE e.extname = 'my_worker'
       AND p.proname IN ('receive', 'ack', 'ack_many', 'nack', 'release', 'extend', 'progress', 'why', 'at_work', 'is_running',
                         'lease_progress', 'waits_for')
$$;
CREATE OR REPLACE FUNCTION my_worker_internal.has_usage(role regrole) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM pg_proc AS p, aclexplode(p.proacl) AS a
                    WHERE p.oid = 'my_worker.cancel(bigint)'::regprocedure AND a.grantee = role AND a.grantee <> p.proowner)
$$;
CREATE OR REPLACE FUNCTION my_worker_internal.check_role(role regrole) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF role IS NULL THEN
        RAISE null_value_not_allowed USING MESSAGE = 'role must not be null';
    ELSIF NOT EXISTS (SELECT FROM pg_roles WHERE oid = role) THEN
        RAISE undefined_object USING MESSAGE = format('role with OID %s does not exist', role::oid);
    END IF;
END
$$;
CREATE OR REPLACE FUNCTION my_worker_internal.has_consume(role regrole) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM pg_class AS c, aclexplode(c.relacl) AS a
                    WHERE c.oid = 'my_worker._consumers'::regclass AND a.grantee = role AND a.privilege_type = 'REFERENCES')
$$;
CREATE OR REPLACE FUNCTION my_worker_internal.forget_consumers(role regrole) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM my_worker._consumers AS c
     WHERE NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.oid = c.role)
        OR c.role = forget_consumers.role AND NOT my_worker_internal.has_consume(c.role)
$$;
CREATE OR REPLACE FUNCTION my_worker.grant_consume(queue text, role regrole) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    item text;
BEGIN
    PERFORM my_worker_internal.check_role(role);
    IF queue IS NULL THEN
        RAISE null_value_not_allowed USING MESSAGE = 'queue must not be null';
    END IF;
    PERFORM FROM my_worker.queues AS q WHERE q.name = queue FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE undefined_object USING MESSAGE = format('queue "%s" does not exist', queue),
            HINT = 'Create it with my_worker.create_queue().';
    END IF;
    PERFORM my_worker_internal.forget_consumers(role);
    INSERT INTO my_worker._consumers AS c (queue, role) VALUES (grant_consume.queue, grant_consume.role)
        ON CONFLICT DO NOTHING;
    FOR item IN SELECT * FROM my_worker_internal.consume_rights() LOOP
        PERFORM my_worker_internal.run_outside_script(format('GRANT %s TO %s', item, role));
    END LOOP;
END
$$;
COMMENT ON FUNCTION my_worker.grant_consume IS 'lets a role receive the jobs of all owners from a queue';
CREATE OR REPLACE FUNCTION my_worker.revoke_consume(queue text, role regrole) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    item text;
BEGIN
    PERFORM my_worker_internal.check_role(role);
    IF queue IS NULL THEN
        RAISE null_value_not_allowed USING MESSAGE = 'queue must not be null';
    END IF;
    PERFORM my_worker_internal.forget_consumers(role);
    DELETE FROM my_worker._consumers AS c WHERE c.queue = revoke_consume.queue AND c.role = revoke_consume.role;
    -- What another queue, or grant_usage(), has given as well it keeps.
    IF NOT my_worker_internal.has_consume(role)
       OR EXISTS (SELECT FROM my_worker._consumers AS c WHERE c.role = revoke_consume.role) THEN
        RETURN;
    END IF;
    FOR item IN SELECT r FROM my_worker_internal.consume_rights() AS r
                 WHERE r = 'REFERENCES ON my_worker._consumers' OR NOT my_worker_internal.has_usage(role) LOOP
        PERFORM my_worker_internal.run_outside_script(format('REVOKE %s FROM %s', item, role));
    END LOOP;
END
$$;
COMMENT ON FUNCTION my_worker.revoke_consume IS 'takes back what grant_consume() granted';
CREATE OR REPLACE FUNCTION my_worker_internal.change_usage(statement text, role regrole) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    item text;
    given boolean;
    target regnamespace := (SELECT e.extnamespace FROM pg_extension AS e WHERE e.extname = 'my_worker');
BEGIN
    PERFORM my_worker_internal.check_role(role);
    FOR item IN SELECT * FROM my_worker_internal.usage_rights() LOOP
        PERFORM my_worker_internal.run_outside_script(format(statement, item, role));
    END LOOP;
    -- What grant_consume() has given as well it keeps.
    IF statement LIKE 'REVOKE %' AND EXISTS (SELECT FROM my_worker._consumers AS c WHERE c.role = change_usage.role) THEN
        FOR item IN SELECT * FROM my_worker_internal.consume_rights() LOOP
            PERFORM my_worker_internal.run_outside_script(format('GRANT %s TO %s', item, role));
        END LOOP;
    END IF;
    -- Nobody's own grant is repeated, so that it is not taken back.
    IF statement LIKE 'GRANT %' THEN
        given := NOT EXISTS (
            SELECT FROM pg_namespace AS n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS a
             WHERE n.oid = target AND a.grantee = role AND a.privilege_type = 'USAGE');
    ELSE
        given := EXISTS (
            SELECT FROM pg_proc AS p, aclexplode(p.proacl) AS a
             WHERE p.oid = 'my_worker_internal.schema_usage_given()'::regprocedure AND a.grantee = role
               AND a.grantee <> p.proowner);
    END IF;
    IF given THEN
        PERFORM my_worker_internal.run_outside_script(format(statement, format('USAGE ON SCHEMA %s', target), role));
        PERFORM my_worker_internal.run_outside_script(
            format(statement, 'EXECUTE ON FUNCTION my_worker_internal.schema_usage_given()', role));
    END IF;
END
$$;
CREATE OR REPLACE FUNCTION my_worker.grant_usage(role regrole) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS
    $$ SELECT my_worker_internal.change_usage('GRANT %s TO %s', role) $$;
COMMENT ON FUNCTION my_worker.grant_usage IS 'lets a role enqueue jobs and deal with its own';
CREATE OR REPLACE FUNCTION my_worker.revoke_usage(role regrole) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS
    $$ SELECT my_worker_internal.change_usage('REVOKE %s FROM %s', role) $$;
COMMENT ON FUNCTION my_worker.revoke_usage IS 'takes back what grant_usage() granted';
COMMENT ON COLUMN my_worker._jobs.id IS 'the number of the job, for cancel(), wait() and the like';
COMMENT ON COLUMN my_worker._jobs.queue IS 'the queue that the job is in; it must exist';
COMMENT ON COLUMN my_worker._jobs.status IS 'pending, blocked (waits for other jobs), processing (a claimed command, or a lease for a time) or failed (set aside)';
COMMENT ON COLUMN my_worker._jobs.handler IS 'the function that the job calls; the handler of its queue if NULL';
COMMENT ON COLUMN my_worker._jobs.command IS 'the SQL text that the job runs at top level; a job with a command has no handler';
COMMENT ON COLUMN my_worker._jobs.payload IS 'what the handler or the consumer gets';
COMMENT ON COLUMN my_worker._jobs.priority IS 'lower numbers start first';
COMMENT ON COLUMN my_worker._jobs.run_at IS 'the job starts at this time or later; after a failed attempt, the time of the next one';
COMMENT ON COLUMN my_worker._jobs.created_at IS 'when the job was enqueued';
COMMENT ON COLUMN my_worker._jobs.started_at IS 'when the last attempt that has ended began';
COMMENT ON COLUMN my_worker._jobs.attempts IS 'how many attempts have ended and were charged';
COMMENT ON COLUMN my_worker._jobs.max_attempts IS 'how many attempts the job has, 1 to 10000; those of its queue if NULL';
COMMENT ON COLUMN my_worker._jobs.timeout IS 'how long one attempt may take; as long as its queue says if NULL';
COMMENT ON COLUMN my_worker._jobs.unique_key IS 'one live job of a queue and owner at most has this key';
COMMENT ON COLUMN my_worker._jobs.owner IS 'the role that enqueued the job, and as which it runs';
COMMENT ON COLUMN my_worker._jobs.last_error IS 'the message of the last attempt that failed';
COMMENT ON COLUMN my_worker._jobs.errors IS 'the attempts that failed, an array of objects: attempt, at, sqlstate, message, detail, hint, context';
COMMENT ON COLUMN my_worker._jobs.kind IS 'tells consumers what the job is';
COMMENT ON COLUMN my_worker._jobs.headers IS 'what comes with the payload without being part of it, such as trace ids';
COMMENT ON COLUMN my_worker._jobs.group_key IS 'what per_key, fifo and rate_per_key of the queue go by, such as a customer';
COMMENT ON COLUMN my_worker._jobs.expires_at IS 'a job that has not started by this time is cancelled';
COMMENT ON COLUMN @extschema@.my_queue.id IS 'the number of the job, for cancel(), wait() and the like';
COMMENT ON COLUMN @extschema@.my_queue.queue IS 'the queue that the job is in; it must exist';
COMMENT ON COLUMN @extschema@.my_queue.status IS 'pending, blocked (waits for other jobs), processing (a claimed command, or a lease for a time) or failed (set aside); my_worker.jobs has the live one';
COMMENT ON COLUMN @extschema@.my_queue.handler IS 'the function that the job calls; the handler of its queue if NULL';
COMMENT ON COLUMN @extschema@.my_queue.command IS 'the SQL text that the job runs at top level; a job with a command has no handler';
COMMENT ON COLUMN @extschema@.my_queue.payload IS 'what the handler or the consumer gets';
COMMENT ON COLUMN @extschema@.my_queue.priority IS 'lower numbers start first';
COMMENT ON COLUMN @extschema@.my_queue.run_at IS 'the job starts at this time or later; after a failed attempt, the time of the next one';
COMMENT ON COLUMN @extschema@.my_queue.created_at IS 'when the job was enqueued';
COMMENT ON COLUMN @extschema@.my_queue.started_at IS 'when the last attempt that failed began';
COMMENT ON COLUMN @extschema@.my_queue.attempts IS 'how many attempts have ended and were charged';
COMMENT ON COLUMN @extschema@.my_queue.max_attempts IS 'how many attempts the job has, 1 to 10000; those of its queue if NULL';
COMMENT ON COLUMN @extschema@.my_queue.timeout IS 'how long one attempt may take; as long as its queue says if NULL';
COMMENT ON COLUMN @extschema@.my_queue.unique_key IS 'one live job of a queue and owner at most has this key';
COMMENT ON COLUMN @extschema@.my_queue.owner IS 'the role that enqueued the job, and as which it runs';
COMMENT ON COLUMN @extschema@.my_queue.last_error IS 'the message of the last attempt that failed';
COMMENT ON COLUMN @extschema@.my_queue.errors IS 'the attempts that failed, an array of objects: attempt, at, sqlstate, message, detail, hint, context';
COMMENT ON COLUMN @extschema@.my_queue.kind IS 'tells consumers what the job is';
COMMENT ON COLUMN @extschema@.my_queue.headers IS 'what comes with the payload without being part of it, such as trace ids';
COMMENT ON COLUMN @extschema@.my_queue.group_key IS 'what per_key, fifo and rate_per_key of the queue go by, such as a customer';
COMMENT ON COLUMN @extschema@.my_queue.after IS 'the jobs that must have ended before this one starts';
COMMENT ON COLUMN @extschema@.my_queue.after_failed IS 'what becomes of the job if one of those fails: cancel (also NULL) or run';
COMMENT ON COLUMN @extschema@.my_queue.expires_at IS 'a job that has not started by this time is cancelled';
COMMENT ON COLUMN @extschema@.my_queue.origin IS 'the queue that the job failed in, before it went to this dead-letter queue';
COMMENT ON COLUMN @extschema@.my_queue.schedule_id IS 'the schedule that enqueued the job';
COMMENT ON COLUMN my_worker.history.id IS 'the number of the job, for cancel(), wait() and the like';
COMMENT ON COLUMN my_worker.history.queue IS 'the queue that the job is in; it must exist';
COMMENT ON COLUMN my_worker.history.status IS 'completed, failed or cancelled';
COMMENT ON COLUMN my_worker.history.handler IS 'the function that the job calls; the handler of its queue if NULL';
COMMENT ON COLUMN my_worker.history.command IS 'the SQL text that the job runs at top level; a job with a command has no handler';
COMMENT ON COLUMN my_worker.history.payload IS 'what the handler or the consumer gets';
COMMENT ON COLUMN my_worker.history.priority IS 'lower numbers start first';
COMMENT ON COLUMN my_worker.history.run_at IS 'when the last attempt was due';
COMMENT ON COLUMN my_worker.history.created_at IS 'when the job was enqueued';
COMMENT ON COLUMN my_worker.history.started_at IS 'when the last attempt began';
COMMENT ON COLUMN my_worker.history.attempts IS 'how many attempts have ended and were charged';
COMMENT ON COLUMN my_worker.history.max_attempts IS 'how many attempts the job has, 1 to 10000; those of its queue if NULL';
COMMENT ON COLUMN my_worker.history.timeout IS 'how long one attempt may take; as long as its queue says if NULL';
COMMENT ON COLUMN my_worker.history.unique_key IS 'one live job of a queue and owner at most has this key';
COMMENT ON COLUMN my_worker.history.owner IS 'the role that enqueued the job, and as which it runs';
COMMENT ON COLUMN my_worker.history.last_error IS 'the message of the last attempt that failed';
COMMENT ON COLUMN my_worker.history.finished_at IS 'when the job ended';
COMMENT ON COLUMN my_worker.history.result IS 'what the handler returned, the tag of a command, or what the consumer gave to ack()';
COMMENT ON COLUMN my_worker.history.errors IS 'the attempts that failed, an array of objects: attempt, at, sqlstate, message, detail, hint, context';
COMMENT ON COLUMN my_worker.history.handler_owner IS 'who owned the handler when it was named, unless that was a superuser or the job''s owner';
COMMENT ON COLUMN my_worker.history.kind IS 'tells consumers what the job is';
COMMENT ON COLUMN my_worker.history.headers IS 'what comes with the payload without being part of it, such as trace ids';
COMMENT ON COLUMN my_worker.history.group_key IS 'what per_key, fifo and rate_per_key of the queue go by, such as a customer';
COMMENT ON COLUMN my_worker.history.after IS 'the jobs that must have ended before this one starts';
COMMENT ON COLUMN my_worker.history.after_failed IS 'what becomes of the job if one of those fails: cancel (also NULL) or run';
COMMENT ON COLUMN my_worker.history.expires_at IS 'a job that has not started by this time is cancelled';
COMMENT ON COLUMN my_worker.history.origin IS 'the queue that the job failed in, before it went to this dead-letter queue';
COMMENT ON COLUMN my_worker.history.schedule_id IS 'the schedule that enqueued the job';
COMMENT ON COLUMN my_worker.jobs.id IS 'the number of the job, for cancel(), wait() and the like';
COMMENT ON COLUMN my_worker.jobs.queue IS 'the queue that the job is in; it must exist';
COMMENT ON COLUMN my_worker.jobs.status IS 'pending, blocked (waits for other jobs), processing, completed, failed or cancelled, as of this moment';
COMMENT ON COLUMN my_worker.jobs.handler IS 'the function that the job calls; the handler of its queue if NULL';
COMMENT ON COLUMN my_worker.jobs.command IS 'the SQL text that the job runs at top level; a job with a command has no handler';
COMMENT ON COLUMN my_worker.jobs.payload IS 'what the handler or the consumer gets';
COMMENT ON COLUMN my_worker.jobs.priority IS 'lower numbers start first';
COMMENT ON COLUMN my_worker.jobs.run_at IS 'the job starts at this time or later; after a failed attempt, the time of the next one';
COMMENT ON COLUMN my_worker.jobs.created_at IS 'when the job was enqueued';
COMMENT ON COLUMN my_worker.jobs.started_at IS 'when the attempt that runs began, else the last one';
COMMENT ON COLUMN my_worker.jobs.attempts IS 'how many attempts have ended and were charged';
COMMENT ON COLUMN my_worker.jobs.max_attempts IS 'how many attempts the job has, 1 to 10000; those of its queue if NULL';
COMMENT ON COLUMN my_worker.jobs.timeout IS 'how long one attempt may take; as long as its queue says if NULL';
COMMENT ON COLUMN my_worker.jobs.unique_key IS 'one live job of a queue and owner at most has this key';
COMMENT ON COLUMN my_worker.jobs.owner IS 'the role that enqueued the job, and as which it runs';
COMMENT ON COLUMN my_worker.jobs.last_error IS 'the message of the last attempt that failed';
COMMENT ON COLUMN my_worker.jobs.finished_at IS 'when the job ended; NULL before';
COMMENT ON COLUMN my_worker.jobs.result IS 'what the handler returned, the tag of a command, or what the consumer gave to ack()';
COMMENT ON COLUMN my_worker.jobs.errors IS 'the attempts that failed, an array of objects: attempt, at, sqlstate, message, detail, hint, context';
COMMENT ON COLUMN my_worker.jobs.pid IS 'the process that has the job: a worker, or the session of a consumer';
COMMENT ON COLUMN my_worker.jobs.progress IS 'how far the job is, in percent, as it last said by progress()';
COMMENT ON COLUMN my_worker.jobs.progress_message IS 'what it said beside that';
COMMENT ON COLUMN my_worker.jobs.kind IS 'tells consumers what the job is';
COMMENT ON COLUMN my_worker.jobs.headers IS 'what comes with the payload without being part of it, such as trace ids';
COMMENT ON COLUMN my_worker.jobs.group_key IS 'what per_key, fifo and rate_per_key of the queue go by, such as a customer';
COMMENT ON COLUMN my_worker.jobs.consumer IS 'the application_name of the consumer that has the job';
COMMENT ON COLUMN my_worker.jobs.lease_until IS 'when the lease of a consumer ends, if it is one for a time';
COMMENT ON COLUMN my_worker.jobs.after IS 'the jobs that must have ended before this one starts';
COMMENT ON COLUMN my_worker.jobs.after_failed IS 'what becomes of the job if one of those fails: cancel (also NULL) or run';
COMMENT ON COLUMN my_worker.jobs.expires_at IS 'a job that has not started by this time is cancelled';
COMMENT ON COLUMN my_worker.jobs.origin IS 'the queue that the job failed in, before it went to this dead-letter queue';
COMMENT ON COLUMN my_worker.jobs.schedule_id IS 'the schedule that enqueued the job';
COMMENT ON COLUMN my_worker.jobs.waits_for IS 'what the job waits for, beside its time and a worker: jobs, a key';
COMMENT ON COLUMN my_worker._dependencies.job IS 'a job that is blocked';
COMMENT ON COLUMN my_worker._dependencies.after IS 'a job that must have ended before';
COMMENT ON COLUMN my_worker._expiring.expires_at IS 'when the job expires';
COMMENT ON COLUMN my_worker._expiring.job IS 'the job';
COMMENT ON COLUMN my_worker._consumers.queue IS 'the queue';
COMMENT ON COLUMN my_worker._consumers.role IS 'the role that receives the jobs of all owners from it';
COMMENT ON COLUMN my_worker.queues.name IS 'the name of the queue';
COMMENT ON COLUMN my_worker.queues.handler IS 'the function that jobs of this queue call if they name none; NULL: jobs without a handler are for consumers';
COMMENT ON COLUMN my_worker.queues.concurrency IS 'how many of its jobs run at once at most; NULL: no limit';
COMMENT ON COLUMN my_worker.queues.max_attempts IS 'how many attempts a job has that says nothing itself';
COMMENT ON COLUMN my_worker.queues.backoff IS 'how long a job waits after its first failed attempt; doubled with each further one';
COMMENT ON COLUMN my_worker.queues.backoff_max IS 'the longest such wait';
COMMENT ON COLUMN my_worker.queues.timeout IS 'how long an attempt may take, of jobs that say nothing themselves; NULL: no limit';
COMMENT ON COLUMN my_worker.queues.retention IS 'how long jobs that have ended stay in the history; 0: completed jobs leave no row';
COMMENT ON COLUMN my_worker.queues.paused IS 'whether no job of it starts';
COMMENT ON COLUMN my_worker.queues.created_at IS 'when the queue was created';
COMMENT ON COLUMN my_worker.queues.id IS 'a number for the queue';
COMMENT ON COLUMN my_worker.queues.per_key IS 'how many jobs of one group_key run at once at most; NULL: no limit';
COMMENT ON COLUMN my_worker.queues.fifo IS 'whether the jobs of one group_key run one after the other, in the order of their ids';
COMMENT ON COLUMN my_worker.queues.rate IS 'how many jobs start in a rate_period; NULL: no limit';
COMMENT ON COLUMN my_worker.queues.rate_period IS 'the time that rate counts in';
COMMENT ON COLUMN my_worker.queues.burst IS 'how many jobs may start at once after a rest';
COMMENT ON COLUMN my_worker.queues.rate_per_key IS 'whether each group_key has the rate for itself';
COMMENT ON COLUMN my_worker.queues.dead_letter IS 'the queue that jobs go to when they have failed for good';
COMMENT ON COLUMN my_worker.queues.jobs_per_savepoint IS 'how many jobs of a batch share a savepoint';
COMMENT ON COLUMN my_worker.queues.retry_on IS 'SQLSTATEs or classes of them: only jobs that fail with these are tried again';
COMMENT ON COLUMN my_worker.queues.fail_on IS 'SQLSTATEs or classes of them: jobs that fail with these are not tried again';
COMMENT ON COLUMN @extschema@.my_worker_status.items_processed IS 'how many jobs have ended since the server started, after they had begun';
COMMENT ON COLUMN @extschema@.my_worker_status.last_run IS 'when the last batch of jobs ended; NULL before the first';
COMMENT ON COLUMN @extschema@.my_worker_status.status IS 'idle, running N, disabled, or what keeps jobs from running';
COMMENT ON COLUMN my_worker.workers.slot IS 'the place of the process in shared memory; NULL for the launcher';
COMMENT ON COLUMN my_worker.workers.pid IS 'the process; NULL while it starts';
COMMENT ON COLUMN my_worker.workers.kind IS 'launcher, keeper, worker, dynamic or consumer';
COMMENT ON COLUMN my_worker.workers.database IS 'the database that it is logged in to';
COMMENT ON COLUMN my_worker.workers.role IS 'the role that it is logged in as; NULL for the launcher and keepers';
COMMENT ON COLUMN my_worker.workers.state IS 'starting, idle, running or stopping';
COMMENT ON COLUMN my_worker.workers.job_id IS 'the job that it runs';
COMMENT ON COLUMN my_worker.workers.queue IS 'the queue of that job';
COMMENT ON COLUMN my_worker.workers.job_started_at IS 'when that job began';
COMMENT ON COLUMN my_worker.workers.jobs_done IS 'how many jobs it has ended';
COMMENT ON COLUMN my_worker.workers.started_at IS 'when the process started';
COMMENT ON COLUMN my_worker.queue_stats.queue IS 'the name of the queue';
COMMENT ON COLUMN my_worker.queue_stats.pending IS 'jobs that are due and do not run';
COMMENT ON COLUMN my_worker.queue_stats.scheduled IS 'jobs that are due later, also for another attempt';
COMMENT ON COLUMN my_worker.queue_stats.processing IS 'jobs that run';
COMMENT ON COLUMN my_worker.queue_stats.oldest_pending_age IS 'for how long the oldest of the pending jobs has been due';
COMMENT ON COLUMN my_worker.queue_stats.completed IS 'jobs that have completed since the counters began';
COMMENT ON COLUMN my_worker.queue_stats.failed IS 'jobs that have failed for good';
COMMENT ON COLUMN my_worker.queue_stats.retried IS 'attempts that failed and were not the last';
COMMENT ON COLUMN my_worker.queue_stats.cancelled IS 'jobs that were cancelled, or purged while they waited';
COMMENT ON COLUMN my_worker.queue_stats.wait_mean IS 'milliseconds from due to start, the mean';
COMMENT ON COLUMN my_worker.queue_stats.wait_p50 IS 'milliseconds from due to start, the median';
COMMENT ON COLUMN my_worker.queue_stats.wait_p95 IS 'milliseconds from due to start, the 95th percentile';
COMMENT ON COLUMN my_worker.queue_stats.wait_p99 IS 'milliseconds from due to start, the 99th percentile';
COMMENT ON COLUMN my_worker.queue_stats.run_mean IS 'milliseconds from start to end, the mean';
COMMENT ON COLUMN my_worker.queue_stats.run_p50 IS 'milliseconds from start to end, the median';
COMMENT ON COLUMN my_worker.queue_stats.run_p95 IS 'milliseconds from start to end, the 95th percentile';
COMMENT ON COLUMN my_worker.queue_stats.run_p99 IS 'milliseconds from start to end, the 99th percentile';
COMMENT ON COLUMN my_worker.queue_stats.blocked IS 'jobs that wait for other jobs to end; not counted as pending or scheduled';
COMMENT ON COLUMN my_worker.queue_stats.limited IS 'whether jobs are due that a rate does not let start yet';
COMMENT ON COLUMN my_worker.queue_stats.estimated IS 'whether pending and scheduled are estimates, which they are where more than 2,000 jobs wait';
COMMENT ON COLUMN my_worker.schedules.name IS 'the name of the schedule, unique for its owner';
COMMENT ON COLUMN my_worker.schedules.schedule IS 'when it is due: a cron expression or "every" and an interval';
COMMENT ON COLUMN my_worker.schedules.timezone IS 'the time zone that the schedule goes by';
COMMENT ON COLUMN my_worker.schedules.command IS 'the SQL text that its jobs run';
COMMENT ON COLUMN my_worker.schedules.handler IS 'the function that its jobs call';
COMMENT ON COLUMN my_worker.schedules.active IS 'whether it is due at all: false while it is paused or disabled';
COMMENT ON COLUMN my_worker.schedules.next_run_at IS 'when it is due next; NULL while it is not active';
COMMENT ON COLUMN my_worker.schedules.last_run_at IS 'when the last run started, or was enqueued as long as it has not';
COMMENT ON COLUMN my_worker.schedules.last_status IS 'the status of that job';
COMMENT ON COLUMN my_worker.schedules.last_job_id IS 'the job of its last run, also by run_now()';
COMMENT ON COLUMN my_worker.schedules.owner IS 'the role that the schedule and its jobs belong to';
COMMENT ON COLUMN my_worker.schedules.id IS 'the number of the schedule, which its jobs have as schedule_id';
COMMENT ON COLUMN my_worker.schedules.payload IS 'what its handler gets';
COMMENT ON COLUMN my_worker.schedules.queue IS 'the queue of its jobs';
COMMENT ON COLUMN my_worker.schedules.overlap IS 'what becomes of a run that is due while the last one is unfinished: skip, queue or allow';
COMMENT ON COLUMN my_worker.schedules.catchup IS 'what becomes of due times that were missed: none, one or all';
COMMENT ON COLUMN my_worker.schedules.max_attempts IS 'how many attempts its jobs have; 1 for a command, or those of the queue, if NULL';
COMMENT ON COLUMN my_worker.schedules.timeout IS 'how long an attempt of its jobs may take';
COMMENT ON COLUMN my_worker.schedules.last_due IS 'the last due time that was enqueued';
COMMENT ON COLUMN my_worker.schedules.last_skipped_at IS 'when a run was left out last';
COMMENT ON COLUMN my_worker.schedules.held IS 'how many runs wait for an earlier one to end';
COMMENT ON COLUMN my_worker.schedules.disabled_reason IS 'why it was disabled';
COMMENT ON COLUMN my_worker.schedules.created_at IS 'when it was first defined';
COMMENT ON COLUMN my_worker.schedules.runs IS 'how many jobs the schedule has enqueued since it was first defined';
COMMENT ON COLUMN my_worker.schedules.last_duration IS 'how long the last attempt took, of the latest run that is in the history';
COMMENT ON COLUMN my_worker.schedules.last_error IS 'why that run failed, if it did';
COMMENT ON COLUMN my_worker.queue_minutes.queue IS 'the name of the queue';
COMMENT ON COLUMN my_worker.queue_minutes.minute IS 'when the minute begins, by the server''s clock; the last one goes on';
COMMENT ON COLUMN my_worker.queue_minutes.completed IS 'jobs that completed in it';
COMMENT ON COLUMN my_worker.queue_minutes.failed IS 'jobs that failed for good in it';
COMMENT ON COLUMN my_worker.queue_minutes.retried IS 'attempts that failed in it and were not the last';
COMMENT ON COLUMN my_worker.queue_minutes.cancelled IS 'jobs that were cancelled in it';
COMMENT ON COLUMN my_worker.queue_minutes.wait_p95 IS 'milliseconds from due to start, the 95th percentile of the executions that ended in it';
COMMENT ON COLUMN my_worker.queue_minutes.run_p95 IS 'milliseconds from start to end, the 95th percentile of them';
COMMENT ON COLUMN my_worker.handler_stats.handler IS 'the name of the handler with its argument types; NULL for commands and consumers';
COMMENT ON COLUMN my_worker.handler_stats.runs IS 'handler, command or consumer';
COMMENT ON COLUMN my_worker.handler_stats.calls IS 'attempts that have ended, but for those that snooze() ended';
COMMENT ON COLUMN my_worker.handler_stats.failures IS 'attempts that have failed, whether another one followed or not';
COMMENT ON COLUMN my_worker.handler_stats.last_call_at IS 'when the last attempt ended';
COMMENT ON COLUMN my_worker.handler_stats.run_mean IS 'milliseconds from start to end, the mean';
COMMENT ON COLUMN my_worker.handler_stats.run_p50 IS 'milliseconds from start to end, the median';
COMMENT ON COLUMN my_worker.handler_stats.run_p95 IS 'milliseconds from start to end, the 95th percentile';
COMMENT ON COLUMN my_worker.handler_stats.run_p99 IS 'milliseconds from start to end, the 99th percentile';
COMMENT ON COLUMN my_worker.stats_reach.statistics IS 'queue_minutes or handler_stats';
COMMENT ON COLUMN my_worker.stats_reach.since IS 'everything since this time is there';
COMMENT ON COLUMN my_worker.stats_reach.gave_way IS 'entries that gave way to newer ones since the server''s start';
COMMENT ON COLUMN my_worker._schedules.id IS 'the number of the schedule, which its jobs have as schedule_id';
COMMENT ON COLUMN my_worker._schedules.name IS 'the name of the schedule, unique for its owner';
COMMENT ON COLUMN my_worker._schedules.active IS 'whether it is due at all: false while it is paused or disabled';
COMMENT ON COLUMN my_worker._schedules.next_run_at IS 'when it is due next; NULL while it is not active';
COMMENT ON COLUMN my_worker._schedules.schedule IS 'when it is due: a cron expression or "every" and an interval';
COMMENT ON COLUMN my_worker._schedules.timezone IS 'the time zone that the schedule goes by';
COMMENT ON COLUMN my_worker._schedules.command IS 'the SQL text that its jobs run';
COMMENT ON COLUMN my_worker._schedules.handler IS 'the function that its jobs call';
COMMENT ON COLUMN my_worker._schedules.payload IS 'what its handler gets';
COMMENT ON COLUMN my_worker._schedules.queue IS 'the queue of its jobs';
COMMENT ON COLUMN my_worker._schedules.overlap IS 'what becomes of a run that is due while the last one is unfinished: skip, queue or allow';
COMMENT ON COLUMN my_worker._schedules.catchup IS 'what becomes of due times that were missed: none, one or all';
COMMENT ON COLUMN my_worker._schedules.max_attempts IS 'how many attempts its jobs have; 1 for a command, or those of the queue, if NULL';
COMMENT ON COLUMN my_worker._schedules.timeout IS 'how long an attempt of its jobs may take';
COMMENT ON COLUMN my_worker._schedules.anchor IS 'the time that "every" counts from';
COMMENT ON COLUMN my_worker._schedules.last_due IS 'the last due time that was enqueued';
COMMENT ON COLUMN my_worker._schedules.last_job_id IS 'the job of its last run, also by run_now()';
COMMENT ON COLUMN my_worker._schedules.last_enqueued_at IS 'when the last run was enqueued';
COMMENT ON COLUMN my_worker._schedules.last_skipped_at IS 'when a run was left out last';
COMMENT ON COLUMN my_worker._schedules.live_jobs IS 'its jobs that have not ended';
COMMENT ON COLUMN my_worker._schedules.held_jobs IS 'those of its jobs that wait for an earlier one (overlap "queue")';
COMMENT ON COLUMN my_worker._schedules.disabled_reason IS 'why it was disabled';
COMMENT ON COLUMN my_worker._schedules.owner IS 'the role that the schedule and its jobs belong to';
COMMENT ON COLUMN my_worker._schedules.created_at IS 'when it was first defined';
COMMENT ON FUNCTION my_worker_internal.altered_columns() IS 'columns of our tables that are not as the extension made them, each with what it must be';
COMMENT ON FUNCTION my_worker_internal.at_work() IS 'the jobs that run now, of the roles whose rights the caller has';
COMMENT ON FUNCTION my_worker_internal.before_job_delete() IS 'refuses to delete a job that a consumer has, and tells what follows from the end of others';
COMMENT ON FUNCTION my_worker_internal.before_job_write() IS 'checks and completes a job that is enqueued or changed, and has a worker woken at COMMIT';
COMMENT ON FUNCTION my_worker_internal.before_queue_write() IS 'has a queue that is restored or replicated replace the one of its name';
COMMENT ON FUNCTION my_worker_internal.before_schedule_write() IS 'has the keeper told at COMMIT when the schedule is due';
COMMENT ON FUNCTION my_worker_internal.birth() IS 'the home of this database, and what the database was when it got it';
COMMENT ON FUNCTION my_worker_internal.caller() IS 'the role whose rights are in force: who owns what is enqueued';
COMMENT ON FUNCTION my_worker_internal.change_usage(text, regrole) IS 'grants or revokes what grant_usage() and revoke_usage() are about';
COMMENT ON FUNCTION my_worker_internal.check_role(regrole) IS 'raises an error unless there is such a role';
COMMENT ON FUNCTION my_worker_internal.columns_of_authors() IS 'the columns of a job that whoever enqueues it may set';
COMMENT ON FUNCTION my_worker_internal.consume_rights() IS 'the rights that grant_consume() grants on objects';
COMMENT ON FUNCTION my_worker_internal.failed_jobs() IS 'how many jobs of each queue have failed within a day, of those that the caller sees';
COMMENT ON FUNCTION my_worker_internal.forget_consumers(regrole) IS 'deletes what grant_consume() noted of a role';
COMMENT ON FUNCTION my_worker_internal.has_code(regclass, integer) IS 'whether a table could run code of its owner when it is read or written';
COMMENT ON FUNCTION my_worker_internal.has_consume(regrole) IS 'whether a role may consume from any queue';
COMMENT ON FUNCTION my_worker_internal.has_consumer(text) IS 'whether the jobs of a queue are for consumers, and one of them holds or waits for some';
COMMENT ON FUNCTION my_worker_internal.has_usage(regrole) IS 'whether a role has what grant_usage() grants';
COMMENT ON FUNCTION my_worker_internal.health_facts() IS 'what health() knows from shared memory and the settings';
COMMENT ON FUNCTION my_worker_internal.home() IS 'the home of this database, which each job and schedule carries';
COMMENT ON FUNCTION my_worker_internal.identity() IS 'what tells this database from copies of its files';
COMMENT ON FUNCTION my_worker_internal.import_pg_cron_job(bigint, text, text, text, text, integer, text, text, boolean, boolean) IS 'makes one job of pg_cron a schedule, or says why not';
COMMENT ON FUNCTION my_worker_internal.index_strangers(bigint) IS 'makes the indexes that find jobs and schedules of another home';
COMMENT ON FUNCTION my_worker_internal.installed() IS 'tells the launcher that this database has the extension; warns if it is not served';
COMMENT ON FUNCTION my_worker_internal.is_running(bigint) IS 'whether a job runs';
COMMENT ON FUNCTION my_worker_internal.is_trusted(oid) IS 'whether a role is a superuser or the caller';
COMMENT ON FUNCTION my_worker_internal.late_schedules() IS 'schedules that are late or disabled, of those that the caller sees';
COMMENT ON FUNCTION my_worker_internal.lease_progress(bigint, bigint) IS 'what a consumer with a lease for a time has said of its progress';
COMMENT ON FUNCTION my_worker_internal.may_consume(text) IS 'whether the caller may receive the jobs of all owners from a queue';
COMMENT ON FUNCTION my_worker_internal.named_databases() IS 'the names in my_worker.database; NULL if the server refused its value at the start';
COMMENT ON FUNCTION my_worker_internal.oldest_jobs() IS 'since when jobs have been due, of each queue the longest, of those that the caller sees';
COMMENT ON FUNCTION my_worker_internal.only_owner() IS 'keeps all but the owner of the extension from writing past its functions';
COMMENT ON FUNCTION my_worker_internal.pg_cron_table(boolean) IS 'the table of pg_cron''s jobs, if it can be trusted';
COMMENT ON FUNCTION my_worker_internal.pgmq_headers(bigint, jsonb) IS 'the headers of a job that was a message of pgmq';
COMMENT ON FUNCTION my_worker_internal.pgmq_table(text) IS 'the table of a queue of pgmq, if it can be trusted';
COMMENT ON FUNCTION my_worker_internal.processes() IS 'the processes of my_worker, from shared memory';
COMMENT ON FUNCTION my_worker_internal.queue_stats() IS 'what queue_stats shows, from shared memory and indexes';
COMMENT ON FUNCTION my_worker_internal.queues_changed() IS 'announces a change of a queue to all sessions';
COMMENT ON FUNCTION my_worker_internal.run_outside_script(text) IS 'grants a right that is not recorded as one that the extension comes with';
COMMENT ON FUNCTION my_worker_internal.schema_usage_given() IS 'notes that grant_usage() gave the right to use the extension''s schema';
COMMENT ON FUNCTION my_worker_internal.set_birth(bigint) IS 'gives this database a home';
COMMENT ON FUNCTION my_worker_internal.take_over(text, jsonb[], jsonb[], timestamptz[], timestamptz[], bigint[]) IS 'enqueues messages of pgmq as jobs, in order';
COMMENT ON FUNCTION my_worker_internal.usage_rights() IS 'the rights that grant_usage() grants on objects';
COMMENT ON FUNCTION my_worker_internal.waits_for(bigint) IS 'what a job waits for, beside its time and a worker';
COMMENT ON FUNCTION my_worker_internal.why_copy() IS 'why this database is taken for a copy of another one; NULL if it is none';
COMMENT ON FUNCTION my_worker_internal.handler_stats() IS 'what handler_stats shows, from shared memory';
COMMENT ON FUNCTION my_worker_internal.stats_reach() IS 'what stats_reach shows, from shared memory';

-- Others, which answer more, have taken their places in the views.
DROP FUNCTION my_worker._running();
DROP FUNCTION my_worker._workers();
DROP FUNCTION my_worker._queue_stats();

CREATE POLICY jobs_consumed ON my_worker._jobs FOR SELECT USING (my_worker_internal.may_consume(queue));
CREATE POLICY history_consumed ON my_worker.history FOR SELECT USING (my_worker_internal.may_consume(queue));
CREATE TRIGGER jobs_before_delete BEFORE DELETE ON my_worker._jobs
    FOR EACH ROW EXECUTE FUNCTION my_worker_internal.before_job_delete();
CREATE TRIGGER consumers_only_owner BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON my_worker._consumers
    FOR EACH STATEMENT EXECUTE FUNCTION my_worker_internal.only_owner();
CREATE TRIGGER dependencies_only_owner BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON my_worker._dependencies
    FOR EACH STATEMENT EXECUTE FUNCTION my_worker_internal.only_owner();
CREATE TRIGGER expiring_only_owner BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON my_worker._expiring
    FOR EACH STATEMENT EXECUTE FUNCTION my_worker_internal.only_owner();
SELECT pg_extension_config_dump('my_worker._jobs', $$WHERE owner::pg_catalog.text !~ '^[0-9]+$'$$);
SELECT pg_extension_config_dump('my_worker.history', $$WHERE owner::pg_catalog.text !~ '^[0-9]+$'$$);
SELECT pg_extension_config_dump('my_worker._schedules', $$WHERE owner::pg_catalog.text !~ '^[0-9]+$'$$);
SELECT pg_extension_config_dump('my_worker._consumers', $$WHERE role::pg_catalog.text !~ '^[0-9]+$'$$);
SELECT pg_extension_config_dump('my_worker._dependencies', '');

SELECT my_worker_internal.index_strangers(my_worker_internal.home());

ALTER TABLE my_worker.queues ENABLE ALWAYS TRIGGER queues_before_write;

-- Writing past the functions is the owner's alone.
CREATE TRIGGER queues_only_owner BEFORE INSERT OR UPDATE OR DELETE ON my_worker.queues
    FOR EACH STATEMENT EXECUTE FUNCTION my_worker_internal.only_owner();
CREATE TRIGGER history_only_owner BEFORE INSERT OR UPDATE OR TRUNCATE ON my_worker.history
    FOR EACH STATEMENT EXECUTE FUNCTION my_worker_internal.only_owner();
CREATE TRIGGER jobs_only_owner BEFORE TRUNCATE ON my_worker._jobs
    FOR EACH STATEMENT EXECUTE FUNCTION my_worker_internal.only_owner();

CREATE TRIGGER schedules_only_owner BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON my_worker._schedules
    FOR EACH STATEMENT EXECUTE FUNCTION my_worker_internal.only_owner();

-- Whoever had rights on the table my_queue has them on the view, and keeps those on the table behind.
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT a.privilege_type AS privilege, '' AS columns, a.grantee, a.is_grantable
          FROM pg_class AS c, aclexplode(c.relacl) AS a
         WHERE c.oid = 'my_worker._jobs'::regclass AND a.grantee <> c.relowner
           AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
        UNION ALL
        SELECT a.privilege_type, format('(%I)', t.attname), a.grantee, a.is_grantable
          FROM pg_attribute AS t, aclexplode(t.attacl) AS a
         WHERE t.attrelid = 'my_worker._jobs'::regclass AND t.attacl IS NOT NULL
           AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE')
    LOOP
        PERFORM my_worker_internal.run_outside_script(
            format('GRANT %s %s ON @extschema@.my_queue TO %s %s', granted.privilege, granted.columns,
                   CASE granted.grantee WHEN 0 THEN 'PUBLIC' ELSE granted.grantee::regrole::text END,
                   CASE WHEN granted.is_grantable THEN 'WITH GRANT OPTION' END));
    END LOOP;
END
$$;

-- A stored handler names one function: its argument types stand behind its name. Where the name
-- alone stood, it meant the first of these that is there.
CREATE FUNCTION my_worker_internal.typed_handler(handler text, OUT name text, OUT owner regrole)
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN handler LIKE '%)' THEN handler ELSE handler || t.types END,
           CASE WHEN NOT r.rolsuper THEN p.proowner::regrole END
      FROM (VALUES (1, '(bigint, jsonb)'), (2, '(jsonb)'), (3, '()'), (4, '(bigint[], jsonb[])')) AS t (turn, types)
      JOIN pg_proc AS p ON p.oid = to_regprocedure(CASE WHEN handler LIKE '%)' THEN handler ELSE handler || t.types END)
      JOIN pg_roles AS r ON r.oid = p.proowner
     ORDER BY t.turn LIMIT 1
$$;
ALTER TABLE my_worker._jobs DISABLE TRIGGER jobs_before_write;
UPDATE my_worker._jobs AS j SET handler = h.name, handler_owner = nullif(h.owner, j.owner)
  FROM (SELECT DISTINCT handler FROM my_worker._jobs WHERE handler IS NOT NULL) AS d (handler),
       my_worker_internal.typed_handler(d.handler) AS h
 WHERE j.handler = d.handler AND h.name IS NOT NULL;
ALTER TABLE my_worker._jobs ENABLE TRIGGER jobs_before_write;
UPDATE my_worker.history AS j SET handler = h.name, handler_owner = nullif(h.owner, j.owner)
  FROM (SELECT DISTINCT handler FROM my_worker.history
         WHERE status <> 'completed' AND handler IS NOT NULL) AS d (handler),
       my_worker_internal.typed_handler(d.handler) AS h
 WHERE j.status <> 'completed' AND j.handler = d.handler AND h.name IS NOT NULL;
UPDATE my_worker._schedules AS s SET handler = h.name, handler_owner = nullif(h.owner, s.owner)
  FROM (SELECT DISTINCT handler FROM my_worker._schedules WHERE handler IS NOT NULL) AS d (handler),
       my_worker_internal.typed_handler(d.handler) AS h
 WHERE s.handler = d.handler AND h.name IS NOT NULL;
UPDATE my_worker.queues AS q SET handler = h.name, handler_owner = h.owner
  FROM (SELECT DISTINCT handler FROM my_worker.queues WHERE handler IS NOT NULL) AS d (handler),
       my_worker_internal.typed_handler(d.handler) AS h
 WHERE q.handler = d.handler AND h.name IS NOT NULL;
DROP FUNCTION my_worker_internal.typed_handler(text);

-- A bare number as a time zone counts hours east of Greenwich, as for SET timezone. What was stored under
-- 1.0 counted them west of it, and keeps its meaning.
UPDATE my_worker._schedules SET timezone = format('<%1$s>%1$s', timezone) WHERE timezone ~ '^[+-]?[0-9]+$';

-- Whoever might call a function that takes more arguments now may call that one.
DO $$
DECLARE
    old record;
    granted record;
BEGIN
    FOR old IN
        SELECT o.oid, o.proname, o.proacl, o.proowner, n.oid::regprocedure AS new FROM pg_proc AS o JOIN pg_proc AS n
            ON n.pronamespace = o.pronamespace AND n.proname = substr(o.proname, length('_old_') + 1)
         WHERE o.pronamespace = 'my_worker'::regnamespace AND starts_with(o.proname, '_old_')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', old.new);
        FOR granted IN SELECT a.grantee, a.is_grantable FROM aclexplode(old.proacl) AS a WHERE a.grantee <> old.proowner LOOP
            PERFORM my_worker_internal.run_outside_script(
                format('GRANT EXECUTE ON FUNCTION %s TO %s %s', old.new,
                       CASE granted.grantee WHEN 0 THEN 'PUBLIC' ELSE granted.grantee::regrole::text END,
                       CASE WHEN granted.is_grantable THEN 'WITH GRANT OPTION' END));
        END LOOP;
        EXECUTE format('DROP FUNCTION %s', old.oid::regprocedure);
    END LOOP;
END
$$;

-- ---- the end: whatever else changes comes before this line ----

-- Functions that are new are nobody's, as all of them. Others keep their rights untouched: what a script
-- grants or revokes of an object, pg_dump takes for what the extension comes with.
DO $$
DECLARE
    function regprocedure;
BEGIN
    FOR function IN
        SELECT p.oid FROM pg_proc AS p JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
         WHERE d.deptype = 'e' AND d.refobjid = (SELECT e.oid FROM pg_extension AS e WHERE e.extname = 'my_worker')
           AND p.proacl IS NULL
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', function);
    END LOOP;
END
$$;
GRANT EXECUTE ON FUNCTION my_worker_internal.may_consume(text) TO PUBLIC;
GRANT USAGE ON SCHEMA my_worker_internal TO pg_monitor;
GRANT EXECUTE ON FUNCTION my_worker_internal.health_facts(), my_worker_internal.named_databases(),
    my_worker_internal.altered_columns(), my_worker_internal.has_consumer(text), my_worker_internal.late_schedules(), my_worker_internal.oldest_jobs(), my_worker_internal.failed_jobs(), my_worker_internal.why_copy() TO pg_monitor;
GRANT EXECUTE ON FUNCTION my_worker_internal.processes(), my_worker_internal.queue_stats(),
    my_worker.queue_minutes_since(timestamptz), my_worker_internal.handler_stats(), my_worker_internal.stats_reach() TO pg_monitor;
GRANT SELECT ON my_worker.queue_minutes, my_worker.handler_stats, my_worker.stats_reach TO pg_monitor;
GRANT SELECT (name, paused) ON my_worker.queues TO pg_monitor;

-- Whoever enqueues by rights of his own, which caller() is one of, takes the home with it.
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT a.grantee, a.is_grantable FROM pg_proc AS p, aclexplode(p.proacl) AS a
         WHERE p.oid = 'my_worker_internal.caller()'::regprocedure AND a.privilege_type = 'EXECUTE' AND a.grantee <> p.proowner
    LOOP
        PERFORM my_worker_internal.run_outside_script(
            format('GRANT EXECUTE ON FUNCTION my_worker_internal.home() TO %s %s',
                   CASE granted.grantee WHEN 0 THEN 'PUBLIC' ELSE granted.grantee::regrole::text END,
                   CASE WHEN granted.is_grantable THEN 'WITH GRANT OPTION' END));
    END LOOP;
END
$$;

-- Roles that use the queue under 1.0 get what is new, and need no new grant.
DO $$
DECLARE
    role regrole;
BEGIN
    FOR role IN
        SELECT a.grantee::regrole
          FROM pg_catalog.pg_proc AS p, pg_catalog.aclexplode(p.proacl) AS a
         WHERE p.oid IN ('my_worker.cancel(bigint)'::regprocedure, 'my_worker.retry(bigint)'::regprocedure,
                         'my_worker.wait(bigint, interval)'::regprocedure)
           AND a.privilege_type = 'EXECUTE' AND a.grantee NOT IN (0, p.proowner)
         GROUP BY a.grantee HAVING count(*) >= 3
    LOOP
        PERFORM my_worker.grant_usage(role);
    END LOOP;
END
$$;

-- The launcher learns, at COMMIT, that the library fits the database now.
CREATE FUNCTION my_worker_internal.updated() RETURNS void AS 'MODULE_PATHNAME', 'mw_updated' LANGUAGE C STRICT;
SELECT my_worker_internal.updated();
DROP FUNCTION my_worker_internal.updated();
