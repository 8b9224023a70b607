-- What needs care, the window, the report. As the role `maint`.
\set ON_ERROR_STOP on
SET ROLE maint;

-- ---- what needs care, by the server's own statistics ----------------------------------------------------------------------

CREATE TABLE maint.limits (
    dead_share numeric NOT NULL DEFAULT 0.1,       -- VACUUM: so many rows of a table are dead (autovacuum: 0.2)
    min_dead bigint NOT NULL DEFAULT 1000,
    freeze_share numeric NOT NULL DEFAULT 0.7,     -- VACUUM (FREEZE): its oldest row has so much of autovacuum_freeze_max_age
    index_factor numeric NOT NULL DEFAULT 2,       -- REINDEX: a B-tree is so many times as large as its entries need
    min_index_bytes bigint NOT NULL DEFAULT 10e6
);
INSERT INTO maint.limits DEFAULT VALUES;

-- Partitions by time: `ahead` of them are made beforehand, what is older than `keep` goes.
CREATE TABLE maint.partitioned (
    parent regclass PRIMARY KEY,        -- by range of one timestamptz
    span interval NOT NULL,             -- hours, days or weeks
    ahead integer NOT NULL,
    keep interval
);

-- Only tables of roles whose rights `maint` has, and that nobody vacuums or indexes at this moment.
CREATE VIEW maint.tables AS
SELECT s.relid, s.relid::regclass::text AS name, s.n_dead_tup AS dead, s.n_live_tup AS live, age(c.relfrozenxid) AS age, c.relispartition
  FROM pg_stat_user_tables AS s JOIN pg_class AS c ON c.oid = s.relid
 WHERE pg_has_role(c.relowner, 'USAGE') AND c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
   AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum AS p WHERE p.relid = s.relid AND p.datname = current_database())
   AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index AS p WHERE p.relid = s.relid AND p.datname = current_database());

-- How large a B-tree would be if it were new: its entries with their widths, as ANALYZE found them, in pages that are 90 % full.
CREATE VIEW maint.indexes AS
SELECT i.indexrelid::regclass::text AS name, i.indrelid, pg_relation_size(i.indexrelid) AS bytes, i.indisvalid AS valid,
       (8192 + c.reltuples * (12 + 8 * ceil(w.width / 8.0)) / 0.9)::numeric AS needed
  FROM pg_index AS i
  JOIN pg_class AS c ON c.oid = i.indexrelid AND c.relkind = 'i' AND c.reltuples >= 0
  JOIN pg_am AS a ON a.oid = c.relam AND a.amname = 'btree'
  JOIN maint.tables AS t ON t.relid = i.indrelid,
       LATERAL (SELECT sum(s.avg_width) AS width
                  FROM pg_class AS r JOIN pg_namespace AS n ON n.oid = r.relnamespace
                  JOIN pg_attribute AS k ON k.attrelid = r.oid AND k.attnum = ANY (i.indkey)
                  JOIN pg_stats AS s ON s.schemaname = n.nspname AND s.tablename = r.relname AND s.attname = k.attname AND NOT s.inherited
                 WHERE r.oid = i.indrelid) AS w
 WHERE 0 <> ALL (i.indkey);     -- of expressions the width is not known

-- The work that there is: a command, what it is for, and how much it is needed; 1 is the limit.
CREATE VIEW maint.needs AS
SELECT relid AS on_table, 'vacuum' AS kind, name AS object, format('VACUUM (ANALYZE, SKIP_LOCKED) %s', name) AS command,
       dead / (live + dead + 1.0) / dead_share AS need, format('%s dead rows of %s', dead, live + dead) AS reason
  FROM maint.tables, maint.limits WHERE dead >= min_dead AND dead > dead_share * (live + dead)
UNION ALL
SELECT relid, 'freeze', name, format('VACUUM (FREEZE, SKIP_LOCKED) %s', name),
       10.0 * age / (freeze_share * current_setting('autovacuum_freeze_max_age')::numeric), format('%s transactions old', age)
  FROM maint.tables, maint.limits WHERE age > freeze_share * current_setting('autovacuum_freeze_max_age')::numeric
