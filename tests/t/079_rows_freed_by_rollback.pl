# A job that is due, and whose row somebody else had, starts soon after that transaction was rolled back:
# after a lock, a cancel, a change, also of a subtransaction, also while its worker has other work.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('freed', 'my_worker.naptime' => 60, 'my_worker.log_jobs' => 'none');
add_handlers($node);

sub sql { return $node->safe_psql('postgres', $_[0]) }

my $holder = $node->background_psql('postgres');
sub starts_after
{
	my ($name, $take, $give_back, $held) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $job = sql(q{SELECT my_worker.enqueue('work', run_at := clock_timestamp() + interval '1 s')});
	(my $statement = $take) =~ s/JOB/$job/g;
	$holder->query_safe("BEGIN; $statement");
	# It has become due, and a worker has passed it.
	wait_for($node, qq{SELECT clock_timestamp() > run_at + interval '$held' FROM my_queue WHERE id = $job});
	my $freed = sql('SELECT clock_timestamp()');
	$holder->query_safe($give_back);
	is(sql("SELECT my_worker.wait($job, '30 s')"), 'completed', "$name: the job runs");
	my $ms = sql(qq{SELECT round(1000 * extract(epoch FROM started_at - '$freed'::timestamptz)) FROM my_worker.history WHERE id = $job});
	note("$name: after $ms ms");
	cmp_ok($ms, '<', 3000, "$name: soon");
	return;
}

starts_after('a cancel that is rolled back', 'SELECT my_worker.cancel(JOB)', 'ROLLBACK', '300 ms');
starts_after('a lock', 'SELECT id FROM my_queue WHERE id = JOB FOR UPDATE', 'ROLLBACK', '3 s');
starts_after('a shared lock', 'SELECT id FROM my_queue WHERE id = JOB FOR SHARE', 'COMMIT', '1 s');
starts_after('a change that is rolled back', 'UPDATE my_queue SET priority = 5 WHERE id = JOB', 'ROLLBACK', '1 s');
starts_after('a delete of a subtransaction', 'SAVEPOINT a; DELETE FROM my_queue WHERE id = JOB', 'ROLLBACK TO a; COMMIT', '1 s');

# The worker has other work all the time.
sql(q{SELECT my_worker.create_queue('busy', retention => '0')});
my $busy = $node->background_psql('postgres');
$busy->query_until(qr/begun/, qq{\\echo begun
	DO \$\$ BEGIN FOR i IN 1 .. 4000 LOOP PERFORM my_worker.enqueue('work', queue := 'busy'); COMMIT; PERFORM pg_sleep(0.002);
	END LOOP; END \$\$;\n});
starts_after('a lock beside other work', 'SELECT id FROM my_queue WHERE id = JOB FOR UPDATE', 'ROLLBACK', '2 s');
$busy->query_safe('SELECT 1');
$busy->quit;
drained($node);

$holder->quit;
is(log_has($node, qr/PANIC|terminated by signal|XX000|ERROR/), 0, 'no trouble in the log');
$node->stop;
done_testing();
