-- Checks, samples, incidents. As the role `alert`.
\set ON_ERROR_STOP on
SET ROLE alert;

CREATE TABLE alert.checks (
    name text PRIMARY KEY,
    query text NOT NULL,                      -- rows of (subject text, value numeric, detail text); a subject that is not there has no trouble
    raise_at numeric NOT NULL,                -- an incident begins when the value is this or more,
    raise_after integer NOT NULL DEFAULT 2,   -- so many looks in a row
    clear_at numeric NOT NULL,                -- and ends when it is less than this,
    clear_after integer NOT NULL DEFAULT 3,   -- so many looks in a row
    active boolean NOT NULL DEFAULT true,
    CHECK (clear_at <= raise_at)
);
CREATE TABLE alert.samples (at timestamptz NOT NULL DEFAULT clock_timestamp(), name text NOT NULL, subject text NOT NULL, value numeric NOT NULL);
CREATE INDEX ON alert.samples (at);
CREATE TABLE alert.incidents (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    subject text NOT NULL,
    raised_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    cleared_at timestamptz,
    value numeric NOT NULL,                   -- when it was raised
    worst numeric NOT NULL,
    detail text
);
CREATE UNIQUE INDEX ON alert.incidents (name, subject) WHERE cleared_at IS NULL;
-- How many looks in a row were high, or low.
CREATE TABLE alert.looks (name text REFERENCES alert.checks ON DELETE CASCADE, subject text, high integer NOT NULL, low integer NOT NULL, PRIMARY KEY (name, subject));

