-- import_pgmq(): messages of pgmq become jobs for consumers. The tables stand here as pgmq 1.4 and 1.5 make them.
\set SHOW_CONTEXT never
CREATE SCHEMA pgmq;
CREATE TABLE pgmq.q_orders (
    msg_id BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY, read_ct INT DEFAULT 0 NOT NULL,
    enqueued_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL, vt TIMESTAMP WITH TIME ZONE NOT NULL, message JSONB);
CREATE INDEX ON pgmq.q_orders (vt ASC);
CREATE TABLE pgmq.q_mails (
    msg_id BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY, read_ct INT DEFAULT 0 NOT NULL,
    enqueued_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL, vt TIMESTAMP WITH TIME ZONE NOT NULL, message JSONB, headers JSONB);
CREATE INDEX ON pgmq.q_mails (vt ASC);
CREATE FUNCTION public.mw_nothing() RETURNS void LANGUAGE sql AS '';

-- A queue of that name is here, without a handler, and there.
SELECT * FROM my_worker.import_pgmq('orders');
SELECT my_worker.create_queue('orders', max_attempts => 3, handler => 'public.mw_nothing');
SELECT * FROM my_worker.import_pgmq('orders');
SELECT my_worker.drop_queue('orders');
SELECT my_worker.create_queue(q, max_attempts => 3) FROM unnest('{orders, Mails, other}'::text[]) AS q;
SELECT * FROM my_worker.import_pgmq('other');
SELECT * FROM my_worker.import_pgmq(NULL);
SELECT * FROM my_worker.import_pgmq('orders', NULL);
SELECT * FROM my_worker.import_pgmq('orders');
SELECT * FROM my_worker.import_pgmq('orders', false);

-- The old shape: read or not, visible or not, of any age.
INSERT INTO pgmq.q_orders (read_ct, enqueued_at, vt, message) VALUES
    (0, '2026-01-01 12:00+00', '2026-01-01 12:00+00', '{"n": 1}'), (1, '2026-01-01 12:01+00', '2026-01-01 13:00+00', '[2]'),
    (70, now(), '2126-01-01 00:00+00', '"3"'), (0, now(), 'infinity', NULL);
SET timezone = 'UTC';
SELECT * FROM my_worker.import_pgmq('orders');
SELECT count(*) FROM my_queue WHERE queue = 'orders';
BEGIN;
SELECT source_id, name, outcome, detail LIKE 'job %' AS job FROM my_worker.import_pgmq('orders', dry_run => false);
SELECT count(*) FROM pgmq.q_orders;
ROLLBACK;
SELECT count(*) FROM pgmq.q_orders;
CREATE TEMP TABLE imported AS SELECT * FROM my_worker.import_pgmq('orders', false);
SELECT i.source_id, i.outcome, i.detail = 'job ' || q.id AS job FROM imported AS i
    LEFT JOIN my_queue AS q ON q.queue = 'orders' AND q.headers->'pgmq_msg_id' = to_jsonb(i.source_id) ORDER BY 1;
SELECT payload, headers, attempts, status, handler, kind, owner = current_user::regrole AS mine, run_at IN ('2126-01-01 00:00+00', 'infinity') AS later,
       created_at = '2026-01-01 12:00+00' AS sent
  FROM my_queue WHERE queue = 'orders' ORDER BY id;
SELECT count(*) FROM pgmq.q_orders;
SELECT * FROM my_worker.import_pgmq('orders', false);
SELECT payload, headers, attempt, max_attempts FROM my_worker.receive('orders', 10);
DISCARD ALL;
SET timezone = 'UTC';

-- The new shape; pgmq has names in lower case.
INSERT INTO pgmq.q_mails (vt, message, headers) VALUES
    (now(), '{"n": 1}', '{"trace": 7}'), (now(), '{"n": 2}', NULL), (now(), '{"n": 3}', '[1]'), (now(), '{"n": 4}', '{"pgmq_msg_id": "mine"}'),
    (now(), '{"n": 5}', 'null');
SELECT source_id, name, outcome FROM my_worker.import_pgmq('Mails', false);
SELECT payload, headers FROM my_queue WHERE queue = 'Mails' ORDER BY id;

-- Odd names, and what is no table of pgmq.
SELECT * FROM my_worker.import_pgmq('o''; DROP TABLE pgmq.q_orders; --');
SELECT my_worker.create_queue('o"x%s');
CREATE TABLE pgmq."q_o""x%s" (LIKE pgmq.q_mails INCLUDING ALL);
INSERT INTO pgmq."q_o""x%s" (vt, message) VALUES (now(), '1');
SELECT source_id, name, outcome FROM my_worker.import_pgmq('o"x%s', false);
CREATE VIEW pgmq.q_other AS SELECT * FROM pgmq.q_mails;
SELECT * FROM my_worker.import_pgmq('other');
DROP VIEW pgmq.q_other;
CREATE TABLE pgmq.q_other (msg_id bigint, read_ct int, enqueued_at timestamptz, vt timestamp, message jsonb);
SELECT * FROM my_worker.import_pgmq('other');
DROP TABLE pgmq.q_other;
-- A partitioned queue.
CREATE TABLE pgmq.q_other (LIKE pgmq.q_mails INCLUDING DEFAULTS INCLUDING IDENTITY) PARTITION BY RANGE (msg_id);
CREATE TABLE pgmq.q_other_p0 PARTITION OF pgmq.q_other FOR VALUES FROM (0) TO (3);
CREATE TABLE pgmq.q_other_p1 PARTITION OF pgmq.q_other FOR VALUES FROM (3) TO (100);
INSERT INTO pgmq.q_other (vt, message) SELECT now(), to_jsonb(g) FROM generate_series(1, 5) AS g;
SELECT count(*) FROM my_worker.import_pgmq('other', false) WHERE outcome = 'imported';
SELECT count(*) FROM pgmq.q_other;