UNION ALL
-- A REINDEX CONCURRENTLY that was stopped leaves an index that is not valid.
SELECT i.indrelid, 'leftover', i.name, format('DROP INDEX CONCURRENTLY %s', i.name), 1e6, 'not valid'
  FROM maint.indexes AS i WHERE NOT valid AND i.name ~ '_cc(new|old)\d*"?$'
UNION ALL
SELECT i.indrelid, 'reindex', i.name, format('REINDEX INDEX CONCURRENTLY %s', i.name), bytes / needed / index_factor,
       format('%s, %s would do', pg_size_pretty(bytes), pg_size_pretty(needed))
  FROM maint.indexes AS i, maint.limits WHERE valid AND bytes >= min_index_bytes AND bytes > index_factor * needed
UNION ALL
-- Partitions ahead: made beside the table, then attached, which locks nobody out.
SELECT p.parent, 'partition', n.child, format('SET ROLE %5$s; CREATE TABLE %1$s (LIKE %2$s INCLUDING ALL); ALTER TABLE %2$s ATTACH PARTITION %1$s FOR VALUES FROM (%3$L) TO (%4$L)',
       n.child, p.parent, n.low, n.low + p.span, n.owner), 50, format('from %s', n.low)
  FROM maint.partitioned AS p,
       LATERAL (SELECT low, c.relowner::regrole AS owner,
                       format('%I.%I', nspname, relname || to_char(low, CASE WHEN p.span < '1 day' THEN '_YYYY_MM_DD_HH24' ELSE '_YYYY_MM_DD' END)) AS child
                  FROM generate_series(0, p.ahead) AS k, date_bin(p.span, now(), timestamptz '2000-01-01') AS present,
                       LATERAL (SELECT present + k * p.span AS low) AS at, pg_class AS c JOIN pg_namespace AS s ON s.oid = relnamespace
                 WHERE c.oid = p.parent) AS n
 WHERE to_regclass(n.child) IS NULL
UNION ALL
-- Old partitions: taken off, which locks nobody out, then dropped. One that was interrupted is finished.
SELECT p.parent, 'detach', c.name, format('ALTER TABLE %s DETACH PARTITION %s %s', p.parent, c.name, CASE WHEN c.pending THEN 'FINALIZE' ELSE 'CONCURRENTLY' END),
       40, format('ended at %s', c.high)
  FROM maint.partitioned AS p,
       LATERAL (SELECT inhrelid::regclass::text AS name, inhdetachpending AS pending,
                       (regexp_match(pg_get_expr(k.relpartbound, k.oid), 'TO \(''(.*)''\)'))[1]::timestamptz AS high
                  FROM pg_inherits JOIN pg_class AS k ON k.oid = inhrelid WHERE inhparent = p.parent) AS c
 WHERE c.high < now() - p.keep;

-- ---- windows ----------------------------------------------------------------------------------------------------------------

CREATE TABLE maint.windows (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    began_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ends_at timestamptz NOT NULL,
    finished_at timestamptz,
    summary text
);
CREATE TABLE maint.work (
    "window" bigint NOT NULL REFERENCES maint.windows,
    job bigint PRIMARY KEY,
    on_table text NOT NULL,
    kind text NOT NULL,
    object text NOT NULL,
    reason text,
    before_bytes bigint, after_bytes bigint,
    before_dead bigint, after_dead bigint,
    status text, took interval, error text
);

-- What an object takes now: bytes with its indexes, dead rows. NULL if it is gone.
CREATE FUNCTION maint.size(object text, OUT bytes bigint, OUT dead bigint)
LANGUAGE sql SET search_path = pg_catalog AS $$
    SELECT pg_total_relation_size(to_regclass(object)), pg_stat_get_dead_tuples(to_regclass(object))
$$;

-- The schedule's handler: opens a window of that length, unless the one before is still at work.
CREATE FUNCTION maint.open(job jsonb) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    opened bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('maint.open'));
    IF EXISTS (SELECT FROM maint.windows AS w WHERE finished_at IS NULL
                  AND EXISTS (SELECT FROM my_worker.jobs WHERE queue = 'maint' AND status NOT IN ('completed', 'failed', 'cancelled'))) THEN
        RAISE LOG 'maint: another window is open';
        RETURN NULL;
    END IF;
    INSERT INTO maint.windows (ends_at) VALUES (clock_timestamp() + (job->>'for')::interval) RETURNING id INTO opened;
    PERFORM my_worker.enqueue('maint.step(jsonb)', jsonb_build_object('window', opened), 'maint', max_attempts := 3);
    RETURN opened;
