-- In the second database, as a superuser: a role that may write the tables, and the door through which changes come.
\set ON_ERROR_STOP on
SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'repl') AS no_role \gset
\if :no_role
CREATE ROLE repl LOGIN;
\endif
GRANT USAGE ON SCHEMA crm TO repl;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA crm TO repl;
CREATE SCHEMA repl AUTHORIZATION repl;
SET ROLE repl;

-- The last beat that has come over: how old it is says how far this copy is behind.
CREATE TABLE repl.heartbeat (source text PRIMARY KEY, at timestamptz NOT NULL);

-- A row that is inserted here is not stored: its changes are applied. Each is {"table", "key", "row"}, of different keys;
-- without a row it is gone. The columns are those that the table has here.
CREATE TABLE repl.inbox (changes jsonb NOT NULL);
CREATE FUNCTION repl.apply() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    t record;
BEGIN
    FOR t IN
        SELECT c.name, c.puts, c.gone, a.columns, a.keys, a.otherwise,
               (SELECT string_agg(format('t.%1$I = g.%1$I', k), ' AND ') FROM unnest(a.key_names) AS k) AS same_key
          FROM (SELECT change->>'table' AS name,
                       jsonb_agg(change->'row') FILTER (WHERE change->'row' <> 'null') AS puts,
                       jsonb_agg(change->'key') FILTER (WHERE change->'row' = 'null') AS gone
                  FROM jsonb_array_elements(NEW.changes) AS change GROUP BY 1) AS c,
               LATERAL (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) AS columns,
                               coalesce('DO UPDATE SET ' || string_agg(format('%1$I = excluded.%1$I', attname), ', ')
                                   FILTER (WHERE attnum <> ALL (i.indkey) AND attidentity <> 'a'), 'DO NOTHING') AS otherwise,
                               string_agg(quote_ident(attname), ', ') FILTER (WHERE attnum = ANY (i.indkey)) AS keys,
                               array_agg(attname) FILTER (WHERE attnum = ANY (i.indkey)) AS key_names
                          FROM pg_attribute JOIN pg_index AS i ON i.indrelid = attrelid AND i.indisprimary
                         WHERE attrelid = c.name::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '') AS a
         ORDER BY c.name
    LOOP
        EXECUTE format('INSERT INTO %1$s (%2$s) OVERRIDING SYSTEM VALUE SELECT %2$s FROM jsonb_populate_recordset(NULL::%1$s, $1)
                        ON CONFLICT (%3$s) %4$s',
                       t.name::regclass, t.columns, t.keys, t.otherwise) USING t.puts;
        EXECUTE format('DELETE FROM %1$s AS t USING jsonb_populate_recordset(NULL::%1$s, $1) AS g WHERE %2$s',
                       t.name::regclass, t.same_key) USING t.gone;
    END LOOP;
    RETURN NULL;
END
$$;
CREATE TRIGGER apply BEFORE INSERT ON repl.inbox FOR EACH ROW EXECUTE FUNCTION repl.apply();
