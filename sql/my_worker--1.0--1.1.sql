/* my_worker--1.0--1.1.sql: what changes from 1.0 to 1.1 */

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
ALTER FUNCTION my_worker._running() SET SCHEMA my_worker_internal;
ALTER FUNCTION my_worker_internal._running() RENAME TO running;
ALTER FUNCTION my_worker._workers() SET SCHEMA my_worker_internal;
ALTER FUNCTION my_worker_internal._workers() RENAME TO workers;
ALTER FUNCTION my_worker._is_running(bigint) SET SCHEMA my_worker_internal;
ALTER FUNCTION my_worker_internal._is_running(bigint) RENAME TO is_running;
ALTER FUNCTION my_worker._installed() SET SCHEMA my_worker_internal;
ALTER FUNCTION my_worker_internal._installed() RENAME TO installed;
ALTER FUNCTION my_worker._queue_stats() SET SCHEMA my_worker_internal;
ALTER FUNCTION my_worker_internal._queue_stats() RENAME TO queue_stats;
ALTER FUNCTION my_worker._health() SET SCHEMA my_worker_internal;
ALTER FUNCTION my_worker_internal._health() RENAME TO health_facts;
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
ALTER INDEX my_worker.my_queue_processing_idx RENAME TO _jobs_processing_idx;
ALTER TRIGGER my_queue_before_write ON my_worker._jobs RENAME TO jobs_before_write;
ALTER POLICY my_queue_own ON my_worker._jobs RENAME TO jobs_own;
COMMENT ON TABLE my_worker._jobs IS 'jobs still to be done, behind the view my_queue';

ALTER TABLE my_worker.queues ADD COLUMN handler_owner regrole;
ALTER TABLE my_worker._jobs ADD COLUMN handler_owner regrole;
ALTER TABLE my_worker.history ADD COLUMN handler_owner regrole;
ALTER TABLE my_worker._schedules ADD COLUMN handler_owner regrole;
COMMENT ON COLUMN my_worker.queues.handler_owner IS 'who owned the handler when it was named, unless that was a superuser';
COMMENT ON COLUMN my_worker._jobs.handler_owner IS 'who owned the handler when it was named, unless that was a superuser or the job''s owner';
COMMENT ON COLUMN my_worker._schedules.handler_owner IS 'who owned the handler when it was named, unless that was a superuser or the schedule''s owner';

-- The door to it, in a schema that may belong to anybody: nothing of ours goes through it. INSERT,
-- UPDATE and DELETE reach the table by the server's own rules, COPY by the library, each with the
-- caller's rights.
CREATE VIEW @extschema@.my_queue WITH (security_invoker = true) AS
    SELECT j.id, j.queue, j.status, j.handler, j.command, j.payload, j.priority, j.run_at, j.created_at,
           j.started_at, j.attempts, j.max_attempts, j.timeout, j.unique_key, j.owner, j.last_error,
           j.errors
      FROM my_worker._jobs AS j;
COMMENT ON VIEW @extschema@.my_queue IS 'jobs still to be done; enqueue by INSERT or my_worker.enqueue()';

-- No right that somebody is granted lets him write past the functions into what the engine and all
-- roles rely on: GRANT ALL, pg_write_all_data.
CREATE FUNCTION my_worker_internal.only_owner() RETURNS trigger
    AS 'MODULE_PATHNAME', 'mw_only_owner' LANGUAGE C;
CREATE TRIGGER queues_only_owner BEFORE INSERT OR UPDATE OR DELETE ON my_worker.queues
    FOR EACH STATEMENT EXECUTE FUNCTION my_worker_internal.only_owner();
CREATE TRIGGER history_only_owner BEFORE INSERT OR UPDATE OR TRUNCATE ON my_worker.history
    FOR EACH STATEMENT EXECUTE FUNCTION my_worker_internal.only_owner();
CREATE TRIGGER jobs_only_owner BEFORE TRUNCATE ON my_worker._jobs
    FOR EACH STATEMENT EXECUTE FUNCTION my_worker_internal.only_owner();

CREATE TRIGGER schedules_only_owner BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON my_worker._schedules
    FOR EACH STATEMENT EXECUTE FUNCTION my_worker_internal.only_owner();

