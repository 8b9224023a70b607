# Four open transactions with a launch_dynamic_worker() do not refuse the launches of other roles.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('launches', 'my_worker.naptime' => 3600, 'my_worker.enabled' => 'off', 'max_worker_processes' => 20);
add_handlers($node);
my @roles = qw(alice bob carol dave erin frank);
$node->safe_psql('postgres', "CREATE ROLE $_ LOGIN; SELECT my_worker.grant_usage('$_')") for @roles;

my @open;
sub launch
{
	my ($role) = @_;
	my $job = $node->safe_psql('postgres', "SET ROLE $role; SELECT my_worker.enqueue('work')");
	return ($job, "SET ROLE $role; SET client_min_messages = warning; BEGIN; SELECT launch_dynamic_worker($job)");
}

sub launch_and_stay
{
	my ($role) = @_;
	my ($job, $sql) = launch($role);
	my $session = $node->background_psql('postgres');
	like($session->query_safe($sql), qr/^\d+$/m, "$role launches a worker in an open transaction");
	push @open, [ $session, $job ];
	return;
}

sub refused
{
	my ($role, $pattern, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my (undef, $sql) = launch($role);
	return like(query_error($node, $sql), $pattern, $name);
}

my $full = qr/^53000: .*too many dynamic workers: 4 run already.*HINT: .*a role may launch one if it has none/s;
launch_and_stay('alice') for 1 .. 4;
refused('alice', $full, 'a fifth one of the role is refused, and the hint says why');
launch_and_stay('bob');
refused('bob', $full, 'a role that has launched none may launch one, and no more');
launch_and_stay($_) for qw(carol dave erin);
refused('frank', qr/^53000: .*too many dynamic workers: 8 run already.*HINT: .*my_worker\.max_workers/s, 'twice as many are the most');
$_->[0]->query_safe('COMMIT') for @open;
is($node->safe_psql('postgres', "SELECT my_worker.wait($_->[1], '20 s')"), 'completed', 'the launched job runs') for @open;
$_->[0]->quit for @open;
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'dynamic'}, '0');

# An idle worker, or a keeper, leaves for a launch where the server has no free slot.
$node->append_conf('postgresql.conf', "max_worker_processes = 4\nmy_worker.enabled = on");
$node->restart;
my $first = $node->safe_psql('postgres', q{SET ROLE alice; SELECT my_worker.enqueue('work')});
is($node->safe_psql('postgres', "SELECT my_worker.wait($first, '20 s')"), 'completed', 'a job runs');
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'worker' AND state = 'idle'}, '1');
my $later = $node->safe_psql('postgres', q{SET ROLE bob; SELECT my_worker.enqueue('work', run_at := now() + '1 h')});
$node->safe_psql('postgres', "SET ROLE bob; SELECT launch_dynamic_worker($later)");
is($node->safe_psql('postgres', "SELECT my_worker.wait($later, '20 s')"), 'completed', 'an idle worker leaves its place to a launch');
is(log_has($node, qr/PANIC|terminated by signal|XX000/), 0, 'no crash, no internal error');

$node->stop;
done_testing();
