# Signals to each of our processes, idle and at work: jobs run once and are not charged, and what was
# ended comes back. `enabled` takes effect live.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('signals', 'my_worker.naptime' => 3600);
# A job runs, or none is left; no job runs.
my $at_work = q{SELECT EXISTS (SELECT FROM my_worker.workers WHERE job_id IS NOT NULL) OR NOT EXISTS (SELECT FROM my_queue)};
my $at_rest = q{SELECT NOT EXISTS (SELECT FROM my_worker.workers WHERE job_id IS NOT NULL)};
add_handlers($node);

sub enqueue { return $node->safe_psql('postgres', "SELECT my_worker.enqueue('work', '$_[0]')") }
sub finished { return $node->safe_psql('postgres', "SELECT my_worker.wait($_[0], '15 s')") }
sub attempts { return $node->safe_psql('postgres', "SELECT attempts FROM my_worker.history WHERE id = $_[0]") }
sub terminate { return $node->safe_psql('postgres', "SELECT pg_terminate_backend($_[0], 10000)") }
sub set { $node->safe_psql('postgres', $_) for "ALTER SYSTEM SET $_[0] = $_[1]", 'SELECT pg_reload_conf()'; return }

is(finished(enqueue('{}')), 'completed', 'a job to begin with');

# SIGTERM.
for my $kind ('launcher', 'keeper', 'worker')
{
	my ($pid) = worker_pids($node, $kind);
	ok($pid, "there is a $kind");
	my $begin = time;
	is(terminate($pid), 't', "$kind: it ends when told to");
	is(finished(enqueue('{}')), 'completed', "$kind: a job after it runs");
	wait_for($node, "SELECT count(*) > 0 FROM my_worker.workers WHERE kind = '$kind' AND pid IS NOT NULL AND pid <> $pid", 't', 20);
	cmp_ok(time - $begin, '<', 15, "$kind: it is back within seconds");
}

my $job = enqueue('{"gate": "a"}');
my $pid = job_pid($node, $job);
is(terminate($pid), 't', 'a worker in a job ends when told to');
my $again = job_pid($node, $job);
isnt($again, $pid, 'another one takes its job');
is($node->safe_psql('postgres', "SELECT attempts, last_error IS NULL FROM my_worker.jobs WHERE id = $job"), '0|t',
	'the attempt is not charged');
open_gate($node, 'a');
is(finished($job), 'completed', 'the job completes');
is(attempts($job), '1', 'in its first attempt');
is($node->safe_psql('postgres', "SELECT count(*) FROM effects WHERE job = $job"), '1', 'with one effect');

# All at once, many times over, while jobs run.
$node->safe_psql('postgres', q{DELETE FROM effects});
$node->safe_psql('postgres', q{SELECT count(my_worker.enqueue('work', '{"sleep": 0.02}')) FROM generate_series(1, 100)});
for (1 .. 6)
{
	my ($cut_off) = split /\|/, $node->safe_psql('postgres', q{
		SELECT coalesce(string_agg(w.job_id::text, ','), '0'), bool_and(pg_terminate_backend(a.pid))
		FROM pg_stat_activity AS a LEFT JOIN my_worker.workers AS w USING (pid) WHERE a.backend_type = 'my_custom_worker'});
	# A job that is cut off time and again is charged for it.
	wait_for($node, "SELECT count(*) FROM my_queue WHERE id IN ($cut_off)", '0');
	wait_for($node, $at_work, 't');
}
drained($node);
effects_are($node, 100, 'every process is terminated six times: each job has its effect once');
is($node->safe_psql('postgres', q{
	SELECT count(*), max(h.attempts) FROM my_worker.history AS h JOIN effects ON job = id WHERE status = 'completed'}),
	'100|1', 'all completed, none charged');

# SIGINT.
for my $kind ('launcher', 'keeper', 'worker')
{
	finished(enqueue('{}'));
	my ($pid) = worker_pids($node, $kind);
	$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)") for 1 .. 3;
	is(finished(enqueue('{}')), 'completed', "$kind: a cancel does not keep jobs from running");
	is((worker_pids($node, $kind))[0], $pid, "$kind: nor does it end the process");
}
$job = $node->safe_psql('postgres', q{SELECT my_worker.enqueue('work', '{"gate": "b"}', max_attempts => 1)});
$pid = job_pid($node, $job);
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
is(finished($job), 'failed', 'a cancel of a running job ends the attempt');
is($node->safe_psql('postgres', "SELECT errors->0->>'sqlstate' FROM my_worker.history WHERE id = $job"), '57014',
	'with SQLSTATE 57014');
is((worker_pids($node, 'worker'))[0], $pid, 'and its worker goes on');

