-- jobs_per_savepoint: several jobs share a savepoint. One that fails costs itself alone.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE TABLE done (job bigint, n int, setting text);
CREATE FUNCTION work(id bigint, payload jsonb) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO done VALUES (id, (payload->>'n')::int, current_setting('work_mem'));
    PERFORM set_config('work_mem', '3MB', false);
    EXECUTE coalesce(payload->>'then', '');
    RETURN payload->'n';
END
$$;
SELECT my_worker.create_queue('shared', handler => 'work', max_attempts => 2, backoff => '1 ms', jobs_per_savepoint => 10);
-- Runs jobs at once, and shows how they ended.
CREATE PROCEDURE pg_temp.run(jobs int, bad jsonb DEFAULT '{}') LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE done;
    PERFORM my_worker.purge_queue('shared');
    PERFORM my_worker.pause_queue('shared');
    INSERT INTO my_queue (queue, payload)
        SELECT 'shared', jsonb_build_object('n', n) || CASE WHEN n = 7 THEN bad ELSE '{}' END
          FROM generate_series(1, jobs) AS n;
    PERFORM my_worker.resume_queue('shared');
    COMMIT;
    CALL pg_temp.wait_until($q$SELECT NOT EXISTS (SELECT FROM my_queue WHERE queue = 'shared')$q$, apart => true);
END
$$;
CALL pg_temp.run(4000);
SELECT status, attempts, count(*), count(DISTINCT result) AS results FROM my_worker.history WHERE queue = 'shared' GROUP BY 1, 2;
SELECT count(*), count(DISTINCT job) AS jobs, count(DISTINCT setting) AS settings,
       count(DISTINCT xmin::text) < 2000 AS share FROM done;
-- The one that fails is charged, and nobody else.
CALL pg_temp.run(40, '{"then": "SELECT 1/0"}');
SELECT status, attempts, last_error, count(*) FROM my_worker.history WHERE queue = 'shared' GROUP BY 1, 2, 3 ORDER BY 1;
SELECT count(*), count(DISTINCT job) AS jobs, count(*) FILTER (WHERE n = 7) AS bad FROM done;
-- One that takes long does not hold up those that are done, and one that is timed out fails alone.
SELECT my_worker.alter_queue('shared', timeout => '200 ms');
CALL pg_temp.run(40, '{"then": "SELECT pg_sleep(20)"}');
SELECT status, attempts, errors->0->>'sqlstate' AS sqlstate, count(*) FROM my_worker.history WHERE queue = 'shared' GROUP BY 1, 2, 3 ORDER BY 1;
SELECT count(*), count(DISTINCT job) AS jobs FROM done;
SELECT my_worker.reset_queue('shared', 'timeout');
-- Its own row, a savepoint of its own, a constraint that is checked at the end.
CALL pg_temp.run(40, '{"then": "DELETE FROM my_queue WHERE id = my_worker.current_job()"}');
SELECT status, attempts, count(*) FROM my_worker.history WHERE queue = 'shared' GROUP BY 1, 2 ORDER BY 1;
SELECT count(*), count(DISTINCT job) AS jobs FROM done;
TRUNCATE done;
CREATE TABLE parents (n int PRIMARY KEY);
ALTER TABLE done ADD FOREIGN KEY (n) REFERENCES parents DEFERRABLE INITIALLY DEFERRED;
INSERT INTO parents SELECT n FROM generate_series(1, 40) AS n WHERE n <> 7;
CALL pg_temp.run(40);
SELECT status, attempts, errors->0->>'sqlstate' AS sqlstate, count(*) FROM my_worker.history WHERE queue = 'shared' GROUP BY 1, 2, 3 ORDER BY 1;
SELECT count(*), count(DISTINCT job) AS jobs FROM done;
ALTER TABLE done DROP CONSTRAINT done_n_fkey;
-- A cancel ends the one that runs; the others are done.
CALL pg_temp.run(0);
SELECT my_worker.pause_queue('shared');
INSERT INTO my_queue (queue, payload) SELECT 'shared', jsonb_build_object('n', n, 'then', CASE n WHEN 7 THEN 'SELECT pg_sleep(60)' ELSE '' END)
  FROM generate_series(1, 20) AS n;
SELECT id AS long FROM my_queue WHERE payload->>'n' = '7' AND queue = 'shared' \gset
SELECT my_worker.resume_queue('shared');
CALL pg_temp.wait_until(format($$SELECT count(*) > 0 FROM my_worker.jobs WHERE id = %s AND status = 'processing'$$, :long));
SELECT my_worker.cancel(:long);
CALL pg_temp.wait_until($$SELECT NOT EXISTS (SELECT FROM my_queue WHERE queue = 'shared')$$);
SELECT status, count(*) FROM my_worker.history WHERE queue = 'shared' GROUP BY 1 ORDER BY 1;
SELECT count(*), count(DISTINCT job) AS jobs FROM done;
-- Commands and batch handlers in such a queue run as ever.
CREATE FUNCTION together(ids bigint[], payloads jsonb[]) RETURNS int LANGUAGE sql AS 'SELECT cardinality(ids)';
SELECT my_worker.pause_queue('shared');
SELECT count(my_worker.enqueue('work', queue => 'shared')) FROM generate_series(1, 3);
SELECT count(my_worker.run('SELECT 1', queue => 'shared')) FROM generate_series(1, 2);
SELECT count(my_worker.enqueue('together', queue => 'shared')) FROM generate_series(1, 3);
SELECT my_worker.resume_queue('shared');
CALL pg_temp.wait_until($$SELECT NOT EXISTS (SELECT FROM my_queue WHERE queue = 'shared')$$);
SELECT status, count(*) FROM my_worker.history WHERE queue = 'shared' AND id > :long GROUP BY 1 ORDER BY 1;
CALL pg_temp.fails($$SELECT my_worker.alter_queue('shared', jobs_per_savepoint => 1001)$$);
SELECT my_worker.purge_queue('shared') > 0 AS purged;
SELECT my_worker.drop_queue('shared');
DROP FUNCTION work, together;
DROP TABLE done, parents;
