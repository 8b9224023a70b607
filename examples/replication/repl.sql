-- Capture, copy, ship. As the role `repl`.
\set ON_ERROR_STOP on
SET ROLE repl;

CREATE FOREIGN TABLE repl.inbox (changes jsonb NOT NULL) SERVER repl_target OPTIONS (schema_name 'repl', table_name 'inbox');
CREATE TABLE repl.tables (name regclass PRIMARY KEY, keys text[] NOT NULL, copied_to jsonb, copied bigint NOT NULL DEFAULT 0, copy_job bigint);
CREATE TABLE repl.outage (since timestamptz NOT NULL);   -- a row while the target does not answer
CREATE TABLE repl.heartbeat (source text PRIMARY KEY, at timestamptz NOT NULL);

-- A job says which row has changed, not to what: it is read when it is shipped. So whatever is shipped twice, late or again
-- does no harm, and the last job of a row has the row as it is.
CREATE FUNCTION repl.enqueue(name regclass, key jsonb) RETURNS bigint
LANGUAGE sql SET search_path = pg_catalog AS $$
    SELECT my_worker.enqueue('repl.ship(bigint[],jsonb[])', jsonb_build_object('table', name::text, 'key', key), 'repl',
                             group_key := name || ' ' || CASE WHEN length(key::text) < 200 THEN key::text ELSE md5(key::text) END)
$$;

-- The trigger of each table, with its key columns as arguments. Runs as `repl`, whoever writes.
CREATE FUNCTION repl.capture() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    keys text := (SELECT string_agg(quote_ident(k), ', ') FROM unnest(TG_ARGV) AS k);
    pairs text := (SELECT string_agg(format('%L, %I', k, k), ', ') FROM unnest(TG_ARGV) AS k);
    rows text := CASE TG_OP WHEN 'INSERT' THEN 'SELECT %1$s FROM came'
                            WHEN 'UPDATE' THEN 'SELECT %1$s FROM came UNION SELECT %1$s FROM gone'
                            WHEN 'DELETE' THEN 'SELECT %1$s FROM gone'
                            ELSE 'SELECT %1$s FROM %2$s' END;   -- TRUNCATE: all that there is
BEGIN
    EXECUTE format('SELECT count(repl.enqueue(%L, jsonb_build_object(%s))) FROM (%s) AS k', TG_RELID::regclass, pairs,
                   format(rows, keys, TG_RELID::regclass));
    RETURN NULL;
END
$$;

-- Takes a table in: its changes from now on, and a copy of what it has. repl needs SELECT and TRIGGER on it.
CREATE FUNCTION repl.add(name regclass) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    keys text[] := (SELECT array_agg(a.attname ORDER BY array_position(i.indkey, a.attnum))
                      FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
                     WHERE i.indrelid = name AND i.indisprimary);
    arguments text := (SELECT string_agg(quote_literal(k), ', ') FROM unnest(keys) AS k);
    job bigint;
BEGIN
    IF keys IS NULL THEN
        RAISE EXCEPTION '% has no primary key', name;
    ELSIF row_security_active(name) THEN
        -- A row that is hidden would be taken for one that is gone.
        RAISE EXCEPTION 'row-level security hides rows of % from %', name, current_user
            USING HINT = 'Give the role BYPASSRLS.';
    END IF;
    -- Each waits for transactions that write to the table; all later ones are captured.
    EXECUTE format('CREATE TRIGGER repl_insert AFTER INSERT ON %s REFERENCING NEW TABLE AS came FOR EACH STATEMENT EXECUTE FUNCTION repl.capture(%s)', name, arguments);
    EXECUTE format('CREATE TRIGGER repl_update AFTER UPDATE ON %s REFERENCING NEW TABLE AS came OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION repl.capture(%s)', name, arguments);
    EXECUTE format('CREATE TRIGGER repl_delete AFTER DELETE ON %s REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION repl.capture(%s)', name, arguments);
    EXECUTE format('CREATE TRIGGER repl_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION repl.capture(%s)', name, arguments);
    job := my_worker.enqueue('repl.copy(jsonb)', jsonb_build_object('table', name::text), 'repl_copy');
    INSERT INTO repl.tables (name, keys, copy_job) VALUES (name, keys, job);
    RETURN job;
END
$$;

-- The initial copy: a job that goes through the table by its key, 1,000 rows a run, and comes again by snooze().
CREATE FUNCTION repl.copy(job jsonb) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    t repl.tables;
    columns text;
    pairs text;
    slice record;
