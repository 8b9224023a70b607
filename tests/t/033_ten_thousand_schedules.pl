# Ten thousand schedules: waiting they cost nothing, due they are all fired, in time.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('main', 'my_worker.naptime' => 1, 'my_worker.log_jobs' => 'none', 'autovacuum' => 'off',
	'log_statement' => 'none');

sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(q{
	CREATE FUNCTION work() RETURNS void LANGUAGE sql AS '';
	SELECT my_worker.alter_queue('default', retention := '0')});
sql(q{SELECT count(my_worker.schedule('s' || i, format('%s %s * * *', i % 60, i % 24), handler := 'work',
	timezone := 'Europe/Berlin')) FROM generate_series(1, 10000) AS i});

# Keeper and worker are through with what that woke them for, and the workers have looked.
wait_for($node, q{SELECT count(*) = 0 FROM pg_stat_activity
	WHERE backend_type = 'my_custom_worker' AND state = 'active'});
my $facts = q{SELECT pg_current_wal_insert_lsn(), txid_snapshot_xmax(txid_current_snapshot())};
wait_for($node, "$facts", sql($facts));
my $keeper = sql(q{SELECT pid FROM my_worker.workers WHERE kind = 'keeper'});
my ($before, $cpu) = (sql($facts), cpu_ticks($keeper));
# Three naps and a bit.
wait_for($node, q{SELECT clock_timestamp() > '} . sql('SELECT clock_timestamp()') . q{'::timestamptz + interval '3.5 s'});
is(sql($facts), $before, 'waiting they write nothing and start no transaction that does');
cmp_ok(cpu_ticks($keeper) - $cpu, '<=', 2, 'and the keeper sleeps');

# A day later all of them are due at once.
my $start = sql('SELECT clock_timestamp()');
sql(q{ALTER SYSTEM SET my_worker.clock_offset = '1d'});
sql('SELECT pg_reload_conf()');
wait_for($node, q{SELECT count(*) = 10000 FROM my_worker._schedules WHERE last_job_id IS NOT NULL});
my $seconds = sql(qq{SELECT extract(epoch FROM clock_timestamp() - '$start'::timestamptz)});
cmp_ok($seconds, '<', 30, "10,000 due schedules are fired in $seconds s");
drained($node);
is(sql(q{SELECT items_processed FROM get_worker_stats()}), '10000', 'each ran once');
is(sql(q{SELECT count(*) FROM my_worker._schedules WHERE next_run_at <= now() + interval '1 day'}),
	'0', 'and waits for its next time');
is(sql(q{SELECT DISTINCT last_status FROM my_worker.schedules}), 'completed',
	'the view says so, also without history');

$node->stop;
done_testing();

# User and system time of a process, in clock ticks (Linux); 0 elsewhere.
sub cpu_ticks
{
	my ($pid) = @_;
	open my $stat, '<', "/proc/$pid/stat" or return 0;
	my @fields = split ' ', (<$stat> =~ s/^.*\) //r);
	return $fields[11] + $fields[12];
}
