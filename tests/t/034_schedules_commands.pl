# What a schedule can run, as docs/moving-in.md shows it to users of pg_cron; and what becomes of
# schedules over a server that was down for a day, and over dump and restore.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', 'my_worker.naptime' => 3600, 'my_worker.log_jobs' => 'none',
	'my_worker.database' => 'postgres, some_other_database');

sub sql { return $node->safe_psql('postgres', $_[0]); }

# Starts the server again with the schedules' clock so many seconds ahead.
sub restart_later
{
	my ($seconds) = @_;
	$node->stop('fast');
	$node->append_conf('postgresql.conf', "my_worker.clock_offset = ${seconds}s");
	$node->start;
	return;
}

sql(q{
	CREATE TABLE events (event_time timestamptz);
	INSERT INTO events VALUES (now() - interval '8 days'), (now());
	CREATE TABLE calls (what text);
	CREATE PROCEDURE process_updates() LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO calls VALUES ('kept');
		COMMIT;
		INSERT INTO calls VALUES ('rolled back');
		ROLLBACK;
	END $$;
	CREATE PROCEDURE process_payroll() LANGUAGE sql AS $$INSERT INTO calls VALUES ('payroll')$$;
	CREATE FUNCTION remind(payload jsonb) RETURNS text LANGUAGE sql AS $$SELECT 'dear ' || (payload->>'to')$$;
});

# The table of docs/moving-in.md, row by row.
sql(q{SELECT my_worker.schedule('delete-old', '30 3 * * 6', $$DELETE FROM events WHERE event_time < now() - interval '1 week'$$, timezone := 'GMT')});
sql(q{SELECT my_worker.schedule('nightly-vacuum', '0 10 * * *', 'VACUUM', timezone := 'GMT')});
sql(q{SELECT my_worker.schedule('nightly-vacuum', '0 3 * * *', 'VACUUM', timezone := 'GMT')});
sql(q{SELECT my_worker.schedule('process-updates', 'every 5 seconds', 'CALL process_updates()')});
sql(q{SELECT my_worker.schedule('process-payroll', '0 12 L * *', 'CALL process_payroll()', timezone := 'GMT')});
sql(q{SELECT my_worker.schedule('reindex', '@weekly', 'CREATE INDEX CONCURRENTLY IF NOT EXISTS by_time ON events (event_time)')});
sql(q{SELECT my_worker.schedule('several', '@daily', $$INSERT INTO calls VALUES ('first'); INSERT INTO calls VALUES ('second')$$)});
sql(q{SELECT my_worker.schedule('reminder', '0 9 * * mon-fri', handler := 'remind', payload := '{"to": "all"}')});
is(sql(q{SELECT count(*) FROM my_worker.schedules}), '7', 'the same name again changes the schedule');
is(sql(q{SELECT bool_and(extract(hour FROM t AT TIME ZONE 'GMT') = 3) FROM my_worker.schedules AS s,
		my_worker.next_runs(s.schedule, 3, s.timezone) AS t WHERE name = 'nightly-vacuum'}), 't', 'its time with it');

wait_for($node, q{SELECT count(*) >= 1 FROM calls WHERE what = 'kept'});
pass('every 5 seconds: the procedure ran and committed');
sql(q{SELECT my_worker.pause_schedule('process-updates')});

# pg_cron's other examples: its texts, and what its alter_job(), unschedule(id) and run details become.
is(sql(q{SELECT string_agg(to_char(t AT TIME ZONE 'PRC', 'Dy DD Mon HH24:MI'), ', ' ORDER BY n)
		FROM (VALUES (1, '* * * * *'), (2, '*/5 * * * *'), (3, '0 * * * *'), (4, '0 0 * * *'), (5, '0 0 * * 1-5'),
			(6, '0 1 * * 0'), (7, '0 13 2 6 *'), (8, '0 12 L * *')) AS v(n, schedule),
			my_worker.next_runs(schedule, 1, 'PRC', '2026-01-31 12:34:56+08') AS t}),
	join(', ', 'Sat 31 Jan 12:35', 'Sat 31 Jan 12:35', 'Sat 31 Jan 13:00', 'Sun 01 Feb 00:00', 'Mon 02 Feb 00:00',
		'Sun 01 Feb 01:00', 'Tue 02 Jun 13:00', 'Sat 28 Feb 12:00'), 'the example texts, in a zone');
