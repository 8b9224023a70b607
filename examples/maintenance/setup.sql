-- Once, as a superuser. All else belongs to the role `maint`, which is no superuser: it may do what the owners of the tables may.
\set ON_ERROR_STOP on
CREATE ROLE maint LOGIN;
CREATE SCHEMA maint AUTHORIZATION maint;
SELECT my_worker.grant_usage('maint');

-- One command at a time. Also where somebody raises `concurrency`: never two on one table, which is each command's group_key.
SELECT my_worker.create_queue('maint', concurrency := 1, per_key := 1, max_attempts := 1, retention := '30 days');
