-- What the pages show in their tests and in the README's picture: queues of a shop, jobs in each state.
CREATE EXTENSION my_worker;
CREATE ROLE ann LOGIN PASSWORD 'ann''s word';
CREATE ROLE bob LOGIN PASSWORD 'bob''s word';
CREATE ROLE watcher LOGIN PASSWORD 'watch' IN ROLE pg_monitor;
SELECT my_worker.grant_usage('ann'), my_worker.grant_usage('bob');

CREATE SCHEMA shop;
GRANT USAGE ON SCHEMA shop TO PUBLIC;
CREATE FUNCTION shop.bill(job jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('billed', job->'order') $$;
CREATE FUNCTION shop.mail(job jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(0.004);
    IF job ? 'fails' THEN
        RAISE EXCEPTION 'the mail server does not answer' USING ERRCODE = 'connection_failure',
            DETAIL = 'mail.example.com, port 25', HINT = 'Look whether it runs.';
    END IF;
    RETURN '"sent"';
END
$$;
-- As many steps as the job says, each of so many seconds.
CREATE FUNCTION shop.index_images(job jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 0 .. (job->>'steps')::integer - 1 LOOP
        PERFORM my_worker.progress(100.0 * i / (job->>'steps')::integer, format('image %s of %s', i, job->>'steps'));
        PERFORM pg_sleep((job->>'seconds')::float8);
    END LOOP;
END
$$;

SELECT my_worker.create_queue('billing', handler := 'shop.bill'),
       my_worker.create_queue('lost mail'),
       my_worker.create_queue('images', handler := 'shop.index_images', concurrency := 2),
       my_worker.create_queue('reports', handler := 'shop.bill'),
       my_worker.create_queue('exports'),
       my_worker.create_queue('imports', handler := 'shop.bill', rate := 2, rate_period := '1 h');
SELECT my_worker.create_queue('mail', handler := 'shop.mail', max_attempts := 2, backoff := '50 ms', dead_letter := 'lost mail');
SELECT my_worker.create_queue('newsletter', handler := 'shop.mail', max_attempts := 1);
