# The tutorial's own session: settings in postgresql.conf, CREATE EXTENSION in `mydb`, its three
# monitoring queries, launch_dynamic_worker() and get_worker_stats().

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('tutorial', -extension => 0,
	'my_worker.naptime' => 5,
	'my_worker.max_items' => 50,
	'my_worker.database' => 'mydb',
	'my_worker.enabled' => 'on');

$node->safe_psql('postgres', 'CREATE DATABASE mydb');
$node->safe_psql('mydb', 'CREATE EXTENSION my_worker');
add_handlers($node, 'mydb');

# The first monitoring query: the processes.
wait_for($node, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'my_custom_worker'});
like($node->safe_psql('mydb', q{
	SELECT pid, backend_start, state, query FROM pg_stat_activity
	WHERE backend_type = 'my_custom_worker'}), qr/^\d+\|/, 'the pool is in pg_stat_activity');

# The second: the settings.
is($node->safe_psql('mydb', q{
	SELECT name, setting, unit, min_val, max_val, context FROM pg_settings
	WHERE name LIKE 'my\_worker.%' AND name ~ 'naptime|max_items|database|enabled' ORDER BY name}),
	join("\n",
		'my_worker.database|mydb||||postmaster',
		'my_worker.enabled|on||||sighup',
		'my_worker.max_items|50||1|10000|sighup',
		'my_worker.naptime|5|s|1|3600|sighup'),
	'settings have unit, range and context');
is($node->safe_psql('mydb', q{SELECT count(*) FROM pg_settings WHERE name LIKE 'my\_worker.%' AND short_desc = ''}),
	'0', 'and a text each');

# The third: what the configuration files say.
is($node->safe_psql('mydb', q{
	SELECT count(*) FROM pg_file_settings WHERE name LIKE 'my\_worker.%' AND error IS NULL AND applied}),
	'4', 'pg_file_settings shows them applied');

# Work by plain INSERT.
is($node->safe_psql('mydb', 'SELECT items_processed, last_run FROM get_worker_stats()'), '0|',
	'nothing has run yet');
$node->safe_psql('mydb',
	q{INSERT INTO my_queue (handler, payload) SELECT 'work', '{"label": "first"}' FROM generate_series(1, 3)});
drained($node, undef, 'mydb');
is($node->safe_psql('mydb', q{SELECT count(*) FROM effects WHERE label = 'first'}), '3', 'plain INSERTs ran');
wait_for($node, 'SELECT items_processed FROM get_worker_stats()', '3', undef, 'mydb');
is($node->safe_psql('mydb', q{
	SELECT last_run BETWEEN now() - interval '1 minute' AND now(), status <> '' FROM get_worker_stats()}),
	't|t', 'get_worker_stats() counts them');
is($node->safe_psql('mydb', q{
	SELECT (w.items_processed, w.last_run, w.status) = (s.items_processed, s.last_run, s.status)
	FROM my_worker_status AS w, get_worker_stats() AS s}), 't', 'and the view says the same');

# launch_dynamic_worker: the job's handler waits for a lock that we hold.
my $holder = $node->background_psql('mydb');
$holder->query_safe('SELECT pg_advisory_lock(42)');
$node->safe_psql('mydb', q{
	CREATE FUNCTION locked(id bigint) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects (job, label) VALUES (id, 'locked');
		PERFORM pg_advisory_xact_lock(42);
	END $$;
	CREATE FUNCTION locked(id bigint, payload jsonb) RETURNS void LANGUAGE sql AS 'SELECT locked(id)';
	SELECT my_worker.create_queue('by_hand');});

# A paused queue: nobody but the dynamic worker takes its jobs.
$node->safe_psql('mydb', q{SELECT my_worker.pause_queue('by_hand')});
sub paused_job
{
	my ($handler) = @_;
	return $node->safe_psql('mydb', "SELECT my_worker.enqueue('$handler', queue => 'by_hand')");
}

