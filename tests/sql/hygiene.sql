-- What a job leaves in its session is gone before the next job, and nothing that it does captures
-- the extension's own statements. One worker runs them one after the other: a queue with concurrency 1.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE ROLE regress_mw_alice LOGIN;
CREATE SCHEMA work;
GRANT ALL ON SCHEMA work TO regress_mw_alice;
GRANT CREATE ON DATABASE regression TO regress_mw_alice;
SELECT my_worker.grant_usage('regress_mw_alice');
SELECT my_worker.create_queue('one', concurrency => 1, max_attempts => 1);
CREATE TABLE work.said (n integer GENERATED ALWAYS AS IDENTITY, pid integer DEFAULT pg_backend_pid(), what text, value text);
GRANT ALL ON work.said TO regress_mw_alice;
CREATE SEQUENCE work.seq;
GRANT ALL ON work.seq TO regress_mw_alice;
SET SESSION AUTHORIZATION regress_mw_alice;
SET search_path = public;
-- Everything that can be left behind, in one job.
CREATE FUNCTION work.leaves() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    SET work_mem = '77kB';
    SET search_path = evil, pg_temp;
    PERFORM set_config('my.own', 'left', false), set_config('application_name', 'left', false);
    SET default_transaction_read_only = on;
    SET default_transaction_isolation = serializable;
    SET statement_timeout = '1 h';
    SET lock_timeout = '1 h';
    SET enable_indexscan = off;
    CREATE TEMP TABLE left_table ON COMMIT PRESERVE ROWS AS SELECT 1;
    CREATE FUNCTION pg_temp.left_function() RETURNS integer LANGUAGE sql AS 'SELECT 1';
    EXECUTE 'PREPARE left_statement AS SELECT 1';
    EXECUTE 'DECLARE left_cursor CURSOR WITH HOLD FOR SELECT 1';
    PERFORM pg_advisory_lock(4720), pg_advisory_lock_shared(4721);
    PERFORM nextval('work.seq');
    SET CONSTRAINTS ALL DEFERRED;
    PERFORM setseed(0.5);
    INSERT INTO work.said (what) VALUES ('left');
END $$;
CREATE FUNCTION work.finds() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    lastval text := 'none';
    currval text := 'none';
BEGIN
    BEGIN
        currval := currval('work.seq');
    EXCEPTION WHEN OTHERS THEN
        currval := SQLSTATE;
    END;
    BEGIN
        lastval := lastval();
    EXCEPTION WHEN OTHERS THEN
        lastval := SQLSTATE;
    END;
    INSERT INTO work.said (what, value) SELECT name, setting FROM pg_settings
     WHERE name IN ('work_mem', 'search_path', 'application_name', 'default_transaction_read_only', 'default_transaction_isolation',
                    'transaction_read_only', 'transaction_isolation', 'statement_timeout', 'lock_timeout', 'enable_indexscan', 'role',
                    'session_authorization')
       AND NOT (name = 'work_mem' AND setting::integer > 77) ORDER BY name;
    INSERT INTO work.said (what, value) VALUES
        ('my.own', coalesce(nullif(current_setting('my.own', true), ''), 'none')),
        ('temporary relations', (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema())),
        ('temporary functions', (SELECT count(*) FROM pg_proc WHERE pronamespace = pg_my_temp_schema())),
        ('prepared statements', (SELECT count(*) FROM pg_prepared_statements)),
        ('cursors', (SELECT count(*) FROM pg_cursors)),
        ('advisory locks', (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())),
        ('listening', (SELECT count(*) FROM pg_listening_channels())),
        ('currval', currval), ('lastval', lastval),
        ('users', session_user || ' ' || current_user);
