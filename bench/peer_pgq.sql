-- The peer PgQ: one consumer that takes batch after batch, each event in a subtransaction.
CREATE EXTENSION pgq;
SELECT pgq.create_queue('bench'), pgq.register_consumer('bench', 'bench');
-- A tick whenever it is asked for: the ticker's thresholds are for its daemon.
UPDATE pgq.queue SET queue_ticker_max_count = 1, queue_ticker_max_lag = '0', queue_ticker_idle_period = '0';

-- What an earlier run left is passed over; then so many events, a tick after each thousand.
CREATE PROCEDURE bench.fill_pgq(jobs integer) LANGUAGE plpgsql AS $$
DECLARE
    batch bigint;
BEGIN
    PERFORM pgq.ticker('bench');
    COMMIT;
    LOOP
        batch := pgq.next_batch('bench', 'bench');
        EXIT WHEN batch IS NULL;
        PERFORM pgq.finish_batch(batch);
        COMMIT;
    END LOOP;
    -- Empties the table that is next in turn, and writes to that one.
    PERFORM pgq.maint_rotate_tables_step1('bench');
    COMMIT;
    PERFORM pgq.maint_rotate_tables_step2();
    COMMIT;
    WHILE jobs > 0 LOOP
        PERFORM pgq.insert_event('bench', 'noop', '{}') FROM generate_series(1, least(jobs, 1000));
        COMMIT;
        PERFORM pgq.ticker('bench');
        COMMIT;
        jobs := jobs - 1000;
    END LOOP;
END $$;

CREATE PROCEDURE bench.drain_pgq(writing boolean) LANGUAGE plpgsql AS $$
DECLARE
    batch bigint;
    job record;
BEGIN
    LOOP
        batch := pgq.next_batch('bench', 'bench');
        EXIT WHEN batch IS NULL;
        FOR job IN SELECT ev_id, ev_data FROM pgq.get_batch_events(batch) LOOP
            BEGIN
                IF writing THEN
                    PERFORM bench.touch(job.ev_id, job.ev_data::jsonb);
                ELSE
                    PERFORM bench.noop(job.ev_id, job.ev_data::jsonb);
                END IF;
            EXCEPTION WHEN OTHERS THEN
                PERFORM pgq.event_retry(batch, job.ev_id, 60);
            END;
        END LOOP;
        PERFORM pgq.finish_batch(batch);
        COMMIT;
    END LOOP;
END $$;
