# DROP EXTENSION waits for a look of the keeper, and the look for it, before either has a table that the other needs.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('beside', 'my_worker.naptime' => 1);
add_handlers($node);
$node->safe_psql('postgres', q{SELECT my_worker.create_queue('later'); SELECT my_worker.enqueue('work', run_at := now() + '1 h', queue := 'later')});

# The keeper's look has opened the jobs, and needs the queue that one is for.
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; LOCK TABLE my_worker.queues');
my $waits = q{SELECT wait_event FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND };
wait_for($node, "$waits application_name = 'my_worker keeper'", 'relation');
my $dropper = $node->background_psql('postgres');
$dropper->query_until(qr/started/, "\\echo started\nDROP EXTENSION my_worker CASCADE;\n\\echo dropped\n");
wait_for($node, "$waits query LIKE 'DROP EXTENSION %'", 'object');
$holder->query_safe('COMMIT');
$dropper->query_until(qr/dropped/, '');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_extension WHERE extname = 'my_worker'}), '0', 'the extension is gone');
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/deadlock/, 'without a deadlock');
$_->quit for $holder, $dropper;

done_testing();
