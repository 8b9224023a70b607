# Idle means idle: no transaction id, no WAL, no transaction in the database, no CPU.
#
# MY_WORKER_LONG_TESTS=1 looks for a minute instead of some seconds.

use strict;
use warnings;

# A session that looks before and after lives longer than the usual deadline.
BEGIN { $ENV{PG_TEST_TIMEOUT_DEFAULT} = 180 if $ENV{MY_WORKER_LONG_TESTS} }

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $seconds = $ENV{MY_WORKER_LONG_TESTS} ? 60 : 8;

# Nothing else of the server may write or look: no autovacuum, no checkpoint, no standby snapshots.
my $node = new_node('idle', -init => [], 'my_worker.naptime' => 1,
	'autovacuum' => 'off', 'wal_level' => 'minimal', 'max_wal_senders' => 0,
	'checkpoint_timeout' => '1h', 'bgwriter_lru_maxpages' => 0, 'my_worker.worker_idle_timeout' => 3600);
add_handlers($node);

my $probe = 'SELECT pg_current_xact_id_if_assigned() IS NULL, pg_snapshot_xmax(pg_current_snapshot()),'
  . ' pg_current_wal_insert_lsn()';

# Clock ticks of user and system time of a process.
sub ticks
{
	my ($pid) = @_;
	my ($fields) = slurp_file("/proc/$pid/stat") =~ /\) (.*)/s;
	my @fields = split / /, $fields;
	return $fields[11] + $fields[12];
}

# Voluntary context switches: each is a sleep, so also a wake-up.
sub wakeups
{
	my ($pid) = @_;
	return slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m ? $1 : 0;
}

sub measure
{
	my ($naptime, $name) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET my_worker.naptime = $naptime");
	$node->reload;
	$node->safe_psql('postgres', q{INSERT INTO my_queue (handler) SELECT 'work' FROM generate_series(1, 20)});
	drained($node);
	wait_for($node, q{SELECT count(*) > 0 AND every(state = 'idle') FROM my_worker.workers WHERE kind = 'worker'});

	# The next nap ends with a look, for those jobs were changes; and our own looks may tidy up pages of the
	# catalogs. After that nothing may move.
	my @pids = worker_pids($node);
	my $commits = q{SELECT pg_stat_clear_snapshot()::text, xact_commit + xact_rollback, tup_returned, blks_hit
		FROM pg_stat_database WHERE datname = 'postgres'};
	my $session = $node->background_psql('template1');
	$session->query_safe($_) for $probe, $commits;
	# Nothing shows that all have settled; then nothing is to happen for so long.
	usleep(1_000_000 * ($naptime + 1.5));
	my $settled = $session->query_safe($probe);
	my $stats = $session->query_safe($commits);
	my %ticks = map { $_ => ticks($_) } @pids;
	my %wakeups = map { $_ => wakeups($_) } @pids;
	my $begin = time;
	usleep(1_000_000 * $seconds);
	my $took = time - $begin;
	my ($ticks, $wakeups) = (0, 0);
	for my $pid (@pids)
	{
		$ticks += ticks($pid) - $ticks{$pid};
		$wakeups += wakeups($pid) - $wakeups{$pid};
	}
	is($session->query_safe($probe), $settled, "$name: no transaction id, no WAL");
	is($session->query_safe($commits), $stats, "$name: no transaction and no reading in the database");
	cmp_ok($ticks, '<=', 1, "$name: no CPU of " . scalar(@pids) . ' processes');
	cmp_ok($wakeups, '<=', @pids * ($took / $naptime + 2), "$name: no wake-up before the nap ($wakeups in all)");
	$session->quit;
	return;
}

measure(1, 'naptime 1');
measure($ENV{MY_WORKER_LONG_TESTS} ? 10 : 4, 'a longer nap');

# Our own statements are too small to be compiled.
my @compiled = grep { slurp_file("/proc/$_/maps") =~ /llvmjit/ } worker_pids($node);
is("@compiled", '', 'no process has loaded the compiler');

# Also while it is off, whatever is due.
$node->safe_psql('postgres', 'ALTER SYSTEM SET my_worker.enabled = off');
$node->reload;
wait_for($node, q{SELECT ok FROM my_worker.health() WHERE "check" = 'enabled'}, 'f');
$node->safe_psql('postgres', q{INSERT INTO my_queue (handler, run_at) VALUES ('work', clock_timestamp() + interval '0.3 s')});
wait_for($node, 'SELECT bool_and(run_at < clock_timestamp()) FROM my_queue');
my %ticks = map { $_ => ticks($_) } worker_pids($node);
usleep(1_000_000); # in which nothing is to happen
my $spent = 0;
$spent += ticks($_) - $ticks{$_} for keys %ticks;
cmp_ok($spent, '<=', 2, 'no CPU while it is off and a job is due');

$node->stop;
done_testing();
