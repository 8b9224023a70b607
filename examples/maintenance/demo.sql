-- Something to care for: a table of which most rows were deleted, its index, and a log in partitions by day.
\set ON_ERROR_STOP on
CREATE ROLE app_owner;
CREATE SCHEMA app AUTHORIZATION app_owner;
GRANT app_owner TO maint;
SET ROLE app_owner;
CREATE TABLE app.visits (id bigint PRIMARY KEY, who text NOT NULL) WITH (autovacuum_enabled = off);
INSERT INTO app.visits SELECT n, md5(n::text) FROM generate_series(1, 200000) AS n;
CREATE INDEX visits_who ON app.visits (who);
DELETE FROM app.visits WHERE id > 20000;
CREATE TABLE app.well (id bigint PRIMARY KEY);
INSERT INTO app.well SELECT generate_series(1, 10000);

CREATE TABLE app.log (at timestamptz NOT NULL, line text) PARTITION BY RANGE (at);
CREATE TABLE app.log_old PARTITION OF app.log FOR VALUES FROM ('2020-01-01 00:00Z') TO ('2020-01-02 00:00Z');
INSERT INTO app.log SELECT '2020-01-01 12:00Z', md5(n::text) FROM generate_series(1, 50000) AS n;
SET ROLE maint;
INSERT INTO maint.partitioned VALUES ('app.log', '1 day', 3, '90 days');
UPDATE maint.limits SET min_index_bytes = 1e6;      -- for a small example
