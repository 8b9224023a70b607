-- Who uses the queue sees the statistics of its own jobs; what others do stays theirs.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE ROLE regress_own_alice LOGIN;
CREATE ROLE regress_own_bob LOGIN;
CREATE ROLE regress_own_watch LOGIN IN ROLE pg_monitor;
SELECT my_worker.grant_usage('regress_own_alice'), my_worker.grant_usage('regress_own_bob');
CREATE SCHEMA work;
GRANT USAGE ON SCHEMA work TO PUBLIC;
CREATE FUNCTION work.good() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION work.gated() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_xact_lock_shared(4719)';
CREATE FUNCTION work.bad() RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END $$;
SELECT my_worker.reset_stats();
SELECT my_worker.create_queue('hers'), my_worker.create_queue('his', max_attempts => 1), my_worker.create_queue('shared');
SET SESSION AUTHORIZATION regress_own_alice;
SELECT my_worker.enqueue('work.good', queue => 'hers') AS a, my_worker.enqueue('work.good', queue => 'shared') AS b \gset
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s');
SELECT count(my_worker.enqueue('work.good', queue => 'shared', run_at => 'infinity')) FROM generate_series(1, 2);
SELECT my_worker.schedule('alices', '@yearly', 'SELECT 1') > 0 AS scheduled;
SET SESSION AUTHORIZATION regress_own_bob;
SELECT my_worker.enqueue('work.bad', queue => 'his') AS a, my_worker.enqueue('work.good', queue => 'shared') AS b \gset
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s');
SELECT count(my_worker.enqueue('work.good', queue => 'shared', run_at => 'infinity')) FROM generate_series(1, 5);
RESET SESSION AUTHORIZATION;
SELECT pg_advisory_lock(4719);
SET SESSION AUTHORIZATION regress_own_bob;
SELECT my_worker.enqueue('work.gated', queue => 'his') AS gated \gset
CALL pg_temp.wait_until(format('SELECT status = ''processing'' FROM my_worker.jobs WHERE id = %s', :gated));
RESET SESSION AUTHORIZATION;
CALL pg_temp.wait_until($$SELECT count(*) = 2 FROM my_worker.queue_stats WHERE queue IN ('his', 'hers') AND failed + completed = 1$$);
CALL pg_temp.wait_until($$SELECT completed = 2 FROM my_worker.queue_stats WHERE queue = 'shared'$$);
CREATE VIEW work.seen AS
    SELECT queue, pending, scheduled, processing, completed, failed, cancelled, run_mean > 0 AS ran
      FROM my_worker.queue_stats WHERE queue IN ('his', 'hers', 'shared');
GRANT SELECT ON work.seen TO PUBLIC;
-- A queue in which others' jobs were counted shows no counters.
SET SESSION AUTHORIZATION regress_own_alice;
SELECT * FROM work.seen ORDER BY queue;
SET SESSION AUTHORIZATION regress_own_bob;
SELECT * FROM work.seen ORDER BY queue;
SET SESSION AUTHORIZATION regress_own_watch;
SELECT * FROM work.seen ORDER BY queue;
-- Who has another's rights sees that one's, too.
RESET SESSION AUTHORIZATION;
GRANT regress_own_bob TO regress_own_alice;
SET SESSION AUTHORIZATION regress_own_alice;
SELECT queue, scheduled, processing, failed FROM work.seen ORDER BY queue;
RESET SESSION AUTHORIZATION;
REVOKE regress_own_bob FROM regress_own_alice;
-- A cancel keeps the counters its owner's.
SET SESSION AUTHORIZATION regress_own_alice;
SELECT my_worker.cancel(my_worker.enqueue('work.good', queue => 'hers', run_at => 'infinity'));
SELECT queue, completed, cancelled FROM work.seen WHERE queue = 'hers';
RESET SESSION AUTHORIZATION;
-- With many jobs, which are counted by pages, the same.
INSERT INTO my_queue (queue, handler, run_at) SELECT 'shared', 'work.good', 'infinity' FROM generate_series(1, 3000);
SET SESSION AUTHORIZATION regress_own_alice;
SELECT queue, pending, scheduled, processing FROM work.seen ORDER BY queue;
RESET SESSION AUTHORIZATION;
DELETE FROM my_queue WHERE queue = 'shared' AND owner = current_user::regrole;
-- Processes: what pg_stat_activity shows to all, and whether they are at work.
SET SESSION AUTHORIZATION regress_own_alice;
SELECT DISTINCT kind, database, role, job_id, queue, job_started_at, jobs_done FROM my_worker.workers
 WHERE state = 'running' AND role = 'regress_own_bob';
SET SESSION AUTHORIZATION regress_own_bob;
SELECT kind, role, job_id = :gated AS job, queue, job_started_at IS NOT NULL AS started FROM my_worker.workers WHERE job_id IS NOT NULL;
SET SESSION AUTHORIZATION regress_own_watch;
SELECT kind, role, job_id = :gated AS job, queue FROM my_worker.workers WHERE job_id IS NOT NULL;
-- health() speaks of others' schedules and queues to those who see them.
RESET SESSION AUTHORIZATION;
UPDATE my_worker._schedules SET active = false, disabled_reason = 'secret' WHERE name = 'alices';
CREATE VIEW work.ill AS SELECT "check", CASE WHEN detail LIKE 'queue %' THEN left(detail, 11) ELSE detail END AS detail
  FROM my_worker.health() WHERE "check" IN ('failures', 'schedules') AND NOT ok;
GRANT SELECT ON work.ill TO PUBLIC;
SET SESSION AUTHORIZATION regress_own_alice;
SELECT * FROM work.ill ORDER BY 1;
SET SESSION AUTHORIZATION regress_own_bob;
SELECT * FROM work.ill ORDER BY 1;
SET SESSION AUTHORIZATION regress_own_watch;
SELECT * FROM work.ill ORDER BY 1;
SELECT count(*) FROM my_worker_status;
SET SESSION AUTHORIZATION regress_own_bob;
SELECT count(*) FROM my_worker_status;
RESET SESSION AUTHORIZATION;
SELECT pg_advisory_unlock(4719);
SELECT my_worker.wait(:gated, '30 s');
-- USAGE on the target schema is taken back only if grant_usage() gave it.
CREATE VIEW work.schema_rights AS SELECT a.grantee::regrole, a.privilege_type FROM pg_namespace AS n, aclexplode(n.nspacl) AS a
 WHERE n.nspname = 'public' AND a.grantee::regrole::text LIKE 'regress_own%' ORDER BY a.grantee::regrole::text;
SELECT * FROM work.schema_rights;
SELECT my_worker.revoke_usage('regress_own_alice');
SELECT * FROM work.schema_rights;
GRANT USAGE ON SCHEMA public TO regress_own_alice;
SELECT my_worker.grant_usage('regress_own_alice'), my_worker.grant_usage('regress_own_alice');
SELECT my_worker.revoke_usage('regress_own_alice');
SELECT * FROM work.schema_rights;
REVOKE USAGE ON SCHEMA public FROM regress_own_alice;
-- Tidy up.
SELECT my_worker.revoke_usage('regress_own_bob');
SET client_min_messages = warning;
DELETE FROM my_worker._schedules WHERE name = 'alices';
SELECT my_worker.drop_queue('hers', true), my_worker.drop_queue('his', true), my_worker.drop_queue('shared', true);
DROP SCHEMA work CASCADE;
DROP ROLE regress_own_alice, regress_own_bob, regress_own_watch;
SELECT my_worker.reset_stats();
