-- An attempt that takes too long is cancelled and fails with 57014: the limit of the job, of its queue,
-- of its owner.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE SCHEMA work;
CREATE FUNCTION work.sleep() RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(600)';
CREATE FUNCTION work.quick() RETURNS text LANGUAGE sql AS $$SELECT current_setting('statement_timeout')$$;
SELECT my_worker.create_queue('limited', timeout => '50 ms', max_attempts => 2, backoff => '0', backoff_max => '0');
-- The job's own.
SELECT my_worker.enqueue('work.sleep', timeout => '50 ms', max_attempts => 1) AS a \gset
-- The queue's.
SELECT my_worker.enqueue('work.sleep', queue => 'limited') AS b \gset
-- The job's goes before its queue's.
SELECT my_worker.enqueue('work.sleep', queue => 'limited', timeout => '60 ms', max_attempts => 1) AS c \gset
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s'), my_worker.wait(:c, '30 s');
SELECT handler, status, attempts, errors->0->>'sqlstate' AS sqlstate, last_error FROM my_worker.history
 WHERE id IN (:a, :b, :c) ORDER BY id;
SELECT jsonb_array_length(errors) AS errors FROM my_worker.history WHERE id = :b;
-- Those that are fast enough are not touched, one after the other in the same process.
SELECT count(my_worker.enqueue('work.quick', queue => 'limited', timeout => '10 s')) FROM generate_series(1, 50);
CALL pg_temp.wait_until('SELECT NOT EXISTS (SELECT FROM my_queue)');
SELECT status, result, count(*) FROM my_worker.history WHERE handler LIKE 'work.quick(%' GROUP BY status, result;
-- The owner's statement_timeout.
CREATE ROLE regress_mw_alice LOGIN;
ALTER ROLE regress_mw_alice SET statement_timeout = '80 ms';
GRANT USAGE ON SCHEMA work TO regress_mw_alice;
SELECT my_worker.grant_usage('regress_mw_alice');
SET SESSION AUTHORIZATION regress_mw_alice;
SELECT my_worker.enqueue('work.sleep', max_attempts => 1) AS d, my_worker.enqueue('work.quick') AS e \gset
SELECT my_worker.wait(:d, '30 s'), my_worker.wait(:e, '30 s');
RESET SESSION AUTHORIZATION;
SELECT handler, status, result, errors->0->>'sqlstate' AS sqlstate FROM my_worker.history
 WHERE id IN (:d, :e) ORDER BY id;
-- A handler that catches its cancel has used up its time all the same: the attempt fails.
CREATE FUNCTION work.catches() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(600);
    RETURN 'slept';
EXCEPTION WHEN query_canceled THEN
    RETURN 'caught';
END $$;
SELECT my_worker.enqueue('work.catches', timeout => '50 ms', max_attempts => 1) AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT status, result FROM my_worker.history WHERE id = :id;
-- What is deferred to the end of the job is part of it.
CREATE TABLE work.slow (a integer);
CREATE FUNCTION work.checks() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(600); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER checks AFTER INSERT ON work.slow DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION work.checks();
CREATE FUNCTION work.defers() RETURNS void LANGUAGE sql AS 'INSERT INTO work.slow VALUES (1)';
SELECT my_worker.enqueue('work.defers', timeout => '50 ms', max_attempts => 1) AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT status, errors->0->>'sqlstate' AS sqlstate FROM my_worker.history WHERE id = :id;
SELECT count(*) FROM work.slow;
SELECT my_worker.drop_queue('limited');
SELECT my_worker.revoke_usage('regress_mw_alice');
DROP SCHEMA work CASCADE;
DROP ROLE regress_mw_alice;
