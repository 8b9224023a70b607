-- What the functions of consumers refuse: each with each argument that it cannot take, and where it cannot be called.
CREATE FUNCTION public.mw_error(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
    hint text;
BEGIN
    EXECUTE query INTO answer;
    RETURN format('%s: %s', query, coalesce(answer, 'nothing'));
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN format(E'%s\n    %s: %s%s', query, SQLSTATE, SQLERRM, E'\n    HINT: ' || nullif(hint, ''));
END $$;
\pset format unaligned
\pset tuples_only
SELECT my_worker.create_queue('refused', max_attempts => 3);
CREATE FUNCTION public.mw_refused(p jsonb) RETURNS text LANGUAGE sql AS $$SELECT public.mw_error(p #>> '{}')$$;
SELECT my_worker.create_queue('served', handler => 'public.mw_refused');

-- send, send_many
SELECT public.mw_error(query) FROM unnest(ARRAY[
    $$SELECT my_worker.send(NULL)$$,
    $$SELECT my_worker.send('')$$,
    $$SELECT my_worker.send('nowhere')$$,
    $$SELECT my_worker.send('served')$$,
    $$SELECT my_worker.send('refused', NULL) > 0$$,
    $$SELECT my_worker.send('refused', priority => NULL) > 0$$,
    $$SELECT my_worker.send('refused', max_attempts => 0)$$,
    $$SELECT my_worker.send('refused', timeout => '-1 s')$$,
    $$SELECT my_worker.send('refused', unique_key => repeat('k', 10000))$$,
    $$SELECT my_worker.send('refused', group_key => repeat('k', 1001))$$,
    $$SELECT my_worker.send('refused', kind => repeat('k', 100000))$$,
    $$SELECT my_worker.send_many(NULL, '{}')$$,
    $$SELECT my_worker.send_many('nowhere', ARRAY['{}'::jsonb])$$,
    $$SELECT my_worker.send_many('served', ARRAY['{}'::jsonb])$$,
    $$SELECT my_worker.send_many('refused', NULL)$$,
    $$SELECT my_worker.send_many('refused', '{}')$$,
    $$SELECT my_worker.send_many('refused', ARRAY['{}', NULL]::jsonb[]) > 0$$]) AS query;

-- receive
SELECT count(my_worker.cancel(id)) FROM my_queue WHERE queue = 'refused';
SELECT public.mw_error(query) FROM unnest(ARRAY[
    $$SELECT count(*) FROM my_worker.receive(NULL)$$,
    $$SELECT count(*) FROM my_worker.receive('')$$,
    $$SELECT count(*) FROM my_worker.receive('nowhere')$$,
    $$SELECT count(*) FROM my_worker.receive('served')$$,
    $$SELECT count(*) FROM my_worker.receive('refused', NULL)$$,
    $$SELECT count(*) FROM my_worker.receive('refused', 0)$$,
    $$SELECT count(*) FROM my_worker.receive('refused', -1)$$,
    $$SELECT count(*) FROM my_worker.receive('refused', 10000)$$,
    $$SELECT count(*) FROM my_worker.receive('refused', 10001)$$,
    $$SELECT count(*) FROM my_worker.receive('refused', wait => NULL)$$,
    $$SELECT count(*) FROM my_worker.receive('refused', wait => '-1 us')$$,
    $$SELECT count(*) FROM my_worker.receive('refused', lease => '0')$$,
    $$SELECT count(*) FROM my_worker.receive('refused', lease => '999 ms')$$,
    $$SELECT count(*) FROM my_worker.receive('refused', lease => '1 s')$$,
    $$SELECT count(*) FROM my_worker.receive('refused', lease => '1 day')$$,
    $$SELECT count(*) FROM my_worker.receive('refused', lease => '1 day 1 us')$$,
    $$SELECT count(*) FROM my_worker.receive('refused', kinds => '{}')$$,
    $$SELECT count(*) FROM my_worker.receive('refused', kinds => '{a, NULL}')$$]) AS query;

-- What ends a job: no job and no lease are no error.
SELECT my_worker.send('refused') > 0;
SELECT id AS i, lease AS l FROM my_worker.receive('refused') \gset
SELECT my_worker.ack(:i + 1, :l), my_worker.nack(:i, :l + 1), my_worker.release(:i, -:l), my_worker.extend(-:i, :l, '1 s'), my_worker.progress(:i, 0, 1);
SELECT public.mw_error(query) FROM unnest(ARRAY[
    $$SELECT my_worker.ack(NULL, 1)$$,
    $$SELECT my_worker.ack(1, NULL)$$,
    $$SELECT my_worker.ack(1, 1, NULL)$$,
    $$SELECT my_worker.ack(9223372036854775807, -9223372036854775808)$$,
    $$SELECT my_worker.ack_many(NULL, '{1}')$$,
    $$SELECT my_worker.ack_many('{1}', NULL)$$,
    $$SELECT my_worker.ack_many('{1, 2}', '{1}')$$,
    $$SELECT my_worker.ack_many('{}', '{}')$$,
    $$SELECT my_worker.ack_many('{1, NULL}', '{NULL, 1}')$$,
    $$SELECT my_worker.nack(NULL, 1)$$,
    $$SELECT my_worker.nack(1, NULL)$$,
    $$SELECT my_worker.nack(1, 1, fail => NULL)$$,
    $$SELECT my_worker.nack(1, 1, delay => '-1 us')$$,
    $$SELECT my_worker.nack(1, 1, delay => '2000 years')$$,
    $$SELECT my_worker.release(NULL, 1)$$,
    $$SELECT my_worker.release(1, NULL)$$,
    $$SELECT my_worker.release(1, 1, '-1 us')$$,
    $$SELECT my_worker.release(1, 1, '2000 years')$$,
    $$SELECT my_worker.extend(NULL, 1, '1 s')$$,
    $$SELECT my_worker.extend(1, NULL, '1 s')$$,
    $$SELECT my_worker.extend(1, 1, NULL)$$,
    $$SELECT my_worker.extend(1, 1, '999 ms')$$,
    $$SELECT my_worker.extend(1, 1, '25 hours')$$,
    $$SELECT my_worker.progress(NULL, 1, 1)$$,
    $$SELECT my_worker.progress(1, NULL, 1)$$,
    $$SELECT my_worker.progress(1, 1, NULL)$$,
    $$SELECT my_worker.progress(1, 1, -1)$$,
    $$SELECT my_worker.progress(1, 1, 'NaN')$$]) AS query;

-- grant_consume, revoke_consume
SELECT public.mw_error(query) FROM unnest(ARRAY[
    $$SELECT my_worker.grant_consume(NULL, 'pg_monitor')$$,
    $$SELECT my_worker.grant_consume('nowhere', 'pg_monitor')$$,
    $$SELECT my_worker.grant_consume('refused', NULL)$$,
    $$SELECT my_worker.grant_consume('refused', 'regress_mw_nobody')$$,
    $$SELECT my_worker.grant_consume('refused', 4000000000)$$,
    $$SELECT my_worker.revoke_consume(NULL, 'pg_monitor')$$,
    $$SELECT my_worker.revoke_consume('nowhere', 'pg_monitor')$$,
    $$SELECT my_worker.revoke_consume('refused', NULL)$$]) AS query;

-- A transaction that is read only ends nothing, and takes nothing for a time; it may hold jobs by its session.
BEGIN READ ONLY;
SELECT public.mw_error(query) FROM unnest(ARRAY[
    $$SELECT my_worker.send('refused')$$,
    $$SELECT my_worker.ack(1, 1)$$,
    $$SELECT my_worker.ack_many('{1}', '{1}')$$,
    $$SELECT my_worker.nack(1, 1)$$,
    $$SELECT my_worker.release(1, 1)$$,
    $$SELECT my_worker.extend(1, 1, '1 s')$$,
    $$SELECT my_worker.progress(1, 1, 1)$$,
    $$SELECT count(*) FROM my_worker.receive('refused', lease => '1 s')$$,
    $$SELECT count(*) FROM my_worker.receive('refused')$$]) AS query;
COMMIT;

-- None of them works within a job.
SELECT my_worker.send('refused') > 0;
CREATE TEMPORARY TABLE calls AS SELECT my_worker.enqueue('public.mw_refused', to_jsonb(query), queue => 'served') AS id FROM unnest(ARRAY[
    $$SELECT count(*) FROM my_worker.receive('refused')$$,
    $$SELECT my_worker.ack(1, 1)$$,
    $$SELECT my_worker.ack_many('{1}', '{1}')$$,
    $$SELECT my_worker.nack(1, 1)$$,
    $$SELECT my_worker.release(1, 1)$$,
    $$SELECT my_worker.extend(1, 1, '1 s')$$,
    $$SELECT my_worker.progress(1, 1, 1)$$,
    $$SELECT my_worker.send('refused') > 0$$]) AS query;
SELECT count(my_worker.wait(id, '20 s')) FROM calls;
SELECT result #>> '{}' FROM my_worker.history WHERE queue = 'served' ORDER BY id;

-- A transaction that has received or ended a job by its session's lease cannot be prepared; by one for a time it can.
SELECT count(my_worker.cancel(id)) FROM my_queue WHERE queue = 'refused';
SELECT count(*) FROM my_worker.send_many('refused', array_fill('{}'::jsonb, ARRAY[3]));
\set VERBOSITY default
BEGIN;
SELECT count(*) FROM my_worker.receive('refused');
PREPARE TRANSACTION 'mw';
SELECT id AS i, lease AS l FROM my_worker.receive('refused') \gset
BEGIN;
SELECT my_worker.ack(:i, :l);
PREPARE TRANSACTION 'mw';
SELECT my_worker.ack(:i, :l) AS still_valid;
-- What a savepoint took back is not in its way.
BEGIN;
SAVEPOINT s;
SELECT count(*) FROM my_worker.receive('refused');
ROLLBACK TO s;
SELECT id AS i, lease AS l FROM my_worker.receive('refused', lease => '1 min') \gset
PREPARE TRANSACTION 'mw';
SELECT count(*) FROM my_worker.receive('refused') WHERE id = :i;
COMMIT PREPARED 'mw';
BEGIN;
SELECT my_worker.ack(:i, :l);
PREPARE TRANSACTION 'mw';
ROLLBACK PREPARED 'mw';
SELECT my_worker.ack(:i, :l), my_worker.ack(:i, :l) AS again;
-- However often it is prepared and rolled back.
SELECT count(my_worker.cancel(id)) FROM my_queue WHERE queue = 'refused';
SELECT my_worker.send('refused') AS i \gset
BEGIN;
SELECT id = :i AS it FROM my_worker.receive('refused', lease => '1 min');
PREPARE TRANSACTION 'mw';
ROLLBACK PREPARED 'mw';
BEGIN;
SELECT id = :i AS it FROM my_worker.receive('refused', lease => '1 min');
PREPARE TRANSACTION 'mw';
ROLLBACK PREPARED 'mw';
BEGIN;
SELECT id = :i AS it FROM my_worker.receive('refused', lease => '1 min');
PREPARE TRANSACTION 'mw';
ROLLBACK PREPARED 'mw';
SELECT id = :i AS it, attempt FROM my_worker.receive('refused');

-- Three receipts in a row that are rolled back, each to a savepoint: the last is charged.
SELECT count(my_worker.cancel(id)) FROM my_queue WHERE queue = 'refused';
SELECT my_worker.send('refused') AS i \gset
BEGIN;
SAVEPOINT s;
SELECT id = :i AS it FROM my_worker.receive('refused');
ROLLBACK TO s;
SELECT id = :i AS it FROM my_worker.receive('refused');
ROLLBACK TO s;
SELECT id = :i AS it, lease AS l FROM my_worker.receive('refused') \gset
ROLLBACK TO s;
SELECT my_worker.ack(:i, :l) AS lost;
SELECT count(*) FROM my_worker.receive('refused');
COMMIT;
DO $$BEGIN
    FOR i IN 1 .. 3000 LOOP
        EXIT WHEN EXISTS (SELECT FROM my_worker.jobs WHERE queue = 'refused' AND status = 'pending' AND attempts = 1);
        PERFORM pg_sleep(0.01);
    END LOOP;
END$$;
SELECT status, attempts, last_error, errors -> 0 ->> 'sqlstate' FROM my_worker.jobs WHERE id = :i;
-- A receipt that is kept in between begins anew.
SELECT count(my_worker.cancel(id)) FROM my_queue WHERE queue = 'refused';
SELECT my_worker.send('refused') AS i \gset
CREATE FUNCTION public.mw_rolls_back() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM my_worker.receive('refused');
    RAISE division_by_zero;
EXCEPTION WHEN division_by_zero THEN
END $$;
SELECT public.mw_rolls_back(), public.mw_rolls_back();
SELECT my_worker.release(id, lease) FROM my_worker.receive('refused');
SELECT public.mw_rolls_back(), public.mw_rolls_back();
SELECT my_worker.release(id, lease) FROM my_worker.receive('refused', lease => '1 min');
SELECT public.mw_rolls_back(), public.mw_rolls_back();
SELECT status, attempts FROM my_worker.jobs WHERE id = :i;
SELECT id = :i FROM my_worker.receive('refused');

-- A table that was rewritten has its rows elsewhere.
SELECT count(my_worker.cancel(id)) FROM my_queue WHERE queue = 'refused';
SELECT count(*) FROM my_worker.send_many('refused', array_fill('{}'::jsonb, ARRAY[1002]));
SELECT count(*) FROM my_worker.receive('refused', 1000);
SELECT id AS i1, lease AS l1 FROM my_worker.receive('refused') \gset
SELECT id AS i2, lease AS l2 FROM my_worker.receive('refused') \gset
SELECT count(my_worker.cancel(id)) FROM my_queue WHERE queue = 'refused' AND id < :i1;
VACUUM FULL my_worker._jobs;
SELECT my_worker.ack(:i1, :l1), my_worker.nack(:i2, :l2, fail => true);
SELECT status FROM my_worker.history WHERE id IN (:i1, :i2) ORDER BY id;

-- What is received is not purged, also where a trigger hears of what is.
CREATE FUNCTION public.mw_hears() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
SELECT count(*) FROM my_worker.send_many('refused', array_fill('{}'::jsonb, ARRAY[3]));
SELECT id AS i1, lease AS l1 FROM my_worker.receive('refused') \gset
SELECT my_worker.purge_queue('refused') - (SELECT count(*) FROM my_worker.history WHERE queue = 'refused') AS purged;
SELECT my_worker.send('refused') IS NOT NULL;
CREATE TRIGGER hears AFTER DELETE ON my_worker._jobs FOR EACH ROW EXECUTE FUNCTION public.mw_hears();
SELECT my_worker.purge_queue('refused') AS purged;
DROP TRIGGER hears ON my_worker._jobs;
SELECT my_worker.ack(:i1, :l1);
SELECT count(*) FROM my_queue WHERE queue = 'refused';

DISCARD ALL;
SELECT my_worker.drop_queue('refused', force => true), my_worker.drop_queue('served', force => true);
DELETE FROM my_worker.history WHERE queue IN ('refused', 'served');
DROP FUNCTION public.mw_error(text), public.mw_refused(jsonb), public.mw_rolls_back(), public.mw_hears();
