# Where there is no pool: single-user mode, a server without the extension, one without preload.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('bare', -extension => 0, 'my_worker.naptime' => 1);

# Without the extension the pool idles and says nothing.
wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'my_worker launcher'}, '1');
my $pid = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE application_name = 'my_worker launcher'});
my $start = log_end($node);

# How often the launcher has slept.
sub naps { return slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m ? $1 : 0; }

for my $round (1 .. 4)
{
	# Changes, so that every nap looks.
	my $before = naps();
	$node->safe_psql('postgres', "CREATE TABLE t$round ()");
	wait_until(sub { naps() != $before }, 'the end of a nap');
	cmp_ok(naps(), '>', $before, "nap $round is over");
}
is($node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE application_name = 'my_worker launcher'}), $pid,
	'without the extension the launcher stays');
is(log_has($node, qr/(ERROR|FATAL|WARNING|LOG): .*(my_worker|my_queue|my_custom)/, $start), 0, 'and logs nothing');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'my_custom_worker'}), '1',
	'no keeper lingers');
$node->safe_psql('postgres', 'CREATE EXTENSION my_worker');
add_handlers($node);
$node->stop;

# Single-user mode, with the library preloaded.
my $bin = $node->config_data('--bindir');
sub single
{
	my ($sql) = @_;
	my ($stdout, $stderr) = ('', '');
	my $ok = IPC::Run::run([ "$bin/postgres", '--single', '-F', '-D', $node->data_dir, 'postgres' ], '<', \$sql, '>', \$stdout, '2>', \$stderr);
	return ($ok, $stdout . $stderr);
}
my ($ok, $output) = single("SELECT my_worker.enqueue('work', '{\"label\": \"single\"}')\nINSERT INTO my_queue (handler, payload) VALUES ('work', '{\"label\": \"single\"}')\n");
ok($ok, 'single-user mode: enqueueing works');
unlike($output, qr/ERROR|PANIC|FATAL/, 'without an error');
($ok, $output) = single("SELECT items_processed, status FROM get_worker_stats()\nSELECT count(*) FROM my_worker.jobs\nSELECT count(*) FROM my_worker.workers\nSELECT count(*) FROM my_worker.queue_minutes, my_worker.handler_stats, my_worker.stats_reach\n");
ok($ok, 'single-user mode: statistics and views');
unlike($output, qr/PANIC|FATAL/, 'do not end it');
($ok, $output) = single("SELECT launch_dynamic_worker(1)\nSELECT 'still ' || 'here'\n");
ok($ok, 'single-user mode: launching');
like($output, qr/ERROR:  cannot launch a dynamic worker in single-user mode/, 'is an error');
like($output, qr/still here/, 'that the session survives');
($ok, $output) = single("SELECT my_worker.wait(1, '0.1 s')\nSELECT my_worker.cancel(1)\nSELECT 'still ' || 'here'\n");
like($output, qr/still here/, 'single-user mode: wait() and cancel() do not hang');
$node->start;
drained($node);
is($node->safe_psql('postgres', q{SELECT string_agg(status, ',' ORDER BY id) FROM my_worker.history}), 'cancelled,completed',
	'what was not cancelled runs when the server is up');
$node->stop;

# Without preload: jobs can be enqueued, and run once the library is preloaded.
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->start;
my $job = $node->safe_psql('postgres', q{SELECT my_worker.enqueue('work', '{"label": "unloaded"}')});
$node->safe_psql('postgres', q{INSERT INTO my_queue (handler, payload) VALUES ('work', '{"label": "unloaded"}')});
is($node->safe_psql('postgres', q{SELECT count(*) FROM my_worker.jobs WHERE status = 'pending'}), '2', 'without preload: jobs wait');
for my $sql ("SELECT my_worker.wait($job)", "SELECT launch_dynamic_worker($job)", 'SELECT * FROM get_worker_stats()',
	'SELECT * FROM my_worker_status', 'SELECT * FROM my_worker.queue_minutes', 'SELECT * FROM my_worker.handler_stats',
	'SELECT * FROM my_worker.stats_reach')
{
	like(query_error($node, $sql), qr/^55000: my_worker must be loaded via "shared_preload_libraries".*^HINT: /ms,
		"without preload: $sql says what to do");
}
is($node->safe_psql('postgres', q{LOAD 'my_worker'; SHOW my_worker.naptime}), '1s', 'its settings are there in a session that uses it');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'my_worker'");
$node->restart;
is($node->safe_psql('postgres', "SELECT my_worker.wait($job, '20 s')"), 'completed', 'with preload they run');
drained($node);
is($node->safe_psql('postgres', q{SELECT count(*) FROM effects WHERE label = 'unloaded'}), '2', 'once each');
is(log_has($node, qr/PANIC|terminated by signal|XX000/), 0, 'no crash, no internal error');

$node->stop;
done_testing();
