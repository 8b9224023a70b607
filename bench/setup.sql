-- What the benchmark's scenarios share.
CREATE EXTENSION my_worker;
CREATE SCHEMA bench;

-- The jobs: nothing at all, one that writes (a row of its own among many, so that nobody waits for
-- a lock), one for many, and a long one.
CREATE FUNCTION bench.noop(id bigint, payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE FUNCTION bench.noop_batch(ids bigint[], payloads jsonb[]) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE TABLE bench.rows (id integer PRIMARY KEY, n bigint NOT NULL DEFAULT 0) WITH (fillfactor = 40);
INSERT INTO bench.rows (id) SELECT generate_series(0, 9999);
CREATE FUNCTION bench.touch(id bigint, payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN UPDATE bench.rows SET n = n + 1 WHERE rows.id = (touch.id % 10000)::integer; END $$;
CREATE FUNCTION bench.touch_batch(ids bigint[], payloads jsonb[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. cardinality(ids) LOOP
        PERFORM bench.touch(ids[i], payloads[i]);
    END LOOP;
END $$;
CREATE FUNCTION bench.long(id bigint, payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep(2); END $$;

-- Marks: jobs that note when they started.
CREATE TABLE bench.marks (id bigint GENERATED ALWAYS AS IDENTITY, what text, at timestamptz);
CREATE FUNCTION bench.mark(id bigint, payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN INSERT INTO bench.marks (what, at) VALUES (payload ->> 'what', clock_timestamp()); END $$;

-- Jobs that were committed at one time, by the server's own record, and started at another.
CREATE TABLE bench.starts (what text, committed timestamptz, started timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION bench.started(id bigint, payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    at timestamptz := clock_timestamp();
BEGIN
    INSERT INTO bench.starts (what, committed, started)
        SELECT 'ours', pg_xact_commit_timestamp(q.xmin), at FROM my_worker._jobs AS q WHERE q.id = started.id;
END $$;
CREATE FUNCTION bench.delay(p double precision) RETURNS numeric LANGUAGE sql AS $$
    SELECT round(1000 * extract(epoch FROM percentile_cont(p) WITHIN GROUP (ORDER BY started - committed))::numeric, 3)
    FROM bench.starts $$;

-- The queues: nothing kept, the history kept, handlers for many, jobs that write.
SELECT my_worker.create_queue('plain', handler => 'bench.noop', retention => '0');
SELECT my_worker.create_queue('kept', handler => 'bench.noop', retention => '7 days');
SELECT my_worker.create_queue('batch', handler => 'bench.noop_batch', retention => '0');
SELECT my_worker.create_queue('batch_write', handler => 'bench.touch_batch', retention => '0');
SELECT my_worker.create_queue('write', handler => 'bench.touch', retention => '0');
-- One whose jobs no worker can run: without a handler they are held for other consumers.
SELECT my_worker.create_queue('held', retention => '0');
-- One whose jobs consumers take.
SELECT my_worker.create_queue('consumed', retention => '0');

-- As `plain`, each with a limit that never limits: `flow` compares them.
SELECT my_worker.create_queue('rate', handler => 'bench.noop', retention => '0', rate => 1000000, rate_period => '1 s', burst => 1000000);
SELECT my_worker.create_queue('rate_per_key', handler => 'bench.noop', retention => '0', rate => 1000000, rate_period => '1 s', burst => 1000000, rate_per_key => true);
SELECT my_worker.create_queue('per_key', handler => 'bench.noop', retention => '0', per_key => 1000);
SELECT my_worker.create_queue('fifo', handler => 'bench.noop', retention => '0', fifo => true);
SELECT my_worker.create_queue('dead', retention => '0');
SELECT my_worker.create_queue('dead_letter', handler => 'bench.noop', retention => '0', dead_letter => 'dead');
-- Jobs that fail for good, without and with what may follow.
CREATE FUNCTION bench.fail(id bigint, payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'fails'; END $$;
SELECT my_worker.create_queue('fails', handler => 'bench.fail', max_attempts => 1);
SELECT my_worker.create_queue('dies', handler => 'bench.fail', max_attempts => 1, dead_letter => 'dead');
SELECT my_worker.create_queue('fails_on', handler => 'bench.fail', max_attempts => 5, fail_on => '{P0001}');
SELECT my_worker.create_queue('retry_on', handler => 'bench.noop', retention => '0', retry_on => '{40,53}');

-- So many calls of enqueue() in one transaction, by what they ask for besides.
CREATE PROCEDURE bench.enqueue(what text, jobs integer) LANGUAGE plpgsql AS $$
DECLARE
    first bigint := my_worker.enqueue('bench.noop', '{}', queue => 'plain');
BEGIN
    FOR i IN 1 .. jobs LOOP
        CASE what
            WHEN 'unique' THEN PERFORM my_worker.enqueue('bench.noop', '{}', queue => 'plain', unique_key => 'k' || i);
            WHEN 'replace' THEN PERFORM my_worker.enqueue('bench.noop', '{}', queue => 'plain', unique_key => 'k' || i % 100, unique_mode => 'replace');
            WHEN 'rerun' THEN PERFORM my_worker.enqueue('bench.noop', '{}', queue => 'plain', unique_key => 'k' || i % 100, unique_mode => 'rerun');
            WHEN 'error' THEN PERFORM my_worker.enqueue('bench.noop', '{}', queue => 'plain', unique_key => 'k' || i, unique_mode => 'error');
            WHEN 'after' THEN PERFORM my_worker.enqueue('bench.noop', '{}', queue => 'plain', after => ARRAY[first]);
            WHEN 'expires' THEN PERFORM my_worker.enqueue('bench.noop', '{}', queue => 'plain', expires_at => 'infinity');
            WHEN 'key' THEN PERFORM my_worker.enqueue('bench.noop', '{}', queue => 'plain', group_key => 'k' || i % 1000);
            ELSE PERFORM my_worker.enqueue('bench.noop', '{}', queue => 'plain');
        END CASE;
    END LOOP;
END $$;

-- Milliseconds from one mark to another.
CREATE FUNCTION bench.elapsed(a text, b text) RETURNS numeric LANGUAGE sql AS $$
    SELECT round(1000 * extract(epoch FROM (SELECT max(at) FROM bench.marks WHERE what = b)
                                         - (SELECT max(at) FROM bench.marks WHERE what = a)), 3) $$;

-- So many jobs with a mark before and after them, in one order; of so many keys, which take turns.
CREATE PROCEDURE bench.fill(queue text, jobs integer, keys integer = NULL) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO my_queue (queue, handler, payload, run_at)
        VALUES (fill.queue, 'bench.mark', '{"what": "first"}', now() - interval '1 h');
    INSERT INTO my_queue (queue, payload, group_key) SELECT fill.queue, '{}', 'key ' || i % keys FROM generate_series(1, jobs) AS i;
    INSERT INTO my_queue (queue, handler, payload, run_at)
        VALUES (fill.queue, 'bench.mark', '{"what": "last"}', now() + interval '1 us');
END $$;

-- The same with a mark before the last part and after it.
CREATE PROCEDURE bench.fill_parts(jobs integer, last integer) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO my_queue (queue, payload) SELECT 'plain', '{}' FROM generate_series(1, jobs);
    INSERT INTO my_queue (queue, handler, payload) VALUES ('plain', 'bench.mark', '{"what": "part"}');
    INSERT INTO my_queue (queue, payload) SELECT 'plain', '{}' FROM generate_series(1, last);
    INSERT INTO my_queue (queue, handler, payload) VALUES ('plain', 'bench.mark', '{"what": "end"}');
END $$;

-- So many rows of history.
CREATE PROCEDURE bench.fill_history(jobs integer) LANGUAGE sql AS $$
    INSERT INTO my_worker.history (id, queue, status, payload, priority, run_at, created_at, attempts, owner, finished_at)
        SELECT i - jobs, 'plain', 'completed', '{}', 0, now(), now(), 1, current_user::regrole, now() FROM generate_series(1, jobs) AS i $$;

-- Adds jobs behind those that are due until there are so many; all due, one every two microseconds.
CREATE PROCEDURE bench.fill_up(jobs integer) LANGUAGE plpgsql AS $$
DECLARE
    there bigint;
    tail timestamptz;
BEGIN
    SELECT count(*), coalesce(max(run_at), now() - interval '1 day') INTO there, tail FROM my_queue WHERE run_at <= now();
    INSERT INTO my_queue (queue, payload, run_at)
        SELECT 'plain', '{}', tail + i * interval '2 us' FROM generate_series(1, jobs - there) AS i;
END $$;

-- Marks before the job that is due at `head` and after so many that follow it: where nothing else is.
CREATE PROCEDURE bench.mark_head(head timestamptz, jobs integer) LANGUAGE sql AS $$
    INSERT INTO my_queue (queue, handler, payload, run_at) VALUES
        ('plain', 'bench.mark', '{"what": "first"}', head - interval '1 us'),
        ('plain', 'bench.mark', '{"what": "last"}', head + (2 * jobs - 1) * interval '1 us') $$;

-- The queue that any user could write, drained by a loop: claims `batch` jobs by DELETE, runs each
-- in a subtransaction, commits, goes on.
CREATE TABLE bench.jobs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload jsonb NOT NULL DEFAULT '{}');
CREATE PROCEDURE bench.drain(batch integer, enough integer, writing boolean) LANGUAGE plpgsql AS $$
DECLARE
    job record;
    done integer;
    total integer := 0;
BEGIN
    LOOP
        done := 0;
        FOR job IN DELETE FROM bench.jobs WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM bench.jobs ORDER BY id LIMIT batch FOR UPDATE SKIP LOCKED))
            RETURNING id, payload
        LOOP
            BEGIN
                IF writing THEN
                    PERFORM bench.touch(job.id, job.payload);
                ELSE
                    PERFORM bench.noop(job.id, job.payload);
                END IF;
            EXCEPTION WHEN OTHERS THEN
                RAISE WARNING '%', SQLERRM;
            END;
            done := done + 1;
        END LOOP;
        COMMIT;
        total := total + done;
        EXIT WHEN done = 0 OR total >= enough;
    END LOOP;
END $$;

-- Consumers: each receives and acknowledges in transactions of their own, as one outside of the server does.
CREATE PROCEDURE bench.consume(batch integer, lease interval) LANGUAGE plpgsql AS $$
DECLARE
    jobs bigint[];
    leases bigint[];
BEGIN
    LOOP
        SELECT array_agg(r.id), array_agg(r.lease) INTO jobs, leases FROM my_worker.receive('consumed', batch, lease => consume.lease) AS r;
        COMMIT;
        EXIT WHEN jobs IS NULL;
        PERFORM my_worker.ack_many(jobs, leases);
        COMMIT;
    END LOOP;
END $$;

-- The same by a time of invisibility, with the columns, the index and the statements of pgmq.
CREATE TABLE bench.messages (msg_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, read_ct integer NOT NULL DEFAULT 0,
    enqueued_at timestamptz NOT NULL DEFAULT now(), vt timestamptz NOT NULL, message jsonb);
CREATE INDEX ON bench.messages (vt);
CREATE PROCEDURE bench.read_and_delete(batch integer) LANGUAGE plpgsql AS $$
DECLARE
    taken bigint[];
BEGIN
    LOOP
        WITH due AS (
            SELECT msg_id FROM bench.messages WHERE vt <= clock_timestamp() ORDER BY msg_id LIMIT batch FOR UPDATE SKIP LOCKED),
        read AS (
            UPDATE bench.messages AS m SET vt = clock_timestamp() + interval '60 s', read_ct = read_ct + 1
              FROM due WHERE m.msg_id = due.msg_id RETURNING m.msg_id, m.message)
        SELECT array_agg(msg_id) INTO taken FROM read;
        COMMIT;
        EXIT WHEN taken IS NULL;
        DELETE FROM bench.messages WHERE msg_id = ANY (taken);
        COMMIT;
    END LOOP;
END $$;
