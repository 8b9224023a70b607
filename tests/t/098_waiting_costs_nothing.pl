# Twenty consumers that wait cost next to nothing: no transaction id, no WAL, no CPU to speak of, and none holds back
# vacuum for longer than a call may wait.
#
# MY_WORKER_LONG_TESTS=1 looks for a minute.
#
# Part of `make test-long`.

use strict;
use warnings;

BEGIN { $ENV{PG_TEST_TIMEOUT_DEFAULT} = 180 }

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $seconds = $ENV{MY_WORKER_LONG_TESTS} ? 60 : 20;
my $CONSUMERS = 20;

# Nothing else may write or look: no autovacuum, no checkpoint, no standby snapshots.
my $node = new_node('idle', 'my_worker.naptime' => 3600, 'autovacuum' => 'off', 'wal_level' => 'minimal', 'max_wal_senders' => 0,
	'checkpoint_timeout' => '1h', 'bgwriter_lru_maxpages' => 0);
$node->safe_psql('postgres', q{CREATE ROLE ann LOGIN; SELECT my_worker.grant_usage('ann'), my_worker.create_queue('q'), my_worker.create_queue('other')});

sub ticks
{
	my ($fields) = slurp_file("/proc/$_[0]/stat") =~ /\) (.*)/s;
	my @fields = split / /, $fields;
	return $fields[11] + $fields[12];
}

# Half of them of one role, the others of another, each with more calls than there is time for.
my $dir = PostgreSQL::Test::Utils::tempdir();
append_to_file("$dir/waits.sql", "SELECT count(*) FROM my_worker.receive('q', wait => '1 min');\n" x ($seconds / 5 + 10));
my @clients = map {
	IPC::Run::start([ 'psql', '-XAtq', '-U', $_ % 2 ? 'ann' : 'postgres', '-d', $node->connstr('postgres'), '-f', "$dir/waits.sql" ], '<', '/dev/null', '>', "$dir/$_.out", '2>&1')
} 1 .. $CONSUMERS;
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'consumer' AND state = 'idle'}, $CONSUMERS);

my $session = $node->background_psql('template1');
my $probe = 'SELECT pg_current_xact_id_if_assigned() IS NULL, pg_snapshot_xmax(pg_current_snapshot()), pg_current_wal_insert_lsn()';
my $oldest = q{SELECT round(1000 * extract(epoch FROM max(clock_timestamp() - query_start))) FROM pg_stat_activity
	WHERE datname = 'postgres' AND backend_xmin IS NOT NULL AND backend_type = 'client backend'};
my @pids = split /\n/, $node->safe_psql('postgres', q{SELECT pid FROM my_worker.workers WHERE kind = 'consumer'});
$session->query_safe($_) for $probe, $oldest;
# Each session has looked once with all that it looks up then. Nothing shows that; and from here on nothing is to happen.
usleep(5_500_000);
my $before = $session->query_safe($probe);
my %ticks = map { $_ => ticks($_) } @pids;
my ($begin, $longest, $calls) = (time, 0, 0);
while (time - $begin < $seconds)
{
	usleep(200_000);
	my $age = $session->query_safe($oldest) || 0;
	$longest = $age if $age > $longest;
}
my $cpu = 0;
$cpu += ticks($_) - $ticks{$_} for @pids;
$cpu *= 1000 / `getconf CLK_TCK`;
is($session->query_safe($probe), $before, 'no transaction id, and no WAL');
my $bound = 1000 * $seconds / 100;
cmp_ok($cpu, '<=', $bound, "together they took $cpu ms of CPU in $seconds s");
# The sessions themselves are late on a busy machine, not the bound.
cmp_ok($longest, '<', 6500, "none had a snapshot of more than some 5 s: $longest ms");
cmp_ok($longest, '>', 3000, 'while it waited');

# All are woken who are needed, no more: one job, one session; a job of the other queue, none.
sub lines { my $all = join '', map { slurp_file("$dir/$_.out") } 1 .. $CONSUMERS; return scalar(() = $all =~ /^1$/mg) }
$node->safe_psql('postgres', q{SELECT my_worker.send('other')});
$node->safe_psql('postgres', q{SELECT my_worker.send('q')});
wait_for($node, q{SELECT count(*) FROM my_worker.jobs WHERE queue = 'q' AND status = 'processing'}, '1');
wait_until(sub { lines() > 0 }, 'a session that got the job');
is(lines(), 1, 'a job wakes one of them');
$_->kill_kill for @clients;
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'consumer'}, '0');
pass('a client that is killed ends its wait');

done_testing();
