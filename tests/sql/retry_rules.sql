-- Which errors are tried again: retry_on, fail_on, and the quick retry of conflicts.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE SCHEMA work;
-- Fails with the SQLSTATE in its payload.
CREATE FUNCTION work.fails(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'no' USING ERRCODE = payload->>'code';
END $$;
CREATE FUNCTION pg_temp.attempts(of_queue text) RETURNS TABLE (code text, attempts integer) LANGUAGE sql AS $$
    SELECT h.payload->>'code', h.attempts FROM my_worker.history AS h WHERE h.queue = of_queue AND h.status = 'failed' ORDER BY 1
$$;
\set codes 'ARRAY[''{"code": "23505"}'', ''{"code": "23503"}'', ''{"code": "22012"}'', ''{"code": "57014"}'', ''{"code": "40001"}'']::jsonb[]'
\set ended 'SELECT count(*) FILTER (WHERE status = ''failed'') = 5 FROM my_worker.jobs WHERE queue = '
-- What a queue can name.
SELECT my_worker.create_queue('bad', retry_on => '{4000}');
SELECT my_worker.create_queue('bad', retry_on => '{40,p0001}');
SELECT my_worker.create_queue('bad', fail_on => ARRAY['40', NULL]);
SELECT my_worker.create_queue('bad', fail_on => ARRAY['']);
SELECT my_worker.create_queue('bad', fail_on => array_fill('40'::text, '{101}'));
SELECT my_worker.create_queue('only', max_attempts => 2, backoff => '0', retry_on => '{23505,40}');
SELECT my_worker.create_queue('not', max_attempts => 2, backoff => '0', fail_on => '{23505,57}');
SELECT my_worker.create_queue('both', max_attempts => 2, backoff => '0', retry_on => '{23,40}', fail_on => '{23505,40001}');
SELECT my_worker.create_queue('none', max_attempts => 2, backoff => '0', retry_on => '{}');
SELECT my_worker.create_queue('all', max_attempts => 2, backoff => '0');
SELECT name, retry_on, fail_on FROM my_worker.queues WHERE name IN ('only', 'not', 'both', 'none', 'all') ORDER BY name;
-- Handlers.
SELECT count(*) FROM unnest(ARRAY['only', 'not', 'both', 'none', 'all']) AS q, my_worker.enqueue_many('work.fails', :codes, queue => q);
CALL pg_temp.wait_until(:'ended' || '''only''');
CALL pg_temp.wait_until(:'ended' || '''not''');
CALL pg_temp.wait_until(:'ended' || '''both''');
CALL pg_temp.wait_until(:'ended' || '''none''');
CALL pg_temp.wait_until(:'ended' || '''all''');
SELECT q, string_agg(a.code || ' ' || a.attempts, ', ' ORDER BY a.code) AS attempts
  FROM unnest(ARRAY['only', 'not', 'both', 'none', 'all']) AS q, pg_temp.attempts(q) AS a GROUP BY q ORDER BY q;
-- Settings change, and are taken away.
SELECT my_worker.alter_queue('only', fail_on => '{23505}');
SELECT my_worker.reset_queue('only', 'retry_on');
SELECT retry_on, fail_on FROM my_worker.queues WHERE name = 'only';
SELECT my_worker.purge_queue('only') AS purged;
SELECT count(*) FROM my_worker.enqueue_many('work.fails', :codes, queue => 'only');
CALL pg_temp.wait_until(:'ended' || '''only''');
SELECT * FROM pg_temp.attempts('only');
-- Batch handlers: the bad one is found, and is asked about alone.
CREATE FUNCTION work.batch(ids bigint[], payloads jsonb[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    bad text := (SELECT min(p->>'code') FROM unnest(payloads) AS p);
BEGIN
    IF bad IS NOT NULL THEN
        RAISE EXCEPTION 'no' USING ERRCODE = bad;
    END IF;
END $$;
SELECT my_worker.pause_queue('not');
SELECT my_worker.purge_queue('not') AS purged;
SELECT count(*)
  FROM my_worker.enqueue_many('work.batch', ARRAY['{}', '{"code": "23505"}', '{}', '{"code": "22012"}', '{}']::jsonb[], queue => 'not');
SELECT my_worker.resume_queue('not');
CALL pg_temp.wait_until('SELECT count(*) = 5 FROM my_worker.history WHERE queue = ''not''');
SELECT payload->>'code' AS code, status, attempts, count(*) FROM my_worker.history WHERE queue = 'not' GROUP BY 1, 2, 3 ORDER BY 1;
-- Commands.
SELECT my_worker.purge_queue('not') AS purged;
SELECT count(my_worker.run(c, queue => 'not', max_attempts => 2))
  FROM unnest(ARRAY[$$DO 'BEGIN RAISE ''no'' USING ERRCODE = ''23505''; END'$$, 'SELECT 1 / 0']) AS c;
CALL pg_temp.wait_until('SELECT count(*) = 2 FROM my_worker.history WHERE queue = ''not''');
SELECT errors->0->>'sqlstate' AS code, attempts FROM my_worker.history WHERE queue = 'not' ORDER BY 1;
-- A time-out is an error of the job.

CREATE FUNCTION work.sleeps() RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(100)';
SELECT my_worker.enqueue('work.sleeps', queue => 'not', timeout => '20 ms') AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT attempts, errors->0->>'sqlstate' AS code FROM my_worker.history WHERE id = :id;
-- Consumers: what one refuses is P0001.
SELECT my_worker.create_queue('held', backoff => '0', fail_on => '{P0001}');
SELECT my_worker.send('held') AS id \gset
SELECT id, lease FROM my_worker.receive('held') \gset
SELECT my_worker.nack(:id, :lease, 'bad address', delay => '1 h');
SELECT status, attempts, last_error FROM my_worker.history WHERE id = :id;
SELECT my_worker.alter_queue('held', fail_on => '{23}');
SELECT my_worker.send('held') AS id \gset
SELECT id, lease FROM my_worker.receive('held') \gset
SELECT my_worker.nack(:id, :lease, 'bad address');
SELECT status, attempts FROM my_queue WHERE id = :id;
-- Conflicts are tried again at once, three times in a row, each charged.
SELECT my_worker.create_queue('slow', max_attempts => 10, backoff => '1 h', backoff_max => '1 h');
SELECT my_worker.enqueue('work.fails', '{"code": "40P01"}', 'slow') AS id \gset
SELECT my_worker.run($$DO 'BEGIN RAISE ''no'' USING ERRCODE = ''40001''; END'$$, 'slow', max_attempts => 10) AS command \gset
CALL pg_temp.wait_until(format('SELECT count(*) = 2 FROM my_queue WHERE id IN (%s, %s) AND jsonb_array_length(errors) = 4', :id, :command));
SELECT e->>'sqlstate' AS code, (e->>'attempt')::integer AS attempt,
       (e->>'at')::timestamptz - lag((e->>'at')::timestamptz) OVER (PARTITION BY q.id ORDER BY e->>'attempt') < '1 s' AS soon
  FROM my_queue AS q, jsonb_array_elements(q.errors) AS e WHERE q.id IN (:id, :command) ORDER BY 1, 2;
SELECT run_at > now() + '50 min' AS after_the_backoff FROM my_queue WHERE id IN (:id, :command);
-- Another error in between, and they are counted anew. What was before a retry() does not count.
CREATE FUNCTION work.next(job bigint, code text) RETURNS void LANGUAGE sql AS $$
    UPDATE my_queue SET payload = jsonb_build_object('code', code), run_at = now() WHERE id = job
$$;
SELECT work.next(:id, '22012');
CALL pg_temp.wait_until(format('SELECT attempts = 5 FROM my_queue WHERE id = %s', :id));
SELECT work.next(:id, '40001');
CALL pg_temp.wait_until(format('SELECT attempts = 9 FROM my_queue WHERE id = %s', :id));
SELECT run_at > now() + '50 min' AS after_the_backoff FROM my_queue WHERE id = :id;
SELECT work.next(:id, '40001');
SELECT my_worker.wait(:id, '30 s');
SELECT my_worker.retry(:id);
CALL pg_temp.wait_until(format('SELECT attempts = 4 FROM my_queue WHERE id = %s', :id));
SELECT jsonb_array_length(errors) AS errors, run_at > now() + '50 min' AS after_the_backoff FROM my_queue WHERE id = :id;
-- The rules of a queue come first.
SELECT my_worker.alter_queue('slow', fail_on => '{40}');
SELECT work.next(:id, '40001');
SELECT my_worker.wait(:id, '30 s');
SELECT attempts FROM my_worker.history WHERE id = :id;
SELECT my_worker.drop_queue(q, true) FROM unnest(ARRAY['only', 'not', 'both', 'none', 'all', 'held', 'slow']) AS q;
DROP SCHEMA work CASCADE;
