-- What waits, runs and was counted, one row a queue.
CREATE FUNCTION my_worker_internal.queue_stats(
    OUT queue text, OUT pending bigint, OUT scheduled bigint, OUT processing bigint,
    OUT oldest timestamptz, OUT completed bigint, OUT failed bigint, OUT retried bigint,
    OUT cancelled bigint, OUT failed_at timestamptz, OUT wait_mean float8, OUT wait_p50 float8,
    OUT wait_p95 float8, OUT wait_p99 float8, OUT run_mean float8, OUT run_p50 float8,
    OUT run_p95 float8, OUT run_p99 float8, OUT blocked bigint, OUT limited boolean, OUT estimated boolean)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'mw_queue_stats_1_1' LANGUAGE C STRICT VOLATILE ROWS 10;

CREATE VIEW my_worker.queue_stats AS
    SELECT s.queue, s.pending, s.scheduled, s.processing,
           clock_timestamp() - s.oldest AS oldest_pending_age, s.completed, s.failed, s.retried,
           s.cancelled, s.wait_mean, s.wait_p50, s.wait_p95, s.wait_p99, s.run_mean, s.run_p50,
           s.run_p95, s.run_p99, s.blocked, s.limited, s.estimated
      FROM my_worker_internal.queue_stats() AS s;
COMMENT ON VIEW my_worker.queue_stats IS 'what waits, runs and was counted since the server''s start, one row a queue; durations in milliseconds';

-- How jobs ended, by queue and minute of the last day.
CREATE FUNCTION my_worker.queue_minutes_since(
    since timestamptz, OUT queue text, OUT minute timestamptz, OUT completed bigint, OUT failed bigint,
    OUT retried bigint, OUT cancelled bigint, OUT wait_p95 float8, OUT run_p95 float8) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'mw_queue_minutes_since' LANGUAGE C STRICT VOLATILE ROWS 1000;
COMMENT ON FUNCTION my_worker.queue_minutes_since IS 'the rows of my_worker.queue_minutes from the minute of that time on';

CREATE VIEW my_worker.queue_minutes AS
    SELECT m.queue, m.minute, m.completed, m.failed, m.retried, m.cancelled, m.wait_p95, m.run_p95
      FROM my_worker.queue_minutes_since('-infinity') AS m;
COMMENT ON VIEW my_worker.queue_minutes IS 'how jobs ended by queue and minute of the last 24 hours, where any did; durations in milliseconds';

CREATE FUNCTION my_worker_internal.handler_stats(
    OUT handler text, OUT runs text, OUT calls bigint, OUT failures bigint, OUT last_call_at timestamptz,
    OUT run_mean float8, OUT run_p50 float8, OUT run_p95 float8, OUT run_p99 float8) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'mw_handler_stats' LANGUAGE C STRICT VOLATILE ROWS 50;

CREATE VIEW my_worker.handler_stats AS
    SELECT h.handler, h.runs, h.calls, h.failures, h.last_call_at, h.run_mean, h.run_p50, h.run_p95, h.run_p99
      FROM my_worker_internal.handler_stats() AS h;
COMMENT ON VIEW my_worker.handler_stats IS 'how the calls of each handler ended since the server''s start; durations in milliseconds';

CREATE FUNCTION my_worker_internal.stats_reach(
    OUT statistics text, OUT since timestamptz, OUT gave_way bigint) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'mw_stats_reach' LANGUAGE C STRICT VOLATILE ROWS 2;

CREATE VIEW my_worker.stats_reach AS
    SELECT r.statistics, r.since, r.gave_way FROM my_worker_internal.stats_reach() AS r;
COMMENT ON VIEW my_worker.stats_reach IS 'since when queue_minutes and handler_stats count, and how much of them gave way to newer entries';

CREATE FUNCTION my_worker.reset_stats() RETURNS void
    AS 'MODULE_PATHNAME', 'mw_reset_stats' LANGUAGE C STRICT;
COMMENT ON FUNCTION my_worker.reset_stats IS 'zeroes the counters of this database''s queues';

CREATE FUNCTION my_worker.why(job_id bigint) RETURNS text
    AS 'MODULE_PATHNAME', 'mw_why' LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION my_worker.why IS 'says why a job is not running';

-- Facts for health(), also without preload.
CREATE FUNCTION my_worker_internal.health_facts(
    OUT loaded boolean, OUT recovery boolean, OUT served boolean, OUT enabled boolean,
    OUT launcher integer, OUT keepers integer, OUT workers integer, OUT max_workers integer,
    OUT free_slots integer, OUT refused boolean, OUT library text, OUT no_slot boolean,
    OUT away integer, OUT capped integer)
    AS 'MODULE_PATHNAME', 'mw_health_1_1' LANGUAGE C STRICT VOLATILE;

-- The names in my_worker.database; one NULL if the server refused its value at the start.
CREATE FUNCTION my_worker_internal.named_databases() RETURNS SETOF text
    AS 'MODULE_PATHNAME', 'mw_named_databases' LANGUAGE C STRICT VOLATILE ROWS 5;

-- Columns of our tables that are not as the extension made them, each with what it must be.
CREATE FUNCTION my_worker_internal.altered_columns() RETURNS SETOF text
    AS 'MODULE_PATHNAME', 'mw_altered_columns' LANGUAGE C STRICT VOLATILE ROWS 5;

-- Whether the jobs of a queue are for consumers, and one of them holds or waits for some.
CREATE FUNCTION my_worker_internal.has_consumer(queue text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'mw_has_consumer' LANGUAGE C STRICT VOLATILE;

-- Schedules that are late or disabled, of those that the caller sees.
CREATE FUNCTION my_worker_internal.late_schedules(OUT name text, OUT disabled boolean) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'mw_late_schedules' LANGUAGE C STRICT VOLATILE ROWS 5;

-- Since when jobs have been due, of each queue the one that has been due for longest, of those that the caller sees.
CREATE FUNCTION my_worker_internal.oldest_jobs(OUT queue text, OUT oldest timestamptz) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'mw_oldest_jobs' LANGUAGE C STRICT VOLATILE ROWS 10;

-- Failed jobs that nobody has retried or purged, of those that the caller sees: how many a queue has had
-- within a day, at most 1,000 in all, and 0 for the queue of the last one before.
CREATE FUNCTION my_worker_internal.failed_jobs(OUT queue text, OUT failed bigint, OUT last timestamptz)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'mw_failed_jobs' LANGUAGE C STRICT VOLATILE ROWS 5;

-- Runs as its caller: what it reads answers a role that only uses the queue for its own jobs and
-- schedules, and a member of pg_monitor for all.
CREATE FUNCTION my_worker.health(
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
