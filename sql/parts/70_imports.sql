-- Coming from pg_cron and pgmq. Their tables are read and changed with the caller's rights, and only if none but
-- a superuser or the caller decides what they are: whose rights are in force must not run code of others.

-- Whether what that role owns is as safe for the caller as what the caller owns.
CREATE FUNCTION my_worker_internal.is_trusted(role oid) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.rolsuper OR r.rolname = current_user FROM pg_roles AS r WHERE r.oid = role
$$;

-- Whether reading a table, or changing it (event: 8 DELETE, 16 UPDATE, as in pg_trigger), may run code of a role that is
-- not trusted: its owner's, whose constants in expressions also the planner folds, or that of a trigger, which a right is
-- granted for. The same of its partitions.
CREATE FUNCTION my_worker_internal.has_code(source regclass, event integer) RETURNS boolean
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

-- What becomes of a job of pg_cron: the schedule's name, the outcome, and why. Makes the schedule if "write".
CREATE FUNCTION my_worker_internal.import_pg_cron_job(
    jobid bigint, jobname text, schedule text, command text, nodename text, nodeport integer, database text,
    username text, active boolean, write boolean) RETURNS text[]
    AS 'MODULE_PATHNAME', 'mw_import_pg_cron_job' LANGUAGE C VOLATILE;

-- The table of pg_cron, and whether the caller may switch off its jobs by UPDATE; if not, by alter_job().
CREATE FUNCTION my_worker_internal.pg_cron_table(dry_run boolean, OUT source regclass, OUT may_update boolean)
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

CREATE FUNCTION my_worker.import_pg_cron(dry_run boolean DEFAULT true)
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

-- Makes messages jobs of the caller's for consumers, in that order, and returns their ids.
CREATE FUNCTION my_worker_internal.take_over(
    queue text, payloads jsonb[], headers jsonb[], run_at timestamptz[], created_at timestamptz[], attempts bigint[])
    RETURNS bigint[]
    AS 'MODULE_PATHNAME', 'mw_take_over' LANGUAGE C VOLATILE;

-- The table of a queue of pgmq, locked so that it stays what it is; and whether its messages have headers.
CREATE FUNCTION my_worker_internal.pgmq_table(queue text, OUT source regclass, OUT has_headers boolean)
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

-- The headers of a job: those of the message, and its id in pgmq.
CREATE FUNCTION my_worker_internal.pgmq_headers(msg_id bigint, headers jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE jsonb_typeof(headers)
               WHEN 'object' THEN headers
               ELSE jsonb_strip_nulls(jsonb_build_object('pgmq_headers', headers))
           END || jsonb_build_object('pgmq_msg_id', msg_id)
$$;

CREATE FUNCTION my_worker.import_pgmq(queue text, dry_run boolean DEFAULT true)
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