-- A line in the server's log. A handler may be rolled back and run again, when another job of its batch takes long or fails, and a line
-- would stay. So this is run by a command, which has a transaction of its own and runs once.
CREATE FUNCTION alert.log(incident bigint, state text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    i alert.incidents;
BEGIN
    SELECT * INTO STRICT i FROM alert.incidents WHERE id = incident;
    RAISE LOG 'alert %: incident %: %: %: % at worst (%)', state, i.id, i.name, i.subject, i.worst, i.detail;
END
$$;

-- Tells the world, once: NOTIFY goes out with the COMMIT, and the line is enqueued by it.
CREATE FUNCTION alert.tell(state text, i alert.incidents, value numeric) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    PERFORM pg_notify('alert', json_build_object('incident', i.id, 'state', state, 'check', i.name, 'subject', i.subject,
                                                 'value', value, 'detail', left(i.detail, 1000))::text);
    PERFORM my_worker.run(format('SELECT alert.log(%s, %L)', i.id, state), 'alert');
END
$$;

-- The handler: one look of one check.
CREATE FUNCTION alert.look(job jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    the_check alert.checks;
    seen record;
    looked alert.looks;
    incident alert.incidents;
BEGIN
    SELECT * INTO the_check FROM alert.checks WHERE name = job->>'check' AND active;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- What the query finds, and what it found before and does not any more.
    FOR seen IN EXECUTE format('SELECT subject, coalesce(q.value, 0) AS value, q.detail
                               FROM (SELECT subject::text, max(value::numeric) AS value, (array_agg(detail::text ORDER BY value DESC))[1] AS detail
                                       FROM (%s) AS q (subject, value, detail) GROUP BY 1) AS q
                               FULL JOIN (SELECT subject FROM alert.looks WHERE name = $1) AS l USING (subject)', the_check.query) USING the_check.name
    LOOP
        INSERT INTO alert.samples (name, subject, value) VALUES (the_check.name, seen.subject, seen.value);
        INSERT INTO alert.looks AS l VALUES (the_check.name, seen.subject, (seen.value >= the_check.raise_at)::integer, (seen.value < the_check.clear_at)::integer)
            ON CONFLICT (name, subject) DO UPDATE
           SET high = CASE excluded.high WHEN 1 THEN l.high + 1 ELSE 0 END, low = CASE excluded.low WHEN 1 THEN l.low + 1 ELSE 0 END
        RETURNING * INTO looked;
        UPDATE alert.incidents SET worst = greatest(worst, seen.value) WHERE name = the_check.name AND subject = seen.subject AND cleared_at IS NULL
        RETURNING * INTO incident;
        IF NOT FOUND AND looked.high >= the_check.raise_after THEN
            INSERT INTO alert.incidents (name, subject, value, worst, detail) VALUES (the_check.name, seen.subject, seen.value, seen.value, seen.detail)
            RETURNING * INTO incident;
            PERFORM alert.tell('raised', incident, seen.value);
        ELSIF FOUND AND looked.low >= the_check.clear_after THEN
            UPDATE alert.incidents SET cleared_at = clock_timestamp() WHERE id = incident.id;
            PERFORM alert.tell('cleared', incident, seen.value);
        END IF;
    END LOOP;
    -- Of those that are well nothing need be known.
    DELETE FROM alert.looks AS l WHERE l.name = the_check.name AND l.high = 0 AND l.low >= the_check.clear_after;
END
$$;

-- Every few seconds a job for each check: one that hangs or fails keeps no other from its look. A look that has not begun by the
-- next one is not worth making.
CREATE FUNCTION alert.tick() RETURNS bigint
LANGUAGE sql SET search_path = pg_catalog AS $$
    SELECT count(my_worker.enqueue('alert.look(jsonb)', jsonb_build_object('check', name), 'alert', unique_key := name,
                                   expires_at := now() + interval '30 s'))
      FROM alert.checks WHERE active
$$;
SELECT my_worker.schedule('alert', 'every 10 seconds', handler := 'alert.tick()', catchup := 'none');
SELECT my_worker.schedule('alert: forget', '@daily', $$DELETE FROM alert.samples WHERE at < now() - interval '30 days'$$);

INSERT INTO alert.checks (name, raise_at, clear_at, query) VALUES
('replication', 1e9, 5e8, $$    -- bytes of WAL
    SELECT 'slot ' || slot_name, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), CASE WHEN active THEN 'active' ELSE 'nobody reads it' END
      FROM pg_replication_slots WHERE restart_lsn IS NOT NULL
    UNION ALL
    SELECT 'standby ' || application_name, pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn), format('%s, behind by %s', state, replay_lag)
      FROM pg_stat_replication$$),
('transaction', 300, 300, $$    -- seconds
    SELECT format('process %s', pid), extract(epoch FROM clock_timestamp() - xact_start),
           format('role %s, application %s, %s', usename, application_name, state)
      FROM pg_stat_activity WHERE xact_start IS NOT NULL AND backend_type = 'client backend'
    UNION ALL
    SELECT 'prepared ' || gid, extract(epoch FROM clock_timestamp() - prepared), owner FROM pg_prepared_xacts$$),
('lock', 30, 30, $$             -- seconds
    SELECT format('process %s', pid), extract(epoch FROM clock_timestamp() - waitstart),
           format('waits for process %s', array_to_string(pg_blocking_pids(pid), ', '))
      FROM pg_locks WHERE NOT granted AND waitstart IS NOT NULL$$),
('jobs failed', 1, 1, $$
    SELECT 'within a day', (NOT ok)::integer, detail FROM my_worker.health() WHERE "check" = 'failures'$$),
('jobs late', 300, 60, $$       -- seconds; not of queues that are paused, or that collect dead letters
    SELECT s.queue, extract(epoch FROM s.oldest_pending_age), format('%s jobs are due', s.pending)
      FROM my_worker.queue_stats AS s JOIN my_worker.queues AS q ON q.name = s.queue
     WHERE s.pending > 0 AND NOT q.paused AND NOT EXISTS (SELECT FROM my_worker.queues WHERE dead_letter = s.queue)$$),
('my_worker', 1, 1, $$
    SELECT "check", (NOT ok)::integer, detail FROM my_worker.health() WHERE "check" NOT IN ('backlog', 'failures', 'paused')$$),
('bloat', 40, 20, $$            -- per cent of dead rows, where there are many
    SELECT relid::regclass::text, round(100.0 * n_dead_tup / (n_dead_tup + n_live_tup)), format('%s dead rows, last vacuum %s', n_dead_tup,
           coalesce(greatest(last_vacuum, last_autovacuum)::text, 'never'))
      FROM pg_stat_all_tables WHERE n_dead_tup > 10000$$),
('disk', 85, 80, $$             -- per cent
    SELECT mount, used, NULL FROM alert_server.disks()$$);
