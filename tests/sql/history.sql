-- What is kept of jobs that have ended, and what might keep it from being forgotten.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE SCHEMA work;
CREATE FUNCTION work.bad() RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END $$;
CREATE FUNCTION work.good() RETURNS void LANGUAGE sql AS '';
SELECT my_worker.create_queue('briefly', max_attempts => 1, retention => '1 us');
-- A queue that keeps its history, and waits, for as long as any may.
SELECT my_worker.create_queue('for_ever', retention => '1000 years', timeout => '1000 years',
                              backoff => '1000 years', backoff_max => '1000 years');
SELECT my_worker.enqueue('work.good', queue => 'briefly') AS a, my_worker.enqueue('work.good', queue => 'for_ever') AS b,
       my_worker.enqueue('work.bad', queue => 'for_ever') AS c \gset
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s');
CALL pg_temp.wait_until(format('SELECT attempts = 1 AND run_at > now() + interval ''100 years'' FROM my_queue WHERE id = %s', :c));
SELECT my_worker.cancel(:c);
-- All tables of the database are published: rows can be taken out of the history all the same.
SET client_min_messages = error;
CREATE PUBLICATION regress_mw FOR ALL TABLES;
RESET client_min_messages;
SELECT my_worker.retry(:c);
SELECT my_worker.cancel(:c);
SELECT my_worker.wait(:c, '30 s');
-- A keeper looks for what is too old when it starts.
SELECT pid AS keeper FROM my_worker.workers WHERE kind = 'keeper' AND database = current_database() \gset
SELECT pg_terminate_backend(:keeper);
CALL pg_temp.wait_until(format('SELECT NOT EXISTS (SELECT FROM my_worker.history WHERE id = %s)', :a));
SELECT status FROM my_worker.history WHERE id IN (:b, :c) ORDER BY id;
SELECT my_worker.purge_queue('for_ever');
DROP PUBLICATION regress_mw;
SELECT my_worker.drop_queue('briefly'), my_worker.drop_queue('for_ever');
DROP SCHEMA work CASCADE;
