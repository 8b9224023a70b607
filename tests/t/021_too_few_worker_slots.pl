# Too few background worker slots: jobs wait, the log has one line with the hint, and work goes on when
# there is a place.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;
use Time::HiRes qw(time usleep);

# Four slots: the server's own logical replication launcher, our launcher, and two more.
my $node = new_node('slots', 'max_worker_processes' => 4, 'my_worker.max_workers' => 8, 'my_worker.naptime' => 3600);
add_handlers($node);
$node->safe_psql('postgres', q{
	CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN;
	SELECT my_worker.grant_usage('alice'), my_worker.grant_usage('bob');});
sub enqueue_as
{
	my ($role, $payload) = @_;
	return $node->safe_psql('postgres', "SET ROLE $role; SELECT my_worker.enqueue('work', '$payload')");
}

my $start = log_end($node);
my $alice = enqueue_as('alice', '{"gate": "a"}');
job_pid($node, $alice);
my $bob = enqueue_as('bob', '{"label": "bob"}');
wait_log($node, qr/no free background worker slot/, $start);
usleep(2_500_000); # in which no second line is to come
is(log_has($node, qr/WARNING: .*no free background worker slot/, $start), 1, 'one line in the log');
is(log_has($node, qr/HINT: .*max_worker_processes/, $start), 1, 'with a hint');
is($node->safe_psql('postgres', "SELECT status FROM my_worker.jobs WHERE id = $bob"), 'pending', 'the job waits');
wait_for($node, "SELECT my_worker.why($bob)", 'waiting for a free worker slot (max_worker_processes)');
wait_for($node, q{SELECT ok, detail FROM my_worker.health() WHERE "check" = 'slots'}, 'f|work waits for a free worker slot: raise max_worker_processes');
like(query_error($node, "SELECT launch_dynamic_worker($bob)"), qr/^53000: .*HINT: .*max_worker_processes/s,
	'launch_dynamic_worker() names max_worker_processes');
open_gate($node, 'a');
is($node->safe_psql('postgres', "SELECT my_worker.wait($alice, '20 s')"), 'completed', 'when the running one ends');
is($node->safe_psql('postgres', "SELECT my_worker.wait($bob, '20 s')"), 'completed', 'the idle worker makes room for the other role');


# Role after role in the one place there is: served at once, and the log stays as it was.
my $begin = time;
for my $round (1 .. 10)
{
	for my $role ('alice', 'bob')
	{
		my $job = enqueue_as($role, '{}');
		is($node->safe_psql('postgres', "SELECT my_worker.wait($job, '20 s')"), 'completed', "round $round: $role is served");
	}
}
cmp_ok(time - $begin, '<', 10, 'roles change places quickly');
is(log_has($node, qr/no free background worker slot/, $start), 1, 'without another line in the log');

# A flood of one role does not keep the place for itself.
$node->safe_psql('postgres', q{SET ROLE alice;
	SELECT count(my_worker.enqueue('work', '{"sleep": 0.002}')) FROM generate_series(1, 4000)});
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'worker' AND role = 'alice'}, '1');
$bob = enqueue_as('bob', '{}');
is($node->safe_psql('postgres', "SELECT my_worker.wait($bob, '5 s')"), 'completed', 'another role gets its turn');
is($node->safe_psql('postgres', q{SELECT count(*) > 100 FROM my_queue}), 't', 'while the flood goes on');
$node->safe_psql('postgres', q{DELETE FROM my_queue WHERE id % 16 <> 0});
drained($node);
is(log_has($node, qr/PANIC|terminated by signal|XX000/), 0, 'no other trouble');
$node->stop;

# No worker at all, not even the launcher.
$node->append_conf('postgresql.conf', 'max_worker_processes = 0');
$start = log_end($node);
$node->start;
my $job = $node->safe_psql('postgres', q{SELECT my_worker.enqueue('work', '{"label": "none"}')});
like($job, qr/^\d+$/, 'max_worker_processes = 0: the server starts, enqueueing works');
like($node->safe_psql('postgres', 'SELECT status FROM get_worker_stats()'), qr/not running/, 'the status says what is missing');
like(query_error($node, "SELECT launch_dynamic_worker($job)"), qr/HINT: .*max_worker_processes/, 'launching names the setting');
is($node->safe_psql('postgres', "SELECT my_worker.wait($job, '0.2 s') IS NULL"), 't', 'waiting ends by its time-out');
$node->append_conf('postgresql.conf', 'max_worker_processes = 8');
$node->restart;
is($node->safe_psql('postgres', "SELECT my_worker.wait($job, '20 s')"), 'completed', 'with slots the job runs');

$node->stop;
done_testing();
