-- Where this database is at home. A number is drawn for it by CREATE EXTENSION, and stands in a function:
-- neither a dump nor logical replication carries what a function of an extension says, while pg_upgrade,
-- a standby and a copy of the files do. It stands there with what tells these apart.
CREATE FUNCTION my_worker_internal.identity() RETURNS text
    AS 'MODULE_PATHNAME', 'mw_identity' LANGUAGE C VOLATILE;

CREATE FUNCTION my_worker_internal.set_birth(home bigint DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    home := coalesce(home, ('x' || right(replace(gen_random_uuid()::text, '-', ''), 15))::bit(60)::bigint);
    EXECUTE format('CREATE OR REPLACE FUNCTION my_worker_internal.birth() RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS %L',
                   format('SELECT %L', home || ' ' || my_worker_internal.identity()));
    RETURN home;
END
$$;

-- Finds rows of other homes, which are none but in a copy: an INSERT pays for a comparison alone.
CREATE FUNCTION my_worker_internal.index_strangers(home bigint) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
BEGIN
    DROP INDEX IF EXISTS my_worker._jobs_strangers_idx, my_worker._schedules_strangers_idx;
    EXECUTE format('CREATE INDEX _jobs_strangers_idx ON my_worker._jobs (home) WHERE home <> %L::bigint', home);
    EXECUTE format('CREATE INDEX _schedules_strangers_idx ON my_worker._schedules (home) WHERE home <> %L::bigint', home);
END
$$;

SELECT my_worker_internal.index_strangers(my_worker_internal.set_birth());

-- Why nothing runs here although all else is well: NULL, unless this database is a copy.
CREATE FUNCTION my_worker_internal.why_copy() RETURNS text
    AS 'MODULE_PATHNAME', 'mw_why_copy' LANGUAGE C STRICT VOLATILE;

CREATE FUNCTION my_worker.adopt(force boolean DEFAULT false) RETURNS text
    AS 'MODULE_PATHNAME', 'mw_adopt' LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION my_worker.adopt IS 'makes this database, a copy, the home of the jobs and schedules that came with it';

CREATE FUNCTION my_worker.reassign(old_owner regrole, new_owner regrole) RETURNS bigint
    AS 'MODULE_PATHNAME', 'mw_reassign' LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION my_worker.reassign IS 'hands the waiting jobs and the schedules of one role over to another one, and returns how many';
