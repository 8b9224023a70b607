-- Once, as a superuser. All else belongs to the role `alert`, which is no superuser: it may read statistics.
\set ON_ERROR_STOP on
CREATE ROLE alert LOGIN IN ROLE pg_monitor;
CREATE SCHEMA alert AUTHORIZATION alert;
SELECT my_worker.grant_usage('alert');

-- A check that hangs is ended, and one that fails is a failed job, which another check tells of.
SELECT my_worker.create_queue('alert', max_attempts := 1, timeout := '10 s', retention := '0');

-- Only the operating system knows how full a disk is. Schema, table and function are the superuser's own, and the command is fixed,
-- so `alert` learns these numbers and can do nothing else.
CREATE SCHEMA alert_server;
CREATE UNLOGGED TABLE alert_server.df (line text);
CREATE FUNCTION alert_server.disks() RETURNS TABLE (mount text, used numeric)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM alert_server.df;
    COPY alert_server.df FROM PROGRAM 'df -P . pg_wal';     -- the data directory, and where WAL is
    RETURN QUERY SELECT DISTINCT m[2], m[1]::numeric FROM alert_server.df, regexp_match(line, '(\d+)% +(.*)') AS m WHERE m IS NOT NULL;
END
$$;
REVOKE ALL ON FUNCTION alert_server.disks() FROM PUBLIC;
GRANT USAGE ON SCHEMA alert_server TO alert;
GRANT EXECUTE ON FUNCTION alert_server.disks() TO alert;
