# A streaming standby: nothing of ours runs there, statistics are readable, what cannot work says so at
# once. After promotion work goes on: committed effects are there once, what was running is run again.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(time);

my $primary = new_node('primary', -init => [ allows_streaming => 1 ], 'my_worker.naptime' => 3600);
add_handlers($primary);
$primary->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'b', has_streaming => 1);
$standby->start;

sub enqueue { return $primary->safe_psql('postgres', "SELECT my_worker.enqueue('work', '$_[0]')") }

my @done = map { enqueue('{"label": "before"}') } 1 .. 5;
drained($primary);
my $running = enqueue('{"gate": "a"}');
job_pid($primary, $running);
my $later = $primary->safe_psql('postgres', q{SELECT my_worker.enqueue('work', '{"label": "later"}', run_at => now() + interval '1 hour')});
$primary->wait_for_catchup($standby);

is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('my_custom_worker', 'dynamic_worker')}),
	'0', 'no process of ours on the standby');
like($standby->safe_psql('postgres', 'SELECT items_processed, status FROM get_worker_stats()'), qr/^0\|./, 'statistics are readable');
is($standby->safe_psql('postgres', 'SELECT (SELECT count(*) FROM my_worker.queue_minutes), (SELECT count(*) FROM my_worker.handler_stats)'), '0|0',
	'those of minutes and handlers, too');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM my_worker.jobs'), '7', 'so are jobs');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM my_worker.workers WHERE kind = 'worker'}), '0', 'and workers');

is($standby->safe_psql('postgres', "SELECT my_worker.why($later)"), 'the server is a standby: jobs run on the primary server',
	'why a job does not run');
like($standby->safe_psql('postgres', "SELECT my_worker.why($done[0])"), qr/^finished: completed at /, 'or that it has ended');
is($standby->safe_psql('postgres', q{SELECT detail FROM my_worker.health() WHERE "check" = 'launcher' AND ok}),
	'standby: jobs run on the primary server', 'health() knows, too');

my $begin = time;
like(query_error($standby, $_), qr/^25006: /, "an error: $_")
  for q{SELECT my_worker.enqueue('work')}, "SELECT launch_dynamic_worker($running)", "SELECT my_worker.perform($running)",
  q{INSERT INTO my_queue (handler) VALUES ('work')}, "SELECT my_worker.cancel($later)";
cmp_ok(time - $begin, '<', 5, 'at once');

# Promotion, after the primary is gone in the middle of a job.
$primary->stop('immediate');
$standby->promote;
is($standby->safe_psql('postgres', 'SELECT pg_is_in_recovery()'), 'f', 'promoted');
wait_for($standby, q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'my_worker launcher'}, '1');
pass('the launcher is there');
job_pid($standby, $running);
pass('what the old primary was running is run again');
# From the end of recovery, by the server's own clock: the row of the log has it, and when the attempt began the job.
my ($end) = PostgreSQL::Test::Utils::slurp_file($standby->logfile) =~ /^(\S+ \S+ \S+) .*archive recovery complete/m;
my $after = $standby->safe_psql('postgres', "SELECT extract(epoch FROM started_at - '$end') FROM my_worker.jobs WHERE id = $running");
cmp_ok($after, '<', 2, "within two seconds of the end of recovery: $after");
open_gate($standby, 'a');
is($standby->safe_psql('postgres', "SELECT my_worker.wait($running, '20 s')"), 'completed', 'and completes');
is($standby->safe_psql('postgres', "SELECT attempts FROM my_worker.history WHERE id = $running"), '1', 'uncharged');
my $new = $standby->safe_psql('postgres', q{SELECT my_worker.enqueue('work', '{"label": "new"}')});
is($standby->safe_psql('postgres', "SELECT my_worker.wait($new, '20 s')"), 'completed', 'new jobs run');
effects_are($standby, 7, 'every effect once');
is($standby->safe_psql('postgres', "SELECT status FROM my_worker.jobs WHERE id = $later"), 'pending', 'the later one waits for its time');
is(log_has($standby, qr/PANIC|terminated by signal|XX000/), 0, 'no crash, no internal error');

$standby->stop;
done_testing();
