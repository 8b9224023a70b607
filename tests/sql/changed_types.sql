-- A superuser who changes the type of a column of ours gets an error from what reads it as what it was:
-- no number is followed as if it were a pointer.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE SCHEMA changed;
CREATE FUNCTION changed.nothing() RETURNS void LANGUAGE sql AS '';
SELECT my_worker.create_queue('changed', 'changed.nothing');
SELECT my_worker.pause_queue('changed');
-- Changes a column, without its CHECKs, then enqueues, and says how that ends.
CREATE FUNCTION pg_temp.try(what text, column_name text, type text, value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    rule name;
BEGIN
    FOR rule IN
        SELECT conname FROM pg_constraint AS c JOIN pg_attribute AS a ON a.attrelid = conrelid AND attnum = ANY (conkey)
        WHERE conrelid = format('my_worker.%I', what)::regclass AND contype = 'c' AND attname = column_name
    LOOP
        EXECUTE format('ALTER TABLE my_worker.%I DROP CONSTRAINT %I', what, rule);
    END LOOP;
    EXECUTE format('ALTER TABLE my_worker.%I ALTER COLUMN %I DROP DEFAULT, ALTER COLUMN %I TYPE %s USING %s',
                   what, column_name, column_name, type, value);
    PERFORM my_worker.enqueue('changed.nothing', queue => 'changed');
    RAISE EXCEPTION USING ERRCODE = 'MW000', MESSAGE = 'enqueued';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ': ' || SQLERRM;
END
$$;
-- What is read as a text or an interval, as a number that points nowhere.
SELECT c, pg_temp.try('queues', c, 'bigint', '12345')
FROM unnest('{name, handler, backoff, backoff_max, timeout, retention}'::text[]) AS c;
-- The one for the other.
SELECT c, pg_temp.try('queues', c, 'text', $$'1 day'$$)
FROM unnest('{backoff, backoff_max, timeout, retention}'::text[]) AS c;
SELECT pg_temp.try('queues', 'handler', 'interval', $$'1 day'::interval$$);
SELECT pg_temp.try('queues', 'handler', 'varchar', 'handler');
-- What is a number is no longer one.
SELECT c, pg_temp.try('queues', c, 'text', $$'some'$$) FROM unnest('{concurrency, max_attempts}'::text[]) AS c;
-- The view my_queue keeps the columns of jobs as they are.
SELECT c, pg_temp.try('_jobs', c, 'bigint', '12345') FROM unnest('{queue, handler, timeout}'::text[]) AS c;
-- It still works.
SELECT my_worker.enqueue('changed.nothing', queue => 'changed') > 0 AS enqueued;
SELECT my_worker.purge_queue('changed');
SELECT my_worker.drop_queue('changed');
DROP FUNCTION changed.nothing();
DROP SCHEMA changed;