-- Runs as its owner, who sees all queues, schedules and sessions; what it says holds no payload.
CREATE OR REPLACE FUNCTION my_worker.health(
    max_age interval DEFAULT '5 min', OUT "check" text, OUT ok boolean, OUT detail text)
    RETURNS SETOF record
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET intervalstyle = postgres AS $$
DECLARE
    f record;
    found record;
    needed integer;
    allowed integer := current_setting('max_worker_processes');
    version text := (SELECT e.extversion FROM pg_extension AS e WHERE e.extname = 'my_worker');
BEGIN
    SELECT h.* INTO f FROM my_worker_internal.health_facts() AS h;
    RETURN QUERY VALUES
        ('loaded', f.loaded, CASE WHEN f.loaded THEN 'yes'
            ELSE 'add my_worker to shared_preload_libraries and restart the server' END),
        ('versions', starts_with(f.library || '.', version || '.'),
            format('library %s, extension %s', f.library, version));
    IF NOT f.loaded THEN
        RETURN;
    END IF;
    needed := 1 + f.keepers + f.max_workers;
    RETURN QUERY VALUES
        ('enabled', f.enabled, CASE WHEN f.enabled THEN 'yes' ELSE 'my_worker.enabled is off' END),
        ('served', f.served, CASE WHEN f.served THEN 'yes'
            ELSE 'my_worker.database does not name this database' END),
        ('launcher', f.recovery OR f.launcher IS NOT NULL,
            CASE WHEN f.recovery THEN 'standby: jobs run on the primary server'
                 WHEN f.launcher IS NULL THEN 'not running'
                 ELSE format('running in process %s', f.launcher) END),
        ('slots', f.free_slots > 0 AND NOT f.refused,
            CASE WHEN f.refused THEN 'a worker could not be started: see the server log'
                 ELSE format('%s of %s workers, %s slots free', f.workers, f.max_workers, f.free_slots) END),
        ('max_worker_processes', needed <= allowed,
            format('%s, of which my_worker may take %s', allowed, needed));
    -- One look at the queues: it may have to count.
    SELECT string_agg(format('queue "%s" is %s behind', s.queue, date_trunc('second', now.at - s.oldest)),
                      ', ' ORDER BY s.oldest)
               FILTER (WHERE NOT q.paused AND s.oldest < now.at - max_age) AS backlog,
           string_agg(format('queue "%s": %s failed, the last %s ago', s.queue, s.failed,
                             date_trunc('second', now.at - s.failed_at)), ', ' ORDER BY s.failed_at DESC)
               FILTER (WHERE s.failed_at > now.at - interval '1 h') AS failures
      INTO found
      FROM my_worker_internal.queue_stats() AS s JOIN my_worker.queues AS q ON q.name = s.queue,
           (SELECT clock_timestamp()) AS now (at);
    RETURN QUERY VALUES
        ('backlog', found.backlog IS NULL, coalesce(found.backlog, 'none')),
        ('failures', found.failures IS NULL, coalesce(found.failures, 'none within an hour'));
    RETURN QUERY
        SELECT 'paused', count(*) = 0,
               coalesce(string_agg(format('queue "%s"', q.name), ', ' ORDER BY q.name), 'no queue')
          FROM my_worker.queues AS q WHERE q.paused;
    RETURN QUERY
        SELECT 'schedules', count(*) = 0,
               coalesce(string_agg(format('"%s" %s', s.name, CASE WHEN s.disabled_reason IS NOT NULL
                                   THEN 'is disabled' ELSE 'is late' END), ', ' ORDER BY s.name), 'on time')
          FROM my_worker._schedules AS s
         WHERE s.disabled_reason IS NOT NULL
            OR (s.active AND s.next_run_at < clock_timestamp() - interval '1 min');
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
-- The rights of a role that uses the queue: granted and revoked from this one list.
CREATE OR REPLACE FUNCTION my_worker_internal.usage_rights() RETURNS SETOF text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    VALUES ('USAGE ON SCHEMA my_worker'),
           ('SELECT ON @extschema@.my_queue'),
           ('SELECT ON my_worker._jobs'),
           ('INSERT (queue, handler, command, payload, priority, run_at, max_attempts, timeout, unique_key)'
            ' ON @extschema@.my_queue'),
           ('INSERT (queue, handler, command, payload, priority, run_at, max_attempts, timeout, unique_key)'
            ' ON my_worker._jobs'),
           ('SELECT ON my_worker.history'),
           ('SELECT ON my_worker.jobs'),
           ('SELECT ON my_worker.queues'),
           ('EXECUTE ON FUNCTION my_worker_internal.caller()'),
           ('EXECUTE ON FUNCTION my_worker_internal.running()'),
           ('EXECUTE ON FUNCTION my_worker_internal.is_running(bigint)'),
           ('EXECUTE ON FUNCTION my_worker.enqueue(text, jsonb, text, integer, timestamptz, integer,'
            ' interval, text)'),
           ('EXECUTE ON FUNCTION my_worker.enqueue_many(text, jsonb[], text, integer, timestamptz,'
            ' integer, interval)'),
           ('EXECUTE ON FUNCTION my_worker.run(text, text, integer, timestamptz, integer, interval, text)'),
           ('EXECUTE ON FUNCTION my_worker.cancel(bigint)'),
           ('EXECUTE ON FUNCTION my_worker.why(bigint)'),
           ('EXECUTE ON FUNCTION my_worker.retry(bigint)'),
           ('EXECUTE ON FUNCTION my_worker.wait(bigint, interval)'),
           ('EXECUTE ON FUNCTION my_worker.progress(real, text)'),
           ('EXECUTE ON FUNCTION my_worker.current_job()'),
           ('SELECT ON my_worker._schedules'),
           ('SELECT ON my_worker.schedules'),
           ('EXECUTE ON FUNCTION my_worker.schedule(text, text, text, text, jsonb, text, text, text, text,'
            ' integer, interval)'),
           ('EXECUTE ON FUNCTION my_worker.unschedule(text, regrole)'),
           ('EXECUTE ON FUNCTION my_worker.pause_schedule(text, regrole)'),
           ('EXECUTE ON FUNCTION my_worker.resume_schedule(text, regrole)'),
           ('EXECUTE ON FUNCTION my_worker.run_now(text, regrole)'),
           ('EXECUTE ON FUNCTION my_worker.next_runs(text, integer, text, timestamptz)'),
           ('EXECUTE ON FUNCTION @extschema@.launch_dynamic_worker(integer)'),
           ('EXECUTE ON FUNCTION @extschema@.launch_dynamic_worker(bigint)');
