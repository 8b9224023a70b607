-- The history is written many rows at a time, yet whatever a job reads of it is all there: rows of jobs before it
-- in the same transaction, also when what has read them is rolled back.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
CREATE TABLE saw (n integer GENERATED ALWAYS AS IDENTITY, how text, job bigint, before bigint, transaction xid8 DEFAULT pg_current_xact_id());
CREATE FUNCTION counted(id bigint) RETURNS bigint LANGUAGE sql AS
    $$ SELECT count(*) FROM my_worker.history AS h WHERE h.queue = 'kept' AND h.id < $1 $$;
CREATE FUNCTION counted_apart(id bigint) RETURNS bigint LANGUAGE plpgsql PARALLEL SAFE AS
    $$ BEGIN RETURN counted_safe(id); END $$;
CREATE FUNCTION counted_safe(id bigint) RETURNS bigint LANGUAGE sql PARALLEL SAFE AS
    $$ SELECT count(*) FROM my_worker.history AS h WHERE h.queue = 'kept' AND h.id < $1 $$;
CREATE FUNCTION looks(id bigint, how jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    seen bigint;
    open refcursor;
    status text;
BEGIN
    CASE how->>0
        WHEN 'nothing' THEN
            RETURN;
        WHEN 'table' THEN
            seen := (SELECT count(*) FROM my_worker.history AS h WHERE h.queue = 'kept' AND h.id < looks.id);
        WHEN 'view' THEN
            SELECT count(*) INTO seen FROM my_worker.jobs AS j
                WHERE j.queue = 'kept' AND j.status = 'completed' AND j.id < looks.id;
        WHEN 'index' THEN
            SELECT count(*) INTO seen FROM generate_series(looks.id - 40, looks.id - 1) AS i
                WHERE EXISTS (SELECT FROM my_worker.history AS h WHERE h.id = i);
            seen := seen + counted(looks.id - 40);
        WHEN 'function' THEN
            seen := counted(looks.id);
        WHEN 'cursor' THEN
            OPEN open FOR SELECT counted(looks.id);
            FETCH open INTO seen;
        WHEN 'rolled back' THEN
            BEGIN
                seen := counted(looks.id);
                RAISE division_by_zero;
            EXCEPTION WHEN division_by_zero THEN
                INSERT INTO saw (how, job, before) VALUES ('within', looks.id, seen);
            END;
            seen := counted(looks.id);
        WHEN 'nested' THEN
            BEGIN
                BEGIN
                    seen := counted(looks.id);
                EXCEPTION WHEN division_by_zero THEN
                    NULL;
                END;
                RAISE division_by_zero;
            EXCEPTION WHEN division_by_zero THEN
                NULL;
            END;
            RETURN;
        WHEN 'copy' THEN
            COPY my_worker.history TO '/dev/null';
            GET DIAGNOSTICS seen = ROW_COUNT;
        WHEN 'parallel' THEN
            PERFORM set_config((SELECT name FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query')), 'on', true);
            seen := (SELECT counted_apart(looks.id));
        WHEN 'fails once' THEN
            IF NOT EXISTS (SELECT FROM my_queue AS q WHERE q.id = looks.id AND attempts > 0) THEN
                PERFORM counted(looks.id);
                RAISE EXCEPTION 'once';
            END IF;
            RETURN;
    END CASE;
    INSERT INTO saw (how, job, before) VALUES (how->>0, id, seen);
END $$;
SELECT my_worker.create_queue('kept', handler => 'looks', concurrency => 1, max_attempts => 2, backoff => '1 ms');
-- A queue that has proved fast, so that its jobs share transactions.
INSERT INTO my_queue (queue, payload) SELECT 'kept', '["nothing"]' FROM generate_series(1, 100);
CALL pg_temp.wait_until($$SELECT NOT EXISTS (SELECT FROM my_queue)$$);
SELECT my_worker.pause_queue('kept');
-- From now on the index by time knows the pages that rows come to.
SELECT brin_summarize_new_values('my_worker.history_finished_at_idx') IS NOT NULL AS summarized;
INSERT INTO my_queue (queue, payload) SELECT 'kept', jsonb_build_array(CASE i % 5 WHEN 0 THEN how ELSE 'nothing' END)
    FROM unnest('{table,view,index,function,cursor,rolled back,nested,fails once,copy,parallel}'::text[]) WITH ORDINALITY AS u (how, o), generate_series(1, 20) AS i
    ORDER BY o, i;
SELECT my_worker.resume_queue('kept');
CALL pg_temp.wait_until($$SELECT NOT EXISTS (SELECT FROM my_queue)$$);
-- Each saw all jobs before it that were not to be tried again.
SELECT how, count(*) AS times,
       bool_and(before >= (SELECT count(*) FROM my_worker.history AS h WHERE h.queue = 'kept' AND h.id < s.job AND h.attempts = 1)) AS all_seen
    FROM saw AS s GROUP BY how ORDER BY how;
-- Some of them were in a transaction with others that were seen.
SELECT count(*) > count(DISTINCT transaction) AS shared FROM saw;
-- The history is whole, and so are its indexes.
SELECT status, attempts, count(*), count(DISTINCT id) FROM my_worker.history WHERE queue = 'kept' GROUP BY 1, 2 ORDER BY 2;
SELECT array_agg(id) AS ids, array_agg(finished_at) AS times FROM my_worker.history WHERE queue = 'kept' \gset
SET enable_seqscan = off;
SELECT count(*) FROM unnest(:'ids'::bigint[]) AS i WHERE (SELECT h.queue FROM my_worker.history AS h WHERE h.id = i) = 'kept';
SELECT count(*) FROM unnest(:'times'::timestamptz[]) AS t WHERE EXISTS (SELECT FROM my_worker.history AS h WHERE h.finished_at = t);
SELECT my_worker.drop_queue('kept', true);
DROP FUNCTION looks(bigint, jsonb), counted(bigint), counted_apart(bigint), counted_safe(bigint);
DROP TABLE saw;
