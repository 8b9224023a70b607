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

-- @functions and views@

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
