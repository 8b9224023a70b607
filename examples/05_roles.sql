-- Who may do what: a job runs as the role that enqueued it, and nobody sees another's jobs.

CREATE ROLE example_ann LOGIN;
CREATE ROLE example_bob LOGIN;
CREATE TABLE diary (writer name, login name, entry text);
GRANT INSERT ON diary TO example_ann;
CREATE FUNCTION write_diary(entry jsonb) RETURNS void LANGUAGE sql AS $$
    INSERT INTO diary VALUES (current_user, session_user, entry->>'text')
$$;

-- Without a grant a role can do nothing.
SET ROLE example_ann;
SELECT my_worker.enqueue('write_diary');
RESET ROLE;
SELECT my_worker.grant_usage('example_ann');
SELECT my_worker.grant_usage('example_bob');

-- Ann's job logs in as Ann: there are no rights behind her to fall back to.
SET ROLE example_ann;
SELECT my_worker.enqueue('write_diary', '{"text": "a secret"}') AS job \gset
SELECT my_worker.wait(:job, '30 s');
SELECT status, owner, payload FROM my_worker.jobs;
RESET ROLE;
SELECT * FROM diary;

-- Bob does not see it, and may not touch it: for him it is a job that is gone.
SET ROLE example_bob;
SELECT count(*) FROM my_worker.jobs;
SELECT my_worker.wait(:job);
SELECT my_worker.cancel(:job), my_worker.retry(:job);

-- Nobody enqueues for somebody else, in no way.
INSERT INTO my_queue (handler, owner) VALUES ('write_diary', 'example_ann');

-- Bob may not write into the diary, and neither may his job.
SELECT my_worker.enqueue('write_diary', '{"text": "graffiti"}', max_attempts := 1) AS job \gset
SELECT my_worker.wait(:job, '30 s');
SELECT status, last_error FROM my_worker.jobs WHERE id = :job;

-- A function that he may not execute he cannot even enqueue.
RESET ROLE;
REVOKE EXECUTE ON FUNCTION write_diary FROM PUBLIC;
SET ROLE example_bob;
SELECT my_worker.enqueue('write_diary');
RESET ROLE;

SELECT my_worker.revoke_usage('example_ann');
SELECT my_worker.revoke_usage('example_bob');
DELETE FROM my_worker.history WHERE owner IN ('example_ann'::regrole, 'example_bob'::regrole);
DROP FUNCTION write_diary;
DROP TABLE diary;
DROP ROLE example_ann, example_bob;
