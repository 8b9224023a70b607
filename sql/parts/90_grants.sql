-- Who may do what: nobody anything, until grant_usage().
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA my_worker FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA my_worker_internal FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.launch_dynamic_worker(integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.launch_dynamic_worker(bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.get_worker_stats() FROM PUBLIC;

-- The rights of a role that uses the queue: granted and revoked from these lists. %1$s is the target
-- schema, by the name that it has now; functions are those of the extension that have these names.
CREATE FUNCTION my_worker_internal.usage_rights() RETURNS SETOF text
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

-- Runs a GRANT or REVOKE so that pg_dump carries it, also within the script of an extension, ours
-- included: the server takes what is granted there for what the extension comes with.
CREATE FUNCTION my_worker_internal.run_outside_script(statement text) RETURNS void
    AS 'MODULE_PATHNAME', 'mw_run_outside_script_sql' LANGUAGE C STRICT VOLATILE;

-- Does nothing. Who may execute it has USAGE on the target schema by grant_usage(), which
-- revoke_usage() takes back; what somebody else has granted stays.
CREATE FUNCTION my_worker_internal.schema_usage_given() RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS '';

-- The rights of a role that receives the jobs of all owners from some queues; policies say of which. REFERENCES on
-- _consumers is of no other use: the rows of a role count while it has that, so DROP OWNED BY ends them, and
-- DROP ROLE is refused before.
CREATE FUNCTION my_worker_internal.consume_rights() RETURNS SETOF text
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

-- A role that has rights by grant_usage(), and not by another role.
CREATE FUNCTION my_worker_internal.has_usage(role regrole) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM pg_proc AS p, aclexplode(p.proacl) AS a
                    WHERE p.oid = 'my_worker.cancel(bigint)'::regprocedure AND a.grantee = role AND a.grantee <> p.proowner)
$$;

CREATE FUNCTION my_worker_internal.check_role(role regrole) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF role IS NULL THEN
        RAISE null_value_not_allowed USING MESSAGE = 'role must not be null';
    ELSIF NOT EXISTS (SELECT FROM pg_roles WHERE oid = role) THEN
        RAISE undefined_object USING MESSAGE = format('role with OID %s does not exist', role::oid);
    END IF;
END
$$;

-- A role that has rights by grant_consume(), and not by another role.
CREATE FUNCTION my_worker_internal.has_consume(role regrole) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM pg_class AS c, aclexplode(c.relacl) AS a
                    WHERE c.oid = 'my_worker._consumers'::regclass AND a.grantee = role AND a.privilege_type = 'REFERENCES')
$$;

-- Removes the rows of roles that were dropped, and of one whose rights were revoked by DROP OWNED BY.
CREATE FUNCTION my_worker_internal.forget_consumers(role regrole) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM my_worker._consumers AS c
     WHERE NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.oid = c.role)
        OR c.role = forget_consumers.role AND NOT my_worker_internal.has_consume(c.role)
$$;

CREATE FUNCTION my_worker.grant_consume(queue text, role regrole) RETURNS void
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

CREATE FUNCTION my_worker.revoke_consume(queue text, role regrole) RETURNS void
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

CREATE FUNCTION my_worker_internal.change_usage(statement text, role regrole) RETURNS void
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

CREATE FUNCTION my_worker.grant_usage(role regrole) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS
    $$ SELECT my_worker_internal.change_usage('GRANT %s TO %s', role) $$;
COMMENT ON FUNCTION my_worker.grant_usage IS 'lets a role enqueue jobs and deal with its own';

CREATE FUNCTION my_worker.revoke_usage(role regrole) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS
    $$ SELECT my_worker_internal.change_usage('REVOKE %s FROM %s', role) $$;
COMMENT ON FUNCTION my_worker.revoke_usage IS 'takes back what grant_usage() granted';

REVOKE ALL ON FUNCTION my_worker_internal.usage_rights(), my_worker_internal.run_outside_script(text), my_worker_internal.schema_usage_given(),
    my_worker_internal.consume_rights(), my_worker_internal.has_usage(regrole), my_worker_internal.check_role(regrole),
    my_worker_internal.has_consume(regrole), my_worker_internal.forget_consumers(regrole), my_worker.grant_consume(text, regrole), my_worker.revoke_consume(text, regrole),
    my_worker_internal.change_usage(text, regrole), my_worker.grant_usage(regrole), my_worker.revoke_usage(regrole) FROM PUBLIC;

-- Policies ask it with the rights of whoever reads. It says of the caller's own rights alone.
GRANT EXECUTE ON FUNCTION my_worker_internal.may_consume(text) TO PUBLIC;

-- Readers of statistics: no payload, no error text, no message stands in these.
GRANT USAGE ON SCHEMA my_worker, my_worker_internal TO pg_monitor;
GRANT EXECUTE ON FUNCTION @extschema@.get_worker_stats(), my_worker_internal.processes(),
    my_worker_internal.queue_stats(), my_worker.queue_minutes_since(timestamptz), my_worker_internal.handler_stats(),
    my_worker_internal.stats_reach(), my_worker_internal.health_facts(), my_worker_internal.named_databases(), my_worker_internal.altered_columns(),
    my_worker_internal.has_consumer(text), my_worker_internal.late_schedules(),
    my_worker_internal.oldest_jobs(), my_worker_internal.failed_jobs(), my_worker_internal.why_copy(), my_worker.health(interval) TO pg_monitor;
GRANT SELECT (name, paused) ON my_worker.queues TO pg_monitor;
GRANT SELECT ON @extschema@.my_worker_status, my_worker.workers, my_worker.queue_stats, my_worker.queue_minutes,
    my_worker.handler_stats, my_worker.stats_reach TO pg_monitor;

-- What pg_dump carries. A role that was dropped is written as its number, which elsewhere is another role's: what it left
-- stays here.
SELECT pg_extension_config_dump('my_worker._jobs', $$WHERE owner::pg_catalog.text !~ '^[0-9]+$'$$);
SELECT pg_extension_config_dump('my_worker._jobs_id_seq', '');
SELECT pg_extension_config_dump('my_worker.history', $$WHERE owner::pg_catalog.text !~ '^[0-9]+$'$$);
SELECT pg_extension_config_dump('my_worker.queues', '');
SELECT pg_extension_config_dump('my_worker.queues_id_seq', '');
SELECT pg_extension_config_dump('my_worker._schedules', $$WHERE owner::pg_catalog.text !~ '^[0-9]+$'$$);
SELECT pg_extension_config_dump('my_worker._schedules_id_seq', '');
SELECT pg_extension_config_dump('my_worker._consumers', $$WHERE role::pg_catalog.text !~ '^[0-9]+$'$$);
SELECT pg_extension_config_dump('my_worker._dependencies', '');

SELECT my_worker_internal.installed();
