-- Rates: which settings go together, and how fast jobs start.
\set VERBOSITY terse
CREATE FUNCTION public.mw_nothing() RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION pg_temp.apart(name text) RETURNS SETOF interval LANGUAGE sql AS $$
    SELECT started_at - lag(started_at) OVER (ORDER BY started_at) FROM my_worker.history WHERE queue = name $$;

-- What goes together.
SELECT my_worker.create_queue('r', rate => 10);
SELECT my_worker.create_queue('r', rate_period => '1 s');
SELECT my_worker.create_queue('r', rate_per_key => true);
SELECT my_worker.create_queue('r', rate => 0, rate_period => '1 s');
SELECT my_worker.create_queue('r', rate => 1, rate_period => '0');
SELECT my_worker.create_queue('r', rate => 1, rate_period => '1 s', burst => 0);
SELECT my_worker.create_queue('r', 'public.mw_nothing', rate => 20, rate_period => '1 s', burst => 2);
SELECT rate, rate_period, burst, rate_per_key FROM my_worker.queues WHERE name = 'r';
SELECT my_worker.reset_queue('r', 'rate_period');
SELECT my_worker.reset_queue('r', 'rate', 'rate_period', 'burst');
SELECT my_worker.alter_queue('r', rate_per_key => true);
SELECT my_worker.alter_queue('r', rate => 20, rate_period => '1 s', rate_per_key => true);
SELECT rate, rate_period, burst, rate_per_key FROM my_worker.queues WHERE name = 'r';
SELECT my_worker.alter_queue('r', rate_per_key => false);

-- Starts are spaced.
INSERT INTO my_queue (queue) SELECT 'r' FROM generate_series(1, 5);
SELECT max(my_worker.wait(id, '30 s')) FROM my_worker.jobs WHERE queue = 'r';
SELECT count(*), min(apart) >= '50 ms' AS spaced FROM pg_temp.apart('r') AS a (apart);
-- What waits says why; what does not run by a worker, too.
SELECT my_worker.alter_queue('r', rate => 1, rate_period => '90 min');
SELECT my_worker.enqueue('public.mw_nothing', queue => 'r') AS job \gset
SELECT split_part(my_worker.why(:job), ' at ', 1) AS why;
SELECT limited, pending FROM my_worker.queue_stats WHERE queue = 'r';
SELECT my_worker.wait(:job, '200 ms') AS still;
-- A launched worker waits, and leaves when the job is cancelled.
\set VERBOSITY default
SET client_min_messages = warning;
SELECT launch_dynamic_worker(:job) > 0 AS launched;
RESET client_min_messages;
SELECT my_worker.wait(:job, '200 ms') AS still;
SELECT my_worker.cancel(:job);
CREATE FUNCTION pg_temp.until(query text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE reached boolean;
BEGIN
    FOR i IN 1 .. 3000 LOOP
        EXECUTE query INTO reached;
        IF reached THEN RETURN true; END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
    RETURN false;
END $$;
SELECT pg_temp.until($$SELECT count(*) = 0 FROM my_worker.workers WHERE kind = 'dynamic'$$) AS gone;
SELECT limited FROM my_worker.queue_stats WHERE queue = 'r';

-- Consumers.
SELECT my_worker.create_queue('c', rate => 2, rate_period => '1 s', burst => 3);
SELECT count(my_worker.send('c')) FROM generate_series(1, 5);
SELECT pg_temp.until($$SELECT clock_timestamp() > pg_postmaster_start_time() + interval '2 s'$$);
SELECT count(*) FROM my_worker.receive('c', 5);
SELECT count(*) FROM my_worker.receive('c', 5, wait => '5 s');
SELECT my_worker.alter_queue('c', rate => 1, rate_period => '1 h');
SELECT count(*) FROM my_worker.receive('c', 5, wait => '100 ms');
SELECT split_part(my_worker.why(max(id)), ' at ', 1) AS why FROM my_queue WHERE queue = 'c';
SELECT my_worker.reset_queue('c', 'rate', 'rate_period');
SELECT count(*) FROM my_worker.receive('c', 5);
DISCARD ALL;
CREATE FUNCTION pg_temp.until(query text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE reached boolean;
BEGIN
    FOR i IN 1 .. 3000 LOOP
        EXECUTE query INTO reached;
        IF reached THEN RETURN true; END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
    RETURN false;
END $$;
SELECT pg_temp.until($$SELECT count(*) = 0 FROM my_worker.workers WHERE kind = 'consumer'$$) AS gone;
SELECT my_worker.drop_queue('c', force => true), my_worker.drop_queue('r');
DROP FUNCTION public.mw_nothing();
