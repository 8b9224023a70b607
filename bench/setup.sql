-- What the benchmark's scenarios share.
CREATE EXTENSION my_worker;
CREATE SCHEMA bench;

-- The jobs: nothing at all, one that writes, and one for many.
CREATE FUNCTION bench.noop(id bigint, payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE FUNCTION bench.noop_batch(ids bigint[], payloads jsonb[]) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;

-- Marks: jobs that note when they started.
CREATE TABLE bench.marks (id bigint GENERATED ALWAYS AS IDENTITY, what text, at timestamptz);
CREATE FUNCTION bench.mark(id bigint, payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN INSERT INTO bench.marks (what, at) VALUES (payload ->> 'what', clock_timestamp()); END $$;

-- The queues: nothing kept, the history kept, and a handler for many.
SELECT my_worker.create_queue('plain', handler => 'bench.noop', retention => '0');
SELECT my_worker.create_queue('kept', handler => 'bench.noop', retention => '7 days');
SELECT my_worker.create_queue('batch', handler => 'bench.noop_batch', retention => '0');

-- Milliseconds from one mark to another.
CREATE FUNCTION bench.elapsed(a text, b text) RETURNS numeric LANGUAGE sql AS $$
    SELECT round(1000 * extract(epoch FROM (SELECT max(at) FROM bench.marks WHERE what = b)
                                         - (SELECT max(at) FROM bench.marks WHERE what = a)), 3) $$;

-- So many jobs with a mark before and after them, in one order.
CREATE PROCEDURE bench.fill(queue text, jobs integer) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO my_queue (queue, handler, payload, run_at)
        VALUES (fill.queue, 'bench.mark', '{"what": "first"}', now() - interval '1 h');
    INSERT INTO my_queue (queue, payload) SELECT fill.queue, '{}' FROM generate_series(1, jobs);
    INSERT INTO my_queue (queue, handler, payload, run_at)
        VALUES (fill.queue, 'bench.mark', '{"what": "last"}', now() + interval '1 us');
END $$;

-- The queue that any user could write, drained by a loop: claims `batch` jobs by DELETE, runs each
-- in a subtransaction, commits, goes on.
CREATE TABLE bench.jobs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload jsonb NOT NULL DEFAULT '{}');
CREATE PROCEDURE bench.drain(batch integer, enough integer = NULL) LANGUAGE plpgsql AS $$
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
                PERFORM bench.noop(job.id, job.payload);
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
