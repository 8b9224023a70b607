/* my_worker--1.0--1.1.sql: what changes from 1.0 to 1.1 */

-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION my_worker UPDATE TO '1.1'" to load this file. \quit

-- Every name below is qualified; the path is pinned so that none can be captured.
SET LOCAL search_path TO pg_catalog, pg_temp;

-- health() says what waits for a place of the server, and judges failed jobs by what is kept of them.
CREATE INDEX history_failed_idx ON my_worker.history (finished_at) WHERE status = 'failed';
DROP FUNCTION my_worker._health();
-- Facts for health(), also without preload.
CREATE FUNCTION my_worker._health(
    OUT loaded boolean, OUT recovery boolean, OUT served boolean, OUT enabled boolean,
    OUT launcher integer, OUT keepers integer, OUT workers integer, OUT max_workers integer,
    OUT free_slots integer, OUT refused boolean, OUT library text, OUT no_slot boolean,
    OUT away integer, OUT capped integer)
    AS 'MODULE_PATHNAME', 'mw_health_1_1' LANGUAGE C STRICT VOLATILE;

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
    SELECT h.* INTO f FROM my_worker._health() AS h;
    RETURN QUERY VALUES
        ('loaded', f.loaded, CASE WHEN f.loaded THEN 'yes'
            ELSE 'add my_worker to shared_preload_libraries and restart the server' END),
        ('versions', starts_with(f.library || '.', version || '.'),
            format('library %s, extension %s', f.library, version));
    IF NOT f.loaded THEN
        RETURN;
    END IF;
    -- The launcher, the keepers, the workers, and one for a role that runs nothing.
    needed := 1 + f.keepers + f.max_workers + 1;
    RETURN QUERY VALUES
        ('enabled', f.enabled, CASE WHEN f.enabled THEN 'yes' ELSE 'my_worker.enabled is off' END),
        ('served', f.served, CASE WHEN f.served THEN 'yes'
            ELSE 'my_worker.database does not name this database' END),
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
    -- One look at the queues: it may have to count.
    SELECT string_agg(format('queue "%s" is %s behind', s.queue, date_trunc('second', now.at - s.oldest)),
                      ', ' ORDER BY s.oldest)
               FILTER (WHERE NOT q.paused AND s.oldest < now.at - max_age) AS backlog
      INTO found
      FROM my_worker._queue_stats() AS s JOIN my_worker.queues AS q ON q.name = s.queue,
           (SELECT clock_timestamp()) AS now (at);
    RETURN QUERY VALUES
        ('backlog', found.backlog IS NULL, coalesce(found.backlog, 'none'));
    -- Failed jobs that nobody has retried or purged, the first thousand. Those of queues that were dropped
    -- nobody can mend.
    SELECT string_agg(format('queue "%s": %s failed, the last %s ago', h.queue,
                             h.failed || CASE WHEN h.failed >= 1000 THEN ' or more' ELSE '' END,
                             date_trunc('second', clock_timestamp() - h.last)), ', ' ORDER BY h.last DESC) AS failures
      INTO found
      FROM (SELECT l.queue, count(*) AS failed, max(l.finished_at) AS last
              FROM (SELECT j.queue, j.finished_at
                      FROM my_worker.history AS j JOIN my_worker.queues AS q ON q.name = j.queue
                     WHERE j.status = 'failed' AND j.finished_at > clock_timestamp() - interval '1 day'
                     ORDER BY j.finished_at DESC LIMIT 1000) AS l
             GROUP BY l.queue) AS h;
    RETURN QUERY VALUES
        ('failures', found.failures IS NULL, coalesce(found.failures,
            (SELECT format('none within a day; of those before, the last one was %s ago',
                           date_trunc('second', clock_timestamp() - j.finished_at))
               FROM my_worker.history AS j JOIN my_worker.queues AS q ON q.name = j.queue
              WHERE j.status = 'failed' ORDER BY j.finished_at DESC LIMIT 1),
            'none'));
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
REVOKE ALL ON FUNCTION my_worker._health() FROM PUBLIC;
