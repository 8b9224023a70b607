# A permit of a queue that comes free is told to those who were refused, whoever gives it back; and while
# there is none, nobody looks for one.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_node('permits', 'my_worker.naptime' => 3600, 'my_worker.worker_idle_timeout' => 3600,
	'my_worker.log_jobs' => 'none');
add_handlers($node);
$node->safe_psql('postgres', q{SELECT my_worker.create_queue('one', concurrency => 1)});

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub enqueue { return sql("SELECT my_worker.enqueue('work', '$_[0]', 'one')") }
sub is_done { return is(sql("SELECT my_worker.wait($_[0], '10 s')"), 'completed', $_[1]) }

# Voluntary context switches of these processes: each is a sleep, so also a wake-up.
sub wakeups
{
	my $sum = 0;
	$sum += slurp_file("/proc/$_/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m ? $1 : 0 for @_;
	return $sum;
}

# A dynamic worker has the permit, of a job that the pool could not take before.
sub hold
{
	my ($gate) = @_;
	sql(q{SELECT my_worker.pause_queue('one')});
	my $job = enqueue(qq{{"gate": "$gate"}});
	sql("SELECT launch_dynamic_worker($job)");
	my $pid = job_pid($node, $job);
	sql(q{SELECT my_worker.resume_queue('one')});
	return ($job, $pid);
}

# Enqueues a job and waits until a worker was refused and sleeps.
sub refused
{
	my $job = enqueue('{}');
	wait_for($node, q{SELECT count(*) > 0 AND every(state = 'idle') FROM my_worker.workers WHERE kind = 'worker'});
	is(sql("SELECT status FROM my_worker.jobs WHERE id = $job"), 'pending', 'a worker of the pool is refused');
	return $job;
}

for my $round (1 .. 3)
{
	my ($holder) = hold("a$round");
	my $waits = refused();
	my @pids = (worker_pids($node, 'keeper'), worker_pids($node, 'worker'), worker_pids($node, 'launcher'));
	my $before = wakeups(@pids);
	usleep(1_000_000); # in which nothing is to happen
	cmp_ok(wakeups(@pids) - $before, '<', 20, 'keeper and workers sleep while the queue is full');
	open_gate($node, "a$round");
	is_done($waits, 'it runs the job when the dynamic worker is done');
}

# A process that is ended gives back its permit, too.
my ($holder, $pid) = hold('never');
my $waits = refused();
sql("SELECT pg_terminate_backend($pid)");
wait_gone($pid);
job_pid($node, $holder);
pass('a worker of the pool goes on with the job of a dynamic worker that was terminated');
wait_for($node, q{SELECT count(*) = 1 FROM my_worker.jobs WHERE status = 'processing'});
sql("SELECT my_worker.cancel($holder)");
is_done($waits, 'and with the one behind it');

$node->stop;
done_testing();
