/* my_worker--1.0--1.1.sql: what changes from 1.0 to 1.1 */

-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION my_worker UPDATE TO '1.1'" to load this file. \quit

-- Every name below is qualified; the path is pinned so that none can be captured.
SET LOCAL search_path TO pg_catalog, pg_temp;

-- The names in my_worker.database; one NULL if the server refused its value at the start.
CREATE FUNCTION my_worker._named_databases() RETURNS SETOF text
    AS 'MODULE_PATHNAME', 'mw_named_databases' LANGUAGE C STRICT VOLATILE ROWS 5;

-- Schedules that are late or disabled, of those that the caller sees.
CREATE FUNCTION my_worker._late_schedules(OUT name text, OUT disabled boolean) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'mw_late_schedules' LANGUAGE C STRICT VOLATILE ROWS 5;

-- Runs as its caller: what it reads answers a role that only uses the queue for its own jobs and
-- schedules, and a member of pg_monitor for all.
CREATE OR REPLACE FUNCTION my_worker.health(
    max_age interval DEFAULT '5 min', OUT "check" text, OUT ok boolean, OUT detail text)
    RETURNS SETOF record
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    SET intervalstyle = postgres AS $$
DECLARE
    f record;
    found record;
    needed integer;
    allowed integer := current_setting('max_worker_processes');
    version text := (SELECT e.extversion FROM pg_extension AS e WHERE e.extname = 'my_worker');
    list text := format('my_worker.database is %L', current_setting('my_worker.database'));
BEGIN
    SELECT h.* INTO f FROM my_worker._health() AS h;
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
        ('served', f.served, CASE WHEN f.served THEN 'yes: ' || list
            ELSE 'no: ' || list END),
        ('launcher', f.recovery OR f.launcher IS NOT NULL,
            CASE WHEN f.recovery THEN 'standby: jobs run on the primary server'
                 WHEN f.launcher IS NULL THEN 'not running'
                 ELSE format('running in process %s', f.launcher) END),
        ('slots', f.free_slots > 0 AND NOT f.refused,
            CASE WHEN f.refused THEN 'a worker could not be started: see the server log'
                 ELSE format('%s of %s workers, %s slots free', f.workers, f.max_workers, f.free_slots) END),
        ('max_worker_processes', needed <= allowed,
            format('%s, of which my_worker may take %s', allowed, needed));
    RETURN QUERY
        SELECT 'databases', count(*) = 0,
               coalesce(string_agg(CASE WHEN n.name IS NULL THEN 'the list was refused: see the server log'
                                        WHEN d.oid IS NULL THEN format('"%s" does not exist', n.name)
                                        ELSE format('"%s" is a template, or does not accept connections', n.name)
                                   END, ', ' ORDER BY n.name), 'those that are named are there')
          FROM my_worker._named_databases() AS n (name) LEFT JOIN pg_database AS d ON d.datname = n.name
         WHERE d.oid IS NULL OR d.datistemplate OR NOT d.datallowconn;
    -- One look at the queues: it may have to count.
    SELECT string_agg(format('queue "%s" is %s behind', s.queue, date_trunc('second', now.at - s.oldest)),
                      ', ' ORDER BY s.oldest)
               FILTER (WHERE NOT q.paused AND s.oldest < now.at - max_age) AS backlog,
           string_agg(format('queue "%s": %s failed, the last %s ago', s.queue, s.failed,
                             date_trunc('second', now.at - s.failed_at)), ', ' ORDER BY s.failed_at DESC)
               FILTER (WHERE s.failed_at > now.at - interval '1 h') AS failures
      INTO found
      FROM my_worker._queue_stats() AS s JOIN my_worker.queues AS q ON q.name = s.queue,
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
               coalesce(string_agg(format('"%s" %s', s.name, CASE WHEN s.disabled
                                   THEN 'is disabled' ELSE 'is late' END), ', ' ORDER BY s.name), 'on time')
          FROM my_worker._late_schedules() AS s;
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

