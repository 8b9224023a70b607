# kill -9 of a worker in a job, of the keeper and of the launcher; of the postmaster; immediate
# shutdown. The server restarts, every effect is there once, and only the job whose process was
# killed is charged an attempt.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_node('crash', 'restart_after_crash' => 'on', 'my_worker.naptime' => 3600,
	'my_worker.max_workers' => 6);
add_handlers($node);
$node->safe_psql('postgres', q{SELECT my_worker.alter_queue('default', backoff => '0.1 s')});

sub enqueue { return $node->safe_psql('postgres', "SELECT my_worker.enqueue('work', '$_[0]')") }
sub finished { return $node->safe_psql('postgres', "SELECT my_worker.wait($_[0], '30 s')") }
sub history
{
	return $node->safe_psql('postgres',
		"SELECT status, attempts, coalesce(jsonb_array_length(errors), 0) FROM my_worker.history WHERE id = $_[0]");
}

# A worker in a job, with two others at work.
my ($victim, @others) = map { enqueue('{"gate": "a"}') } 1 .. 3;
my %pid = map { $_ => job_pid($node, $_) } $victim, @others;
is(scalar(keys %{ { reverse %pid } }), 3, 'three jobs run at once');
crash($node, $pid{$victim});
# It waits for its backoff, the others run at once.
isnt(job_pid($node, $_), $pid{$_}, "the bystander $_ runs again") for @others;
open_gate($node, 'a');
is(finished($_), 'completed', "job $_ completes") for $victim, @others;
is(history($victim), 'completed|2|1', 'the killed job was charged an attempt');
is(history($_), 'completed|1|0', 'a bystander was not') for @others;
like($node->safe_psql('postgres', "SELECT errors->0->>'message' FROM my_worker.history WHERE id = $victim"),
	qr/process died/, 'its error says so');
effects_are($node, 3, 'every effect once');
is($node->safe_psql('postgres', q{SELECT count(*) FROM my_worker.jobs WHERE status = 'processing'}), '0',
	'nothing is left in processing');

# The keeper and the launcher, while jobs run.
for my $kind ('keeper', 'launcher')
{
	$node->safe_psql('postgres', 'DELETE FROM effects');
	my @jobs = map { enqueue(qq({"gate": "$kind"})) } 1 .. 2;
	job_pid($node, $_) for @jobs;
	crash($node, (worker_pids($node, $kind))[0]);
	job_pid($node, $_) for @jobs;
	open_gate($node, $kind);
	is(finished($_), 'completed', "$kind killed: job $_ completes") for @jobs;
	is(history($_), 'completed|1|0', "$kind killed: job $_ is not charged") for @jobs;
	effects_are($node, 2, "$kind killed: every effect once");
}

# A backend of somebody else.
$node->safe_psql('postgres', 'DELETE FROM effects');
my $job = enqueue('{"gate": "b"}');
job_pid($node, $job);
my $session = $node->background_psql('postgres');
crash($node, $session->query_safe('SELECT pg_backend_pid()'));
$session->{run}->finish;
job_pid($node, $job);
open_gate($node, 'b');
is(finished($job), 'completed', 'a backend killed: the job completes');
is(history($job), 'completed|1|0', 'a backend killed: it is not charged');

# When the attempt began that was cut off, not the one before: as the history says, by whatever end.
$node->safe_psql('postgres', q{
	CREATE SEQUENCE tries;
	CREATE FUNCTION fail_then_stay(job jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF nextval('tries') = 1 THEN RAISE EXCEPTION 'fails'; END IF;
		PERFORM pg_sleep(60);
	END $$});
my %end = (
	'killed' => [2, sub { crash($node, $_[0]) }],
	'cancelled and killed' => [5, sub
	{
		# Whose signal the process does not get before it dies.
		kill 'STOP', $_[0];
		is($node->safe_psql('postgres', "SELECT my_worker.cancel($_[1])"), 't', 'it is cancelled');
		crash($node, $_[0]);
	}],
	'terminated three times' => [2, sub
	{
		my ($pid, $id) = @_;
		for (1 .. 3)
		{
			$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 10000)");
			$pid = job_pid($node, $id) if $_ < 3;
		}
	}]);
