# perform() and the ends of sessions and transactions: a permit of a queue goes back whatever happens, a job that was not
# committed waits, and who waits for one is told by the COMMIT. Without the pool, too.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', 'my_worker.naptime' => 3600, 'max_prepared_transactions' => 4, 'restart_after_crash' => 'on');
sub sql { return $node->safe_psql('postgres', $_[0]); }

add_handlers($node);
sql(q{SELECT my_worker.create_queue('narrow', concurrency => 1); SELECT my_worker.pause_queue('narrow')});
my $permits = q{SELECT count(*) FROM my_worker.workers WHERE queue = 'narrow'};

# A session that ends in the middle of a job, or of the transaction after it.
for my $end ('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ ', 'SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query ~ ')
{
	my $job = sql(q{SELECT my_worker.enqueue('work', '{"label": "cut", "gate": "never"}', 'narrow')});
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query_until(qr/begun/, "\\echo begun\nSELECT my_worker.perform($job);\n");
	wait_for($node, $permits, '1');
	like(query_error($node, qq{SELECT my_worker.perform($job)}), qr/^55006/, 'it runs');
	sql("$end '^SELECT my_worker.perform'");
	wait_for($node, $permits, '0');
	is(sql("SELECT status, attempts FROM my_queue WHERE id = $job"), 'pending|0', 'the job waits, and nothing is charged');
	eval { $session->quit };
	sql("SELECT my_worker.cancel($job)");
}

# The COMMIT tells those who wait, and the counters; COMMIT PREPARED has effects and end, too.
my $job = sql(q{SELECT my_worker.enqueue('work', '{"label": "told"}', 'narrow')});
my $waiter = $node->background_psql('postgres');
$waiter->query_until(qr/begun/, "\\echo begun\nSELECT my_worker.wait($job);\n");
wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE query ~ '^SELECT my_worker.wait' AND state = 'active' AND wait_event_type = 'Extension'}, '1');
my $took = sql(qq{SELECT my_worker.perform($job)});
is($took, '"told"', 'performed');
$waiter->query_until(qr/completed/, '');
pass('who waits is told');
$waiter->quit;
is(sql(q{SELECT completed FROM my_worker.queue_stats WHERE queue = 'narrow'}), '1', 'it is counted');
$job = sql(q{SELECT my_worker.enqueue('work', '{"label": "twophase"}', 'narrow')});
sql(qq{BEGIN; SELECT my_worker.perform($job); PREPARE TRANSACTION 'p'});
is(sql($permits), '0', 'PREPARE gives the permit back');
sql(q{COMMIT PREPARED 'p'});
is(sql("SELECT status FROM my_worker.jobs WHERE id = $job"), 'completed', 'and COMMIT PREPARED ends the job');
is(sql(q{SELECT count(*) FROM effects WHERE label = 'twophase'}), '1', 'its effect is there once');

# A crash in the middle: nothing is charged, and no permit is lost.
$job = sql(q{SELECT my_worker.enqueue('work', '{"label": "crash", "gate": "never"}', 'narrow')});
my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->query_until(qr/begun/, "\\echo begun\nSELECT my_worker.perform($job);\n");
wait_for($node, $permits, '1');
crash($node, sql(q{SELECT pid FROM my_worker.workers WHERE queue = 'narrow'}));
wait_for($node, "SELECT status, attempts FROM my_queue WHERE id = $job", 'pending|0');
is(sql($permits), '0', 'after a crash no permit is held');
eval { $session->quit };

# Without the pool a job is performed all the same.
$node->stop;
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->start;
is(sql(q{SELECT my_worker.perform(my_worker.enqueue('work', '{"label": "alone"}', 'narrow'))}), '"alone"', 'without preload');
is(sql(q{SELECT count(*) FROM effects WHERE label = 'alone'}), '1', 'its effect is there');

done_testing();
