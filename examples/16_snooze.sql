-- A job may say that it is too early, or that it makes no sense to try again.

CREATE TABLE exports (id integer PRIMARY KEY, ready boolean NOT NULL, looked integer NOT NULL DEFAULT 0);
CREATE FUNCTION collect(export jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    is_ready boolean;
BEGIN
    UPDATE exports SET looked = looked + 1, ready = ready OR looked = 2
     WHERE id = (export->>'id')::integer RETURNING ready INTO is_ready;
    IF NOT FOUND THEN
        -- No attempt would find it: the job is failed now, and nothing of this attempt stays.
        PERFORM my_worker.give_up('there is no such export');
    ELSIF NOT is_ready THEN
        -- Not an error: the job comes again, no attempt is charged, and the UPDATE above stays.
        PERFORM my_worker.snooze('20 ms');
        RETURN NULL;
    END IF;
    RETURN 'collected';
END
$$;

INSERT INTO exports VALUES (1, false);
SELECT my_worker.enqueue('collect', '{"id": 1}') AS job \gset
SELECT my_worker.wait(:job, '30 s');
SELECT status, attempts, result, (SELECT looked FROM exports) AS looked FROM my_worker.jobs WHERE id = :job;

SELECT my_worker.enqueue('collect', '{"id": 2}') AS job \gset
SELECT my_worker.wait(:job, '30 s');
SELECT status, attempts, last_error, errors->0->>'sqlstate' AS sqlstate FROM my_worker.jobs WHERE id = :job;

-- A job that sleeps, waits for its next attempt or was enqueued for later need not be waited for.
SELECT my_worker.enqueue('collect', '{"id": 1}', run_at := now() + '1 day') AS job \gset
SELECT my_worker.run_soon(:job);
SELECT my_worker.wait(:job, '30 s');

DROP TABLE exports;
DROP FUNCTION collect;