BEGIN
    SELECT * INTO STRICT t FROM repl.tables WHERE name = (job->>'table')::regclass;
    SELECT string_agg(quote_ident(k), ', '), string_agg(format('%L, %I', k, k), ', ') INTO columns, pairs FROM unnest(t.keys) AS k;
    EXECUTE format('SELECT count(repl.enqueue(%L, key)) AS n, (array_agg(key))[count(*)::integer] AS last
                      FROM (SELECT jsonb_build_object(%s) AS key FROM %s %s ORDER BY %s LIMIT 1000) AS slice',
                   t.name, pairs, t.name,
                   (SELECT format('WHERE (%s) > (%s)', columns, string_agg(quote_literal(t.copied_to->>k), ', '))
                      FROM unnest(t.keys) AS k WHERE t.copied_to IS NOT NULL HAVING count(*) > 0),
                   columns)
       INTO slice;
    IF slice.n > 0 THEN
        UPDATE repl.tables SET copied_to = slice.last, copied = copied + slice.n WHERE name = t.name;
        PERFORM my_worker.snooze('0 s');
    END IF;
    RETURN t.copied + slice.n;
END
$$;

-- The batch handler: reads the rows as they are now, and sends all of them by one statement. The target's transaction is committed
-- right before the one here; if the server dies in between, the same rows are sent again.
CREATE FUNCTION repl.ship(jobs bigint[], payloads jsonb[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    t record;
    part jsonb;
    changes jsonb := '[]';
BEGIN
    FOR t IN
        SELECT (p->>'table')::regclass AS name, jsonb_agg(DISTINCT p->'key') AS keys,
               (SELECT string_agg(format('t.%1$I = k.%1$I', c), ' AND ')
                  FROM jsonb_object_keys((array_agg(p->'key'))[1]) AS c) AS same_key,
               (SELECT string_agg(format('%1$L, k.%1$I', c), ', ')
                  FROM jsonb_object_keys((array_agg(p->'key'))[1]) AS c) AS pairs
          FROM unnest(payloads) AS p GROUP BY 1
    LOOP
        EXECUTE format('SELECT jsonb_agg(jsonb_build_object(''table'', %3$L, ''key'', jsonb_build_object(%4$s), ''row'', to_jsonb(t)))
                          FROM jsonb_populate_recordset(NULL::%1$s, $1) AS k LEFT JOIN %1$s AS t ON %2$s',
                       t.name, t.same_key, t.name, t.pairs)
           INTO part USING t.keys;
        changes := changes || part;
    END LOOP;
    INSERT INTO repl.inbox VALUES (changes);
    DELETE FROM repl.outage;
    IF FOUND THEN   -- it is back: what has been put off is due now
        PERFORM my_worker.run_soon(id) FROM my_worker.jobs WHERE queue = 'repl' AND status = 'pending' AND run_at > clock_timestamp();
    END IF;
EXCEPTION WHEN connection_exception OR sqlclient_unable_to_establish_sqlconnection OR connection_failure
            OR admin_shutdown OR crash_shutdown OR cannot_connect_now THEN
    -- The target is away. That is nobody's fault: no attempt is charged. The longer it is away, the less often it is asked.
    INSERT INTO repl.outage SELECT clock_timestamp() WHERE NOT EXISTS (SELECT FROM repl.outage);
    PERFORM my_worker.snooze(least(greatest(clock_timestamp() - min(since), '1 s'), '30 s')) FROM repl.outage;
END
$$;

-- A row that changes every five seconds and is copied like any other.
CREATE FUNCTION repl.beat() RETURNS void
LANGUAGE sql SET search_path = pg_catalog AS $$
    INSERT INTO repl.heartbeat VALUES (current_database(), clock_timestamp())
        ON CONFLICT (source) DO UPDATE SET at = excluded.at
$$;
SELECT repl.add('repl.heartbeat');
SELECT my_worker.schedule('repl heartbeat', 'every 5 seconds', handler := 'repl.beat()');

-- How far the target is behind: changes under way, the age of the oldest, and since when the target is away.
CREATE VIEW repl.lag AS
SELECT count(*) AS waiting, coalesce(clock_timestamp() - min(created_at), '0') AS oldest, (SELECT min(since) FROM repl.outage) AS away_since
  FROM my_worker.jobs WHERE queue = 'repl' AND status IN ('pending', 'processing');
