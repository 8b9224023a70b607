-- unique_mode: what enqueueing does when a live job has the unique key.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE SCHEMA work;
CREATE TABLE work.ran (id bigint, payload jsonb, n integer GENERATED ALWAYS AS IDENTITY);
CREATE FUNCTION work.gated(id bigint, p jsonb) RETURNS void LANGUAGE sql AS
    'SELECT pg_advisory_xact_lock_shared(4719); INSERT INTO work.ran (id, payload) VALUES (id, p)';
CREATE FUNCTION work.note(id bigint, p jsonb) RETURNS void LANGUAGE sql AS
    'INSERT INTO work.ran (id, payload) VALUES (id, p)';
CREATE FUNCTION work.bad(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS
    'BEGIN PERFORM work.gated(id, p); RAISE ''no''; END';
CREATE FUNCTION work.begins(job bigint) RETURNS text LANGUAGE sql AS
    $$SELECT format('SELECT status = ''processing'' FROM my_worker.jobs WHERE id = %s', job)$$;
SELECT my_worker.create_queue('q', backoff => '1 h'), my_worker.create_queue('other');

-- Of a waiting job: keep changes nothing, replace and rerun have it say what the call says, error fails.
SELECT my_worker.enqueue('work.note', '1', 'q', run_at => 'infinity', unique_key => 'k', group_key => 'g') AS a \gset
SELECT my_worker.enqueue('work.note', '2', 'q', 7, '3000-01-01', unique_key => 'k', unique_mode => 'keep') = :a AS same;
SELECT payload, priority, run_at FROM my_queue WHERE id = :a;
SELECT my_worker.enqueue('work.note', '3', 'q', 8, '3001-01-01 UTC', unique_key => 'k', unique_mode => 'replace') = :a AS same;
SELECT payload, priority, run_at AT TIME ZONE 'UTC' AS run_at, group_key FROM my_queue WHERE id = :a;
SELECT my_worker.enqueue('work.gated', '4', 'q', 9, '3002-01-01 UTC', 4, '1 min', 'k', unique_mode => 'rerun') = :a AS same;
SELECT handler, payload, priority, run_at AT TIME ZONE 'UTC' AS run_at, max_attempts, timeout FROM my_queue WHERE id = :a;
CALL pg_temp.fails($$SELECT my_worker.enqueue('work.note', '5', 'q', unique_key => 'k', unique_mode => 'error')$$);
CALL pg_temp.fails($$INSERT INTO my_queue (queue, handler, unique_key) VALUES ('q', 'work.note', 'k')$$);
SELECT count(*) FROM my_queue WHERE queue = 'q';
-- With nobody there, each of them is a new job.
SELECT my_worker.enqueue('work.note', '5', 'q', run_at => 'infinity', unique_key => m, unique_mode => m) > :a AS new
  FROM unnest('{keep,replace,rerun,error}'::text[]) AS m;
-- Without a key there is nothing to take.
SELECT count(DISTINCT my_worker.enqueue('work.note', '6', 'q', run_at => 'infinity', unique_mode => m)) AS new
  FROM unnest('{keep,replace,rerun,error}'::text[]) AS m;
CALL pg_temp.fails($$SELECT my_worker.enqueue('work.note', unique_key => 'k', unique_mode => 'drop')$$);
CALL pg_temp.fails($$SELECT my_worker.enqueue('work.note', unique_key => 'k', unique_mode => NULL)$$);
-- Commands and jobs for consumers.
SELECT my_worker.run('SELECT 1', 'q', run_at => 'infinity', unique_key => 'c') AS c \gset
SELECT my_worker.run('SELECT 2', 'q', 5, 'infinity', unique_key => 'c', unique_mode => 'replace') = :c AS same;
SELECT command, handler, priority FROM my_queue WHERE id = :c;
SELECT my_worker.send('other', '1', 'old', '{"a": 1}', unique_key => 'c') AS s \gset
SELECT my_worker.send('other', '2', 'new', '{"b": 2}', unique_key => 'c', unique_mode => 'rerun') = :s AS same;
SELECT payload, kind, headers FROM my_queue WHERE id = :s;
CALL pg_temp.fails($$SELECT my_worker.send('other', unique_key => 'c', unique_mode => 'error')$$);
CALL pg_temp.fails($$SELECT my_worker.run('SELECT 1', 'q', unique_key => 'c', unique_mode => 'error')$$);
SELECT my_worker.purge_queue('q') > 0, my_worker.purge_queue('other') > 0;

-- A debounce: many replaces, one run, with the last payload.
SELECT my_worker.pause_queue('q');
SELECT count(DISTINCT my_worker.enqueue('work.note', to_jsonb(n), 'q', unique_key => 'k', unique_mode => 'replace'))
  FROM generate_series(1, 1000) AS n;
SELECT my_worker.resume_queue('q');
CALL pg_temp.wait_until('SELECT count(*) = 1 FROM work.ran');
SELECT payload FROM work.ran;
TRUNCATE work.ran;

-- Of one that runs: replace changes nothing; rerun adds one that starts when it has ended, and no more than one.
SELECT pg_advisory_lock(4719);
SELECT my_worker.enqueue('work.gated', '1', 'q', unique_key => 'k') AS a \gset
CALL pg_temp.wait_until(work.begins(:a));
SELECT my_worker.enqueue('work.gated', '2', 'q', unique_key => 'k', unique_mode => 'keep') = :a AS keep,
       my_worker.enqueue('work.gated', '2', 'q', unique_key => 'k', unique_mode => 'replace') = :a AS replace;
SELECT my_worker.enqueue('work.gated', '3', 'q', unique_key => 'k', unique_mode => 'rerun') AS b \gset
SELECT :b <> :a AS another, my_worker.enqueue('work.gated', '4', 'q', unique_key => 'k', unique_mode => 'rerun') = :b AS same,
       my_worker.enqueue('work.gated', '5', 'q', 3, unique_key => 'k', unique_mode => 'replace') = :b AS replaced,
       my_worker.enqueue('work.gated', '6', 'q', unique_key => 'k', unique_mode => 'keep') = :b AS kept;
CALL pg_temp.fails($$SELECT my_worker.enqueue('work.gated', '7', 'q', unique_key => 'k', unique_mode => 'error')$$);
CALL pg_temp.fails($$INSERT INTO my_queue (queue, handler, unique_key) VALUES ('q', 'work.gated', 'k')$$);
SELECT id = :b AS second, status, payload, priority FROM my_worker.jobs WHERE queue = 'q' AND finished_at IS NULL ORDER BY id;
SELECT replace(my_worker.why(:b), :'a', 'N') AS why;
SELECT pg_advisory_unlock(4719);
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s');
SELECT id = :b AS second, payload FROM work.ran ORDER BY n;
SELECT bool_and(status = 'completed') FROM my_worker.history WHERE id IN (:a, :b);
-- Its time is kept, if that is later than the other's end.
SELECT pg_advisory_lock(4719);
SELECT my_worker.enqueue('work.gated', '1', 'q', unique_key => 'k') AS a \gset
CALL pg_temp.wait_until(work.begins(:a));
SELECT my_worker.enqueue('work.gated', '2', 'q', run_at => '3000-01-01 UTC', unique_key => 'k', unique_mode => 'rerun') AS b \gset
SELECT pg_advisory_unlock(4719);
SELECT my_worker.wait(:a, '30 s');
SELECT status, run_at AT TIME ZONE 'UTC' AS run_at, unique_key FROM my_worker.jobs WHERE id = :b;
-- From then on it is the one that has the key.
SELECT my_worker.enqueue('work.gated', '3', 'q', unique_key => 'k', unique_mode => 'rerun') = :b AS same;
SELECT my_worker.wait(:b, '30 s');

-- A retry is no end, a failure for good is one.
SELECT pg_advisory_lock(4719);
SELECT my_worker.enqueue('work.bad', '1', 'q', max_attempts => 2, unique_key => 'k') AS a \gset
CALL pg_temp.wait_until(work.begins(:a));
SELECT my_worker.enqueue('work.note', '2', 'q', unique_key => 'k', unique_mode => 'rerun') AS b \gset
SELECT pg_advisory_unlock(4719);
CALL pg_temp.wait_until(format('SELECT attempts = 1 FROM my_queue WHERE id = %s', :a));
SELECT status FROM my_worker.jobs WHERE id IN (:a, :b) ORDER BY id;
SELECT replace(my_worker.why(:b), :'a', 'N') AS why;
UPDATE my_queue SET run_at = now() WHERE id = :a;
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s');
-- A cancel is one, of the job while it runs, and while it waits.
SELECT pg_advisory_lock(4719);
SELECT my_worker.enqueue('work.gated', '1', 'q', unique_key => 'k') AS a \gset
CALL pg_temp.wait_until(work.begins(:a));
SELECT my_worker.enqueue('work.note', '2', 'q', unique_key => 'k', unique_mode => 'rerun') AS b \gset
SELECT my_worker.cancel(:a);
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s');
SELECT my_worker.enqueue('work.bad', '1', 'q', max_attempts => 2, unique_key => 'k') AS a \gset
CALL pg_temp.wait_until(work.begins(:a));
SELECT my_worker.enqueue('work.note', '2', 'q', unique_key => 'k', unique_mode => 'rerun') AS b \gset
SELECT pg_advisory_unlock(4719);
CALL pg_temp.wait_until(format('SELECT attempts = 1 FROM my_queue WHERE id = %s', :a));
SELECT my_worker.cancel(:a);
SELECT my_worker.wait(:b, '30 s');
-- One in its backoff waits: it is replaced, keeps its attempts and starts at once.
SELECT my_worker.enqueue('work.bad', '1', 'q', max_attempts => 2, unique_key => 'k') AS a \gset
CALL pg_temp.wait_until(format('SELECT attempts = 1 FROM my_queue WHERE id = %s', :a));
SELECT my_worker.enqueue('work.note', '9', 'q', unique_key => 'k', unique_mode => 'replace') = :a AS same;
SELECT my_worker.wait(:a, '30 s');
SELECT attempts, payload FROM my_worker.history WHERE id = :a;
-- So is DELETE, of a waiting job, and what gives its key up.
SELECT pg_advisory_lock(4719);
SELECT my_worker.enqueue('work.bad', '1', 'q', max_attempts => 2, unique_key => 'k') AS a \gset
CALL pg_temp.wait_until(work.begins(:a));
SELECT my_worker.enqueue('work.note', '2', 'q', unique_key => 'k', unique_mode => 'rerun') AS b \gset
SELECT my_worker.enqueue('work.bad', '1', 'q', max_attempts => 2, unique_key => 'l') AS c \gset
CALL pg_temp.wait_until(work.begins(:c));
SELECT my_worker.enqueue('work.note', '2', 'q', unique_key => 'l', unique_mode => 'rerun') AS d \gset
SELECT pg_advisory_unlock(4719);
CALL pg_temp.wait_until(format('SELECT count(*) = 2 FROM my_queue WHERE id IN (%s, %s) AND attempts = 1', :a, :c));
DELETE FROM my_queue WHERE id = :a;
UPDATE my_queue SET unique_key = 'elsewhere' WHERE id = :c;
SELECT my_worker.wait(:b, '30 s'), my_worker.wait(:d, '30 s');
-- The one that waits is cancelled as any other, and purged.
SELECT pg_advisory_lock(4719);
SELECT my_worker.enqueue('work.gated', '1', 'q', unique_key => 'k') AS a \gset
CALL pg_temp.wait_until(work.begins(:a));
SELECT my_worker.enqueue('work.note', '2', 'q', unique_key => 'k', unique_mode => 'rerun') AS b \gset
SELECT my_worker.cancel(:b);
SELECT my_worker.enqueue('work.note', '3', 'q', unique_key => 'k', unique_mode => 'rerun') AS c \gset
SELECT :c <> :b AS another;
SELECT my_worker.purge_queue('q') > 0 AS purged;
SELECT my_worker.enqueue('work.note', '4', 'q', unique_key => 'k', unique_mode => 'rerun') AS d \gset
SELECT pg_advisory_unlock(4719);
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:d, '30 s');
-- Nothing of what is rolled back stays.
SELECT my_worker.enqueue('work.note', '1', 'q', run_at => 'infinity', unique_key => 'k') AS a \gset
BEGIN;
SELECT my_worker.enqueue('work.note', '2', 'q', run_at => 'infinity', unique_key => 'k', unique_mode => 'replace') = :a AS same;
SAVEPOINT s;
SELECT my_worker.enqueue('work.note', '3', 'q', run_at => 'infinity', unique_key => 'k', unique_mode => 'rerun') = :a AS same;
ROLLBACK TO s;
SELECT payload FROM my_queue WHERE id = :a;
SELECT my_worker.enqueue('work.note', '4', 'q', run_at => 'infinity', unique_key => 'k', unique_mode => 'replace') = :a AS same;
ROLLBACK;
SELECT payload FROM my_queue WHERE id = :a;
-- Within the transaction that has cancelled it, it is gone.
BEGIN;
SELECT my_worker.cancel(:a);
SELECT my_worker.enqueue('work.note', '5', 'q', run_at => 'infinity', unique_key => 'k', unique_mode => 'replace') <> :a AS another;
ROLLBACK;
-- With an old snapshot: what it cannot see it cannot replace.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT my_worker.enqueue('work.note', '6', 'q', run_at => 'infinity', unique_key => 'k', unique_mode => 'replace') = :a AS same;
COMMIT;
SELECT payload FROM my_queue WHERE id = :a;
-- Each role has keys of its own.
CREATE ROLE unique_stranger;
SELECT my_worker.grant_usage('unique_stranger');
GRANT USAGE ON SCHEMA work TO unique_stranger;
GRANT ALL ON my_queue, my_worker._jobs TO unique_stranger;
SET client_min_messages = error;
SET ROLE unique_stranger;
SELECT my_worker.enqueue('work.note', '7', 'q', run_at => 'infinity', unique_key => 'k', unique_mode => m) <> :a AS another
  FROM unnest('{replace,rerun,keep}'::text[]) AS m;
