-- Once, as a superuser. All else belongs to the role `metrics`, which is no superuser.
\set ON_ERROR_STOP on
CREATE ROLE metrics LOGIN;
CREATE SCHEMA metrics AUTHORIZATION metrics;
SELECT my_worker.grant_usage('metrics');

-- One call at a time merges what up to `my_worker.max_items` commits have brought, so no two calls meet in one row.
-- A merge that is done leaves no trace: retention '0'.
SELECT my_worker.create_queue('metrics_merge', concurrency := 1, max_attempts := 1000, backoff := '100 ms', backoff_max := '10 s',
                              retention := '0');
