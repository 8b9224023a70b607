-- COPY FROM STDIN by a role that row-level security applies to: the same effect as INSERT.
CREATE ROLE copy_alice LOGIN;
CREATE ROLE copy_bob LOGIN;
SELECT my_worker.grant_usage('copy_alice');
SELECT my_worker.create_queue('copied');
SELECT my_worker.pause_queue('copied');
CREATE FUNCTION public.copy_handler(jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION public.copy_secret(jsonb) RETURNS void LANGUAGE sql AS '';
REVOKE ALL ON FUNCTION public.copy_secret(jsonb) FROM PUBLIC;
SET ROLE copy_alice;
COPY my_queue (queue, handler, payload) FROM STDIN;
copied	copy_handler	{"n": 1}
copied	public.copy_handler	{"n": 2}
\.
-- What the trigger refuses to INSERT it refuses to COPY, and the error leaves nobody standing in.
\set VERBOSITY terse
COPY my_queue (queue, handler, payload) FROM STDIN;
copied	copy_secret	{}
\.
COPY my_queue (queue, handler, payload) FROM STDIN;
nowhere	copy_handler	{}
\.
-- Refused before any data is read. (\copy, since versions of psql differ in what they read after such an error.)
\copy my_queue (queue, handler, payload, owner) FROM /dev/null
\copy my_queue FROM /dev/null
SELECT current_user;
BEGIN;
SAVEPOINT s;
COPY my_queue (queue, handler, payload) FROM STDIN;
nowhere	copy_handler	{}
\.
ROLLBACK TO s;
INSERT INTO my_queue (queue, handler) VALUES ('copied', 'copy_handler');
COMMIT;
RESET ROLE;
-- It runs as the caller alone: a table of that name which the queue's owner would find first is not filled.
SELECT current_user AS owner, current_database() AS database \gset
GRANT CREATE ON DATABASE :"database" TO copy_alice;
SET ROLE copy_alice;
CREATE SCHEMA :"owner";
CREATE TABLE :"owner".my_queue (queue text, handler text, payload jsonb, by name DEFAULT current_user);
COPY my_queue (queue, handler, payload) FROM STDIN;
copied	copy_handler	{"n": 3}
\.
SELECT count(*) AS elsewhere FROM :"owner".my_queue;
DROP TABLE :"owner".my_queue;
DROP SCHEMA :"owner";
RESET ROLE;
REVOKE CREATE ON DATABASE :"database" FROM copy_alice;
-- A policy that is not the extension's may want more than its trigger checks.
CREATE POLICY more ON my_worker._jobs AS RESTRICTIVE FOR INSERT WITH CHECK (queue <> 'copied');
SET ROLE copy_alice;
\copy my_queue (queue, handler, payload) FROM /dev/null
RESET ROLE;
DROP POLICY more ON my_worker._jobs;
-- Statements of a read-only transaction, or without the right to a column, are refused as ever.
SET ROLE copy_alice;
BEGIN READ ONLY;
\copy my_queue (queue, handler, payload) FROM /dev/null
ROLLBACK;
\copy my_queue (queue, attempts) FROM /dev/null
\copy my_queue (queue, nothing) FROM /dev/null
RESET ROLE;
-- A role without any right is refused as ever.
SET ROLE copy_bob;
\copy my_queue (queue, handler, payload) FROM /dev/null
RESET ROLE;
SELECT queue, handler, payload, owner FROM my_queue WHERE queue = 'copied' ORDER BY id;
SELECT my_worker.drop_queue('copied', force := true);
SELECT my_worker.revoke_usage('copy_alice');
DROP FUNCTION public.copy_handler(jsonb), public.copy_secret(jsonb);
DROP ROLE copy_alice, copy_bob;