sql(q{SELECT my_worker.schedule('run_every_30_seconds', 'every 30 seconds', 'SELECT 1')});
my $details = q{SELECT command, status, result, last_error, owner, finished_at >= started_at FROM (
	SELECT id, pid, owner, command, status, result, last_error, started_at, finished_at FROM my_worker.jobs
	ORDER BY started_at DESC NULLS LAST LIMIT 5) AS x WHERE command = 'SELECT 1'};
my $me = sql('SELECT current_user');
sql(q{SELECT my_worker.run_now('run_every_30_seconds')});
wait_for($node, $details, qq{SELECT 1|completed|"SELECT 1"||$me|t});
pass('the details of a run');
is(sql(q{SELECT my_worker.unschedule(name) FROM my_worker.schedules
		WHERE id = (SELECT id FROM my_worker.schedules WHERE name = 'run_every_30_seconds')}), 't', 'unschedule by id');
sql(q{CREATE ROLE some_other_user LOGIN; SELECT my_worker.grant_usage('some_other_user');
	SELECT my_worker.schedule('move', '0 3 * * *', 'SELECT current_user')});
sql(q{SELECT my_worker.unschedule('move'); SET ROLE some_other_user;
	SELECT my_worker.schedule('move', '0 10 * * *', 'SELECT current_user', timezone := 'GMT')});
is(sql(q{SELECT owner, schedule FROM my_worker.schedules WHERE name = 'move'}), 'some_other_user|0 10 * * *',
	'another owner and time');
sql(q{SELECT my_worker.unschedule('move', 'some_other_user')});
sql(q{SELECT my_worker.alter_queue('default', retention := '7 days')});
$node->safe_psql('postgres', 'CREATE DATABASE some_other_database');
$node->safe_psql('some_other_database', q{
	CREATE EXTENSION my_worker;
	CREATE TABLE events (event_time timestamptz);
	INSERT INTO events VALUES (now() - interval '8 days'), (now());
	SELECT my_worker.schedule('delete_old_data', '30 3 * * 6', $$DELETE FROM events WHERE event_time < now() - interval '1 week'$$)});

# What a command returns goes nowhere: ten million rows take no memory.
my $rows = sql(q{SELECT my_worker.run('SELECT generate_series(1, 10000000), repeat(''x'', 100)')});
my $worker = job_pid($node, $rows);
is(sql(qq{SELECT my_worker.wait($rows)}), 'completed', 'a result of ten million rows');
my $peak = peak_kb($worker);
cmp_ok($peak, '<', 200_000, "costs no memory (peak $peak kB)");

# A month later each is due.
restart_later(32 * 86400);
wait_for($node, q{SELECT count(*) = 7 FROM my_worker.schedules WHERE last_job_id IS NOT NULL});
drained($node);
wait_for($node, q{SELECT last_status FROM my_worker.schedules}, 'completed', undef, 'some_other_database');
is($node->safe_psql('some_other_database', 'SELECT count(*) FROM events'), '1', 'a schedule in another database');
is(sql(q{SELECT name, last_status FROM my_worker.schedules ORDER BY name}),
	join("\n", map { "$_|completed" } 'delete-old', 'nightly-vacuum', 'process-payroll', 'process-updates',
		'reindex', 'reminder', 'several'), 'each ran well');
is(sql(q{SELECT count(*) FROM events}), '1', 'DELETE did what it says');
is(sql(q{SELECT indisvalid FROM pg_index WHERE indexrelid = 'by_time'::regclass}), 't', 'CREATE INDEX CONCURRENTLY ran');
is(sql(q{SELECT what, count(*) > 0 FROM calls GROUP BY what ORDER BY what}),
	"first|t\nkept|t\npayroll|t\nsecond|t", 'procedures and several statements, too');
is(sql(q{SELECT result FROM my_worker.jobs AS j JOIN my_worker.schedules AS s ON j.id = s.last_job_id
		WHERE name = 'reminder'}), '"dear all"', 'a handler got its payload');
