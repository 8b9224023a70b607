# Under an old snapshot nobody steps over the entries of all jobs that are gone but the keeper, once a nap: not a worker
# that starts anew, and neither keeper nor worker when a queue is resumed.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $JOBS = 30_000;
my $node = new_node('marks', 'my_worker.naptime' => 3600, 'my_worker.log_jobs' => 'none', 'my_worker.max_workers' => 1,
	'my_worker.worker_idle_timeout' => 0, 'autovacuum' => 'off', 'fsync' => 'off');
add_handlers($node);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(q{CREATE FUNCTION noop(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
	SELECT my_worker.create_queue('plain', handler => 'noop', retention => '0')});

# How many entries of the claim's index were read since the last time, by processes that have nothing to do now.
my $seen = 0;

sub entries_read
{
	wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'worker'}, '0');
	# The keeper's own figures come with its next rest.
	my $before = -1;
	my $now = 0;
	while ($now != $before)
	{
		$before = $now;
		sql('SELECT pg_sleep(0.3)');
		$now = sql(q{SELECT idx_tup_read FROM pg_stat_all_indexes WHERE indexrelname = '_jobs_claim_idx'});
	}
	my $read = $now - $seen;
	$seen = $now;
	return $read;
}

my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
sql(qq{INSERT INTO my_queue (queue) SELECT 'plain' FROM generate_series(1, $JOBS)});
drained($node);
my $drain = entries_read();
note("$drain entries read for $JOBS jobs");

# Each of these finds no worker there: it starts anew.
for my $round (1 .. 3)
{
	sql(q{INSERT INTO my_queue (queue) VALUES ('plain')});
	drained($node);
	my $read = entries_read();
	note("$read entries read by a worker that starts anew");
	cmp_ok($read, '<', $JOBS / 5, "a worker goes on where another one had read to ($round)");
}

# Jobs with a time that lies back, of another priority, and of a queue that was paused, are before all marks.
sql(q{SELECT my_worker.pause_queue('plain');
	INSERT INTO my_queue (queue, priority, run_at) SELECT 'plain', i % 3 - 1, now() - interval '1 day' FROM generate_series(1, 30) AS i});
entries_read();
sql(q{SELECT my_worker.resume_queue('plain')});
drained($node);
pass('what came to a paused queue, before all marks, is run');
entries_read();

for my $round (1 .. 3)
{
	sql(q{SELECT my_worker.pause_queue('plain'); INSERT INTO my_queue (queue) VALUES ('plain')});
	sql(q{SELECT my_worker.resume_queue('plain')});
	drained($node);
	my $read = entries_read();
	note("$read entries read when a queue is resumed");
	cmp_ok($read, '<', $JOBS / 5, "a resumed queue is read from where it was left ($round)");
}

# What nobody announces is found within a nap all the same, before all marks.
sql(q{SET session_replication_role = replica;
	INSERT INTO my_worker._jobs (queue, run_at) VALUES ('plain', now() - interval '2 days')});
sql(q{ALTER SYSTEM SET my_worker.naptime = 1; SELECT pg_reload_conf()});
drained($node);
pass('what nobody announces is found within a nap');

$holder->quit;
is(log_has($node, qr/PANIC|terminated by signal|XX000|ERROR/), 0, 'no trouble in the log');
$node->stop;
done_testing();
