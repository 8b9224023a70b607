# A COMMIT of jobs that no worker can run, since their queue is paused or held for other consumers, starts
# and wakes nobody; what makes them run later does, also if it comes while they are being enqueued.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('resting', 'my_worker.naptime' => 3600, 'my_worker.worker_idle_timeout' => 600);
add_handlers($node);
$node->safe_psql('postgres', q{
	CREATE ROLE regress_mw_idle LOGIN;
	SELECT my_worker.grant_usage('regress_mw_idle');
	SELECT my_worker.create_queue('paused', handler => 'work');
	SELECT my_worker.pause_queue('paused');
	SELECT my_worker.create_queue('held')});

sub waiting { return $node->safe_psql('postgres', "SELECT count(*) FROM my_queue WHERE queue = '$_[0]'") }

# A role whose jobs all rest has no worker, and another role's job shows that the launcher has had its turn.
$node->safe_psql('postgres', q{
	SET ROLE regress_mw_idle;
	INSERT INTO my_queue (queue) VALUES ('paused');
	INSERT INTO my_queue (queue) VALUES ('held');
	SELECT my_worker.enqueue('work', queue => 'paused');
	BEGIN;
	INSERT INTO my_queue (queue) VALUES ('held'), ('paused'), ('held');
	COMMIT;
	RESET ROLE;
	SELECT my_worker.enqueue('work')});
wait_for($node, q{SELECT count(*) FROM my_queue WHERE queue = 'default'}, '0');
is($node->safe_psql('postgres', q{SELECT count(*) FROM my_worker.workers WHERE role = 'regress_mw_idle'}), '0',
	'no worker starts for jobs that none can run');
is(waiting('paused') . ' ' . waiting('held'), '3 3', 'they wait');

# What says itself what to call runs, in a held queue, too; and so does a neighbour in the same transaction.
$node->safe_psql('postgres', q{SET ROLE regress_mw_idle; INSERT INTO my_queue (queue, handler) VALUES ('held', 'work')});
wait_for($node, q{SELECT count(*) FROM my_worker.history WHERE queue = 'held' AND owner = 'regress_mw_idle'::regrole}, '1');
pass('a job with a handler of its own runs');
$node->safe_psql('postgres', q{
	SET ROLE regress_mw_idle;
	BEGIN;
	INSERT INTO my_queue (queue) VALUES ('held');
	INSERT INTO my_queue (handler) VALUES ('work');
	INSERT INTO my_queue (queue) VALUES ('paused');
	COMMIT});
wait_for($node, q{SELECT count(*) FROM my_worker.history WHERE queue = 'default' AND owner = 'regress_mw_idle'::regrole}, '1');
is(waiting('paused') . ' ' . waiting('held'), '4 4', 'the neighbours of one that runs wait');

# All ways to let them run, each without a nap.
sub all_run
{
	my ($queue, $name) = @_;
	wait_for($node, "SELECT count(*) FROM my_queue WHERE queue = '$queue'", '0');
	return pass($name);
}
my @ways = (
	[ 'resume_queue()', q{SELECT my_worker.resume_queue('paused')} ],
	[ 'an UPDATE of the settings', q{UPDATE my_worker.queues SET paused = false WHERE name = 'paused'} ]);
for my $way (@ways)
{
	my ($name, $resume) = @{$way};
	$node->safe_psql('postgres', $resume);
	all_run('paused', "$name has them run");
	$node->safe_psql('postgres', q{SELECT my_worker.pause_queue('paused'); INSERT INTO my_queue (queue) VALUES ('paused')});
}
# One that should have run long ago, behind what the worker has read.
$node->safe_psql('postgres', q{INSERT INTO my_queue (queue, run_at) VALUES ('paused', '-infinity'), ('paused', now() - interval '1 day')});
$node->safe_psql('postgres', q{SELECT my_worker.resume_queue('paused')});
all_run('paused', 'also those that are older than what was done before');

# The settings change between the INSERT and its COMMIT.
my $session = $node->background_psql('postgres');
sub while_open
{
	my ($queue, $rests, $change, $name) = @_;
	$node->safe_psql('postgres', $rests);
	$session->query(qq{BEGIN; INSERT INTO my_queue (queue) VALUES ('$queue')});
	$node->safe_psql('postgres', $change);
	# The keeper has looked, and found nothing.
	$node->safe_psql('postgres', q{SELECT my_worker.enqueue('work')});
	wait_for($node, q{SELECT count(*) FROM my_queue WHERE queue = 'default'}, '0');
	$session->query(q{COMMIT});
	return all_run($queue, $name);
}
while_open('paused', q{SELECT my_worker.pause_queue('paused')}, q{SELECT my_worker.resume_queue('paused')},
	'resumed while the transaction was open');
while_open('held', q{SELECT 1}, q{SELECT my_worker.alter_queue('held', handler => 'work')},
	'given a handler while the transaction was open');

# The transaction does it itself.
$node->safe_psql('postgres', q{
	SELECT my_worker.pause_queue('paused');
	BEGIN;
	INSERT INTO my_queue (queue) VALUES ('paused');
	SELECT my_worker.resume_queue('paused');
	INSERT INTO my_queue (queue) VALUES ('paused');
	COMMIT});
all_run('paused', 'resumed by the transaction itself');
$node->safe_psql('postgres', q{
	BEGIN;
	SAVEPOINT a;
	SELECT my_worker.pause_queue('paused');
	ROLLBACK TO a;
	INSERT INTO my_queue (queue) VALUES ('paused');
	COMMIT});
all_run('paused', 'a pause that was rolled back holds nothing up');

$session->quit;
$node->stop;
done_testing();
