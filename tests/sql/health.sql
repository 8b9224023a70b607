-- Whether jobs can run and keep up, one row a check.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE SCHEMA work;
CREATE FUNCTION work.bad() RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE 'a secret'; END $$;
SELECT my_worker.reset_stats();
SELECT my_worker.purge_queue('default') >= 0 AS purged;
-- All is well.
CALL pg_temp.wait_until('SELECT bool_and(ok) FROM my_worker.health()');
SELECT "check", ok, CASE WHEN "check" IN ('launcher', 'slots', 'max_worker_processes', 'versions') THEN regexp_replace(detail, '[\d.]+', 'N', 'g') ELSE detail END AS detail
  FROM my_worker.health();
-- A queue that is far behind, and one that is paused, which is not.
SELECT my_worker.create_queue('behind'), my_worker.create_queue('paused');
SELECT my_worker.pause_queue('paused');
INSERT INTO my_queue (queue, run_at) SELECT name, now() - interval '1 h' FROM my_worker.queues WHERE name IN ('behind', 'paused');
SELECT "check", ok, regexp_replace(detail, '\d\d:\d\d:\d\d', 'TIME') AS detail FROM my_worker.health() WHERE NOT ok;
SELECT "check" FROM my_worker.health('2 h') WHERE NOT ok;
SELECT my_worker.drop_queue('behind', true), my_worker.drop_queue('paused', true);
-- Failed jobs: which queue, not what they said.
SELECT my_worker.enqueue('work.bad', max_attempts => 1) AS bad \gset
SELECT my_worker.wait(:bad, '30 s');
CALL pg_temp.wait_until('SELECT NOT ok FROM my_worker.health() WHERE "check" = ''failures''');
SELECT "check", ok, regexp_replace(detail, '\d\d:\d\d:\d\d', 'TIME') AS detail FROM my_worker.health() WHERE NOT ok;
-- It stays so, whatever was counted, until the job is retried or purged.
SELECT my_worker.reset_stats();
SELECT ok FROM my_worker.health() WHERE "check" = 'failures';
CREATE OR REPLACE FUNCTION work.bad() RETURNS void LANGUAGE sql AS '';
SELECT my_worker.retry(:bad);
SELECT my_worker.wait(:bad, '30 s');
SELECT ok, detail FROM my_worker.health() WHERE "check" = 'failures';
-- One that failed long ago is named only.
CREATE OR REPLACE FUNCTION work.bad() RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE 'a secret'; END $$;
SELECT my_worker.enqueue('work.bad', max_attempts => 1) AS bad \gset
SELECT my_worker.wait(:bad, '30 s');
UPDATE my_worker.history SET finished_at = now() - interval '23 h' WHERE id = :bad;
SELECT ok, regexp_replace(detail, '\d\d:\d\d:\d\d', 'TIME') AS detail FROM my_worker.health() WHERE "check" = 'failures';
UPDATE my_worker.history SET finished_at = now() - interval '25 h' WHERE id = :bad;
SELECT ok, regexp_replace(detail, '\d\d:\d\d:\d\d', 'TIME') AS detail FROM my_worker.health() WHERE "check" = 'failures';
SELECT my_worker.purge_queue('default') > 0 AS purged;
SELECT ok, detail FROM my_worker.health() WHERE "check" = 'failures';
-- However many there are, it reads the last thousand and the one before the day.
BEGIN;
SET LOCAL session_replication_role = replica;
INSERT INTO my_worker.history (id, queue, status, payload, priority, run_at, created_at, attempts, owner, finished_at)
SELECT n, 'default', 'failed', '{}', 0, now(), now(), 1, current_user::regrole, now() - n * interval '1 min' FROM generate_series(1, 20000) AS n;
RESET session_replication_role;
ANALYZE my_worker.history;
SELECT seq_tup_read + idx_tup_fetch AS read_before FROM pg_stat_xact_all_tables WHERE relid = 'my_worker.history'::regclass \gset
SELECT ok, detail ~ '^queue "default": 1000 or more failed, the last 00:01:0' AS detail FROM my_worker.health() WHERE "check" = 'failures';
SELECT seq_tup_read + idx_tup_fetch - :read_before < 2000 AS reads_few FROM pg_stat_xact_all_tables WHERE relid = 'my_worker.history'::regclass;
-- A role that sees only its own reads no failures of others, and is told of none.
CREATE ROLE regress_health_own;
SELECT my_worker.grant_usage('regress_health_own');
SELECT seq_tup_read + idx_tup_fetch AS read_before FROM pg_stat_xact_all_tables WHERE relid = 'my_worker.history'::regclass \gset
SET LOCAL ROLE regress_health_own;
SELECT ok, detail FROM my_worker.health() WHERE "check" = 'failures';
RESET ROLE;
SELECT seq_tup_read + idx_tup_fetch - :read_before < 10 AS reads_few FROM pg_stat_xact_all_tables WHERE relid = 'my_worker.history'::regclass;
SET LOCAL session_replication_role = replica;
INSERT INTO my_worker.history (id, queue, status, payload, priority, run_at, created_at, attempts, owner, finished_at)
SELECT -n, 'default', 'failed', '{}', 0, now(), now(), 1, 'regress_health_own', now() - n * interval '23 h' FROM generate_series(1, 2) AS n;
RESET session_replication_role;
SET LOCAL ROLE regress_health_own;
SELECT ok, regexp_replace(detail, '\d\d:\d\d:\d\d', 'TIME') AS detail FROM my_worker.health() WHERE "check" = 'failures';
RESET ROLE;
-- With the failures of two roles the later ones count, whoever comes first.
SELECT ok, detail ~ '^queue "default": 1000 or more failed, the last 00:01:0' AS detail FROM my_worker.health() WHERE "check" = 'failures';
ROLLBACK;
-- Who may ask.
CREATE ROLE regress_health_none;
CREATE ROLE regress_health_user;
CREATE ROLE regress_health_monitor;
GRANT pg_monitor TO regress_health_monitor;
SELECT my_worker.grant_usage('regress_health_user');
SET ROLE regress_health_none;
CALL pg_temp.fails('SELECT * FROM my_worker.health()');
SET ROLE regress_health_user;
SELECT count(*) > 5 AS checks FROM my_worker.health();
SET ROLE regress_health_monitor;
SELECT count(*) > 5 AS checks FROM my_worker.health();
CALL pg_temp.fails('SELECT FROM my_worker._schedules');
RESET ROLE;
SELECT my_worker.revoke_usage('regress_health_user');
DROP ROLE regress_health_none, regress_health_user, regress_health_monitor;
DROP SCHEMA work CASCADE;