-- 100,000 messages, in order, and some of a megabyte.
INSERT INTO pgmq.q_orders (vt, message) SELECT now(), jsonb_build_object('n', g) FROM generate_series(1, 100000) AS g;
INSERT INTO pgmq.q_orders (vt, message) SELECT now(), to_jsonb(repeat('x', 3000000)) FROM generate_series(1, 20);
SELECT my_worker.purge_queue('orders') > 0 AS purged;
SELECT count(*), count(*) FILTER (WHERE outcome = 'imported') AS imported, bool_and(source_id > before) AS in_order
  FROM (SELECT *, lag(source_id, 1, 0::bigint) OVER () AS before FROM my_worker.import_pgmq('orders', false)) AS i;
SELECT bool_and((headers->'pgmq_msg_id')::bigint > before) AS in_order FROM (
    SELECT *, lag((headers->'pgmq_msg_id')::bigint, 1, 0::bigint) OVER (ORDER BY id) AS before FROM my_queue WHERE queue = 'orders') AS q;
SELECT my_worker.purge_queue('orders'), (SELECT count(*) FROM pgmq.q_orders) AS left;

-- Whose: with the caller's rights on the table.
CREATE ROLE regress_mw_mover LOGIN;
CREATE ROLE regress_mw_queuer LOGIN;
SELECT my_worker.grant_usage('regress_mw_mover');
INSERT INTO pgmq.q_orders (vt, message) SELECT now(), to_jsonb(g) FROM generate_series(1, 3) AS g;
SET ROLE regress_mw_mover;
SELECT * FROM my_worker.import_pgmq('orders');
RESET ROLE;
GRANT USAGE ON SCHEMA pgmq TO regress_mw_mover;
GRANT SELECT ON pgmq.q_orders TO regress_mw_mover;
SET ROLE regress_mw_mover;
SELECT * FROM my_worker.import_pgmq('orders', false);
RESET ROLE;
GRANT UPDATE, DELETE ON pgmq.q_orders TO regress_mw_mover;
SET ROLE regress_mw_mover;
SELECT count(*) FROM my_worker.import_pgmq('orders', false);
SELECT DISTINCT owner FROM my_queue WHERE queue = 'orders';
RESET ROLE;
REVOKE EXECUTE ON FUNCTION my_worker.import_pgmq FROM regress_mw_mover;
SET ROLE regress_mw_mover;
SELECT count(*) FROM my_worker.import_pgmq('orders', false);
RESET ROLE;

-- A table that is another role's: as long as it is plain, and nothing runs with the caller's rights.
SELECT my_worker.create_queue('trap');
CREATE TABLE pgmq.q_trap (LIKE pgmq.q_mails INCLUDING ALL);
INSERT INTO pgmq.q_trap (vt, message) VALUES (now(), '1');
ALTER TABLE pgmq.q_trap OWNER TO regress_mw_queuer;
GRANT ALL ON SCHEMA pgmq TO regress_mw_queuer;
SELECT outcome FROM my_worker.import_pgmq('trap', false);
CREATE FUNCTION public.mw_trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'runs as %', current_user; END $$;
CREATE FUNCTION public.mw_trap(i int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'folded as %', current_user; END $$;
GRANT CREATE ON SCHEMA public TO regress_mw_queuer;
SET ROLE regress_mw_queuer;
INSERT INTO pgmq.q_trap (vt, message) VALUES (now(), '2');
CREATE TRIGGER trap BEFORE DELETE ON pgmq.q_trap FOR EACH ROW EXECUTE FUNCTION public.mw_trap();
RESET ROLE;
SELECT * FROM my_worker.import_pgmq('trap', false);
SET ROLE regress_mw_queuer;
DROP TRIGGER trap ON pgmq.q_trap;
ALTER TABLE pgmq.q_trap ADD CHECK (public.mw_trap(msg_id::int)) NOT VALID;
RESET ROLE;
SELECT * FROM my_worker.import_pgmq('trap', false);
-- Nor where somebody was granted the right to a trigger.
GRANT TRIGGER ON pgmq.q_mails TO regress_mw_queuer;
ALTER FUNCTION public.mw_trap() OWNER TO regress_mw_queuer;
SET ROLE regress_mw_queuer;
CREATE TRIGGER trap BEFORE INSERT ON pgmq.q_mails FOR EACH ROW WHEN (NEW.msg_id < 0) EXECUTE FUNCTION public.mw_trap();
RESET ROLE;
SELECT * FROM my_worker.import_pgmq('Mails', false);
SET ROLE regress_mw_queuer;
CREATE TRIGGER trap2 BEFORE DELETE ON pgmq.q_mails FOR EACH ROW EXECUTE FUNCTION public.mw_trap();
RESET ROLE;
SELECT * FROM my_worker.import_pgmq('Mails', false);
ALTER SCHEMA pgmq OWNER TO regress_mw_queuer;
SELECT * FROM my_worker.import_pgmq('trap', false);

SELECT my_worker.drop_queue(q, force => true) FROM unnest(ARRAY['orders', 'Mails', 'other', 'trap', 'o"x%s']) AS q;
DROP SCHEMA pgmq CASCADE;
DROP FUNCTION public.mw_trap(), public.mw_trap(int), public.mw_nothing();
REVOKE CREATE ON SCHEMA public FROM regress_mw_queuer;
SELECT my_worker.revoke_usage('regress_mw_mover');
DROP ROLE regress_mw_mover, regress_mw_queuer;