CALL pg_temp.fails($$SELECT my_worker.enqueue('work.note', '8', 'q', unique_key => 'k', unique_mode => 'error')$$);
-- What the engine sets, nobody else does.
CALL pg_temp.fails($$INSERT INTO my_worker._jobs (queue, handler, unique_key, rerun) VALUES ('q', 'work.note', 'x', true)$$);
CALL pg_temp.fails($$INSERT INTO my_worker._jobs (queue, handler, unique_key, status) VALUES ('q', 'work.note', 'x', 'blocked')$$);
CALL pg_temp.fails($$UPDATE my_worker._jobs SET rerun = true$$);
RESET ROLE;
RESET client_min_messages;
REVOKE ALL ON my_queue, my_worker._jobs FROM unique_stranger;
SELECT payload FROM my_queue WHERE id = :a;
SELECT my_worker.purge_queue('q') > 0 AS purged;
-- A job that enqueues its own key: replace is nothing, rerun is the next one.
CREATE FUNCTION work.chain(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO work.ran (id, payload) VALUES (id, p);
    IF p::integer < 3 THEN
        PERFORM my_worker.enqueue('work.chain', '9', 'q', unique_key => 'chain', unique_mode => 'replace');
        PERFORM my_worker.enqueue('work.chain', to_jsonb(p::integer + 1), 'q', unique_key => 'chain', unique_mode => 'rerun');
    END IF;
END $$;
TRUNCATE work.ran;
SELECT my_worker.enqueue('work.chain', '1', 'q', unique_key => 'chain') > 0 AS enqueued;
CALL pg_temp.wait_until('SELECT count(*) = 3 FROM work.ran');
SELECT payload FROM work.ran ORDER BY n;
-- So does the call of a batch handler, for each of its jobs.
CREATE FUNCTION work.chains(ids bigint[], p jsonb[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. cardinality(ids) LOOP
        INSERT INTO work.ran (id, payload) VALUES (ids[i], p[i]);
        IF (p[i]->>'n')::integer < 3 THEN
            PERFORM my_worker.enqueue('work.chains', jsonb_set(p[i], '{n}', to_jsonb((p[i]->>'n')::integer + 1)), 'q',
                                      unique_key => p[i]->>'key', unique_mode => 'rerun');
        END IF;
    END LOOP;
END $$;
TRUNCATE work.ran;
SELECT my_worker.pause_queue('q');
SELECT count(my_worker.enqueue('work.chains', jsonb_build_object('key', k, 'n', 1), 'q', unique_key => k::text))
  FROM generate_series(1, 20) AS k;
SELECT my_worker.resume_queue('q');
CALL pg_temp.wait_until('SELECT count(*) >= 60 FROM work.ran');
SELECT payload->>'n' AS n, count(*) FROM work.ran GROUP BY 1 ORDER BY 1;
CALL pg_temp.wait_until('SELECT count(*) = 0 FROM my_queue WHERE queue = ''q''');
-- A job that a consumer has runs.
SELECT my_worker.send('other', '1', unique_key => 'k') AS a \gset
SELECT id AS got, lease FROM my_worker.receive('other') \gset
SELECT my_worker.send('other', '2', unique_key => 'k', unique_mode => 'replace') = :a AS same;
SELECT my_worker.send('other', '3', unique_key => 'k', unique_mode => 'rerun') AS b \gset
SELECT count(*) FROM my_worker.receive('other');
SELECT my_worker.ack(:got, :lease);
SELECT id = :b AS second, payload, id AS got, lease FROM my_worker.receive('other', lease => '1 min') \gset
SELECT :'second' AS second, :'payload' AS payload;
SELECT my_worker.send('other', '4', unique_key => 'k', unique_mode => 'replace') = :b AS same;
SELECT my_worker.send('other', '5', unique_key => 'k', unique_mode => 'rerun') AS c \gset
SELECT my_worker.nack(:got, :lease, fail => true);
SELECT id = :c AS third, payload, id AS got, lease FROM my_worker.receive('other') \gset
SELECT :'third' AS third, :'payload' AS payload;
SELECT my_worker.ack(:got, :lease);
SELECT my_worker.drop_queue('q', true), my_worker.drop_queue('other', true);
SELECT my_worker.revoke_usage('unique_stranger');
SET client_min_messages = warning;
DROP SCHEMA work CASCADE;
DROP ROLE unique_stranger;
