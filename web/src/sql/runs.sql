-- The last fifty jobs of each of these schedules that have ended.
SELECT s.id, h.id, h.status, extract(epoch FROM h.started_at)::float8, extract(epoch FROM h.finished_at)::float8
  FROM unnest($1::bigint[]) AS s (id),
       LATERAL (SELECT h.id, h.status, h.started_at, h.finished_at FROM my_worker.history AS h
                 WHERE h.schedule_id = s.id ORDER BY h.id DESC LIMIT 50) AS h
 ORDER BY s.id, h.id
