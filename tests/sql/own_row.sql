-- Jobs of a superuser that change or take away their own rows, or those of jobs behind them in the
-- same transaction: what they do stands, each has run once, and the jobs behind them run.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE SCHEMA work;
CREATE TABLE work.ran (n integer GENERATED ALWAYS AS IDENTITY, what text);
CREATE FUNCTION work.nothing() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION work.does(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO work.ran (what) VALUES (p->>0);
    IF p->>1 <> '' THEN
        EXECUTE p->>1;
    END IF;
END $$;
SELECT my_worker.create_queue('own', concurrency => 1, max_attempts => 1);
-- A queue that has proved fast, so that its jobs share transactions.
SELECT count(my_worker.enqueue('work.nothing', queue => 'own')) FROM generate_series(1, 40);
CALL pg_temp.wait_until('SELECT NOT EXISTS (SELECT FROM my_queue)');
SELECT my_worker.pause_queue('own');
SELECT count(my_worker.enqueue('work.does', jsonb_build_array(what, does), 'own')) FROM (VALUES
    ('deletes', 'DELETE FROM my_queue WHERE id = my_worker.current_job()'), ('then', ''),
    ('updates', 'UPDATE my_queue SET priority = 7 WHERE id = my_worker.current_job()'), ('then', ''),
    ('updates twice', 'UPDATE my_queue SET priority = 7 WHERE id = my_worker.current_job();
                       UPDATE my_queue SET run_at = now() - interval ''1 s'' WHERE id = my_worker.current_job()'),
    ('locks', 'SELECT FROM my_queue WHERE id = my_worker.current_job() FOR UPDATE'), ('then', ''),
    ('cancels the next', 'SELECT my_worker.cancel(my_worker.current_job() + 1)'), ('cancelled', ''), ('then', ''),
    ('moves the next', 'UPDATE my_queue SET payload = ''["moved", ""]'' WHERE id = my_worker.current_job() + 1'),
    ('is moved', ''), ('then', '')) AS job (what, does);
SELECT my_worker.resume_queue('own');
CALL pg_temp.wait_until('SELECT NOT EXISTS (SELECT FROM my_queue)');
-- The one that was moved is passed if it was to be next in the same transaction; else it goes before the last.
SELECT what FROM work.ran WHERE what <> 'moved' ORDER BY n;
SELECT payload->>0 AS what, status, count(*) FROM my_worker.history WHERE queue = 'own' AND handler LIKE 'work.does(%' GROUP BY 1, 2 ORDER BY 1, 2;
-- They are counted when they have been committed.
CALL pg_temp.wait_until($$SELECT completed = 52 FROM my_worker.queue_stats WHERE queue = 'own'$$);
SELECT completed, failed, retried, cancelled FROM my_worker.queue_stats WHERE queue = 'own';
-- A failing one gives back its own row, too.
SELECT my_worker.enqueue('work.does', '["fails", "DELETE FROM my_queue; SELECT 1 / 0"]', 'own') AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT status, attempts, last_error FROM my_worker.history WHERE id = :id;
-- Purging its queue leaves the job that does it, which is running.
TRUNCATE work.ran;
SELECT my_worker.pause_queue('own');
SELECT my_worker.enqueue('work.does', '["purges", "SELECT my_worker.purge_queue(''own'')"]', 'own') AS a,
       my_worker.enqueue('work.does', '["purged", ""]', 'own') AS b \gset
SELECT my_worker.resume_queue('own');
SELECT my_worker.wait(:a, '30 s');
CALL pg_temp.wait_until('SELECT NOT EXISTS (SELECT FROM my_queue)');
SELECT what FROM work.ran ORDER BY n;
SELECT payload->>0 AS what, status FROM my_worker.history WHERE queue = 'own';
-- Dropping it does not go.
SELECT my_worker.enqueue('work.does', '["drops", "SELECT my_worker.drop_queue(''own'', true)"]', 'own') AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT status, errors->0->>'sqlstate' AS sqlstate, last_error FROM my_worker.history WHERE id = :id;
-- The whole table cannot go under a running job, nor the extension.
SELECT my_worker.enqueue('work.does', '["truncates", "TRUNCATE my_worker._jobs"]', 'own') AS a,
       my_worker.enqueue('work.does', '["drops the extension", "DROP EXTENSION my_worker CASCADE"]', 'own') AS b \gset
CALL pg_temp.wait_until('SELECT NOT EXISTS (SELECT FROM my_worker._jobs)', apart => true);
SELECT status, errors->0->>'sqlstate' AS sqlstate FROM my_worker.history WHERE id IN (:a, :b) ORDER BY id;
-- Jobs of a batch handler, of which one takes the others away: those that it was called for have ended. They
-- are all five, or one, where a worker has just been interrupted and runs one job at a time.
CREATE FUNCTION work.takes_all(ids bigint[], payloads jsonb[]) RETURNS integer LANGUAGE sql AS $$
    INSERT INTO work.ran (what) SELECT 'batch' FROM unnest(ids);
    DELETE FROM my_queue WHERE queue = 'own';
    SELECT 1;
$$;
TRUNCATE work.ran;
SELECT my_worker.pause_queue('own');
SELECT count(my_worker.enqueue('work.takes_all', queue => 'own')) FROM generate_series(1, 5);
SELECT my_worker.resume_queue('own');
CALL pg_temp.wait_until('SELECT NOT EXISTS (SELECT FROM my_queue)');
SELECT count(*) IN (1, 5) AS all_or_one, count(*) = (SELECT count(*) FROM work.ran) AS as_called FROM my_worker.history
 WHERE handler LIKE 'work.takes_all(%' AND status = 'completed';
SELECT count(*) FROM my_worker.history WHERE handler LIKE 'work.takes_all(%' AND status <> 'completed';
-- A command that does so.
SELECT my_worker.run('DELETE FROM my_queue WHERE id = my_worker.current_job()', 'own') AS a,
       my_worker.run('UPDATE my_queue SET priority = 3 WHERE id = my_worker.current_job()', 'own') AS b \gset
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s');
SELECT id - :a AS job, status, result FROM my_worker.history WHERE id IN (:a, :b);
SELECT my_worker.drop_queue('own');
DROP SCHEMA work CASCADE;
