-- One rule for each value, whichever way it comes in: by function, plain INSERT or UPDATE.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE SCHEMA work;
CREATE FUNCTION work.nothing() RETURNS void LANGUAGE sql AS '';
SELECT my_worker.create_queue('limits', 'work.nothing');
SELECT my_worker.pause_queue('limits');
-- Tries a value everywhere and says how each way answers: "yes" or the SQLSTATE.
CREATE FUNCTION pg_temp.try(what text, value text, statements text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answers text[] := '{}';
    statement text;
BEGIN
    FOREACH statement IN ARRAY statements LOOP
        BEGIN
            EXECUTE format(statement, what, value);
            answers := answers || 'yes'::text;
        EXCEPTION WHEN OTHERS THEN
            answers := answers || SQLSTATE::text;
        END;
    END LOOP;
    RETURN array_to_string(answers, ' ');
END
$$;
-- Of a job: enqueue(), enqueue_many(), run(), schedule() and INSERT.
CREATE FUNCTION pg_temp.job(what text, value text) RETURNS text LANGUAGE sql RETURN pg_temp.try(what, value, ARRAY[
    'SELECT my_worker.enqueue(''work.nothing'', queue => ''limits'', %I => %L)',
    'SELECT my_worker.enqueue_many(''work.nothing'', ''{NULL}'', queue => ''limits'', %I => %L)',
    'SELECT my_worker.run(''SELECT 1'', queue => ''limits'', %I => %L)',
    'SELECT my_worker.schedule(''limits'', ''@yearly'', ''SELECT 1'', queue => ''limits'', %I => %L)',
    'INSERT INTO my_queue (queue, %I) VALUES (''limits'', %L)']);
-- Of a queue: create_queue(), alter_queue() and UPDATE.
CREATE FUNCTION pg_temp.queue(what text, value text) RETURNS text LANGUAGE sql RETURN pg_temp.try(what, value, ARRAY[
    'SELECT my_worker.create_queue(''limits 2'', %1$I => %2$L), my_worker.drop_queue(''limits 2'')',
    'SELECT my_worker.alter_queue(''limits'', %I => %L)',
    'UPDATE my_worker.queues SET %I = %L WHERE name = ''limits''']);
SELECT n AS max_attempts, pg_temp.job('max_attempts', n), pg_temp.queue('max_attempts', n)
  FROM unnest('{-1,0,1,10000,10001}'::text[]) AS n;
SELECT i AS timeout, pg_temp.job('timeout', i), pg_temp.queue('timeout', i)
  FROM unnest('{-1 us,0,1 us,1000 years,1000 years 1 us,178000000 years}'::text[]) AS i;
-- Longer than a thousand years, and what they are taken from is no time any more.
SELECT what, i AS interval, pg_temp.queue(what, i)
  FROM unnest('{backoff,backoff_max,retention}'::text[]) AS what,
       unnest('{-1 us,0,1000 years,1000 years 1 us,178000000 years}'::text[]) AS i;
SELECT n AS concurrency, pg_temp.queue('concurrency', n) FROM unnest('{-1,0,1,2147483647}'::text[]) AS n;
-- An empty key is a key: the second INSERT of it is refused as a duplicate, not for its length.
SELECT n AS bytes, pg_temp.try('unique_key', repeat('k', n), ARRAY[
    'SELECT my_worker.enqueue(''work.nothing'', queue => ''limits'', %I => %L)',
    'SELECT my_worker.run(''SELECT 1'', queue => ''limits'', %I => %L)',
    'INSERT INTO my_queue (queue, %I) VALUES (''limits'', %L)']) AS unique_key
  FROM unnest('{0,1,1000,1001}'::int[]) AS n;
-- Names of queues and schedules.
SELECT n AS bytes, pg_temp.try('name', repeat('n', n), ARRAY[
    'SELECT my_worker.create_queue(%1$I => %2$L), my_worker.drop_queue(%2$L)',
    'SELECT my_worker.schedule(%1$I => %2$L, schedule => ''@yearly'', command => ''SELECT 1''), my_worker.unschedule(%2$L)',
    'INSERT INTO my_worker.queues (%1$I) VALUES (%2$L)']) AS name
  FROM unnest('{0,1,63,64}'::int[]) AS n;
-- What the refusals say.
CALL pg_temp.fails($$SELECT my_worker.run('SELECT 1', max_attempts => 10001)$$);
CALL pg_temp.fails($$SELECT my_worker.run('SELECT 1', timeout => '0')$$);
CALL pg_temp.fails($$SELECT my_worker.run('SELECT 1', timeout => '1001 years')$$);
CALL pg_temp.fails($$SELECT my_worker.run('SELECT 1', unique_key => repeat('k', 1001))$$);
CALL pg_temp.fails($$INSERT INTO my_queue (unique_key) VALUES (repeat('k', 1001))$$);
CALL pg_temp.fails($$SELECT my_worker.alter_queue('limits', concurrency => 0)$$);
CALL pg_temp.fails($$SELECT my_worker.alter_queue('limits', retention => '-1 us')$$);
CALL pg_temp.fails($$SELECT my_worker.alter_queue('limits', retention => '1001 years')$$);
CALL pg_temp.fails($$SELECT my_worker.create_queue(repeat('n', 64))$$);
CALL pg_temp.fails($$SELECT my_worker.schedule('', '@yearly', 'SELECT 1')$$);
SELECT my_worker.unschedule('limits');
SELECT my_worker.drop_queue('limits', true);
SELECT my_worker.drop_queue(name) FROM my_worker.queues WHERE name IN ('n', repeat('n', 63));
DROP SCHEMA work CASCADE;
