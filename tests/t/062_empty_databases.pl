# my_worker.database = '*' with more databases than shared memory has entries for: those without the
# extension give way to those that want one.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('empty', 'my_worker.database' => '*', 'my_worker.naptime' => 1, 'fsync' => 'off',
	'max_prepared_transactions' => 2, 'max_worker_processes' => 12);
$node->safe_psql('postgres', "CREATE DATABASE d$_ STRATEGY file_copy") for 1 .. 75;

sub runs
{
	my ($database, $name, $limit) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $begin = time;
	my $id = $node->safe_psql($database, q{SELECT my_worker.run('SELECT 1')});
	is($node->safe_psql($database, "SELECT my_worker.wait($id, '30 s')"), 'completed', $name);
	my $took = time - $begin;
	return cmp_ok($took, '<', $limit, sprintf('%s within %d s (%.2f s)', $database, $limit, $took));
}

for my $database ('d75', 'd1', 'd64', 'd70')
{
	my ($status, $stdout, $stderr) = $node->psql($database, 'CREATE EXTENSION my_worker');
	is($stderr, '', "CREATE EXTENSION in $database: no warning");
	runs($database, 'its job runs', 5);
}
is(log_has($node, qr/databases are not served/), 0, 'none is reported as left out');

# The extension comes by COMMIT PREPARED, which tells nobody; the INSERT there does.
$node->safe_psql('d72', q{BEGIN; CREATE EXTENSION my_worker; PREPARE TRANSACTION 'quiet'; COMMIT PREPARED 'quiet'});
runs('d72', 'after COMMIT PREPARED of CREATE EXTENSION the INSERT asks', 15);
# A job that waits in a database of which nobody tells after a restart.
$node->safe_psql('postgres', 'ALTER SYSTEM SET my_worker.enabled = off; SELECT pg_reload_conf()');
my $id = $node->safe_psql('d72', q{SELECT my_worker.run('SELECT 1')});
$node->safe_psql('postgres', 'ALTER SYSTEM RESET my_worker.enabled');
$node->restart;
is($node->safe_psql('d72', "SELECT my_worker.wait($id, '30 s')"), 'completed', 'after a restart all are looked at');
# The extension goes, and comes back.
$node->safe_psql('d72', 'DROP EXTENSION my_worker');
runs('d70', 'the others are served meanwhile', 5);
$node->safe_psql('d72', 'CREATE EXTENSION my_worker');
runs('d72', 'and so is the one that is back', 5);

# A role with CREATEDB makes as many as it likes: no place is lost by it, and nothing of others' comes along.
$node->safe_psql('postgres', 'CREATE ROLE maker LOGIN CREATEDB');
$node->safe_psql('postgres', "SET ROLE maker; CREATE DATABASE m$_ STRATEGY file_copy") for 1 .. 3;
runs('d70', 'beside databases of a role with CREATEDB a job runs', 5);
like(query_error($node, 'SET ROLE maker; CREATE EXTENSION my_worker', 'm1'), qr/^42501/, 'its owner cannot install the extension');
like(query_error($node, 'SET ROLE maker; CREATE DATABASE stolen TEMPLATE d70'), qr/^42501/, 'nor copy a database of others');
$node->safe_psql('m1', 'CREATE EXTENSION my_worker');
like(query_error($node, 'SET ROLE maker; SELECT my_worker.cancel(1)', 'm1'), qr/^42501/, 'and gets no right by owning the database');
is(log_has($node, qr/PANIC|terminated by signal|XX000/), 0, 'no crash, no internal error');

$node->stop;
done_testing();
