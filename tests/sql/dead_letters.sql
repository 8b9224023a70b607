-- Dead letters: jobs that have failed for good go on in another queue, and come back by redrive().
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE SCHEMA work;
CREATE TABLE work.t (n serial, job bigint, said text);
-- Fails while there is no row in work.mended.
CREATE TABLE work.mended (said text);
CREATE FUNCTION work.job(job bigint, payload jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM work.mended) THEN
        RAISE EXCEPTION 'broken' USING ERRCODE = 'ZZ001';
    END IF;
    INSERT INTO work.t (job, said) VALUES (job, 'done');
    RETURN 'done';
END $$;
CREATE FUNCTION work.undertaker(job bigint, payload jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO work.t (job, said) VALUES (job, 'buried');
    RETURN 'buried';
END $$;
CREATE VIEW work.letters AS
    SELECT queue, status, origin, handler, command, unique_key, attempts, last_error, jsonb_array_length(errors) AS errors, run_at <= now() AS due
      FROM my_worker.jobs WHERE queue IN ('live', 'dead');
SELECT my_worker.create_queue('dead');
SELECT my_worker.create_queue('live', max_attempts => 2, backoff => '0', dead_letter => 'dead');
-- It must be there, and lead nowhere back.
CALL pg_temp.fails($$SELECT my_worker.create_queue('x', dead_letter => 'nowhere')$$);
CALL pg_temp.fails($$SELECT my_worker.create_queue('x', dead_letter => 'x')$$);
CALL pg_temp.fails($$SELECT my_worker.alter_queue('dead', dead_letter => 'dead')$$);
CALL pg_temp.fails($$SELECT my_worker.alter_queue('dead', dead_letter => 'live')$$);
SELECT my_worker.create_queue('deader');
SELECT my_worker.alter_queue('dead', dead_letter => 'deader');
CALL pg_temp.fails($$SELECT my_worker.alter_queue('deader', dead_letter => 'live')$$);
CALL pg_temp.fails($$SELECT my_worker.drop_queue('dead')$$);
CALL pg_temp.fails($$SELECT my_worker.drop_queue('deader', true)$$);
SELECT my_worker.reset_queue('dead', 'dead_letter');
SELECT name, dead_letter FROM my_worker.queues WHERE name LIKE 'd%d%' OR name = 'live' ORDER BY name;
-- A job fails for good: wait() says so at once. It waits for a consumer with all that it had.
SELECT my_worker.reset_stats();
SELECT my_worker.enqueue('work.job', '{"n": 1}', 'live', unique_key => 'k', priority => 7, group_key => 'g') AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT * FROM work.letters;
SELECT payload, priority, owner = current_user::regrole AS own, group_key, last_error FROM my_queue WHERE id = :id;
SELECT e->>'attempt' AS attempt, e->>'sqlstate' AS code FROM my_queue, jsonb_array_elements(errors) AS e WHERE id = :id ORDER BY 1;
SELECT count(*) AS in_history FROM my_worker.history WHERE id = :id;
SELECT queue, pending, completed, failed, retried FROM my_worker.queue_stats WHERE queue IN ('live', 'dead') ORDER BY queue;
SELECT my_worker.why(:id);
CALL pg_temp.fails(format('SELECT public.launch_dynamic_worker(%s::bigint)', :id));
-- Its key is free, and its handler rests: nothing runs it.
SELECT my_worker.pause_queue('live');
SELECT my_worker.enqueue('work.job', queue => 'live', unique_key => 'k') <> :id AS another;
SELECT my_worker.enqueue('work.job', queue => 'live', unique_key => 'k') <> :id AS still_another;
INSERT INTO my_queue (queue, handler, unique_key) VALUES ('live', 'work.job', 'k') ON CONFLICT DO NOTHING;
SELECT count(*) FROM my_queue WHERE unique_key = 'k';
-- The way back is barred while another job has its key; then it is open.
SELECT my_worker.redrive('dead') AS redriven;
SELECT my_worker.purge_queue('live') AS purged;
INSERT INTO work.mended VALUES ('yes');
SELECT my_worker.redrive('dead') AS redriven, my_worker.redrive('dead') AS again;
SELECT * FROM work.letters;
SELECT my_worker.wait(:id, '10 ms') IS NULL AS lives;
SELECT my_worker.resume_queue('live');
SELECT my_worker.wait(:id, '30 s');
SELECT queue, status, origin, attempts, result, jsonb_array_length(errors) AS errors FROM my_worker.history WHERE id = :id;
SELECT said FROM work.t WHERE job = :id;
-- Arguments, and who may.
CALL pg_temp.fails($$SELECT my_worker.redrive('nowhere')$$);
CALL pg_temp.fails($$SELECT my_worker.redrive(NULL)$$);
CALL pg_temp.fails($$SELECT my_worker.redrive('dead', 0)$$);
TRUNCATE work.mended;
CREATE ROLE mw_sender LOGIN;
CREATE ROLE mw_other LOGIN;
SELECT my_worker.grant_usage(r) FROM unnest(ARRAY['mw_sender', 'mw_other']::regrole[]) AS r;
GRANT USAGE ON SCHEMA work TO mw_sender, mw_other;
GRANT ALL ON ALL TABLES IN SCHEMA work TO mw_sender, mw_other;
GRANT ALL ON ALL SEQUENCES IN SCHEMA work TO mw_sender, mw_other;
SET ROLE mw_sender;
SELECT my_worker.enqueue('work.job', queue => 'live') AS id \gset
SELECT my_worker.wait(:id, '30 s');
SET ROLE mw_other;
SELECT my_worker.enqueue('work.job', queue => 'live') AS other \gset
SELECT my_worker.wait(:other, '30 s');
SELECT my_worker.retry(:id) AS another_roles, my_worker.redrive('dead') AS its_own;
SELECT my_worker.wait(:other, '30 s');
-- retry() sends one back, as it sends back what failed.
SET ROLE mw_sender;
INSERT INTO work.mended VALUES ('yes');
SELECT my_worker.retry(:id);
SELECT my_worker.wait(:id, '30 s');
RESET ROLE;
SELECT my_worker.redrive('dead', 1);
SELECT my_worker.wait(:other, '30 s');
TRUNCATE work.mended;
-- The oldest first, up to n.
SELECT count(*) FROM my_worker.enqueue_many('work.job', array_fill('{}'::jsonb, '{5}'), queue => 'live');
CALL pg_temp.wait_until($$SELECT count(*) = 5 FROM my_queue WHERE queue = 'dead'$$);
SELECT my_worker.pause_queue('live');
SELECT my_worker.redrive('dead', 2) AS redriven;
SELECT (SELECT max(id) FROM my_queue WHERE queue = 'live') < (SELECT min(id) FROM my_queue WHERE queue = 'dead') AS oldest_first,
       count(*) FROM my_queue WHERE queue = 'live';
-- Two with one key: the older one goes.
SELECT my_worker.purge_queue(q) FROM unnest(ARRAY['live', 'dead']) AS q;
SELECT my_worker.resume_queue('live');
SELECT my_worker.enqueue('work.job', '{"n": 1}', queue => 'live', unique_key => 'k') AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT my_worker.enqueue('work.job', '{"n": 2}', queue => 'live', unique_key => 'k') AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT my_worker.pause_queue('live');
\set VERBOSITY terse
SELECT my_worker.redrive('dead') AS redriven;
SELECT queue, payload FROM my_queue WHERE unique_key = 'k' ORDER BY payload;
-- Where it came from is gone.
SELECT my_worker.drop_queue('live', true);
SELECT my_worker.redrive('dead') AS redriven;
SELECT queue, origin FROM my_queue WHERE id = :id;
SELECT my_worker.create_queue('live', max_attempts => 1, dead_letter => 'dead');
SELECT my_worker.redrive('dead') AS redriven;
SELECT my_worker.wait(:id, '30 s');
-- Cancelled there, it ends; retried, it waits there again.
SELECT my_worker.cancel(:id);
SELECT queue, status, origin FROM my_worker.jobs WHERE id = :id;
SELECT my_worker.wait(:id), my_worker.retry(:id);
SELECT queue, status, origin FROM my_worker.jobs WHERE id = :id;
-- The queue's own handler takes it; the job's own, and commands, rest.
SELECT my_worker.run('SELECT 1 / 0', 'live', unique_key => 'c') AS command \gset
SELECT my_worker.wait(:command, '30 s');
SELECT my_worker.alter_queue('dead', handler => 'work.undertaker');
CALL pg_temp.wait_until($$SELECT count(*) = 2 FROM my_worker.history WHERE queue = 'dead'$$);
SELECT queue, status, origin, handler, command, unique_key, attempts, result FROM my_worker.history WHERE queue = 'dead' ORDER BY command;
SELECT my_worker.wait(:command);
-- It fails there: to the next queue, with where it came from first; then to the history.
CREATE OR REPLACE FUNCTION work.undertaker(job bigint, payload jsonb) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE 'no grave'; END $$;
SELECT my_worker.alter_queue('dead', dead_letter => 'deader', max_attempts => 1);
SELECT my_worker.enqueue('work.job', queue => 'live') AS id \gset
CALL pg_temp.wait_until(format('SELECT queue = ''deader'' FROM my_queue WHERE id = %s', :id));
SELECT queue, status, origin, jsonb_array_length(errors) AS errors FROM my_worker.jobs WHERE id = :id;
SELECT my_worker.redrive('deader');
CALL pg_temp.wait_until(format('SELECT queue = ''deader'' AND jsonb_array_length(errors) = 4 FROM my_queue WHERE id = %s', :id));
SELECT my_worker.alter_queue('deader', handler => 'work.undertaker', max_attempts => 1);
CALL pg_temp.wait_until(format('SELECT count(*) = 1 FROM my_worker.history WHERE id = %s', :id));
SELECT queue, status, origin, jsonb_array_length(errors) AS errors FROM my_worker.history WHERE id = :id;
-- Consumers: what they refuse goes there, what stands there they take, and what they have stays.
SELECT my_worker.create_queue('graves');
SELECT my_worker.create_queue('mail', backoff => '0', dead_letter => 'graves');
SELECT my_worker.send('mail', '{"to": 1}', kind => 'welcome', headers => '{"trace": 1}') AS id \gset
SELECT id, lease FROM my_worker.receive('mail') \gset
SELECT my_worker.nack(:id, :lease, 'no such address', fail => true);
SELECT queue, status, origin, last_error FROM my_worker.jobs WHERE id = :id;
SELECT count(*) FROM my_worker.receive('mail');
SELECT lease FROM my_worker.receive('graves') \gset
SELECT my_worker.redrive('graves') AS received, my_worker.retry(:id);
SELECT my_worker.release(:id, :lease);
SELECT lease, attempt, kind, headers FROM my_worker.receive('graves', lease => '1 min') \gset
SELECT my_worker.redrive('graves') AS leased;
SELECT my_worker.release(:id, :lease);
SELECT my_worker.redrive('graves');
SELECT lease FROM my_worker.receive('mail') \gset
SELECT my_worker.ack(:id, :lease);
-- What is given up, cancelled, or refused by a rule.
CREATE FUNCTION work.gives_up() RETURNS void LANGUAGE sql AS $$SELECT my_worker.give_up('never')$$;
SELECT my_worker.create_queue('ruled', dead_letter => 'graves', fail_on => '{ZZ}');
SELECT my_worker.enqueue('work.gives_up', queue => 'ruled') AS given_up, my_worker.enqueue('work.job', queue => 'ruled') AS refused \gset
SELECT my_worker.wait(:given_up, '30 s'), my_worker.wait(:refused, '30 s');
SELECT queue, origin, last_error FROM my_queue WHERE queue = 'graves' ORDER BY id;
SELECT my_worker.enqueue('work.job', queue => 'ruled', run_at => now() + '1 day') AS id \gset
SELECT my_worker.cancel(:id);
SELECT queue, status, origin FROM my_worker.jobs WHERE id = :id;
-- A schedule's run that stands there has ended.
SELECT my_worker.schedule('s', 'every 1 day', handler => 'work.job', queue => 'ruled') > 0 AS made;
SELECT my_worker.run_now('s') AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT last_status FROM my_worker.schedules WHERE name = 's';
SELECT my_worker.unschedule('s');
-- Purged, they are gone.
SELECT my_worker.purge_queue('graves');
SELECT my_worker.wait(:refused);
SELECT my_worker.drop_queue(q, true) FROM unnest(ARRAY['ruled', 'mail', 'graves', 'live', 'dead', 'deader']) AS q;
REVOKE ALL ON SCHEMA work FROM mw_sender, mw_other;
SELECT my_worker.revoke_usage(r) FROM unnest(ARRAY['mw_sender', 'mw_other']::regrole[]) AS r;
DROP SCHEMA work CASCADE;
DROP ROLE mw_sender, mw_other;
