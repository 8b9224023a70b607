-- What a worker remembers from one transaction to the next, of queues and of handlers, is never out of date.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE ROLE regress_mw_worker LOGIN;
CREATE ROLE regress_mw_group;
SELECT my_worker.grant_usage('regress_mw_worker');
CREATE SCHEMA work;
GRANT USAGE ON SCHEMA work TO regress_mw_worker;
CREATE FUNCTION work.one(jsonb) RETURNS text LANGUAGE sql AS $$ SELECT 'first' $$;
SELECT my_worker.create_queue('fixed', handler => 'work.one', max_attempts => 1);
-- Runs a job in the role's worker, which is the same one for all; tells how it ended.
CREATE PROCEDURE run(what text, INOUT outcome text DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
    job bigint;
BEGIN
    SET LOCAL ROLE regress_mw_worker;
    INSERT INTO my_queue AS q (queue) VALUES ('fixed') RETURNING q.id INTO job;
    RESET ROLE;
    COMMIT;
    PERFORM my_worker.wait(job, '30 s');
    SELECT format('%s: %s %s', what, h.status, coalesce(h.result #>> '{}', h.errors -> 0 ->> 'sqlstate'))
        INTO outcome FROM my_worker.history AS h WHERE h.id = job;
END $$;
CALL run('found');
CALL run('remembered');
CREATE OR REPLACE FUNCTION work.one(jsonb) RETURNS text LANGUAGE sql AS $$ SELECT 'second' $$;
CALL run('replaced');
BEGIN;
DROP FUNCTION work.one(jsonb);
CREATE FUNCTION work.one(jsonb) RETURNS integer LANGUAGE sql AS $$ SELECT 3 $$;
COMMIT;
CALL run('another function');
CREATE FUNCTION work.one(bigint, jsonb) RETURNS text LANGUAGE sql AS $$ SELECT 'with its id' $$;
CALL run('a better signature beside it, which the queue does not name');
DROP FUNCTION work.one(bigint, jsonb);
CALL run('and back');
REVOKE EXECUTE ON FUNCTION work.one(jsonb) FROM PUBLIC;
CALL run('no right');
GRANT EXECUTE ON FUNCTION work.one(jsonb) TO regress_mw_group;
GRANT regress_mw_group TO regress_mw_worker;
CALL run('by a group');
REVOKE regress_mw_group FROM regress_mw_worker;
CALL run('no longer in it');
GRANT EXECUTE ON FUNCTION work.one(jsonb) TO regress_mw_worker;
CALL run('by itself');
REVOKE USAGE ON SCHEMA work FROM regress_mw_worker;
CALL run('schema out of reach');
GRANT USAGE ON SCHEMA work TO regress_mw_worker;
CALL run('within reach');
ALTER SCHEMA work RENAME TO play;
CALL run('schema renamed');
ALTER SCHEMA play RENAME TO work;
DROP FUNCTION work.one(jsonb);
CALL run('dropped');
-- Settings.
CREATE FUNCTION work.two() RETURNS text LANGUAGE sql AS $$ SELECT 'two' $$;
SELECT my_worker.alter_queue('fixed', handler => 'work.two');
CALL run('altered');
CREATE FUNCTION work.three() RETURNS text LANGUAGE sql AS $$ SELECT 'three' $$;
BEGIN;
UPDATE my_worker.queues SET handler = 'work.three' WHERE name = 'fixed';
ROLLBACK;
CALL run('altered in vain');
BEGIN;
SAVEPOINT a;
UPDATE my_worker.queues SET handler = 'work.three' WHERE name = 'fixed';
RELEASE a;
COMMIT;
CALL run('by UPDATE');
SET session_replication_role = replica;
UPDATE my_worker.queues SET handler = 'work.two' WHERE name = 'fixed';
RESET session_replication_role;
CALL run('by replication');
SELECT my_worker.drop_queue('fixed');
SELECT my_worker.create_queue('fixed', handler => 'work.three', max_attempts => 1);
CALL run('another queue');
-- No job starts in a paused one, whatever the worker remembers.
SELECT my_worker.pause_queue('fixed');
INSERT INTO my_queue (queue, run_at) VALUES ('fixed', '-infinity') RETURNING id \gset
SELECT my_worker.enqueue('work.two') AS after \gset
SELECT my_worker.wait(:after, '30 s');
SELECT status FROM my_worker.jobs WHERE id = :id;
SELECT my_worker.resume_queue('fixed');
SELECT my_worker.wait(:id, '30 s');
SELECT my_worker.drop_queue('fixed');
DROP PROCEDURE run(text, text);
DROP SCHEMA work CASCADE;
SELECT my_worker.revoke_usage('regress_mw_worker');
DROP ROLE regress_mw_worker, regress_mw_group;