END $$;
SELECT my_worker.enqueue('work.leaves', queue => 'one') AS a, my_worker.enqueue('work.finds', queue => 'one') AS b \gset
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s');
SELECT last_error FROM my_worker.history WHERE id = :a;
SELECT count(DISTINCT pid) AS processes FROM work.said;
SELECT what, value FROM work.said WHERE what <> 'left' ORDER BY n;
-- The same in one commit of several jobs, which a proven queue's are.
TRUNCATE work.said;
CREATE FUNCTION work.warms() RETURNS void LANGUAGE sql AS '';
SELECT count(my_worker.enqueue('work.warms', queue => 'one')) FROM generate_series(1, 40);
SELECT my_worker.enqueue('work.leaves', queue => 'one') AS a, my_worker.enqueue('work.finds', queue => 'one') AS b \gset
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s');
SELECT what, value FROM work.said WHERE what <> 'left' ORDER BY n;
-- So are large objects that a job leaves open, in the same commit.
TRUNCATE work.said;
CREATE FUNCTION work.opens() RETURNS void LANGUAGE sql AS
    $$INSERT INTO work.said (what, value) VALUES ('opened', lo_open(lo_create(0), 393216))$$;
CREATE FUNCTION work.reads() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO work.said (what, value) VALUES ('found', lo_tell(0));
EXCEPTION WHEN undefined_object THEN
    INSERT INTO work.said (what, value) VALUES ('found', 'none');
END $$;
SELECT my_worker.enqueue('work.opens', queue => 'one') AS a, my_worker.enqueue('work.reads', queue => 'one') AS b,
       my_worker.enqueue('work.opens', queue => 'one') AS c, my_worker.enqueue('work.reads', queue => 'one') AS d \gset
SELECT my_worker.wait(:d, '30 s');
SELECT what, value FROM work.said ORDER BY n;
SELECT count(lo_unlink(oid)) FROM pg_largeobject_metadata WHERE lomowner = 'regress_mw_alice'::regrole;
-- SET CONSTRAINTS is the job's own, too. Many in turn, so that some share a commit.
CREATE TABLE work.parents (id integer PRIMARY KEY);
CREATE TABLE work.children (id integer REFERENCES work.parents DEFERRABLE INITIALLY IMMEDIATE);
CREATE FUNCTION work.defers() RETURNS void LANGUAGE sql AS 'SET CONSTRAINTS ALL DEFERRED';
CREATE FUNCTION work.violates() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO work.children VALUES (1);
    DELETE FROM work.children;
    RETURN 'deferred';
EXCEPTION WHEN foreign_key_violation THEN
    RETURN 'immediate';
END $$;
RESET SESSION AUTHORIZATION;
SELECT my_worker.pause_queue('one');
SET SESSION AUTHORIZATION regress_mw_alice;
SELECT count(my_worker.enqueue('work.violates', queue => 'one')) FROM generate_series(1, 40);
SELECT count(my_worker.enqueue(h, queue => 'one'))
  FROM generate_series(1, 40), unnest('{work.defers,work.violates}'::text[]) AS h;
RESET SESSION AUTHORIZATION;
SELECT my_worker.resume_queue('one');
CALL pg_temp.wait_until('SELECT NOT EXISTS (SELECT FROM my_queue)');
SET SESSION AUTHORIZATION regress_mw_alice;
SELECT handler, status, result, count(*) FROM my_worker.history
 WHERE handler IN ('work.defers()', 'work.violates()') GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
-- What a failed job did is gone with it, its session settings, too.
TRUNCATE work.said;
CREATE FUNCTION work.leaves_and_fails() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM work.leaves();
    RAISE 'no';
