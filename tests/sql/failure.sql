-- What a failed attempt leaves: nothing of its effects, and all of its error.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE SCHEMA work;
CREATE TABLE work.t (said text);
CREATE FUNCTION work.bad() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO work.t VALUES ('effect');
    RAISE EXCEPTION 'it broke' USING ERRCODE = 'ZZ123', DETAIL = 'a detail', HINT = 'a hint';
END $$;
SELECT my_worker.create_queue('fast', max_attempts => 3, backoff => '0', backoff_max => '0');
SELECT my_worker.enqueue('work.bad', queue => 'fast') AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT status, attempts, max_attempts, last_error, result, finished_at >= started_at AS times
  FROM my_worker.history WHERE id = :id;
SELECT count(*) AS effects FROM work.t;
-- One object an attempt.
SELECT jsonb_typeof(errors) AS type, jsonb_array_length(errors) AS length FROM my_worker.history WHERE id = :id;
SELECT e->'attempt' AS attempt, e->>'sqlstate' AS sqlstate, e->>'message' AS message, e->>'detail' AS detail,
       e->>'hint' AS hint, e->>'context' AS context, (e->>'at')::timestamptz <= now() AS at
  FROM my_worker.history, jsonb_array_elements(errors) AS e WHERE id = :id;
SELECT DISTINCT key FROM my_worker.history, jsonb_array_elements(errors) AS e, jsonb_object_keys(e) AS key
 WHERE id = :id ORDER BY key;
-- What is not there is null, not missing.
CREATE FUNCTION work.plain() RETURNS integer LANGUAGE sql AS 'SELECT 1 / (random() * 0)::integer';
SELECT my_worker.enqueue('work.plain', queue => 'fast', max_attempts => 1) AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT attempts, last_error, jsonb_pretty(jsonb_set(errors, '{0,at}', '"time"')) AS errors
  FROM my_worker.history WHERE id = :id;
-- Retry puts it back: the same id, no attempts, what was wrong is still to be read.
CREATE OR REPLACE FUNCTION work.bad() RETURNS void LANGUAGE sql AS $$INSERT INTO work.t VALUES ('good')$$;
SELECT my_worker.pause_queue('fast');
SELECT id AS bad FROM my_worker.history WHERE queue = 'fast' AND handler LIKE 'work.bad(%' \gset
SELECT my_worker.retry(:bad);
SELECT status, attempts, run_at <= now() AS due, last_error, owner = current_user::regrole AS own FROM my_queue
 WHERE id = :bad;
SELECT count(*) FROM my_worker.history WHERE id = :bad;
SELECT my_worker.retry(:bad) AS again, my_worker.retry(-1) AS unknown;
SELECT my_worker.resume_queue('fast');
SELECT my_worker.wait(:bad, '30 s');
SELECT status, attempts FROM my_worker.history WHERE id = :bad;
SELECT * FROM work.t;
SELECT my_worker.retry(:bad) AS completed;
-- Backoff: base, doubled for each attempt, up to the cap, within ten per cent.
SELECT my_worker.create_queue('slow', max_attempts => 10, backoff => '1 h', backoff_max => '5 h');
CREATE FUNCTION work.always() RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END $$;
SELECT my_worker.enqueue('work.always', queue => 'slow') AS id \gset
CALL pg_temp.wait_until(format('SELECT attempts = 1 FROM my_queue WHERE id = %s', :id));
SELECT status, attempts, last_error, extract(epoch FROM run_at - (errors->0->>'at')::timestamptz) BETWEEN 3240 AND 3960 AS one_hour
  FROM my_queue WHERE id = :id;
