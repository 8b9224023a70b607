-- Jobs that come after this one, among the ids that follow: no index knows them all.
SELECT j.id, j.status FROM my_worker.jobs AS j
 WHERE j.id > $1 AND j.id <= $1 + 10000 AND j.after @> ARRAY[$1]
 ORDER BY j.id LIMIT 50
