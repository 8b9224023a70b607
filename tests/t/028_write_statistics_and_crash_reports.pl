# What a worker owes the server: its writes are counted, so that autovacuum comes; the report of a crash
# names the job; big payloads are in memory one at a time.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('housekeeping', 'restart_after_crash' => 'on', 'autovacuum' => 'off',
	'shared_buffers' => '16MB', 'my_worker.max_workers' => 1);
add_handlers($node);

# The worker stays, so nothing is flushed by its end.
$node->safe_psql('postgres', q{SELECT count(my_worker.enqueue('work')) FROM generate_series(1, 500)});
drained($node);
wait_for($node, q{SELECT n_tup_ins >= 500 FROM pg_stat_user_tables WHERE relname = 'effects'});
wait_for($node, q{SELECT n_dead_tup >= 500 OR n_tup_del >= 500 FROM pg_stat_user_tables WHERE relname = '_jobs'});
is(scalar(worker_pids($node, 'worker')), 1, 'what jobs and their ends write is counted while the worker lives');

# 60 payloads of 4 MB, which take next to no room on disk.
$node->safe_psql('postgres', q{
	SELECT my_worker.create_queue('big', retention => '0');
	CREATE FUNCTION weigh(p jsonb) RETURNS bigint LANGUAGE sql AS $$SELECT length(p->>'text')$$;
	INSERT INTO my_queue (queue, handler, payload)
		SELECT 'big', 'weigh', jsonb_build_object('text', repeat('x', 4000000)) FROM generate_series(1, 60)});
drained($node);
my ($worker) = worker_pids($node, 'worker');
my ($peak) = slurp_file("/proc/$worker/status") =~ /^VmHWM:\s+(\d+) kB/m;
cmp_ok($peak, '<', 120_000, "60 payloads of 4 MB, all due at once, never need memory together (peak $peak kB)");

# Killed in the middle of a job.
my $job = $node->safe_psql('postgres', q{SELECT my_worker.enqueue('work', '{"gate": "a"}')});
my $start = log_end($node);
crash($node, job_pid($node, $job));
is(log_has($node, qr/Failed process was running: public\.work\(bigint, jsonb\) \(job $job\)/, $start), 1,
	'the report of a crash names handler and job');
open_gate($node, 'a');
drained($node);

$node->stop;
done_testing();