UPDATE my_queue SET run_at = now() WHERE id = :id;
CALL pg_temp.wait_until(format('SELECT attempts = 2 FROM my_queue WHERE id = %s', :id));
SELECT extract(epoch FROM run_at - (errors->1->>'at')::timestamptz) BETWEEN 6480 AND 7920 AS two_hours FROM my_queue WHERE id = :id;
UPDATE my_queue SET run_at = now() WHERE id = :id;
CALL pg_temp.wait_until(format('SELECT attempts = 3 FROM my_queue WHERE id = %s', :id));
SELECT extract(epoch FROM run_at - (errors->2->>'at')::timestamptz) BETWEEN 12960 AND 15840 AS four_hours FROM my_queue WHERE id = :id;
UPDATE my_queue SET run_at = now() WHERE id = :id;
CALL pg_temp.wait_until(format('SELECT attempts = 4 FROM my_queue WHERE id = %s', :id));
SELECT extract(epoch FROM run_at - (errors->3->>'at')::timestamptz) BETWEEN 16200 AND 19800 AS five_hours FROM my_queue WHERE id = :id;
SELECT status, attempts, jsonb_array_length(errors) AS errors, last_error FROM my_worker.jobs WHERE id = :id;
SELECT my_worker.cancel(:id);
-- A job's own limit goes before the queue's.
SELECT my_worker.enqueue('work.always', queue => 'slow', max_attempts => 1) AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT attempts FROM my_worker.history WHERE id = :id;
-- A deferred constraint fails its own job; the others of the same commit are done.
CREATE TABLE work.p (id integer PRIMARY KEY);
CREATE TABLE work.c (id integer REFERENCES work.p DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION work.child(p jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO work.c VALUES ((p->>0)::integer)';
INSERT INTO work.p VALUES (1), (2), (3);
SELECT my_worker.pause_queue('fast');
SELECT count(my_worker.enqueue('work.child', to_jsonb(n), 'fast')) FROM generate_series(1, 4) AS n;
SELECT my_worker.resume_queue('fast');
CALL pg_temp.wait_until('SELECT NOT EXISTS (SELECT FROM my_queue)');
SELECT payload, status, attempts, errors->0->>'sqlstate' AS sqlstate FROM my_worker.history
 WHERE handler LIKE 'work.child(%' ORDER BY payload;
SELECT * FROM work.c ORDER BY id;
-- Some of many in one commit fail, in each language: the others' effects are there, theirs are not.
CREATE TABLE work.n (language text, n integer);
CREATE FUNCTION work.some_sql(p jsonb) RETURNS integer LANGUAGE sql AS $$
    INSERT INTO work.n VALUES ('sql', p::integer);
    SELECT 1 / (p::integer % 3) $$;
CREATE FUNCTION work.some_plpgsql(p jsonb) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO work.n VALUES ('plpgsql', p::integer);
    RETURN 1 / (p::integer % 3);
END $$;
SELECT my_worker.pause_queue('fast');
SELECT count(my_worker.enqueue(h, to_jsonb(n), 'fast', max_attempts => 1))
  FROM generate_series(1, 99) AS n, unnest('{work.some_sql,work.some_plpgsql}'::text[]) AS h;
SELECT my_worker.resume_queue('fast');
CALL pg_temp.wait_until('SELECT NOT EXISTS (SELECT FROM my_queue)');
SELECT handler, status, errors->0->>'sqlstate' AS sqlstate, count(*) FROM my_worker.history
 WHERE handler LIKE 'work.some\_%' GROUP BY 1, 2, 3 ORDER BY 1, 2;
SELECT language, count(*), count(DISTINCT n) AS different FROM work.n GROUP BY language ORDER BY language;
-- Long texts are cut between characters, and nobody's trouble: a message, detail and hint of a megabyte.
CREATE FUNCTION work.long() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE '%', repeat('ä', 500000) USING DETAIL = repeat('ö', 500000), HINT = repeat('ü', 500000);
END $$;
SELECT my_worker.enqueue('work.long', queue => 'fast', max_attempts => 1) AS id \gset
SELECT my_worker.wait(:id, '30 s');
SELECT octet_length(last_error) BETWEEN 1000 AND 8192 AS last_error, (last_error ~ '^ä+$' OR getdatabaseencoding() = 'SQL_ASCII') AS whole,
       octet_length(errors::text) < 40000 AS errors FROM my_worker.history WHERE id = :id;
-- An error in what turns the result into jsonb is the job's.
CREATE FUNCTION work.bad_json() RETURNS text LANGUAGE sql AS $$SELECT repeat('x', 300000000)$$;
SELECT my_worker.enqueue('work.bad_json', queue => 'fast', max_attempts => 1) AS id \gset
SELECT my_worker.wait(:id, '120 s');
SELECT status, errors->0->>'sqlstate' AS sqlstate FROM my_worker.history WHERE id = :id;
-- An attempt that ends its own process costs an attempt, and says so.
CREATE FUNCTION work.suicide() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO work.t VALUES ('suicide');
    PERFORM pg_terminate_backend(pg_backend_pid());
END $$;
SELECT my_worker.enqueue('work.suicide', queue => 'fast', max_attempts => 1) AS id \gset
SELECT my_worker.wait(:id, '60 s');
SELECT status, attempts, errors->0->>'sqlstate' AS sqlstate FROM my_worker.history WHERE id = :id;
SELECT count(*) AS effects FROM work.t WHERE said = 'suicide';
SELECT my_worker.drop_queue('fast'), my_worker.drop_queue('slow');
DROP SCHEMA work CASCADE;
