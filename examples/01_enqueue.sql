-- Enqueue jobs and wait for them: by function, by plain INSERT, by COPY, many at once.

-- A handler is a function. It gets the payload, or the job's id and the payload, or nothing; what it
-- returns is kept as the job's result.
CREATE TABLE thumbnails (file text PRIMARY KEY, width integer);
CREATE FUNCTION make_thumbnail(job bigint, image jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO thumbnails VALUES (image->>'file', (image->>'width')::integer / 10);
    RETURN jsonb_build_object('thumbnail', image->>'file');
END
$$;

-- By function: the handler is looked up now, and its qualified name is stored.
SELECT my_worker.enqueue('make_thumbnail', '{"file": "cat.png", "width": 640}') AS job \gset
SELECT my_worker.wait(:job, '30 s');
SELECT queue, status, handler, attempts, result FROM my_worker.jobs WHERE id = :job;

-- By plain INSERT, from any client and language: the same.
INSERT INTO my_queue (handler, payload)
VALUES ('make_thumbnail', '{"file": "dog.png", "width": 800}') RETURNING id AS job \gset
SELECT my_worker.wait(:job, '30 s');

-- By COPY.
SELECT coalesce(max(id), 0) AS before FROM my_worker.jobs \gset
COPY my_queue (handler, payload) FROM stdin;
make_thumbnail	{"file": "emu.png", "width": 1024}
make_thumbnail	{"file": "fox.png", "width": 320}
\.
SELECT my_worker.wait(id, '30 s') FROM my_worker.jobs WHERE id > :before ORDER BY id;

-- Many at once: one payload each.
SELECT array_agg(id) AS jobs FROM my_worker.enqueue_many('make_thumbnail', ARRAY(
    SELECT jsonb_build_object('file', format('gnu%s.png', i), 'width', 100 * i)
      FROM generate_series(1, 5) AS i)) AS id \gset
SELECT my_worker.wait(id, '30 s') AS status, count(*) FROM unnest(:'jobs'::bigint[]) AS id GROUP BY 1;
SELECT * FROM thumbnails ORDER BY file;

-- A unique key: while a job with it is live, a second one is not added; its id is the answer.
SELECT my_worker.create_queue('reports');
SELECT my_worker.pause_queue('reports');
SELECT my_worker.enqueue('make_thumbnail', '{"file": "hen.png", "width": 10}', 'reports',
                         unique_key := 'hen') AS first \gset
SELECT my_worker.enqueue('make_thumbnail', '{"file": "hen.png", "width": 10}', 'reports',
                         unique_key := 'hen') = :first AS same_job;
SELECT my_worker.cancel(:first);
SELECT status FROM my_worker.jobs WHERE id = :first;

-- What is wrong with a job shows when it is enqueued, not when it runs.
SELECT my_worker.enqueue('make_thumbnial');
SELECT my_worker.enqueue('make_thumbnail', queue := 'thumbnails');

SELECT my_worker.drop_queue('reports');
DROP TABLE thumbnails;
DROP FUNCTION make_thumbnail;
