# What the server keeps of a table is made anew whenever a transaction of others has changed the catalogs, and then what
# stood there is freed, also in the middle of a look of ours. Sessions that begin, enqueue and end see many such
# changes at their first look.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', 'my_worker.naptime' => 3600);
$node->safe_psql('postgres', q{
	CREATE ROLE reader;
	CREATE FUNCTION quiet() RETURNS void LANGUAGE sql AS '';
	SELECT my_worker.create_queue('q');
	SELECT my_worker.pause_queue('q')});
my $dir = PostgreSQL::Test::Utils::tempdir();
sub script
{
	my ($name, $text) = @_;
	append_to_file("$dir/$name", $text);
	return "$dir/$name";
}
my $change = script('change', join '', map { "GRANT SELECT ON my_worker.$_ TO reader;\nREVOKE SELECT ON my_worker.$_ FROM reader;\n" }
	  qw(_jobs history queues _schedules));
my $enqueue = script('enqueue', q{SELECT my_worker.enqueue('quiet', queue => 'q');
SELECT my_worker.receive('q');
});
my @pgbench = ('pgbench', '-n', '-h', $node->host, '-p', $node->port);
my $harness = IPC::Run::start([ @pgbench, '-T', '12', '-f', $change, 'postgres' ], '>', \my $out, '2>', \my $err);
$node->command_ok([ @pgbench, '-C', '-c', '2', '-T', '10', '-f', $enqueue, 'postgres' ], 'new sessions enqueue while catalogs change');
ok($harness->finish, 'they did change') or diag($err);

# A session that looks the extension up while an index of it is made anew, as when a copied database settles down,
# must not take it for one that is missing.
my $index = script('index', "SELECT my_worker_internal.index_strangers(my_worker_internal.home());\n");
my $once = script('once', "SELECT my_worker.enqueue('quiet', queue => 'q');\n");
$harness = IPC::Run::start([ @pgbench, '-T', '12', '-f', $index, 'postgres' ], '>', \$out, '2>', \$err);
$node->command_ok([ @pgbench, '-C', '-c', '2', '-T', '10', '-f', $once, 'postgres' ], 'new sessions enqueue while an index is made anew');
ok($harness->finish, 'it was') or diag($err);

cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM my_queue'), '>', 100, 'jobs are there');
is(log_has($node, qr/signal 11|unrecognized token|XX000/, 0), 0, 'and nothing was read that was freed');
done_testing();
