# The keeper never waits for a job's row that somebody else has locked: schedules fire, other jobs run, and
# what it meant to do with that job it does when the row is free.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('keeper_locks', 'my_worker.naptime' => 1, 'my_worker.log_jobs' => 'none');
add_handlers($node);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(q{
	CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN;
	SELECT my_worker.grant_usage('alice'), my_worker.grant_usage('bob');});

# The keeper goes on: a schedule fires, and a role that has no worker gets one.
my $fresh = 0;
sub goes_on
{
	my ($while) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $fired = sql(q{SELECT coalesce(max(last_job_id), 0) FROM my_worker.schedules WHERE name = 'tick'});
	wait_for($node, qq{SELECT last_job_id > $fired + 1 FROM my_worker.schedules WHERE name = 'tick'});
	pass("schedules fire while $while");
	my $role = 'fresh' . ++$fresh;
	my $job = sql(qq{CREATE ROLE $role LOGIN; SELECT my_worker.grant_usage('$role') \\gset
		SET ROLE $role; SELECT my_worker.enqueue('work')});
	is(sql("SELECT my_worker.wait($job, '20 s')"), 'completed', "a role without a worker gets one while $while");
	return;
}
sql(q{SELECT my_worker.schedule('tick', 'every 1 second', handler := 'work')});

# A run that waits for an earlier one, cancelled in a transaction that stays open.
sql(q{SELECT my_worker.create_queue('paused'); SELECT my_worker.pause_queue('paused');
	SET ROLE alice;
	SELECT my_worker.schedule('queued', 'every 1 second', handler := 'work', overlap := 'queue', queue := 'paused')});
wait_for($node, q{SELECT held > 2 FROM my_worker.schedules WHERE name = 'queued'});
sql(q{SELECT my_worker.pause_schedule('queued')});
my ($first, $second) = split /\n/, sql(q{SELECT id FROM my_queue WHERE run_at = 'infinity' ORDER BY id LIMIT 2});
my $alice = $node->background_psql('postgres');
$alice->query_safe("SET ROLE alice; BEGIN; SELECT my_worker.cancel($first)");
sql(q{SELECT my_worker.cancel(id) FROM my_queue WHERE queue = 'paused' AND run_at < 'infinity'});
goes_on('somebody has cancelled a run that is due');
is(sql("SELECT count(*) FROM my_queue WHERE queue = 'paused' AND run_at < 'infinity'"), '0',
	'the runs behind it wait');
$alice->query_safe('ROLLBACK');
wait_for($node, "SELECT run_at < 'infinity' FROM my_queue WHERE id = $first");
pass('it is released when it was not cancelled after all');
$alice->query_safe("BEGIN; SELECT my_worker.cancel($second)");
sql("SELECT my_worker.cancel($first)");
goes_on('the next one is being cancelled');
$alice->query_safe('COMMIT');
wait_for($node, "SELECT count(*) FROM my_queue WHERE queue = 'paused' AND run_at < 'infinity'", '1');
is(sql("SELECT count(*) FROM my_queue WHERE id IN ($first, $second)"), '0', 'one that was cancelled lets the next one go');
sql(q{SELECT my_worker.unschedule('queued', 'alice')});

# A job whose process was terminated again and again, and whose row somebody else got meanwhile.
my $job = sql(q{SET ROLE alice; SELECT my_worker.enqueue('work', '{"gate": "never"}')});
my ($keeper) = worker_pids($node, 'keeper');
for my $round (1 .. 3)
{
	my $pid = job_pid($node, $job);
	if ($round == 3)
	{
		# Whoever waits for the row has it before the keeper goes on.
		$alice->query_until(qr/asked/, "\\echo asked\nRESET ROLE; BEGIN; SELECT id FROM my_queue WHERE id = $job FOR UPDATE;\n");
		wait_for($node, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE '%FOR UPDATE%' AND wait_event_type = 'Lock'});
	}
	kill 'STOP', $keeper if $round == 3;
	sql("SELECT pg_terminate_backend($pid)");
	wait_gone($pid);
}
$alice->query_safe('SELECT 1');
kill 'CONT', $keeper;
goes_on('somebody has a job that is to be charged');
is(sql("SELECT attempts FROM my_queue WHERE id = $job"), '0', 'which waits');
$alice->query_safe('ROLLBACK');
wait_for($node, "SELECT attempts FROM my_queue WHERE id = $job", '1');
pass('and is charged once the row is free');
sql("SELECT my_worker.cancel($job)");

# A command whose process is gone.
$job = sql(q{SELECT my_worker.run('SELECT 1', queue := 'paused')});
sql(q{ALTER SYSTEM SET my_worker.enabled = off});
sql(q{SELECT pg_reload_conf()});
wait_for($node, q{SELECT setting FROM pg_settings WHERE name = 'my_worker.enabled'}, 'off');
sql("UPDATE my_queue SET status = 'processing', attempts = 1 WHERE id = $job");
$alice->query_safe("BEGIN; SELECT id FROM my_queue WHERE id = $job FOR UPDATE");
sql(q{ALTER SYSTEM RESET my_worker.enabled});
sql(q{SELECT pg_reload_conf()});
goes_on('somebody has a command that is to be settled');
is(sql("SELECT status FROM my_queue WHERE id = $job"), 'processing', 'which waits');
$alice->query_safe('ROLLBACK');
wait_for($node, "SELECT count(*) FROM my_queue WHERE id = $job AND status = 'processing'", '0');
pass('and is settled once the row is free');

$alice->quit;
is(log_has($node, qr/PANIC|terminated by signal|XX000/), 0, 'no trouble in the log');
$node->stop;
done_testing();
