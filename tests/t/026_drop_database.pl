# Statements that need a served database for themselves: DROP, RENAME, SET TABLESPACE, and its use as a
# template. Our processes leave for them, and are back after them.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('drop', 'my_worker.naptime' => 3600, 'my_worker.worker_idle_timeout' => 3600,
	'my_worker.database' => '*', 'allow_in_place_tablespaces' => 'on');

sub database
{
	my ($name) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $name");
	$node->safe_psql($name, 'CREATE EXTENSION my_worker');
	add_handlers($node, $name);
	return;
}
sub enqueue { return $node->safe_psql($_[0], "SELECT my_worker.enqueue('work', '" . ($_[1] // '{}') . "')") }
sub runs
{
	my ($name, $why) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $job = enqueue($name);
	return is($node->safe_psql($name, "SELECT my_worker.wait($job, '10 s')"), 'completed', "$name: jobs run $why");
}
sub quickly
{
	my ($sql, $limit) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $begin = time;
	is(query_error($node, $sql), '', $sql);
	my $took = time - $begin;
	return cmp_ok($took, '<', $limit // 4, "within seconds ($took s)");
}

$node->safe_psql('postgres', q{CREATE TABLESPACE elsewhere LOCATION ''});
database('a');
runs('a', 'to begin with');
is($node->safe_psql('postgres', q{SELECT count(*) > 1 FROM pg_stat_activity WHERE datname = 'a' AND backend_type = 'my_custom_worker'}),
	't', 'keeper and worker stay in it');

quickly('ALTER DATABASE a RENAME TO b');
runs('b', 'after a rename');
quickly('ALTER DATABASE b SET TABLESPACE elsewhere');
runs('b', 'after a move');
quickly('CREATE DATABASE c TEMPLATE b');
runs('b', 'after it was copied');
runs('c', 'in the copy');
is($node->safe_psql('c', 'SELECT count(*) = count(DISTINCT job) FROM effects'), 't', 'whose jobs have ids of their own');
quickly('DROP DATABASE c');
is(query_error($node, 'CREATE DATABASE c TEMPLATE template0'), '', 'the name is free again');
quickly('DROP DATABASE c');

# Who may not do it does not disturb.
my $pids = q{SELECT string_agg(pid::text, ',' ORDER BY pid) FROM pg_stat_activity WHERE datname = 'b' AND backend_type = 'my_custom_worker'};
wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'b' AND application_name = 'my_worker keeper'}, '1');
my $before = $node->safe_psql('postgres', $pids);
$node->safe_psql('postgres', 'CREATE ROLE bob LOGIN');
like(query_error($node, 'SET ROLE bob; DROP DATABASE b'), qr/^42501: must be owner/, 'not the owner');
like(query_error($node, 'DROP DATABASE nowhere'), qr/^3D000: /, 'no such database');
like(query_error($node, 'BEGIN; DROP DATABASE b'), qr/^25001: /, 'not in a transaction');
runs('b', 'after statements that failed');

# Under load: batches are short, so it need not wait for long.
database('busy');
$node->safe_psql('busy', q{SELECT count(my_worker.enqueue('work', '{"sleep": 0.005}')) FROM generate_series(1, 2000)});
wait_for($node, 'SELECT count(*) > 20 FROM effects', 't', undef, 'busy');
quickly('ALTER DATABASE busy RENAME TO busier', 6);
my $done = $node->safe_psql('busier', 'SELECT count(*) FROM effects');
wait_for($node, "SELECT count(*) > $done FROM effects", 't', undef, 'busier');
pass('busier: its jobs go on');
is($node->safe_psql('busier', q{SELECT count(*) FROM my_worker.history WHERE attempts > 1 OR status <> 'completed'}), '0',
	'none was charged');
quickly('DROP DATABASE busier', 6);

# A long job is not ended by it: the statement fails as with any other session, FORCE ends it.
my $long = enqueue('b', '{"gate": "long"}');
my $pid = job_pid($node, $long, 'b');
like(query_error($node, 'DROP DATABASE b'), qr/^55006: database "b" is being accessed by other users/,
	'a long job holds its database');
is($node->safe_psql('b', "SELECT pid FROM my_worker.jobs WHERE id = $long"), $pid, 'and goes on');
open_gate($node, 'long', 'b');
is($node->safe_psql('b', "SELECT my_worker.wait($long, '10 s')"), 'completed', 'to its end');
runs('b', 'after that, too');
$long = enqueue('b', '{"gate": "longer"}');
$pid = job_pid($node, $long, 'b');
quickly('DROP DATABASE b WITH (FORCE)', 6);
wait_gone($pid);

# The rest of the server is none the worse.
add_handlers($node);
runs('postgres', 'as ever');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_database WHERE datconnlimit = -2 OR NOT datallowconn AND datname <> 'template0'}),
	'0', 'no database was left half dropped');
is(log_has($node, qr/PANIC|terminated by signal|XX000/), 0, 'no crash, no internal error');

$node->stop;
done_testing();