is(sql(q{SELECT max_attempts FROM my_worker.schedules WHERE name = 'nightly-vacuum'}), '1',
	'a command runs at most once');

# Its history, and a failure.
sql(q{SELECT my_worker.schedule('fails', 'every 1 hour', 'SELECT 1/0', max_attempts := 1)});
sql(q{SELECT my_worker.run_now('fails')});
wait_for($node, q{SELECT last_status = 'failed' FROM my_worker.schedules WHERE name = 'fails'});
is(sql(q{SELECT j.errors->0->>'sqlstate' FROM my_worker.jobs AS j JOIN my_worker.schedules AS s ON j.id = s.last_job_id
		WHERE name = 'fails'}), '22012', 'the error of the last run');
is(sql(q{SELECT my_worker.unschedule('nightly-vacuum')}), 't', 'unschedule');
sql(q{SELECT my_worker.unschedule(name) FROM my_worker.schedules});

# Down for a day.
for my $catchup (qw(none one all))
{
	sql(qq{SELECT my_worker.schedule('$catchup', '0 * * * *', \$\$INSERT INTO calls VALUES ('catchup $catchup')\$\$,
		catchup := '$catchup')});
}
restart_later(33 * 86400);
wait_for($node, q{SELECT bool_and(next_run_at > now() + interval '33 days') FROM my_worker.schedules});
drained($node);
is(sql(q{SELECT count(*) FROM calls WHERE what = 'catchup none'}), '0', 'down for a day, catchup none: no run');
is(sql(q{SELECT count(*) FROM calls WHERE what = 'catchup one'}), '1', 'catchup one: one run');
like(sql(q{SELECT count(*) FROM calls WHERE what = 'catchup all'}), qr/^2[45]$/, 'catchup all: one for each hour');

# Dump and restore.
my $port = $node->port;
my $dump = "$PostgreSQL::Test::Utils::tmp_check/dump.sql";
$node->command_ok([ 'pg_dump', '-f', $dump, 'postgres' ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, 'restored' ], 'restore');
my $all = q{SELECT name, schedule, timezone, command, handler, active, next_run_at, last_due, last_status,
	last_job_id, owner, id FROM my_worker.schedules ORDER BY name};
is($node->safe_psql('restored', $all), sql($all), 'schedules are carried as they are');
is($node->safe_psql('restored', q{SELECT my_worker.schedule('new', '@daily', 'SELECT 1') >
		(SELECT max(id) FROM my_worker.schedules)}), 't', 'and the sequence with them');

# Switched off nothing fires, and it costs nothing; switched on again it catches up.
sql(q{SELECT my_worker.unschedule(name) FROM my_worker.schedules});
sql(q{ALTER SYSTEM SET my_worker.enabled = off});
sql(q{SELECT pg_reload_conf()});
wait_for($node, q{SHOW my_worker.enabled}, 'off');
sql(q{SELECT my_worker.schedule('off', 'every 1 second', $$INSERT INTO calls VALUES ('off')$$, catchup := 'all')});
wait_for($node, q{SELECT next_run_at < now() + interval '33 days' - interval '1 s' FROM my_worker.schedules});
is(sql(q{SELECT count(*) FROM calls WHERE what = 'off'}), '0', 'enabled = off: nothing fires');
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'my_worker keeper' AND wait_event IS NULL}),
	'0', 'and the keeper sleeps');
sql(q{ALTER SYSTEM RESET my_worker.enabled});
sql(q{SELECT pg_reload_conf()});
wait_for($node, q{SELECT count(*) >= 2 FROM calls WHERE what = 'off'});
pass('on again: it goes on');

unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/PANIC|terminated by signal|XX000/,
	'no trouble in the log');
$node->stop;
done_testing();

# The most memory that a process has had (Linux); 0 elsewhere.
sub peak_kb
{
	my ($pid) = @_;
	open my $status, '<', "/proc/$pid/status" or return 0;
	my ($peak) = map { /^VmHWM:\s+(\d+)/ } <$status>;
	return $peak;
}