$$;

CREATE OR REPLACE FUNCTION my_worker_internal.change_usage(statement text, role regrole) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    item text;
BEGIN
    IF role IS NULL THEN
        RAISE null_value_not_allowed USING MESSAGE = 'role must not be null';
    ELSIF NOT EXISTS (SELECT FROM pg_roles WHERE oid = role) THEN
        RAISE undefined_object USING MESSAGE = format('role with OID %s does not exist', role::oid);
    END IF;
    FOR item IN SELECT * FROM my_worker_internal.usage_rights() LOOP
        EXECUTE format(statement, item, role);
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION my_worker.grant_usage(role regrole) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS
    $$ SELECT my_worker_internal.change_usage('GRANT %s TO %s', role) $$;

CREATE OR REPLACE FUNCTION my_worker.revoke_usage(role regrole) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS
    $$ SELECT my_worker_internal.change_usage('REVOKE %s FROM %s', role) $$;


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
        EXECUTE format('GRANT %s %s ON @extschema@.my_queue TO %s %s', granted.privilege, granted.columns,
                       CASE granted.grantee WHEN 0 THEN 'PUBLIC' ELSE granted.grantee::regrole::text END,
                       CASE WHEN granted.is_grantable THEN 'WITH GRANT OPTION' END);
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

-- ---- the end: what follows must stay last ----

-- Functions that are new are nobody's, as all of them.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA my_worker FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA my_worker_internal FROM PUBLIC;

-- Roles that were granted usage have all that it grants now.
SELECT my_worker.grant_usage(a.grantee)
  FROM pg_proc AS p, aclexplode(p.proacl) AS a
 WHERE p.oid = 'my_worker.cancel(bigint)'::regprocedure
   AND a.privilege_type = 'EXECUTE' AND a.grantee NOT IN (0, p.proowner);