# A dynamic worker: its job goes back to its queue, and can be launched again.
$job = $node->safe_psql('postgres', q{
	SELECT my_worker.create_queue('held');
	SELECT my_worker.pause_queue('held');
	SELECT my_worker.enqueue('work', '{"gate": "dynamic"}', 'held')}) =~ s/\s//gr;
$pid = $node->safe_psql('postgres', "SELECT launch_dynamic_worker($job)");
is(job_pid($node, $job), $pid, 'a dynamic worker is at work');
is(terminate($pid), 't', 'dynamic: it ends when told to');
is($node->safe_psql('postgres', "SELECT status, attempts FROM my_worker.jobs WHERE id = $job"), 'pending|0',
	'dynamic: its job is pending and not charged');
$again = $node->safe_psql('postgres', "SELECT launch_dynamic_worker($job)");
is(job_pid($node, $job), $again, 'dynamic: it can be launched again');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($again)");
wait_gone($again);
is($node->safe_psql('postgres', "SELECT attempts, errors->0->>'sqlstate' FROM my_worker.jobs WHERE id = $job"), '1|57014',
	'dynamic: a cancel ends the attempt');
open_gate($node, 'dynamic');
$node->safe_psql('postgres', q{SELECT my_worker.resume_queue('held')});

# SIGHUP every 50 ms.
$node->safe_psql('postgres', q{DELETE FROM effects; DELETE FROM my_queue});
$node->safe_psql('postgres', q{SELECT count(my_worker.enqueue('work', '{"sleep": 0.02}')) FROM generate_series(1, 100)});
my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
for (1 .. 40)
{
	my $loaded = $node->safe_psql('postgres', 'SELECT pg_conf_load_time()');
	kill 'HUP', $postmaster;
	wait_for($node, "SELECT pg_conf_load_time() <> '$loaded'", 't');
}
drained($node);
effects_are($node, 100, 'a reload every 50 ms: each job has its effect once');

# enabled = off lets running jobs end and starts nothing new; on goes on.
$job = enqueue('{"gate": "c"}');
job_pid($node, $job);
set('my_worker.enabled', 'off');
wait_for($node, 'SHOW my_worker.enabled', 'off');
my $next = enqueue('{"label": "next"}');
is($node->safe_psql('postgres', "SELECT coalesce(my_worker.wait($next, '1 s'), 'waits')"), 'waits', 'off: nothing new starts');
is($node->safe_psql('postgres', "SELECT status FROM my_worker.jobs WHERE id = $job"), 'processing', 'off: what runs goes on');
open_gate($node, 'c');
is(finished($job), 'completed', 'off: to its end');
is($node->safe_psql('postgres', "SELECT coalesce(my_worker.wait($next, '1 s'), 'waits')"), 'waits', 'off: and nothing after it');
set('my_worker.enabled', 'on');
is(finished($next), 'completed', 'on: work goes on');

# Off in the middle of many jobs costs none an attempt.
$node->safe_psql('postgres', q{DELETE FROM effects});
$node->safe_psql('postgres', q{SELECT count(my_worker.enqueue('work', '{"sleep": 0.01}')) FROM generate_series(1, 200)});
for (1 .. 4)
{
	wait_for($node, $at_work, 't');
	set('my_worker.enabled', 'off');
	wait_for($node, $at_rest, 't');
	set('my_worker.enabled', 'on');
}
drained($node);
effects_are($node, 200, 'off and on again in the middle of 200 jobs: each effect once');

# A job that ends its own process is not run for ever.
$node->safe_psql('postgres', q{
	CREATE FUNCTION suicide(jsonb) RETURNS void LANGUAGE sql AS 'SELECT pg_terminate_backend(pg_backend_pid())';});
$job = $node->safe_psql('postgres', q{
	SELECT my_worker.create_queue('mad', backoff => '0', max_attempts => 3);
	SELECT my_worker.enqueue('suicide', queue => 'mad')});
$job =~ s/\s//g;
my $other = enqueue('{"label": "other"}');
is(finished($other), 'completed', 'a job that terminates its own process does not hold up others');
is($node->safe_psql('postgres', "SELECT my_worker.wait($job, '40 s')"), 'failed', 'and ends failed');
like($node->safe_psql('postgres', "SELECT last_error FROM my_worker.history WHERE id = $job"), qr/terminated/,
	'with an error that says why');
is(finished(enqueue('{}')), 'completed', 'the pool is well after it');

# Nothing of this was a crash.
is(log_has($node, qr/PANIC|terminated by signal|XX000/), 0, 'no crash, no internal error');

$node->stop;
done_testing();
