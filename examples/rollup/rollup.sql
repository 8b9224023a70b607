-- Events, and what is kept of them by minute and site. As the role `metrics`.
\set ON_ERROR_STOP on
SET ROLE metrics;

CREATE TABLE metrics.events (
    at timestamptz NOT NULL DEFAULT now(),     -- when it happened; it may come in much later
    site text NOT NULL,
    ms integer NOT NULL                        -- how long the request took
);
CREATE TABLE metrics.per_minute (
    minute timestamptz NOT NULL,
    site text NOT NULL,
    n bigint NOT NULL,
    total_ms bigint NOT NULL,
    max_ms integer NOT NULL,
    PRIMARY KEY (minute, site)
) WITH (fillfactor = 70);

-- Adds up what one statement, an INSERT or a COPY of any size, has brought, and enqueues the sums, 1,000 of them a job.
-- The trigger runs as `metrics`, so whoever may insert events needs no right to the queue.
CREATE FUNCTION metrics.events_came() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM my_worker.enqueue_many('metrics.merge(bigint[],jsonb[])', array_agg(sums), 'metrics_merge')
       FROM (SELECT jsonb_agg(s) AS sums
               FROM (SELECT date_trunc('minute', at, 'UTC') AS minute, site, count(*) AS n, sum(ms) AS total_ms, max(ms) AS max_ms,
                            row_number() OVER () / 1000 AS part
                       FROM came GROUP BY 1, 2) AS s
              GROUP BY part) AS parts
     HAVING count(*) > 0;
    RETURN NULL;
END
$$;
CREATE TRIGGER events_came AFTER INSERT ON metrics.events REFERENCING NEW TABLE AS came
    FOR EACH STATEMENT EXECUTE FUNCTION metrics.events_came();

-- The batch handler: the sums of many commits in one statement. They are in the rollup, and their jobs have ended, by one COMMIT.
CREATE FUNCTION metrics.merge(jobs bigint[], payloads jsonb[]) RETURNS void
LANGUAGE sql SET search_path = pg_catalog AS $$
    INSERT INTO metrics.per_minute AS p (minute, site, n, total_ms, max_ms)
    SELECT s.minute, s.site, sum(s.n), sum(s.total_ms), max(s.max_ms)
      FROM unnest(payloads) AS payload,
           jsonb_to_recordset(payload) AS s (minute timestamptz, site text, n bigint, total_ms bigint, max_ms integer)
     GROUP BY s.minute, s.site
        ON CONFLICT (minute, site) DO UPDATE
       SET n = p.n + excluded.n, total_ms = p.total_ms + excluded.total_ms, max_ms = greatest(p.max_ms, excluded.max_ms)
$$;

-- What a recount would change: no row, once nothing waits. Reads all events.
CREATE VIEW metrics.differences AS
SELECT minute, site, counted.n AS counted, p.n AS kept
  FROM (SELECT date_trunc('minute', at, 'UTC') AS minute, site, count(*) AS n, sum(ms) AS total_ms, max(ms) AS max_ms
          FROM metrics.events GROUP BY 1, 2) AS counted
  FULL JOIN metrics.per_minute AS p USING (minute, site)
 WHERE (counted.n, counted.total_ms, counted.max_ms) IS DISTINCT FROM (p.n, p.total_ms, p.max_ms);

-- How far the rollup is behind: commits that are not merged yet, and since when the oldest of them waits.
CREATE VIEW metrics.behind AS
SELECT count(*) AS merges, coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0) AS seconds
  FROM my_worker.jobs WHERE queue = 'metrics_merge';
