# A worker that ends between the transactions of a command gives up its hold of the extension: DROP EXTENSION does not wait for
# the dead.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use MyWorkerFaults;
use Test::More;

my $node = faulty_node('faults_locks');
my $held = q{SELECT count(*) FROM pg_locks WHERE classid = 'pg_extension'::regclass AND pid NOT IN (SELECT a.pid FROM pg_stat_activity AS a)};

for my $action ('fatal', 'error', 'panic')
{
	sql(arm('command_committed', $action));
	my $job = sql(q{SELECT my_worker.run('SELECT 1')});
	until_sql("SELECT status FROM my_worker.jobs WHERE id = $job", 'failed');
	is(sql($held), '0', "$action: nobody who is gone holds the extension");
}

# One that is told to end there.
sql(arm('command_committed', 'wait'));
my $job = sql(q{SELECT my_worker.run('SELECT 1')});
waits('command_committed');
my $pid = sql(q{SELECT pid FROM pg_locks WHERE classid = 'pg_extension'::regclass AND locktype = 'object'});
is(sql("SELECT pg_terminate_backend($pid, 60000)"), 't', 'a worker that holds the extension ends when it is told to');
go_on('command_committed');
until_sql("SELECT status <> 'processing' FROM my_worker.jobs WHERE id = $job", 't');
is(sql($held), '0', 'told to end: nobody who is gone holds the extension');

sql(q{SET lock_timeout = '10 s'; DROP EXTENSION my_worker CASCADE});
is(sql(q{SELECT count(*) FROM pg_extension WHERE extname = 'my_worker'}), '0', 'it is dropped at once');

$node->stop;
done_testing();
