-- What comes after what, and what comes too late.

CREATE TABLE steps (turn integer GENERATED ALWAYS AS IDENTITY, what text);
CREATE FUNCTION do_step(step jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF step->>'what' = 'breaks' THEN
        RAISE EXCEPTION 'no such file';
    END IF;
    INSERT INTO steps (what) VALUES (step->>'what');
END $$;

-- A report is made when both loads are done, in whatever order they are.
BEGIN;
SELECT my_worker.enqueue('do_step', '{"what": "load orders"}') AS orders,
       my_worker.enqueue('do_step', '{"what": "load prices"}') AS prices \gset
SELECT my_worker.enqueue('do_step', '{"what": "make the report"}', after := ARRAY[:orders, :prices]) AS report \gset
SELECT my_worker.enqueue('do_step', '{"what": "send the report"}', after := ARRAY[:report]) AS sent \gset
SELECT count(*) AS wait FROM my_queue WHERE status = 'blocked';
COMMIT;
SELECT my_worker.wait(:sent, '30 s');
SELECT what FROM steps WHERE what LIKE '%report' ORDER BY turn;

-- If a load fails there is nothing to report; somebody is told all the same.
SELECT my_worker.enqueue('do_step', '{"what": "breaks"}', max_attempts := 1, run_at := clock_timestamp() + '1 s') AS orders \gset
SELECT my_worker.enqueue('do_step', '{"what": "make the report"}', after := ARRAY[:orders]) AS report \gset
SELECT my_worker.enqueue('do_step', '{"what": "send the report"}', after := ARRAY[:report]) AS sent,
       my_worker.enqueue('do_step', '{"what": "clean up"}', after := ARRAY[:report], after_failed := 'run') AS cleaned \gset
SELECT my_worker.why(:report) = format('comes after job %s', :orders) AS says_why;
SELECT my_worker.wait(:sent, '30 s') AS sent, my_worker.wait(:cleaned, '30 s') AS cleaned;
SELECT errors->0->>'message' = format('job %s failed, which this job comes after', :orders) AS names_it
  FROM my_worker.history WHERE id IN (:report, :sent);

-- retry() sends them back: what has ended is not waited for any more, however it ended.
SELECT my_worker.retry(:report), my_worker.retry(:sent);
SELECT my_worker.wait(:sent, '30 s');

-- A reminder that comes too late is worth nothing.
SELECT my_worker.create_queue('reminders'), my_worker.pause_queue('reminders');
SELECT my_worker.enqueue('do_step', '{"what": "remind"}', 'reminders', expires_at := clock_timestamp() + '500 ms') AS job \gset
SELECT my_worker.wait(:job, '30 s');
SELECT status, started_at, last_error FROM my_worker.history WHERE id = :job;

SELECT my_worker.drop_queue('reminders');
DROP TABLE steps;
DROP FUNCTION do_step;
