-- The peer pgmq: what its users write, read() and delete() in a loop, each message in a subtransaction.
SELECT pgmq.create('bench');

CREATE PROCEDURE bench.fill_pgmq(jobs integer) LANGUAGE sql AS $$
    SELECT pgmq.purge_queue('bench');
    SELECT count(*) FROM pgmq.send_batch('bench', array_fill('{}'::jsonb, ARRAY[jobs]));
$$;

CREATE PROCEDURE bench.drain_pgmq(batch integer, writing boolean) LANGUAGE plpgsql AS $$
DECLARE
    job record;
    done bigint[];
BEGIN
    LOOP
        done := '{}';
        FOR job IN SELECT msg_id, message FROM pgmq.read('bench', 60, batch) LOOP
            BEGIN
                IF writing THEN
                    PERFORM bench.touch(job.msg_id, job.message);
                ELSE
                    PERFORM bench.noop(job.msg_id, job.message);
                END IF;
                done := done || job.msg_id;
            EXCEPTION WHEN OTHERS THEN
                RAISE WARNING '%', SQLERRM;
            END;
        END LOOP;
        EXIT WHEN done = '{}';
        PERFORM pgmq.delete('bench', done);
        COMMIT;
    END LOOP;
END $$;

-- A consumer outside of the server: takes and ends in transactions of their own, as bench.consume() does.
CREATE PROCEDURE bench.consume_pgmq(batch integer) LANGUAGE plpgsql AS $$
DECLARE
    taken bigint[];
BEGIN
    LOOP
        SELECT array_agg(msg_id) INTO taken FROM pgmq.read('bench', 60, batch);
        COMMIT;
        EXIT WHEN taken IS NULL;
        PERFORM pgmq.delete('bench', taken);
        COMMIT;
    END LOOP;
END $$;