END
$$;

-- One step: writes down what the last command has gained, looks what needs care most now, and enqueues that with the time that is
-- left as its timeout, and the next step after it. So all is done one at a time, and nothing goes on when the window ends.
CREATE FUNCTION maint.step(job jsonb) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    w maint.windows;
    n record;
    before record;
    command bigint;
BEGIN
    SELECT * INTO STRICT w FROM maint.windows WHERE id = (job->>'window')::bigint FOR UPDATE;
    UPDATE maint.work AS k
       SET status = h.status, error = h.last_error, took = h.finished_at - h.started_at,
           after_bytes = coalesce((maint.size(k.object)).bytes, 0), after_dead = coalesce((maint.size(k.object)).dead, 0)
      FROM my_worker.history AS h
     WHERE k.job = h.id AND k."window" = w.id AND k.status IS NULL;

    -- What was tried in this window is not tried again; a partition that was taken off is dropped.
    SELECT * INTO n FROM (
        SELECT on_table::regclass::text AS on_table, kind, object, maint.needs.command, need, reason FROM maint.needs
        UNION ALL
        SELECT k.on_table, 'drop', k.object, format('DROP TABLE %s', k.object), 200, 'was taken off'
          FROM maint.work AS k WHERE k.kind = 'detach' AND k.status = 'completed' AND to_regclass(k.object) IS NOT NULL
           AND NOT (SELECT relispartition FROM pg_class WHERE oid = to_regclass(k.object))) AS all_needs
     WHERE NOT EXISTS (SELECT FROM maint.work AS k WHERE k."window" = w.id AND k.object = all_needs.object AND k.kind = all_needs.kind)
     ORDER BY need DESC LIMIT 1;

    IF NOT FOUND OR w.ends_at - clock_timestamp() < '100 ms' THEN
        UPDATE maint.windows SET finished_at = clock_timestamp(), summary = (
            SELECT format('%s commands in %s, %s of them stopped or failed: %s dead rows and %s gained%s', count(*),
                          date_trunc('second', clock_timestamp() - w.began_at), count(*) FILTER (WHERE status <> 'completed'),
                          coalesce(sum(before_dead - after_dead), 0), pg_size_pretty(coalesce(sum(greatest(before_bytes - after_bytes, 0)), 0)),
                          CASE WHEN n.object IS NULL THEN '' ELSE ', and there is more to do' END)
              FROM maint.work WHERE "window" = w.id)
         WHERE id = w.id RETURNING * INTO w;
        PERFORM pg_notify('maint', w.summary);
        RAISE LOG 'maint: window %: %', w.id, w.summary;
        RETURN w.summary;
    END IF;
    before := maint.size(n.object);
    command := my_worker.run(n.command, 'maint', group_key := n.on_table, timeout := w.ends_at - clock_timestamp(), expires_at := w.ends_at);
    INSERT INTO maint.work ("window", job, on_table, kind, object, reason, before_bytes, before_dead)
    VALUES (w.id, command, n.on_table, n.kind, n.object, n.reason, before.bytes, before.dead);
    PERFORM my_worker.enqueue('maint.step(jsonb)', job, 'maint', max_attempts := 3, after := ARRAY[command], after_failed := 'run');
    RETURN n.command;
END
$$;

-- The last window: what was done, and what it has gained.
CREATE VIEW maint.report AS
SELECT kind, object, reason, status, took, pg_size_pretty(before_bytes) AS before, pg_size_pretty(after_bytes) AS after,
       before_dead - after_dead AS dead_rows, error
  FROM maint.work WHERE "window" = (SELECT max(id) FROM maint.windows) ORDER BY job;

-- Every night from one o'clock on, for four hours.
SELECT my_worker.schedule('maint', '0 1 * * *', handler := 'maint.open(jsonb)', payload := '{"for": "4 hours"}', queue := 'default');
