-- Consumers: sessions that receive jobs and end them, by leases.
\set VERBOSITY terse
CREATE ROLE regress_mw_ann;
CREATE ROLE regress_mw_ben;
CREATE ROLE regress_mw_con;
SELECT my_worker.grant_usage('regress_mw_ann'), my_worker.grant_usage('regress_mw_ben');
SELECT my_worker.create_queue('post', backoff => '10 ms', max_attempts => 3);
CREATE FUNCTION public.mw_handler() RETURNS void LANGUAGE sql AS '';
SELECT my_worker.create_queue('served', handler => 'public.mw_handler');

-- What is sent comes in order: by priority, then by time, then by id.
SELECT my_worker.send('post', '{"n": 1}', kind => 'letter', headers => '{"trace": 7}', group_key => 'g') AS a,
       my_worker.send('post', '{"n": 2}', kind => 'card', priority => -1) AS b,
       my_worker.send('post', '{"n": 3}', run_at => now() + interval '1 h') AS later,
       my_worker.send('post', unique_key => 'k') AS d, my_worker.send('post', unique_key => 'k') AS same \gset
SELECT :d = :same AS same;
SELECT kind, payload, headers, attempt, max_attempts, priority, owner = current_user::regrole AS mine, group_key
  FROM my_worker.receive('post', 10);
