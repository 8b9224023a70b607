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
