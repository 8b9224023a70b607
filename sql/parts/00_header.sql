/* my_worker--1.1.sql: built from sql/parts by "make sql", do not edit */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION my_worker" to load this file. \quit

-- Every name below is qualified; the path is pinned so that none can be captured.
SET LOCAL search_path TO pg_catalog, pg_temp;

CREATE SCHEMA my_worker;
COMMENT ON SCHEMA my_worker IS 'my_worker: jobs, queues, schedules and what they report';
CREATE SCHEMA my_worker_internal;
COMMENT ON SCHEMA my_worker_internal IS 'my_worker: functions that its own tables, views and functions call';

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