my $job = paused_job('locked');
my $pid = $node->safe_psql('mydb', "SELECT launch_dynamic_worker($job)");
like($pid, qr/^\d+$/, 'launch_dynamic_worker() returns a PID');
wait_for($node, "SELECT wait_event_type || ' ' || wait_event FROM pg_stat_activity WHERE pid = $pid", 'Lock advisory');
is($node->safe_psql('mydb', "SELECT backend_type, datname FROM pg_stat_activity WHERE pid = $pid"),
	'dynamic_worker|mydb', 'the PID is in pg_stat_activity while its handler waits');
is($node->safe_psql('mydb', "SELECT kind, state, job_id FROM my_worker.workers WHERE pid = $pid"),
	"dynamic|running|$job", 'and in my_worker.workers');
is($node->safe_psql('mydb', "SELECT status, pid FROM my_worker.jobs WHERE id = $job"),
	"processing|$pid", 'and in my_worker.jobs');

my $error = query_error($node, "SELECT launch_dynamic_worker($job)", 'mydb');
like($error, qr/^55006: job $job is already running/, 'a running job cannot be launched again');
like($error, qr/^HINT: /m, 'with a hint');

$holder->query_safe('SELECT pg_advisory_unlock(42)');
is($node->safe_psql('mydb', "SELECT my_worker.wait($job, '30 s')"), 'completed', 'the job completes');
wait_gone($pid);
is($node->safe_psql('mydb', q{SELECT count(*) FROM effects WHERE label = 'locked'}), '1', 'it ran once');
is($node->safe_psql('mydb', q{SELECT count(*) FROM my_worker.workers WHERE kind = 'dynamic'}), '0',
	'the dynamic worker is gone');
is($node->safe_psql('mydb', 'SELECT items_processed FROM get_worker_stats()'), '4', 'and was counted');

$error = query_error($node, 'SELECT launch_dynamic_worker(999999)', 'mydb');
like($error, qr/^42704: job 999999 does not exist/, 'no such job');
like($error, qr/^HINT: /m, 'with a hint');
$error = query_error($node, "SELECT launch_dynamic_worker($job)", 'mydb');
like($error, qr/^42704: /, 'nor one that has completed');
is(query_error($node, 'SELECT launch_dynamic_worker(NULL::integer)', 'mydb'), '', 'NULL in, NULL out');

# It begins with COMMIT, not before.
$job = paused_job('work');
my $session = $node->background_psql('mydb');
$session->query_safe('SET client_min_messages = warning');
$session->query_safe('BEGIN');
$pid = $session->query_safe("SELECT launch_dynamic_worker($job)");
like($pid, qr/(\d+)/, 'a PID within a transaction');
($pid) = $pid =~ /(\d+)\s*$/;
wait_for($node, "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid AND backend_type = 'dynamic_worker'", '1');
is($node->safe_psql('mydb', "SELECT count(*) FROM effects WHERE job = $job"), '0', 'nothing ran before COMMIT');
is($node->safe_psql('mydb', "SELECT status FROM my_worker.jobs WHERE id = $job"), 'pending', 'the job is pending');
$session->query_safe('COMMIT');
is($node->safe_psql('mydb', "SELECT my_worker.wait($job, '30 s')"), 'completed', 'after COMMIT it runs');

# A job that the same transaction enqueues is run after its COMMIT.
$session->query_safe('BEGIN');
$job = $session->query_safe(q{SELECT my_worker.enqueue('work', queue => 'by_hand')});
$session->query_safe("SELECT launch_dynamic_worker($job)");
$session->query_safe('COMMIT');
is($node->safe_psql('mydb', "SELECT my_worker.wait($job, '30 s')"), 'completed', 'a job of the same transaction');

