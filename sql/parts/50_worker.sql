-- The tutorial's functions and view, in the target schema.
CREATE FUNCTION @extschema@.launch_dynamic_worker(task_id integer) RETURNS integer
    AS 'MODULE_PATHNAME', 'mw_launch_dynamic_worker' LANGUAGE C STRICT;
CREATE FUNCTION @extschema@.launch_dynamic_worker(task_id bigint) RETURNS integer
    AS 'MODULE_PATHNAME', 'mw_launch_dynamic_worker_bigint' LANGUAGE C STRICT;
COMMENT ON FUNCTION @extschema@.launch_dynamic_worker(integer)
    IS 'starts a one-shot background worker for the job of that id, after COMMIT, and returns its PID';
COMMENT ON FUNCTION @extschema@.launch_dynamic_worker(bigint)
    IS 'starts a one-shot background worker for the job of that id, after COMMIT, and returns its PID';

CREATE FUNCTION @extschema@.get_worker_stats(
    OUT items_processed bigint, OUT last_run timestamptz, OUT status text)
    AS 'MODULE_PATHNAME', 'mw_get_worker_stats' LANGUAGE C STRICT;
COMMENT ON FUNCTION @extschema@.get_worker_stats()
    IS 'jobs finished since the server started, time of the last run, and what goes on';

CREATE VIEW @extschema@.my_worker_status AS
    SELECT s.items_processed, s.last_run, s.status FROM @extschema@.get_worker_stats() AS s;
COMMENT ON VIEW @extschema@.my_worker_status IS 'get_worker_stats() as a view';

-- The processes, of the roles whose rights the caller has; statistics readers see the rest without what the
-- jobs say.
CREATE FUNCTION my_worker_internal.processes(
    OUT slot integer, OUT pid integer, OUT kind text, OUT database oid, OUT role oid,
    OUT state text, OUT job_id bigint, OUT queue text, OUT job_started_at timestamptz,
    OUT jobs_done bigint, OUT started_at timestamptz, OUT queue_id integer) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'mw_processes' LANGUAGE C STRICT VOLATILE ROWS 10;

CREATE VIEW my_worker.workers AS
    SELECT w.slot, w.pid, w.kind, d.datname AS database, r.rolname AS role, w.state, w.job_id,
           coalesce(w.queue, (SELECT q.name FROM my_worker.queues AS q WHERE q.id = w.queue_id AND d.datname = current_database())) COLLATE "default" AS queue,
           w.job_started_at, w.jobs_done, w.started_at
      FROM my_worker_internal.processes() AS w
      LEFT JOIN pg_database AS d ON d.oid = w.database
      LEFT JOIN pg_roles AS r ON r.oid = w.role;
COMMENT ON VIEW my_worker.workers IS 'the processes of my_worker, one row each';

-- Tells the launcher, at COMMIT, that this database has the extension now; warns if it is not served.
CREATE FUNCTION my_worker_internal.installed() RETURNS void
    AS 'MODULE_PATHNAME', 'mw_installed' LANGUAGE C STRICT;
