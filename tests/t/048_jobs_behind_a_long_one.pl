# Jobs that a worker has found behind a long one, and that nobody else is told of: another worker
# comes for them, also if neither a nap nor a commit is near.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('behind', 'my_worker.naptime' => 3600, 'my_worker.worker_idle_timeout' => 3600,
	'my_worker.max_workers' => 2);
add_handlers($node);
$node->safe_psql('postgres', q{
	CREATE FUNCTION quick() RETURNS void LANGUAGE sql AS 'SELECT';
	CREATE FUNCTION late() RETURNS void LANGUAGE plpgsql AS $$BEGIN PERFORM gate('late'); END $$;
	CREATE FUNCTION slow() RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(0.01)';
	CREATE FUNCTION deaf() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		BEGIN
			PERFORM gate('nobody opens it');
		EXCEPTION WHEN query_canceled THEN
			NULL;
		END;
		PERFORM gate('deaf');
	END $$});

my $session = $node->background_psql('postgres');

# Two idle workers, both new. To the first, which commits wake, the queue has proved fast: it takes
# several jobs at once.
sub two_workers
{
	my @pids = worker_pids($node, 'worker');
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($_)") for @pids;
	wait_gone(@pids);
	$session->query_safe(q{DELETE FROM gates});
	$session->query_safe(q{SELECT my_worker.enqueue('work', '{"gate": "two"}')}) for 1 .. 2;
	wait_for($node, q{SELECT count(job_id) FROM my_worker.workers WHERE kind = 'worker'}, '2');
	open_gate($node, 'two');
	for (1 .. 4)
	{
		wait_for($node, q{SELECT string_agg(state, ' ') FROM my_worker.workers WHERE kind = 'worker'}, 'idle idle');
		$session->query_safe(q{SELECT my_worker.enqueue('quick')});
		drained($node);
	}
	# The launcher looks once more a second after it has started one.
	wait_for($node, q{SELECT bool_and(state = 'idle' AND started_at < clock_timestamp() - interval '1500 ms')
		FROM my_worker.workers WHERE kind = 'worker'});
	return;
}

# Waits until the job is done while the long one goes on, and lets that end.
sub passes
{
	my ($long, $job, $gate, $name) = @_;
	is($node->safe_psql('postgres', "SELECT my_worker.wait($job, '20 s')"), 'completed', $name);
	is($node->safe_psql('postgres', "SELECT status FROM my_worker.jobs WHERE id = $long"), 'processing',
		'while that is at it');
	open_gate($node, $gate);
	is($node->safe_psql('postgres', "SELECT my_worker.wait($long, '20 s')"), 'completed', 'which then ends, too');
	return;
}

sub enqueued
{
	my ($sql) = @_;
	return split /\|/, $session->query_safe($sql);
}

two_workers();
my ($long, $job) = enqueued(q{SELECT my_worker.run($$SELECT gate('command')$$), my_worker.enqueue('quick')});
passes($long, $job, 'command', 'a job behind a command');

# The look-up of its handler takes longer than the launcher needs to wake: the worker waits for a lock.
my $insert = q{INSERT INTO my_queue (handler) VALUES ('late'), ('quick') RETURNING id};
open_gate($node, 'late');
$session->query_safe($insert);
drained($node);
two_workers();
my $pids = join ', ', worker_pids($node, 'worker');
my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; LOCK TABLE pg_proc IN ACCESS EXCLUSIVE MODE');
($long, $job) = split /\n/, $session->query_safe($insert);
$locker->query_safe(qq{DO \$\$
	BEGIN
		WHILE NOT EXISTS (SELECT FROM pg_locks WHERE pid IN ($pids) AND NOT granted
			AND waitstart < clock_timestamp() - interval '200 ms') LOOP
			PERFORM pg_sleep(0.01);
		END LOOP;
	END \$\$;
	COMMIT});
$locker->quit;
passes($long, $job, 'late', 'a job behind one whose handler was hard to find');

two_workers();
my (undef, $deaf, $last) =
  enqueued(q{SELECT my_worker.enqueue('slow'), my_worker.enqueue('deaf'), my_worker.enqueue('quick')});
passes($deaf, $last, 'deaf', 'a job behind one that does not heed its cancel');

$session->quit;
$node->stop;
done_testing();
