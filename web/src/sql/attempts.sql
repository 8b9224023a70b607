-- The failed attempts of a job, the latest 100.
SELECT (e.value ->> 'attempt'), extract(epoch FROM (e.value ->> 'at')::timestamptz)::float8, e.value ->> 'sqlstate',
       e.value ->> 'message', e.value ->> 'detail', e.value ->> 'hint', left(e.value ->> 'context', 4000)
  FROM (SELECT j.errors FROM my_worker.jobs AS j WHERE j.id = $1 LIMIT 1) AS j,
       LATERAL jsonb_array_elements(j.errors) WITH ORDINALITY AS e (value, place)
 ORDER BY e.place DESC LIMIT 100