SELECT count(*) FROM my_worker.receive('post', 10);
SELECT status, kind, headers, group_key, pid = pg_backend_pid() AS here, consumer, lease_until FROM my_worker.jobs WHERE queue = 'post' ORDER BY id;
SELECT kind, role, state, queue FROM my_worker.workers WHERE pid = pg_backend_pid();
SELECT queue, pending, scheduled, processing FROM my_worker.queue_stats WHERE queue = 'post';
SELECT starts_with(my_worker.why(:a), 'held by a consumer since ') AS why;
-- Nobody changes them by hand.
\set VERBOSITY sqlstate
DELETE FROM my_queue WHERE id = :a;
UPDATE my_queue SET priority = 5 WHERE id = :a;
\set VERBOSITY terse
-- DISCARD ALL gives them back, and charges an attempt.
DISCARD ALL;
\set VERBOSITY terse
CREATE FUNCTION pg_temp.until(query text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE reached boolean;
BEGIN
    FOR i IN 1 .. 3000 LOOP
        EXECUTE query INTO reached;
        IF reached THEN RETURN true; END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
    RETURN false;
END $$;
SELECT pg_temp.until($$SELECT count(*) = 3 FROM my_worker.jobs WHERE queue = 'post' AND status = 'pending' AND attempts = 1$$);
SELECT last_error, errors->0->>'sqlstate' AS sqlstate FROM my_worker.jobs WHERE id = :a;

-- Only some kinds; at most so many.
SELECT id AS i, lease AS l, kind, attempt FROM my_worker.receive('post', 10, wait => '5 s', kinds => '{letter, parcel}') \gset
SELECT :i = :a AS the_letter, :'kind' AS kind, :attempt AS attempt;
SELECT my_worker.ack(:i, :l + 1) AS wrong, my_worker.ack(:i + 1, :l) AS other, my_worker.ack(NULL, :l) AS no_job, my_worker.ack(:i, NULL) AS no_lease;
SELECT my_worker.progress(:i, :l, 40, 'folded') AS said, my_worker.progress(:i, :l + 1, 50) AS wrong;
SELECT progress, progress_message FROM my_worker.jobs WHERE id = :i;
SELECT my_worker.extend(:i, :l, '1 min') AS no_effect;
-- The transaction and its savepoints decide.
BEGIN;
SELECT my_worker.ack(:i, :l);
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT my_worker.ack(:i, :l);
ROLLBACK TO s;
SELECT my_worker.ack(:i, :l, '{"ok": true}');
COMMIT;
SELECT my_worker.ack(:i, :l) AS again, my_worker.nack(:i, :l) AS nack, my_worker.release(:i, :l) AS release, my_worker.extend(:i, :l, '1 s') AS extend;
SELECT status, result, attempts, kind, headers, group_key FROM my_worker.jobs WHERE id = :i;

-- nack: the backoff, a delay, no more attempts.
SELECT id AS i, lease AS l FROM my_worker.receive('post', kinds => '{card}', wait => '5 s') \gset
SELECT my_worker.nack(:i, :l, 'no stamp', delay => '1 h');
SELECT status, attempts, last_error, run_at > now() + interval '50 min' AS later FROM my_worker.jobs WHERE id = :i;
SELECT id AS i, lease AS l FROM my_worker.receive('post', wait => '5 s') \gset
SELECT my_worker.nack(:i, :l, 'no address', fail => true);
SELECT status, attempts, last_error FROM my_worker.jobs WHERE id = :i;
SELECT my_worker.cancel(:b), my_worker.cancel(:later);

-- What was received in a transaction that is rolled back is free, and not charged; the third time in a row it is.
SELECT my_worker.send('post', '{"n": 4}') AS e \gset
BEGIN;
SELECT count(*) FROM my_worker.receive('post');
SAVEPOINT s;
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT count(*) FROM my_worker.receive('post');
ROLLBACK TO s;
SELECT attempts, status FROM my_worker.jobs WHERE id = :e;
SELECT count(*) FROM my_worker.receive('post');
ROLLBACK;
SELECT pg_temp.until(format('SELECT attempts = 1 AND status = ''pending'' FROM my_worker.jobs WHERE id = %s', :e));
SELECT last_error FROM my_worker.jobs WHERE id = :e;
-- A transaction does not receive what it has sent itself.
BEGIN;
SELECT my_worker.send('post', '{"n": 5}') IS NOT NULL AS sent;
SELECT id = :e AS e FROM my_worker.receive('post', 5, wait => '5 s') WHERE pg_sleep(0.02) IS NOT NULL;
ROLLBACK;

-- A lease for a time stands in the row.
SELECT id AS i, lease AS l FROM my_worker.receive('post', wait => '5 s', lease => '1 min') \gset
SELECT status, consumer, lease_until > now() AS held, run_at <= now() AS run_at FROM my_worker.jobs WHERE id = :i;
SELECT my_worker.extend(:i, :l, '2 min'), my_worker.extend(:i, :l + 1, '2 min') AS wrong;
SELECT lease_until > now() + interval '90 s' AS later FROM my_worker.jobs WHERE id = :i;
\set VERBOSITY sqlstate
DELETE FROM my_queue WHERE id = :i;
\set VERBOSITY terse
SELECT my_worker.release(:i, :l);
SELECT status, attempts, lease_until, consumer FROM my_worker.jobs WHERE id = :i;
BEGIN;
SELECT id AS i, lease AS l FROM my_worker.receive('post', lease => '1 min') \gset
SELECT my_worker.ack(:i, :l);
COMMIT;
SELECT status FROM my_worker.jobs WHERE id = :i;
-- It ends at its time.
SELECT my_worker.send('post', '{"n": 6}') AS f \gset
SELECT id AS i, lease AS l FROM my_worker.receive('post', lease => '1 s') \gset
SELECT pg_temp.until(format('SELECT attempts = 1 FROM my_worker.jobs WHERE id = %s', :f));
SELECT my_worker.ack(:i, :l) AS too_late;
SELECT last_error FROM my_worker.jobs WHERE id = :f;
-- The time-out of a job ends a lease of either kind.
SELECT my_worker.cancel(:f);
SELECT my_worker.send('post', timeout => '50 ms', max_attempts => 1) AS g, my_worker.send('post', timeout => '50 ms', max_attempts => 1, kind => 'timed') AS h \gset
SELECT count(*) FROM my_worker.receive('post', kinds => '{timed}', lease => '1 h');
SELECT count(*) FROM my_worker.receive('post');
SELECT my_worker.wait(:g, '20 s'), my_worker.wait(:h, '20 s');
SELECT id = :g AS g, last_error, errors->0->>'sqlstate' AS sqlstate FROM my_worker.jobs WHERE id IN (:g, :h) ORDER BY id;
-- Cancelled while a consumer has it.
SELECT my_worker.send('post') AS i \gset
SELECT lease AS l FROM my_worker.receive('post') \gset
SELECT my_worker.cancel(:i);
SELECT my_worker.ack(:i, :l) AS ack, my_worker.extend(:i, :l, '1 s') AS extend;
SELECT status, attempts FROM my_worker.jobs WHERE id = :i;

-- Given back for later; an error without words; what many have in common.
SELECT my_worker.send('post', max_attempts => 1) AS i \gset
SELECT lease AS l FROM my_worker.receive('post') \gset
SELECT my_worker.release(:i, :l, '1 h');
SELECT status, attempts, run_at > now() + interval '50 min' AS later, pid FROM my_worker.jobs WHERE id = :i;
SELECT my_worker.cancel(:i);
SELECT my_worker.send('post', max_attempts => 1) AS i \gset
SELECT lease AS l FROM my_worker.receive('post') \gset
SELECT my_worker.nack(:i, :l);
SELECT status, attempts, last_error, errors->0->>'sqlstate' AS sqlstate FROM my_worker.jobs WHERE id = :i;
CREATE TEMPORARY TABLE sent AS SELECT * FROM my_worker.send_many('post', '{1, 2}', kind => 'k', headers => '{"h": 1}', priority => 3,
    run_at => '2100-01-01 00:00+00', max_attempts => 2, timeout => '7 s', group_key => 'g') AS id;
SELECT payload, kind, headers, priority, run_at = '2100-01-01 00:00+00' AS run_at, max_attempts, timeout, group_key FROM my_worker.jobs JOIN sent USING (id) ORDER BY id;
SELECT count(my_worker.cancel(id)) FROM sent;

-- Many at once.
SELECT count(*) FROM my_worker.send_many('post', array_fill('{}'::jsonb, ARRAY[5]), kind => 'bulk');
SELECT array_agg(id) AS ids, array_agg(lease) AS ls FROM my_worker.receive('post', 10) \gset
SELECT cardinality(my_worker.ack_many(:'ids', :'ls')), my_worker.ack_many(:'ids', :'ls') AS again;
SELECT my_worker.ack_many('{1}', '{}');

-- As many as the queue lets run at once, whichever lease they have.
SELECT my_worker.create_queue('two', concurrency => 2);
SELECT count(*) FROM my_worker.send_many('two', array_fill('{}'::jsonb, ARRAY[5]));
SELECT id AS i, lease AS l FROM my_worker.receive('two', lease => '1 min') \gset
SELECT count(*) FROM my_worker.receive('two', 5);
SELECT count(*) FROM my_worker.receive('two', 5, lease => '1 min');
SELECT my_worker.ack(:i, :l);
SELECT count(*) FROM my_worker.receive('two', 5);
SELECT my_worker.pause_queue('post');
SELECT my_worker.send('post') IS NOT NULL AS sent;
SELECT count(*) FROM my_worker.receive('post');
SELECT my_worker.resume_queue('post');

-- What the server runs is never received, and what a consumer takes is never run.
SELECT my_worker.send('served');
SELECT my_worker.enqueue('public.mw_handler', queue => 'post', run_at => 'infinity') IS NOT NULL AS own_handler;
SELECT count(*) FROM my_worker.receive('post', 10);
SELECT count(*) FROM my_worker.receive('served', 10);
-- What no call may have.
SELECT * FROM my_worker.receive('nowhere');
SELECT * FROM my_worker.receive(NULL);
SELECT * FROM my_worker.receive('post', 0);
SELECT * FROM my_worker.receive('post', 10001);
SELECT * FROM my_worker.receive('post', wait => '-1 s');
SELECT * FROM my_worker.receive('post', lease => '0.5 s');
SELECT * FROM my_worker.receive('post', lease => '2 days');
SELECT * FROM my_worker.receive('post', kinds => '{}');
SELECT my_worker.extend(1, 1, '2 days');
SELECT my_worker.nack(1, 1, delay => '-1 s');
SELECT my_worker.progress(1, 1, 101);
SELECT my_worker.send('nowhere');
SELECT my_worker.send('post', group_key => repeat('k', 1001));
SELECT my_worker.send_many('post', NULL);
BEGIN READ ONLY;
SELECT * FROM my_worker.receive('post', lease => '1 min');
ROLLBACK;
BEGIN;
SELECT my_worker.ack(id, lease) FROM my_worker.receive('post', 10);
SELECT count(*) FROM my_worker.receive('two', 10);
ROLLBACK;
SELECT my_worker.run($$SELECT * FROM my_worker.receive('post')$$) AS j \gset
SELECT my_worker.wait(:j);
SELECT last_error FROM my_worker.jobs WHERE id = :j;

-- A role receives its own; with grant_consume() all of one queue, and sees them.
SELECT my_worker.create_queue('shared');
SET ROLE regress_mw_ann;
SELECT count(*) FROM my_worker.send_many('shared', ARRAY['{"of": "ann"}', '{"of": "ann"}']::jsonb[]);
INSERT INTO my_queue (queue, kind, headers, group_key, payload) VALUES ('shared', 'k', '{}', 'g', '{"of": "ann"}');
SET ROLE regress_mw_ben;
SELECT count(*) FROM my_worker.send_many('shared', ARRAY['{"of": "ben"}', '{"of": "ben"}']::jsonb[]);
SELECT count(*) FROM my_worker.jobs WHERE queue = 'shared';
SELECT id AS i, lease AS l, owner, payload FROM my_worker.receive('shared', 10) LIMIT 1 \gset
SELECT :'owner' AS owner, :'payload' AS payload;
SET ROLE regress_mw_ann;
-- Another one's lease is of no use to her.
SELECT my_worker.ack(:i, :l), my_worker.nack(:i, :l), my_worker.release(:i, :l), my_worker.extend(:i, :l, '1 s'), my_worker.progress(:i, :l, 1);
SELECT my_worker.why(:i) = format('job %s is unknown, or belongs to another role', :i) AS why;
SELECT my_worker.grant_consume('shared', 'regress_mw_ann');
RESET ROLE;
SELECT my_worker.grant_consume('nowhere', 'regress_mw_con');
SELECT my_worker.grant_consume('shared', NULL);
SELECT my_worker.grant_consume('shared', 'regress_mw_con');
SET ROLE regress_mw_con;
SELECT owner, count(*) FROM my_worker.jobs GROUP BY 1 ORDER BY 1;
SELECT count(DISTINCT owner) FROM my_worker.receive('shared', 10);
RESET ROLE;
-- Where several owners' jobs wait, they take turns, whoever has come first.
SELECT my_worker.create_queue('turns');
SET ROLE regress_mw_ann;
SELECT count(*) FROM my_worker.send_many('turns', array_fill('{}'::jsonb, ARRAY[6]));
SET ROLE regress_mw_ben;
SELECT count(*) FROM my_worker.send_many('turns', array_fill('{}'::jsonb, ARRAY[3]));
RESET ROLE;
SELECT my_worker.grant_consume('turns', 'regress_mw_con');
SET ROLE regress_mw_con;
CREATE FUNCTION pg_temp.turns() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    owners text := '';
BEGIN
    FOR i IN 1 .. 6 LOOP
        owners := owners || (SELECT right(r.owner::text, 3) FROM my_worker.receive('turns') AS r) || ' ';
    END LOOP;
    RETURN owners;
END $$;
SELECT pg_temp.turns() IN ('ann ben ann ben ann ben ', 'ben ann ben ann ben ann ') AS turns;
RESET ROLE;
SELECT count(my_worker.cancel(id)) FROM my_queue WHERE queue = 'turns';
SELECT my_worker.drop_queue('turns');
DELETE FROM my_worker.history WHERE queue = 'turns';
SET ROLE regress_mw_con;
SELECT my_worker.send('shared');
SELECT my_worker.cancel(:i);
SELECT count(*) FROM my_worker.receive('post', 10);
RESET ROLE;
SELECT my_worker.revoke_consume('shared', 'regress_mw_con');
SET ROLE regress_mw_con;
SELECT * FROM my_worker.receive('shared');
RESET ROLE;
SELECT my_worker.grant_consume('shared', 'regress_mw_ann'), my_worker.revoke_usage('regress_mw_ann');
SET ROLE regress_mw_ann;
SELECT count(*) FROM my_worker.receive('shared', 10);
SELECT my_worker.send('shared');
RESET ROLE;
DISCARD ALL;
\set VERBOSITY terse
SELECT my_worker.drop_queue(q, force => true) FROM unnest(ARRAY['shared', 'two', 'served']) AS q;
SELECT count(*) FROM my_worker._consumers;
SELECT my_worker.revoke_usage('regress_mw_ann'), my_worker.revoke_usage('regress_mw_ben');
-- The rights went with the queues.
DELETE FROM my_worker.history WHERE queue IN ('shared', 'two', 'served');
DELETE FROM my_queue WHERE queue = 'post';
SELECT my_worker.drop_queue('post', force => true);
DROP FUNCTION public.mw_handler();
DROP ROLE regress_mw_ann, regress_mw_ben, regress_mw_con;