for my $how (sort keys %end)
{
	my ($attempts, $cut_off) = @{ $end{$how} };
	$node->safe_psql('postgres', q{SELECT setval('tries', 1, false)});
	my $id = $node->safe_psql('postgres', "SELECT my_worker.enqueue('fail_then_stay', '{}', max_attempts => $attempts)");
	wait_for($node, "SELECT attempts FROM my_queue WHERE id = $id", '1');
	my $first = $node->safe_psql('postgres', "SELECT started_at FROM my_queue WHERE id = $id");
	$cut_off->(job_pid($node, $id), $id);
	wait_for($node, "SELECT status IN ('failed', 'cancelled') FROM my_worker.history WHERE id = $id", 't');
	is($node->safe_psql('postgres', qq{SELECT started_at > '$first' AND started_at < finished_at FROM my_worker.history WHERE id = $id}),
		't', "$how: its start is that of the last attempt");
}

# A dynamic worker.
$job = $node->safe_psql('postgres', q{
	SELECT my_worker.pause_queue('default') \g /dev/null
	SELECT my_worker.enqueue('work', '{"gate": "d"}')});
my $dynamic = $node->safe_psql('postgres', "SELECT launch_dynamic_worker($job)");
job_pid($node, $job);
crash($node, $dynamic);
wait_for($node, "SELECT attempts FROM my_queue WHERE id = $job", '1');
pass('a dynamic worker killed: its job is charged');
wait_log($node, qr/LOG:  job $job \(queue "default", handler public\.work\(bigint, jsonb\)\) is charged an attempt: .* \(SQLSTATE 57P02\)/);
open_gate($node, 'd');
$node->safe_psql('postgres', q{SELECT my_worker.resume_queue('default')});
is(finished($job), 'completed', 'a dynamic worker killed: its job is run by the pool');

# Commands: at most once by default, again if they have attempts left.
my ($once, $twice) = map {
	$node->safe_psql('postgres', "SELECT my_worker.run(\$c\$INSERT INTO effects (label) VALUES ('command $_'); SELECT gate('command')\$c\$, max_attempts => $_)")
} 1, 2;
job_pid($node, $_) for $once, $twice;
my ($bystander) = job_pid($node, $twice);
crash($node, job_pid($node, $once));
is(finished($once), 'failed', 'a command killed: it fails, for it may have been done');
is(history($once), 'failed|1|1', 'a command killed: in its one attempt');
isnt(job_pid($node, $twice), $bystander, 'a command nearby with attempts left is run again');
open_gate($node, 'command');
is(finished($twice), 'completed', 'and completes');

# The whole server by an immediate shutdown.
$node->safe_psql('postgres', 'DELETE FROM effects');
$job = enqueue('{"gate": "i"}');
job_pid($node, $job);
my @ours = worker_pids($node);
$node->stop('immediate');
is(scalar(grep { is_alive($_) } @ours), 0, 'immediate shutdown: no process of ours is left');
$node->start;
job_pid($node, $job);
open_gate($node, 'i');
is(finished($job), 'completed', 'immediate shutdown: the job runs after the restart');
is(history($job), 'completed|1|0', 'immediate shutdown: it is not charged');

# The postmaster.
$job = enqueue('{"gate": "p"}');
job_pid($node, $job);
@ours = worker_pids($node);
cmp_ok(scalar(@ours), '>=', 3, 'launcher, keeper and worker are there');
my $postmaster = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/ ? $1 : die 'no postmaster.pid';
$node->kill9;
cmp_ok(wait_gone(@ours), '<', 5, 'postmaster killed: our processes are gone within seconds');
# The next one takes a process that nobody has collected for a living one.
for (1 .. 500)
{
	last unless -d "/proc/$postmaster";
	usleep(20_000);
}
$node->start;
job_pid($node, $job);
open_gate($node, 'p');
is(finished($job), 'completed', 'postmaster killed: the job runs after the restart');
is(history($job), 'completed|1|0', 'postmaster killed: it is not charged');
effects_are($node, 2, 'every effect once');

$node->stop;
done_testing();