-- The rights of a role that uses the queue: granted and revoked from this one list. %1$s is the target
-- schema, by the name that it has now.
CREATE OR REPLACE FUNCTION my_worker._usage_rights() RETURNS SETOF text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format(r.item, e.extnamespace::regnamespace) FROM pg_extension AS e, (
    VALUES ('USAGE ON SCHEMA my_worker'),
           ('SELECT ON %1$s.my_queue'),
           ('INSERT (queue, handler, command, payload, priority, run_at, max_attempts, timeout, unique_key)'
            ' ON %1$s.my_queue'),
           ('SELECT ON my_worker.history'),
           ('SELECT ON my_worker.jobs'),
           ('SELECT ON my_worker.queues'),
           ('EXECUTE ON FUNCTION my_worker._caller()'),
           ('EXECUTE ON FUNCTION my_worker._running()'),
           ('EXECUTE ON FUNCTION my_worker._is_running(bigint)'),
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
           ('EXECUTE ON FUNCTION %1$s.launch_dynamic_worker(integer)'),
           ('EXECUTE ON FUNCTION %1$s.launch_dynamic_worker(bigint)'),
           -- statistics: of its own jobs, which each of these functions sees to
           ('EXECUTE ON FUNCTION %1$s.get_worker_stats()'),
           ('SELECT ON %1$s.my_worker_status'),
           ('EXECUTE ON FUNCTION my_worker._workers()'),
           ('SELECT ON my_worker.workers'),
           ('EXECUTE ON FUNCTION my_worker._queue_stats()'),
           ('SELECT ON my_worker.queue_stats'),
           ('EXECUTE ON FUNCTION my_worker._health()'),
           ('EXECUTE ON FUNCTION my_worker._named_databases()'),
           ('EXECUTE ON FUNCTION my_worker._late_schedules()'),
           ('EXECUTE ON FUNCTION my_worker.health(interval)')) AS r (item)
     WHERE e.extname = 'my_worker'
$$;

-- Runs a GRANT or REVOKE so that pg_dump carries it, also within the script of an extension, ours
-- included: the server takes what is granted there for what the extension comes with.
CREATE FUNCTION my_worker._run_outside_script(statement text) RETURNS void
    AS 'MODULE_PATHNAME', 'mw_run_outside_script_sql' LANGUAGE C STRICT VOLATILE;

-- Does nothing. Who may execute it has USAGE on the target schema by grant_usage(), which
-- revoke_usage() takes back; what somebody else has granted stays.
CREATE FUNCTION my_worker._schema_usage_given() RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS '';

CREATE OR REPLACE FUNCTION my_worker._change_usage(statement text, role regrole) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    item text;
    given boolean;
    target regnamespace := (SELECT e.extnamespace FROM pg_extension AS e WHERE e.extname = 'my_worker');
BEGIN
    IF role IS NULL THEN
        RAISE null_value_not_allowed USING MESSAGE = 'role must not be null';
    ELSIF NOT EXISTS (SELECT FROM pg_roles WHERE oid = role) THEN
        RAISE undefined_object USING MESSAGE = format('role with OID %s does not exist', role::oid);
    END IF;
    FOR item IN SELECT * FROM my_worker._usage_rights() LOOP
        PERFORM my_worker._run_outside_script(format(statement, item, role));
    END LOOP;
    -- Nobody's own grant is repeated, so that it is not taken back.
    IF statement LIKE 'GRANT %' THEN
        given := NOT EXISTS (
            SELECT FROM pg_namespace AS n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS a
             WHERE n.oid = target AND a.grantee = role AND a.privilege_type = 'USAGE');
    ELSE
        given := EXISTS (
            SELECT FROM pg_proc AS p, aclexplode(p.proacl) AS a
             WHERE p.oid = 'my_worker._schema_usage_given()'::regprocedure AND a.grantee = role
               AND a.grantee <> p.proowner);
    END IF;
    IF given THEN
        PERFORM my_worker._run_outside_script(format(statement, format('USAGE ON SCHEMA %s', target), role));
        PERFORM my_worker._run_outside_script(
            format(statement, 'EXECUTE ON FUNCTION my_worker._schema_usage_given()', role));
    END IF;
END
$$;

REVOKE ALL ON FUNCTION my_worker._named_databases(), my_worker._late_schedules(), my_worker._run_outside_script(text),
    my_worker._schema_usage_given() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION my_worker._health(), my_worker._named_databases(), my_worker._late_schedules() TO pg_monitor;
GRANT SELECT (name, paused) ON my_worker.queues TO pg_monitor;

-- A bare number as a time zone counts hours east of Greenwich, as for SET timezone. What was stored under
-- 1.0 counted them west of it, and keeps its meaning.
UPDATE my_worker._schedules SET timezone = format('<%1$s>%1$s', timezone) WHERE timezone ~ '^[+-]?[0-9]+$';

-- The end: roles that use the queue under 1.0 get what is new, and need no new grant. Whatever else
-- changes comes before this block, which grants by the list as it is then.
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
CREATE FUNCTION my_worker._updated() RETURNS void AS 'MODULE_PATHNAME', 'mw_updated' LANGUAGE C STRICT;
SELECT my_worker._updated();
DROP FUNCTION my_worker._updated();
