# Six databases with keepers on a server with max_worker_processes = 8: keepers give way to work, and
# come back when something is due. What waits for a place says so.
#
# Part of `make test-long`.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('few', 'my_worker.database' => '*', 'my_worker.naptime' => 10, 'max_worker_processes' => 8);
my @databases = ('postgres', map { "d$_" } 1 .. 5);
for my $database (@databases)
{
	$node->safe_psql('postgres', "CREATE DATABASE $database") if $database ne 'postgres';
	$node->safe_psql($database, 'CREATE EXTENSION my_worker') if $database ne 'postgres';
	add_handlers($node, $database);
}
$node->safe_psql('postgres', 'CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN');
$node->safe_psql($_, q{SELECT my_worker.grant_usage('alice'), my_worker.grant_usage('bob')}) for @databases;
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'keeper'}, '6');

sub enqueue
{
	my ($database, $role, $payload, $rest) = @_;
	$rest //= '';
	return $node->safe_psql($database, "SET ROLE $role; SELECT my_worker.enqueue('work', '$payload' $rest)");
}

sub completed_soon
{
	my ($database, $job, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $begin = time;
	my $end = $node->safe_psql($database, "SELECT my_worker.wait($job, '20 s')");
	return ok($end eq 'completed' && time - $begin < 5, sprintf('%s in %s (%s, %.2f s)', $name, $database, $end, time - $begin));
}

completed_soon($_, enqueue($_, 'alice', '{}'), 'a due job runs') for @databases, reverse @databases;
completed_soon($_, enqueue($_, 'bob', '{}', ", run_at := now() + '1 s'"), 'a job that is due in a second runs') for @databases;
for my $database (@databases)
{
	$node->safe_psql($database, q{SELECT my_worker.schedule('tick', 'every 1 second', $$INSERT INTO effects (label) VALUES ('tick')$$)});
	wait_for($node, q{SELECT count(*) >= 2 FROM effects WHERE label = 'tick'}, 't', 20, $database);
	pass("a schedule fires each second in $database");
}
$node->safe_psql($_, q{SELECT my_worker.unschedule('tick')}) for @databases;
drained($node, undef, $_) for @databases;

# Four long jobs of one role: the other role's job runs in any database, due now or later.
enqueue($_, 'alice', '{"gate": "long"}') for @databases[0 .. 3];
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE role = 'alice' AND job_id IS NOT NULL}, '4');
completed_soon($_, enqueue($_, 'bob', '{}'), 'beside four long jobs a due job runs') for @databases;
completed_soon($_, enqueue($_, 'bob', '{}', ", run_at := now() + '1 s'"), 'and one that is due in a second') for @databases;
like($node->safe_psql('postgres', q{SELECT detail FROM my_worker.health() WHERE "check" = 'max_worker_processes'}),
	qr/^8, of which my_worker may take 12; \d keepers gave way to work$/, 'health() says that keepers gave way');
open_gate($node, 'long', $_) for @databases;
drained($node, undef, $_) for @databases;

# ---- no place at all: the cause is named ----

$node->stop;
$node->append_conf('postgresql.conf', "max_worker_processes = 4\nmy_worker.database = 'postgres'");
$node->start;
$node->safe_psql('postgres', 'DELETE FROM gates');
my $long = enqueue('postgres', 'alice', '{"gate": "long"}');
job_pid($node, $long);
my $job = enqueue('postgres', 'bob', '{}');
my $cause = 'waiting for a free worker slot (max_worker_processes)';
wait_for($node, "SELECT my_worker.why($job)", $cause);
wait_for($node, 'SELECT status FROM get_worker_stats()', "running 1, $cause");
is($node->safe_psql('postgres', 'SELECT status FROM my_worker_status'), "running 1, $cause", 'my_worker_status names the cause');
is($node->safe_psql('postgres', q{SELECT ok, detail FROM my_worker.health() WHERE "check" = 'slots'}),
	'f|work waits for a free worker slot: raise max_worker_processes', 'and so does health()');
open_gate($node, 'long');
completed_soon('postgres', $job, 'it runs when there is a place');
wait_for($node, 'SELECT status FROM get_worker_stats()', 'idle');
is(log_has($node, qr/PANIC|terminated by signal|XX000/), 0, 'no crash, no internal error');

$node->stop;
done_testing();
