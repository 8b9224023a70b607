-- unique_key: at most one live job of a queue and owner has it.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE SCHEMA work;
CREATE FUNCTION work.gated() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_xact_lock_shared(4718)';
CREATE FUNCTION work.bad() RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END $$;
SELECT my_worker.create_queue('other');
SELECT my_worker.enqueue('work.gated', '1', run_at => 'infinity', unique_key => 'k') AS a \gset
-- The second adds nothing and answers the first one's id, whatever else it says.
SELECT my_worker.enqueue('work.bad', '2', priority => 9, unique_key => 'k') = :a AS same;
SELECT payload, handler, priority FROM my_queue;
-- Another queue, another key, no key, an empty key.
SELECT my_worker.enqueue('work.gated', queue => 'other', run_at => 'infinity', unique_key => 'k') <> :a AS different;
SELECT my_worker.enqueue('work.gated', run_at => 'infinity', unique_key => 'K') <> :a AS different;
SELECT my_worker.enqueue('work.gated', run_at => 'infinity') <> my_worker.enqueue('work.gated', run_at => 'infinity') AS different;
SELECT my_worker.enqueue('work.gated', run_at => 'infinity', unique_key => '') <> :a AS different;
SELECT my_worker.enqueue('work.gated', run_at => 'infinity', unique_key => '') > :a AS same;
SELECT count(*) FROM my_queue;
-- By INSERT a second one is the error that any unique index gives; ON CONFLICT handles it.
CALL pg_temp.fails($$INSERT INTO my_queue (handler, unique_key) VALUES ('work.gated', 'k')$$);
INSERT INTO my_queue (handler, unique_key) VALUES ('work.gated', 'k') ON CONFLICT DO NOTHING RETURNING id;
-- Within one transaction, also of a job that it has just enqueued.
BEGIN;
SELECT my_worker.enqueue('work.gated', run_at => 'infinity', unique_key => 'n') AS n \gset
SELECT my_worker.enqueue('work.gated', run_at => 'infinity', unique_key => 'n') = :n AS same;
ROLLBACK;
SELECT my_worker.enqueue('work.gated', run_at => 'infinity', unique_key => 'n') <> :n AS different;
-- Running counts as live; finished does not, whatever the end.
SELECT my_worker.cancel(:a);
SELECT my_worker.enqueue('work.gated', unique_key => 'k', run_at => 'infinity') <> :a AS different;
SELECT my_worker.purge_queue('default') > 0 AS purged;
SELECT pg_advisory_lock(4718);
SELECT my_worker.enqueue('work.gated', unique_key => 'k') AS b \gset
CALL pg_temp.wait_until(format('SELECT status = ''processing'' FROM my_worker.jobs WHERE id = %s', :b));
SELECT my_worker.enqueue('work.gated', unique_key => 'k') = :b AS same;
SELECT pg_advisory_unlock(4718);
SELECT my_worker.wait(:b, '30 s');
SELECT my_worker.enqueue('work.bad', max_attempts => 1, unique_key => 'k') AS c \gset
SELECT :c <> :b AS different, my_worker.wait(:c, '30 s');
-- Retrying one whose key is in use again is refused, with a WARNING that names the holder; others that
-- are retried by the same statement go back.
SELECT my_worker.enqueue('work.gated', run_at => 'infinity', unique_key => 'k') AS d,
       my_worker.enqueue('work.bad', max_attempts => 1, unique_key => 'later') AS free \gset
SELECT my_worker.wait(:free, '30 s');
SET client_min_messages = error;
SELECT id = :free AS free, my_worker.retry(id) FROM my_worker.history WHERE id IN (:c, :free) ORDER BY id;
RESET client_min_messages;
SELECT my_worker.wait(:free, '30 s');
SELECT status FROM my_worker.jobs WHERE id IN (:c, :d) ORDER BY id;
SELECT my_worker.cancel(:d);
SELECT my_worker.retry(:c);
SELECT my_worker.wait(:c, '30 s');
-- Nothing is lost where the queue cannot take a job back, and of several rows of an id the newest counts.
INSERT INTO my_worker.history SELECT h.* FROM my_worker.history AS h WHERE id = :c;
UPDATE my_worker.history SET finished_at = finished_at - interval '1 h', last_error = 'old'
 WHERE ctid = (SELECT min(ctid) FROM my_worker.history WHERE id = :c);
SELECT my_worker.retry(:c);
SELECT my_worker.wait(:c, '30 s');
SELECT count(*) FILTER (WHERE last_error = 'old') AS old, count(*) FROM my_worker.history WHERE id = :c;
-- The longest key, and one byte more.
SELECT my_worker.enqueue('work.gated', run_at => 'infinity', unique_key => repeat('ü', 1000 / octet_length('ü'))) > 0 AS enqueued;
CALL pg_temp.fails($$SELECT my_worker.enqueue('work.gated', unique_key => repeat('ü', 1000 / octet_length('ü') + 1))$$);
-- REPEATABLE READ: no hang and no wrong id.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT my_worker.enqueue('work.gated', run_at => 'infinity', unique_key => 'r') AS r \gset
SELECT my_worker.enqueue('work.gated', run_at => 'infinity', unique_key => 'r') = :r AS same;
COMMIT;
SELECT my_worker.drop_queue('other', true);
SELECT count(my_worker.cancel(id)) > 0 AS cancelled FROM my_queue;
DROP SCHEMA work CASCADE;
