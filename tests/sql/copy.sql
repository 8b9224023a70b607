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
-- (refused before any data is read)
COPY my_queue (queue, handler, payload, owner) FROM STDIN;
COPY my_queue FROM STDIN;
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
-- A role without any right is refused as ever.
SET ROLE copy_bob;
COPY my_queue (queue, handler, payload) FROM STDIN;
RESET ROLE;
SELECT queue, handler, payload, owner FROM my_queue WHERE queue = 'copied' ORDER BY id;
SELECT my_worker.drop_queue('copied', force := true);
SELECT my_worker.revoke_usage('copy_alice');
DROP FUNCTION public.copy_handler(jsonb), public.copy_secret(jsonb);
DROP ROLE copy_alice, copy_bob;