END $$;
SELECT my_worker.enqueue('work.leaves_and_fails', queue => 'one') AS a, my_worker.enqueue('work.finds', queue => 'one') AS b \gset
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s');
SELECT what, value FROM work.said WHERE what <> 'left' ORDER BY n;
-- Becoming somebody else: denied, or only for the job itself.
TRUNCATE work.said;
RESET SESSION AUTHORIZATION;
CREATE ROLE regress_mw_group;
GRANT regress_mw_group TO regress_mw_alice;
SELECT quote_literal(current_user) AS superuser \gset
SET SESSION AUTHORIZATION regress_mw_alice;
CREATE FUNCTION work.becomes(p jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE p->>0;
    RETURN current_user;
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || current_user;
END $$;
CREATE FUNCTION work.who() RETURNS text LANGUAGE sql AS $$SELECT session_user || ' ' || current_user$$;
SELECT my_worker.enqueue('work.becomes', to_jsonb(ARRAY['SET ROLE regress_mw_group']), 'one') AS a,
       my_worker.enqueue('work.who', queue => 'one') AS b,
       my_worker.enqueue('work.becomes', to_jsonb(ARRAY['RESET ROLE']), 'one') AS c,
       my_worker.enqueue('work.becomes', to_jsonb(ARRAY['SET ROLE NONE']), 'one') AS d,
       my_worker.enqueue('work.becomes', to_jsonb(ARRAY['RESET SESSION AUTHORIZATION']), 'one') AS e,
       my_worker.enqueue('work.becomes', to_jsonb(ARRAY['SET SESSION AUTHORIZATION DEFAULT']), 'one') AS f,
       my_worker.enqueue('work.becomes', to_jsonb(ARRAY['SET SESSION AUTHORIZATION ' || quote_literal(:superuser)]), 'one') AS g,
       my_worker.enqueue('work.becomes', to_jsonb(ARRAY['SET ROLE ' || quote_literal(:superuser)]), 'one') AS h,
       my_worker.enqueue('work.becomes', to_jsonb(ARRAY['LISTEN x']), 'one') AS i,
       my_worker.enqueue('work.who', queue => 'one') AS j \gset
SELECT my_worker.wait(:j, '30 s');
SELECT result->>0 AS result FROM my_worker.history WHERE id BETWEEN :a AND :j ORDER BY id;
-- What is deferred runs as the owner: triggers, and functions behind constraints.
CREATE TABLE work.fires (a integer);
CREATE FUNCTION work.fires() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO work.said (what, value) VALUES ('at commit', session_user || ' ' || current_user || ' ' || current_setting('is_superuser'));
    RETURN NULL;
END $$;
CREATE FUNCTION work.leaves_late() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM work.leaves();
    RETURN NULL;
END $$;
CREATE TABLE work.late (a integer);
CREATE CONSTRAINT TRIGGER leaves AFTER INSERT ON work.late DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION work.leaves_late();
CREATE CONSTRAINT TRIGGER fires AFTER INSERT ON work.fires DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION work.fires();
CREATE FUNCTION work.writes() RETURNS void LANGUAGE sql AS 'INSERT INTO work.fires VALUES (1)';
SELECT my_worker.enqueue('work.writes', queue => 'one') AS a \gset
SELECT my_worker.wait(:a, '30 s');
SELECT what, value FROM work.said;
-- What it leaves is gone like the rest.
CREATE FUNCTION work.late() RETURNS void LANGUAGE sql AS 'INSERT INTO work.late VALUES (1)';
TRUNCATE work.said;
SELECT my_worker.enqueue('work.late', queue => 'one') AS a, my_worker.enqueue('work.finds', queue => 'one') AS b \gset
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s');
SELECT last_error FROM my_worker.history WHERE id = :a;
SELECT what, value FROM work.said WHERE what <> 'left' ORDER BY n;
-- A schema with objects of our names, first in the path and in the role's settings; temporary ones; operators.
CREATE SCHEMA evil;
CREATE TABLE evil.captured (what text);
CREATE TABLE evil.my_queue (LIKE public.my_queue);
CREATE TABLE evil.history (LIKE my_worker.history);
CREATE TABLE evil.queues (name text, paused boolean);
CREATE FUNCTION evil.captures(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO evil.captured VALUES ('operator as ' || current_user);
    RETURN true;
END $$;
CREATE OPERATOR evil.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.captures);
CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO evil.captured VALUES ('now() as ' || current_user);
    RETURN '-infinity';
END $$;
CREATE FUNCTION evil."coalesce"(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION work.captures() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    CREATE TEMP TABLE my_queue (LIKE public.my_queue);
    CREATE TEMP TABLE history (LIKE my_worker.history);
    CREATE TEMP TABLE queues (name text, paused boolean);
    CREATE TEMP TABLE pg_extension AS SELECT 'my_worker' AS extname;
    CREATE TEMP TABLE pg_class AS SELECT 'my_queue' AS relname;
    SET search_path = evil, pg_temp, pg_catalog;
    PERFORM my_worker.enqueue('work.warms', queue => 'one', unique_key => 'k');
    PERFORM my_worker.cancel(my_worker.enqueue('work.warms', queue => 'one', run_at => 'infinity'));
    PERFORM my_worker.progress(50);
    INSERT INTO public.my_queue (queue, handler) VALUES ('one', 'work.warms');
    RETURN my_worker.current_job() IS NOT NULL;
END $$;
CREATE FUNCTION work.captures_and_fails() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM work.captures();
    RAISE 'no';
END $$;
RESET SESSION AUTHORIZATION;
ALTER ROLE regress_mw_alice SET search_path = evil, pg_catalog;
CALL pg_temp.wait_until('SELECT my_worker.cancel(-1) IS NOT NULL');
-- A new session of hers, so that the setting holds in it.
SELECT count(pg_terminate_backend(pid)) > 0 AS terminated FROM my_worker.workers WHERE role = 'regress_mw_alice';
SET SESSION AUTHORIZATION regress_mw_alice;
SET search_path = evil, pg_temp, pg_catalog;
SELECT my_worker.enqueue('work.captures', queue => 'one') AS a, my_worker.enqueue('work.captures_and_fails', queue => 'one', max_attempts => 1) AS b,
       my_worker.enqueue('work.captures', queue => 'one') AS c \gset
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s'), my_worker.wait(:c, '30 s');
RESET SESSION AUTHORIZATION;
RESET search_path;
CALL pg_temp.wait_until('SELECT NOT EXISTS (SELECT FROM my_queue WHERE queue = ''one'')');
SELECT id - :a AS job, status, result, last_error FROM my_worker.history WHERE id IN (:a, :b, :c) ORDER BY id;
SELECT status, count(*) FROM my_worker.history WHERE handler LIKE 'work.warms(%' AND id > :a GROUP BY status ORDER BY status;
SELECT * FROM evil.captured;
SELECT count(*) FROM evil.my_queue;
SELECT count(*) FROM evil.history;
-- Settings that would turn our statements' work elsewhere: isolation, read-only, plans, replication.
SET SESSION AUTHORIZATION regress_mw_alice;
CREATE FUNCTION work.reads_only() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    SET TRANSACTION READ ONLY;
    SET LOCAL enable_indexscan = off;
    SET LOCAL row_security = off;
    RETURN current_setting('transaction_read_only');
END $$;
SELECT my_worker.enqueue('work.reads_only', queue => 'one') AS a, my_worker.enqueue('work.reads_only', queue => 'one') AS b,
       my_worker.enqueue('work.writes', queue => 'one') AS c \gset
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s'), my_worker.wait(:c, '30 s');
SELECT result, last_error FROM my_worker.history WHERE id IN (:a, :b, :c) ORDER BY id;
RESET SESSION AUTHORIZATION;
ALTER ROLE regress_mw_alice SET default_transaction_read_only = on;
ALTER ROLE regress_mw_alice SET default_transaction_isolation = 'serializable';
SELECT count(pg_terminate_backend(pid)) > 0 AS terminated FROM my_worker.workers WHERE role = 'regress_mw_alice';
SET SESSION AUTHORIZATION regress_mw_alice;
CREATE FUNCTION work.tells() RETURNS text LANGUAGE sql AS
    $$SELECT current_setting('transaction_read_only') || ' ' || current_setting('transaction_isolation')$$;
SELECT my_worker.enqueue('work.tells', queue => 'one') AS a, my_worker.enqueue('work.writes', queue => 'one', max_attempts => 1) AS b \gset
SELECT my_worker.wait(:a, '30 s'), my_worker.wait(:b, '30 s');
SELECT result, errors->0->>'sqlstate' AS sqlstate FROM my_worker.history WHERE id IN (:a, :b) ORDER BY id;
RESET SESSION AUTHORIZATION;
SELECT my_worker.drop_queue('one', true);
SELECT my_worker.revoke_usage('regress_mw_alice');
\set VERBOSITY terse
DROP SCHEMA work, evil CASCADE;
DROP OWNED BY regress_mw_alice, regress_mw_group;
DROP ROLE regress_mw_alice, regress_mw_group;
