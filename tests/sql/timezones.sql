-- A time zone of a schedule is what SET timezone takes for it.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.psql'
\i :helpers
-- The instant at which a clock of that zone shows noon: by the server, and by our rule. A zone that one
-- refuses the other refuses, but for numbers of a day or more, which are no time zones.
CREATE FUNCTION pg_temp.servers_noon(zone text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    noon bigint;
BEGIN
    PERFORM set_config('timezone', zone, true);
    EXECUTE 'SELECT extract(epoch FROM timestamptz ''2030-07-02 12:00'')' INTO noon;
    RETURN noon;
EXCEPTION WHEN OTHERS THEN
    RETURN 'refused';
END
$$;
CREATE FUNCTION pg_temp.our_noon(zone text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT extract(epoch FROM min(due))::bigint
              FROM my_worker.next_runs('0 12 2 7 *', 1, zone, '2030-01-01 00:00 UTC') AS due);
EXCEPTION WHEN invalid_parameter_value OR invalid_datetime_format THEN
    RETURN 'refused';
END
$$;
CREATE TEMP TABLE spellings (zone text);
INSERT INTO spellings VALUES ('+02'), ('-02'), ('2'), ('-2'), ('+2'), ('0'), ('-0'), ('5.5'), ('-5.5'), ('+05:30'), ('-05:30'),
    ('+02:00'), ('+0200'), ('UTC+2'), ('UTC-2'), ('UTC'), ('GMT+3'), ('GMT-3'), ('Etc/GMT+3'), ('<+02>-02'), ('<X>5:30'),
    ('EST5EDT'), ('EST5'), ('Europe/Berlin'), ('europe/berlin'), ('Asia/Kolkata'), ('INTERVAL ''+02:30'''), ('interval ''-2'''),
    ('12'), ('-14'), ('167'), ('168'), ('169'), ('1e1'), ('0x5'), ('inf'), ('nan'), (' 2'), ('2 '), ('Z'), ('posixrules'),
    ('nowhere'), (''), ('Mars/Base'), ('INTERVAL ''x'''), ('+'), ('--2');
SELECT zone, pg_temp.servers_noon(zone) AS server, pg_temp.our_noon(zone) AS ours FROM spellings
 WHERE pg_temp.servers_noon(zone) IS DISTINCT FROM pg_temp.our_noon(zone);
SELECT pg_temp.our_noon('+02') = (extract(epoch FROM '2030-07-02 12:00+02'::timestamptz)::bigint)::text AS east,
       count(*) FILTER (WHERE pg_temp.our_noon(zone) <> 'refused') > 20 AS zones FROM spellings;
-- What is stored means the same when it is read again.
SELECT my_worker.schedule('noon', '0 12 * * *', 'SELECT 1', timezone => '+02') > 0 AS scheduled;
SELECT my_worker.pause_schedule('noon');
SELECT my_worker.resume_schedule('noon');
SELECT to_char(next_run_at AT TIME ZONE 'UTC', 'HH24:MI') AS next_run FROM my_worker.schedules WHERE name = 'noon';
SELECT my_worker.unschedule('noon');
-- Long intervals go on to the last time that there is.
SET timezone = 'UTC';
SELECT count(*) FROM my_worker.next_runs('every 10 years', 13, 'UTC', '2026-01-01 UTC');
SELECT count(*), max(due) FROM my_worker.next_runs('every 1000 years', 1000, 'UTC', '2026-01-01 UTC') AS due;
SELECT count(*), max(due) FROM my_worker.next_runs('every 100000 days', 3000, 'Europe/Berlin', '2026-01-01 UTC') AS due;
SELECT count(*), max(due) FROM my_worker.next_runs('@yearly', 5, 'America/New_York', '294274-06-01 UTC') AS due;
SELECT count(*) FROM my_worker.next_runs('* * * * *', 5, 'UTC', 'infinity');
-- A name that was forgotten.
CALL pg_temp.fails($$SELECT my_worker.schedule('* * * * *', 'select 1')$$);
CALL pg_temp.fails($$SELECT my_worker.schedule('@daily', 'select 1; select 2', handler => 'x')$$);
CALL pg_temp.fails($$SELECT my_worker.schedule('every 5 minutes', 'vacuum')$$);
CALL pg_temp.fails($$SELECT my_worker.schedule('nightly', 'vacuum')$$);
SELECT my_worker.schedule('* * * * *', '@yearly', 'SELECT 1') > 0 AS an_odd_name;
SELECT my_worker.unschedule('* * * * *');