# Rollback, also to a savepoint, runs nothing.
$job = paused_job('work');
my ($rolled, $saved);
$session->query_safe('BEGIN');
($rolled) = $session->query_safe("SELECT launch_dynamic_worker($job)") =~ /(\d+)\s*$/;
$session->query_safe('ROLLBACK');
$session->query_safe('BEGIN; SAVEPOINT s');
wait_gone($rolled);
($saved) = $session->query_safe("SELECT launch_dynamic_worker($job)") =~ /(\d+)\s*$/;
$session->query_safe('ROLLBACK TO s; COMMIT');
wait_gone($saved);
is($node->safe_psql('mydb', "SELECT count(*) FROM effects WHERE job = $job"), '0', 'a rollback runs nothing');
is($node->safe_psql('mydb', "SELECT status, attempts FROM my_worker.jobs WHERE id = $job"), 'pending|0',
	'and leaves the job as it was');

# A caller that dies in the middle of its transaction.
$session->query_safe('BEGIN');
($rolled) = $session->query_safe("SELECT launch_dynamic_worker($job)") =~ /(\d+)\s*$/;
my $backend = $session->query_safe('SELECT pg_backend_pid()');
$node->safe_psql('mydb', "SELECT pg_terminate_backend($backend)");
wait_gone($rolled);
is($node->safe_psql('mydb', "SELECT count(*) FROM effects WHERE job = $job"), '0', 'nor does a caller that dies');
$session->{run}->finish;

# Rights.
$node->safe_psql('mydb', q{
	CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN;
	SELECT my_worker.grant_usage('alice'), my_worker.grant_usage('bob');});
like(query_error($node, "SET ROLE bob; SELECT launch_dynamic_worker($job)", 'mydb'),
	qr/^(42501|42704): /, q{somebody else's job is not launched});
$job = $node->safe_psql('mydb', q{SET ROLE alice; SELECT my_worker.enqueue('work', '{"label": "alice"}', 'by_hand')});
is(query_error($node, "SET ROLE alice; SELECT launch_dynamic_worker($job)", 'mydb'), '', 'the own one is');
is($node->safe_psql('mydb', "SELECT my_worker.wait($job, '30 s')"), 'completed', 'and runs');
is($node->safe_psql('mydb', q{SELECT role FROM effects WHERE label = 'alice'}), 'alice', 'as its owner');
$node->safe_psql('mydb', 'CREATE ROLE nobody_here LOGIN');
like(query_error($node, 'SET ROLE nobody_here; SELECT launch_dynamic_worker(1)', 'mydb'),
	qr/^42501: permission denied/, 'PUBLIC may not launch');

# No free slot. The held jobs take all that is left of max_worker_processes.
$holder->query_safe('SELECT pg_advisory_lock(42)');
$node->safe_psql('mydb', q{ALTER SYSTEM SET my_worker.max_workers = 64; SELECT pg_reload_conf()});
wait_for($node, 'SHOW my_worker.max_workers', '64');
my @jobs = map { paused_job('locked') } 1 .. 17;
my (@pids, @errors);
for my $id (@jobs)
{
	my ($status, $stdout, $stderr) =
	  $node->psql('mydb', "\\set VERBOSITY verbose\nSELECT launch_dynamic_worker($id)");
	if   ($status == 0) { push @pids, $stdout }
	else                { push @errors, $stderr }
}
cmp_ok(scalar(@pids), '>=', 4, 'many dynamic workers run at once');
cmp_ok(scalar(@errors), '>=', 1, 'until there is no place');
like($errors[0] // '', qr/53000: .*HINT: .*"?max_worker_processes"?/s,
	'the error has a SQLSTATE and names max_worker_processes');
$holder->query_safe('SELECT pg_advisory_unlock(42)');
wait_gone(@pids);
is($node->safe_psql('mydb', q{SELECT count(*) FROM effects WHERE label = 'locked'}), 1 + @pids,
	'each of those that started ran once');
$holder->quit;

# A misspelt setting is reported.
my $start = log_end($node);
$node->append_conf('postgresql.conf', "my_worker.naptme = 3\n");
$node->reload;
wait_log($node, qr/my_worker\.naptme/, $start);
pass('a misspelt setting is reported');

$node->stop;
done_testing();
