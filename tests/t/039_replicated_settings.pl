# Settings of queues that logical replication brings take effect like any others, though its apply
# process fires no triggers of statements.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $source = new_node('source', 'wal_level' => 'logical', 'max_wal_senders' => 2);
my $node = new_node('replicated', 'my_worker.naptime' => 3600);
for my $each ($source, $node)
{
	$each->safe_psql('postgres', q{
		CREATE FUNCTION one() RETURNS text LANGUAGE sql AS $$ SELECT 'one' $$;
		CREATE FUNCTION two() RETURNS text LANGUAGE sql AS $$ SELECT 'two' $$;
		SELECT my_worker.create_queue('shared', handler => 'one')});
}
$source->safe_psql('postgres', 'CREATE PUBLICATION settings FOR TABLE my_worker.queues');
my $connection = $source->connstr . ' dbname=postgres';
$node->safe_psql('postgres',
	"CREATE SUBSCRIPTION settings CONNECTION '$connection' PUBLICATION settings WITH (copy_data = false)");

sub replicated
{
	my ($condition) = @_;
	wait_for($node, "SELECT count(*) FROM my_worker.queues WHERE name = 'shared' AND $condition", '1');
	return;
}

# One session enqueues all along, and the role's worker stays.
my $session = $node->background_psql('postgres', on_error_stop => 0);
sub runs
{
	$session->query(q{INSERT INTO my_queue (queue) VALUES ('shared')});
	drained($node);
	return $node->safe_psql('postgres', q{SELECT result #>> '{}' FROM my_worker.history ORDER BY id DESC LIMIT 1});
}
is(runs(), 'one', 'as it was');
for my $handler ('two', 'one', 'two')
{
	$source->safe_psql('postgres', "SELECT my_worker.alter_queue('shared', handler => '$handler')");
	replicated("handler ~ '$handler'");
	is(runs(), $handler, "then $handler");
}

$source->safe_psql('postgres', q{SELECT my_worker.pause_queue('shared')});
replicated('paused');
$session->query(q{INSERT INTO my_queue (queue) VALUES ('shared')});
for (1, 2)
{
	my $after = $session->query(q{SELECT my_worker.enqueue('two')});
	is($session->query("SELECT my_worker.wait($after, '30 s')"), 'completed', 'jobs of another queue run');
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM my_queue'), '1', 'those of a paused one wait');

# Nothing keeps a queue with jobs from being dropped in this way; new ones do not come into it.
$source->safe_psql('postgres', q{SELECT my_worker.drop_queue('shared')});
wait_for($node, q{SELECT count(*) FROM my_worker.queues WHERE name = 'shared'}, '0');
$session->query(q{INSERT INTO my_queue (queue) VALUES ('shared')});
like($session->{stderr}, qr/queue "shared" does not exist/, 'a queue that is gone is gone for those who have used it');
$session->quit;
$node->safe_psql('postgres', 'DROP SUBSCRIPTION settings');
$node->stop;
$source->stop;
done_testing();
