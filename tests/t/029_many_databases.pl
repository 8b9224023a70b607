# my_worker.database = '*' with more databases than there are places: those left out are told.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('many', 'my_worker.database' => '*', 'my_worker.naptime' => 1, 'fsync' => 'off');
my $offset = -s $node->logfile;
# "postgres" has the first of 64 places.
$node->safe_psql('postgres', "CREATE DATABASE d$_ ") for 1 .. 64;
ok($node->wait_for_log(qr/WARNING: .*1 databases are not served: there are places for 64\n.*HINT: .*my_worker\.database/, $offset),
	'the log says that one is left out');

# All got their places in turn but the last one, unless the look came between two of them.
my @warned;
for my $database ('d62', 'd63', 'd64')
{
	my ($status, $stdout, $stderr) = $node->psql($database, 'CREATE EXTENSION my_worker');
	push @warned, $database if $stderr =~ /WARNING: .*will not run: too many are served\n.*HINT: .*my_worker\.database/;
}
is(@warned, 1, "the one without a place is warned: @warned");

# It gets a place when another one is gone.
$node->safe_psql('postgres', 'DROP DATABASE d1');
add_handlers($node, $warned[0]);
my $id = $node->safe_psql($warned[0], q{SELECT my_worker.enqueue('work')});
is($node->safe_psql($warned[0], "SELECT my_worker.wait($id, '20 s')"), 'completed', 'it is served when another one is gone');

$node->stop;
done_testing();
