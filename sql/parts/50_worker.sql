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

-- What runs now, of the roles whose rights the caller has; statistics readers see the rest
-- without what the jobs say.
CREATE FUNCTION my_worker_internal.running(
    OUT job_id bigint, OUT pid integer, OUT started_at timestamptz, OUT progress real,
    OUT progress_message text) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'mw_running' LANGUAGE C STRICT VOLATILE ROWS 10;

CREATE FUNCTION my_worker_internal.workers(
    OUT slot integer, OUT pid integer, OUT kind text, OUT database oid, OUT role oid,
    OUT state text, OUT job_id bigint, OUT queue text, OUT job_started_at timestamptz,
    OUT jobs_done bigint, OUT started_at timestamptz) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'mw_workers' LANGUAGE C STRICT VOLATILE ROWS 10;

CREATE VIEW my_worker.workers AS
    SELECT w.slot, w.pid, w.kind, d.datname AS database, r.rolname AS role, w.state, w.job_id,
           w.queue, w.job_started_at, w.jobs_done, w.started_at
      FROM my_worker_internal.workers() AS w
      LEFT JOIN pg_database AS d ON d.oid = w.database
      LEFT JOIN pg_roles AS r ON r.oid = w.role;
COMMENT ON VIEW my_worker.workers IS 'the processes of my_worker, one row each';

-- Whether a job is one of those. In one statement both functions answer by one look.
CREATE FUNCTION my_worker_internal.is_running(job_id bigint) RETURNS boolean
    AS 'MODULE_PATHNAME', 'mw_is_running' LANGUAGE C STRICT VOLATILE;

-- The status of each part is a constant, or indexed, so that a condition on it leaves out the
-- others; what waits comes in the order of "the latest first".
CREATE VIEW my_worker.jobs WITH (security_invoker = true) AS
    SELECT q.id, q.queue, 'processing'::text AS status, q.handler, q.command, q.payload, q.priority,
           q.run_at, q.created_at, r.started_at, q.attempts, q.max_attempts, q.timeout, q.unique_key,
           q.owner, q.last_error, NULL::timestamptz AS finished_at, NULL::jsonb AS result, q.errors,
           r.pid, r.progress, r.progress_message
      FROM my_worker_internal.running() AS r JOIN my_worker._jobs AS q ON q.id = r.job_id
    UNION ALL
   (SELECT q.id, q.queue, 'pending', q.handler, q.command, q.payload, q.priority, q.run_at,
           q.created_at, q.started_at, q.attempts, q.max_attempts, q.timeout, q.unique_key, q.owner,
           q.last_error, NULL, NULL, q.errors, NULL, NULL, NULL
      FROM my_worker._jobs AS q
     WHERE q.status = 'pending' AND NOT my_worker_internal.is_running(q.id) ORDER BY q.id DESC)
    UNION ALL
    SELECT q.id, q.queue, 'processing', q.handler, q.command, q.payload, q.priority, q.run_at,
           q.created_at, q.started_at, q.attempts, q.max_attempts, q.timeout, q.unique_key, q.owner,
           q.last_error, NULL, NULL, q.errors, NULL, NULL, NULL
      FROM my_worker._jobs AS q
     WHERE q.status = 'processing' AND NOT my_worker_internal.is_running(q.id)
    UNION ALL
    SELECT q.id, q.queue, 'failed', q.handler, q.command, q.payload, q.priority, q.run_at,
           q.created_at, q.started_at, q.attempts, q.max_attempts, q.timeout, q.unique_key, q.owner,
           q.last_error, NULL, NULL, q.errors, NULL, NULL, NULL
      FROM my_worker._jobs AS q WHERE q.status = 'failed'
    UNION ALL
    SELECT h.id, h.queue, h.status, h.handler, h.command, h.payload, h.priority, h.run_at,
           h.created_at, h.started_at, h.attempts, h.max_attempts, h.timeout, h.unique_key, h.owner,
           h.last_error, h.finished_at, h.result, h.errors, NULL, NULL, NULL
      FROM my_worker.history AS h;
COMMENT ON VIEW my_worker.jobs IS 'all jobs, waiting, running and finished, one row each';

-- Tells the launcher, at COMMIT, that this database has the extension now; warns if it is not served.
CREATE FUNCTION my_worker_internal.installed() RETURNS void
    AS 'MODULE_PATHNAME', 'mw_installed' LANGUAGE C STRICT;
