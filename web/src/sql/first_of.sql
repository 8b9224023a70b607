-- What waits longest in each of these queues, of the roles whose rights the role has: a look at the claim's index each.
SELECT d.name, f.id
  FROM unnest($1) AS d (name),
       LATERAL (SELECT q.id, q.run_at FROM pg_roles AS r,
                       LATERAL (SELECT q.id, q.run_at FROM my_worker._jobs AS q
                                 WHERE q.owner = r.oid::regrole AND q.queue = d.name AND q.status = 'pending'
                                 ORDER BY q.priority, q.run_at, q.id LIMIT $2) AS q
                 WHERE pg_has_role(r.oid, 'USAGE')
                 ORDER BY q.run_at, q.id LIMIT $2) AS f
 ORDER BY d.name, f.run_at, f.id
