-- The order in which jobs start: lower priority first, then run_at, then id.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE SCHEMA work;
CREATE TABLE work.done (n integer GENERATED ALWAYS AS IDENTITY, said jsonb);
CREATE FUNCTION work.note(payload jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO work.done (said) VALUES (payload)';
-- One at a time, so that the order of starting shows.
SELECT my_worker.create_queue('ordered', concurrency => 1);
SELECT my_worker.pause_queue('ordered');
INSERT INTO my_queue (queue, handler, payload, priority, run_at) VALUES
    ('ordered', 'work.note', '"9: priority 5, early"', 5, '2000-01-01'),
    ('ordered', 'work.note', '"4: priority 0, late"', 0, '2020-01-02'),
    ('ordered', 'work.note', '"3: priority 0, early"', 0, '2020-01-01'),
    ('ordered', 'work.note', '"5: priority 0, late, again"', 0, '2020-01-02'),
    ('ordered', 'work.note', '"1: lowest priority"', -2147483648, '2020-01-03'),
    ('ordered', 'work.note', '"10: highest priority"', 2147483647, '-infinity'),
    ('ordered', 'work.note', '"2: priority -1"', -1, '2020-01-03'),
    ('ordered', 'work.note', '"never"', -1, 'infinity'),
    ('ordered', 'work.note', '"never"', -2147483648, '2100-01-01'),
    ('ordered', 'work.note', '"6: priority 1"', 1, '2020-01-03'),
    ('ordered', 'work.note', '"7: priority 2"', 2, '2020-01-03'),
    ('ordered', 'work.note', '"8: priority 3"', 3, '2020-01-03');
SELECT my_worker.resume_queue('ordered');
CALL pg_temp.wait_until('SELECT count(*) = 10 FROM work.done');
SELECT said->>0 AS said FROM work.done ORDER BY n;
SELECT payload->>0 AS waiting, attempts FROM my_queue WHERE queue = 'ordered';
SELECT my_worker.purge_queue('ordered');
-- Equal ones by id, whatever was committed first.
TRUNCATE work.done;
SELECT my_worker.pause_queue('ordered');
BEGIN;
SELECT count(my_worker.enqueue('work.note', to_jsonb(n), 'ordered', run_at => now())) FROM generate_series(1, 200) AS n;
COMMIT;
SELECT my_worker.resume_queue('ordered');
CALL pg_temp.wait_until('SELECT count(*) = 200 FROM work.done');
SELECT count(*) AS out_of_order FROM (
    SELECT said, lag(said) OVER (ORDER BY n) AS before FROM work.done) AS d WHERE said < before;
-- A job of the future starts at its time and not before.
SELECT my_worker.enqueue('work.note', '"due"', 'ordered', run_at => clock_timestamp() + '300 ms') AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT started_at >= run_at AS not_before, started_at < run_at + '500 ms' AS not_late
  FROM my_worker.history WHERE id = :id;
SELECT my_worker.drop_queue('ordered');
DROP SCHEMA work CASCADE;
