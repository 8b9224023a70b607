SELECT s.name, s.setting, s.unit, s.source,
       CASE s.context WHEN 'postmaster' THEN 'restart' WHEN 'sighup' THEN 'reload' ELSE s.context END, s.short_desc
  FROM pg_settings AS s WHERE starts_with(s.name, 'my_worker.') OR s.name = 'max_worker_processes'
 ORDER BY s.name
