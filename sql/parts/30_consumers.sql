-- Consumers: client sessions that take jobs by SQL and do the work themselves.

-- Who may receive the jobs of all owners from a queue.
CREATE TABLE my_worker._consumers (
    queue text COLLATE "C" NOT NULL,
    role  regrole NOT NULL,
    PRIMARY KEY (queue, role)
);
COMMENT ON TABLE my_worker._consumers IS 'roles that receive the jobs of all owners from a queue; see grant_consume()';
CREATE TRIGGER consumers_only_owner BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON my_worker._consumers
    FOR EACH STATEMENT EXECUTE FUNCTION my_worker_internal.only_owner();

-- Whether the role whose rights are in force may. Consumers see the jobs of their queue.
CREATE FUNCTION my_worker_internal.may_consume(queue text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'mw_may_consume' LANGUAGE C STABLE STRICT;
CREATE POLICY jobs_consumed ON my_worker._jobs FOR SELECT USING (my_worker_internal.may_consume(queue));
CREATE POLICY history_consumed ON my_worker.history FOR SELECT USING (my_worker_internal.may_consume(queue));

CREATE FUNCTION my_worker.send(
    queue text, payload jsonb DEFAULT '{}', kind text DEFAULT NULL, headers jsonb DEFAULT NULL,
    priority integer DEFAULT 0, run_at timestamptz DEFAULT NULL, max_attempts integer DEFAULT NULL,
    timeout interval DEFAULT NULL, unique_key text DEFAULT NULL, group_key text DEFAULT NULL,
    after bigint[] DEFAULT NULL, after_failed text DEFAULT 'cancel',
    expires_at timestamptz DEFAULT NULL, unique_mode text DEFAULT 'keep') RETURNS bigint
    AS 'MODULE_PATHNAME', 'mw_send' LANGUAGE C;
COMMENT ON FUNCTION my_worker.send IS 'enqueues a job for a consumer and returns its id';

CREATE FUNCTION my_worker.send_many(
    queue text, payloads jsonb[], kind text DEFAULT NULL, headers jsonb DEFAULT NULL,
    priority integer DEFAULT 0, run_at timestamptz DEFAULT NULL, max_attempts integer DEFAULT NULL,
    timeout interval DEFAULT NULL, group_key text DEFAULT NULL, after bigint[] DEFAULT NULL, after_failed text DEFAULT 'cancel',
    expires_at timestamptz DEFAULT NULL) RETURNS SETOF bigint
    AS 'MODULE_PATHNAME', 'mw_send_many' LANGUAGE C;
COMMENT ON FUNCTION my_worker.send_many IS 'enqueues a job for a consumer for each payload and returns the ids';

CREATE FUNCTION my_worker.receive(
    queue text, n integer DEFAULT 1, wait interval DEFAULT '0', lease interval DEFAULT NULL,
    kinds text[] DEFAULT NULL)
    RETURNS TABLE (id bigint, lease bigint, kind text, payload jsonb, headers jsonb, attempt integer,
                   max_attempts integer, priority integer, run_at timestamptz, created_at timestamptz,
                   owner regrole, group_key text)
    AS 'MODULE_PATHNAME', 'mw_receive' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION my_worker.receive IS 'takes due jobs of a queue, each with a lease, and waits for some if asked to';

CREATE FUNCTION my_worker.ack(job_id bigint, lease bigint, result jsonb DEFAULT NULL) RETURNS boolean
    AS 'MODULE_PATHNAME', 'mw_ack' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION my_worker.ack IS 'completes a received job; false if the lease was lost';

CREATE FUNCTION my_worker.ack_many(job_ids bigint[], leases bigint[]) RETURNS bigint[]
    AS 'MODULE_PATHNAME', 'mw_ack_many' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION my_worker.ack_many IS 'completes received jobs and returns the ids of those whose leases were valid';

CREATE FUNCTION my_worker.nack(
    job_id bigint, lease bigint, error text DEFAULT NULL, delay interval DEFAULT NULL,
    fail boolean DEFAULT false) RETURNS boolean
    AS 'MODULE_PATHNAME', 'mw_nack' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION my_worker.nack IS 'fails the attempt of a received job; false if the lease was lost';

CREATE FUNCTION my_worker.release(job_id bigint, lease bigint, delay interval DEFAULT NULL) RETURNS boolean
    AS 'MODULE_PATHNAME', 'mw_release' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION my_worker.release IS 'gives a received job back uncharged; false if the lease was lost';

CREATE FUNCTION my_worker.extend(job_id bigint, lease bigint, by interval) RETURNS boolean
    AS 'MODULE_PATHNAME', 'mw_extend' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION my_worker.extend IS 'has a lease end so much after now; false if it was lost: stop working';

CREATE FUNCTION my_worker.progress(job_id bigint, lease bigint, percent real, message text DEFAULT NULL) RETURNS boolean
    AS 'MODULE_PATHNAME', 'mw_lease_progress' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION my_worker.progress(bigint, bigint, real, text) IS 'reports how far a received job is; false if the lease was lost';
