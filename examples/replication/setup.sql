-- In the first database, as a superuser: the role, the way to the second database, the queues.
-- psql -v host=... -v port=... -f setup.sql
\set ON_ERROR_STOP on
CREATE EXTENSION IF NOT EXISTS postgres_fdw;
SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'repl') AS no_role \gset
\if :no_role
CREATE ROLE repl LOGIN;
\endif
CREATE SCHEMA repl AUTHORIZATION repl;
SELECT my_worker.grant_usage('repl');

CREATE SERVER repl_target FOREIGN DATA WRAPPER postgres_fdw
    OPTIONS (host :'host', port :'port', dbname 'crm_copy', connect_timeout '5', application_name 'repl');
GRANT USAGE ON FOREIGN SERVER repl_target TO repl;
-- With a password: OPTIONS (user 'repl', password '...'). Without, the target's pg_hba.conf must let this server in.
CREATE USER MAPPING FOR repl SERVER repl_target OPTIONS (user 'repl', password_required 'false');

-- One change of a row after the other, those of different rows at the same time. A change that the target refuses is tried again
-- until somebody has mended the cause; until then its row waits, and no other.
SELECT my_worker.create_queue('repl', fifo := true, max_attempts := 10000, backoff := '1 s', backoff_max := '1 min',
                              timeout := '1 min', retention := '0');
-- Initial copies, one table after the other.
SELECT my_worker.create_queue('repl_copy', concurrency := 1, max_attempts := 10000, backoff_max := '1 min');

-- What repl needs on the tables: to read them, and to hang its triggers on them.
GRANT USAGE ON SCHEMA crm TO repl;
GRANT SELECT, TRIGGER ON ALL TABLES IN SCHEMA crm TO repl;
