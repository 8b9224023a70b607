# my_worker.database = '*' with more databases that have the extension than there are places: those left
# out are told, and get a place when another one is gone.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

# As few processes as that: keepers take turns.
my $node = new_node('many', 'my_worker.database' => '*', 'my_worker.naptime' => 1, 'fsync' => 'off', 'max_worker_processes' => 12);
$node->safe_psql('postgres', 'CREATE DATABASE model IS_TEMPLATE true');
$node->safe_psql('model', 'CREATE EXTENSION my_worker');
my $offset = -s $node->logfile;
# "postgres" has the first of 64 places.
$node->safe_psql('postgres', "CREATE DATABASE d$_ TEMPLATE model STRATEGY file_copy") for 1 .. 64;
wait_log($node, qr/WARNING: .*1 databases are not served: 64 others have the extension, and all places\n.*HINT: .*my_worker\.database/, $offset);
pass('the log says that one is left out');

# All got their places in turn but the last one, unless the look came between two of them.
my @warned;
for my $database (map { "d$_" } 1 .. 64)
{
	my ($status, $stdout, $stderr) = $node->psql($database, q{SELECT my_worker.run('SELECT 1', run_at := now() + '1 h')});
	push @warned, $database if $stderr =~ /WARNING: .*will not run: too many are served\n.*HINT: .*my_worker\.database/;
}
is(@warned, 1, "the one without a place is warned: @warned");

is($node->safe_psql($warned[0], q{UPDATE my_queue SET run_at = now(); SELECT my_worker.why(min(id)) FROM my_queue}),
	'this database has no place: others with the extension have all (my_worker.database)', 'and why() says so');

# It gets a place when another one is gone.
my ($gone) = grep { $_ ne $warned[0] } qw(d1 d2);
$node->safe_psql('postgres', "DROP DATABASE $gone");
my $id = $node->safe_psql($warned[0], q{SELECT my_worker.run('SELECT 1')});
is($node->safe_psql($warned[0], "SELECT my_worker.wait($id, '20 s')"), 'completed', 'it is served when another one is gone');

$node->stop;
done_testing();
