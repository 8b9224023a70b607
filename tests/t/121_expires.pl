# Jobs that expire: never started at that time or later, by whatever process, and ended at about that time; many at
# once keep nobody waiting; not while somebody has them.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

# The next look of the keeper by itself is far away.
my $node = new_node('expires', 'my_worker.naptime' => 3600, 'my_worker.max_workers' => 3, 'autovacuum' => 'off');
add_handlers($node);

sub sql { return $node->safe_psql('postgres', $_[0]) }

# Jobs that expire while workers take them: each has started before, or not at all.
sql(q{SELECT my_worker.create_queue('racing', max_attempts := 20, backoff := '1 ms', backoff_max := '20 ms');
	CREATE FUNCTION fails(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.002); RAISE 'no'; END $$;
	CREATE FUNCTION naps(jsonb) RETURNS void LANGUAGE sql AS $$ SELECT pg_sleep(0.002) $$;
	CREATE FUNCTION naps_all(ids bigint[], payloads jsonb[]) RETURNS void LANGUAGE sql AS $$ SELECT pg_sleep(0.002) $$;});
for my $handler (qw(naps naps_all fails))
{
	sql(qq{INSERT INTO my_queue (queue, handler, expires_at)
		SELECT 'racing', '$handler', clock_timestamp() + n * interval '0.7 ms' FROM generate_series(1, 1000) AS n});
	sql(qq{INSERT INTO my_queue (queue, command, expires_at)
		SELECT 'racing', 'SELECT pg_sleep(0.002)', clock_timestamp() + n * interval '5 ms' FROM generate_series(1, 50) AS n});
	wait_for($node, q{SELECT count(*) FROM my_queue}, '0');
	is(sql('SELECT count(*) FROM my_worker.history WHERE started_at >= expires_at'), '0', "$handler: none started too late");
	is(sql(q{SELECT count(*) FROM my_worker.history WHERE status = 'cancelled' AND errors->-1->>'sqlstate' IS DISTINCT FROM 'MW002'}),
		'0', "$handler: what was not started says why");
	my ($done, $late) = split /\|/, sql(q{SELECT count(*) FILTER (WHERE status = 'completed'), count(*) FILTER (WHERE status = 'cancelled')
		FROM my_worker.history});
	is($done + $late, 1050, "$handler: each has ended once ($done, and $late too late)");
	sql('TRUNCATE my_worker.history');
}

# Many at once, in a paused queue, with a transaction that keeps vacuum away: another queue goes on.
sql(q{SELECT my_worker.create_queue('held'); SELECT my_worker.pause_queue('held')});
my $old = $node->background_psql('postgres');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
sql(q{INSERT INTO my_queue (queue, handler, expires_at) SELECT 'held', 'naps', t.at + interval '3 s'
	FROM (SELECT clock_timestamp()) AS t (at), generate_series(1, 4000)});
wait_for($node, q{SELECT count(*) > 0 FROM my_worker.history WHERE status = 'cancelled'});
my $slowest = 0;
for my $n (1 .. 10)
{
	my $begin = time;
	my $job = sql(q{SELECT my_worker.enqueue('naps', run_at := clock_timestamp() + '20 ms')});
	sql("SELECT my_worker.wait($job, '20 s')");
	$slowest = time - $begin if time - $begin > $slowest;
}
note(sprintf 'the slowest of the others took %.2f s', $slowest);
cmp_ok($slowest, '<', 5, 'jobs that are due are seen meanwhile');
wait_for($node, q{SELECT count(*) FROM my_queue}, '0');
is(sql(q{SELECT count(*) FROM my_worker.history WHERE queue = 'held' AND status = 'cancelled'}), '4000', 'all of them end');
$old->query_safe('COMMIT');
$old->quit;
sql('TRUNCATE my_worker.history');

# A role that may have no session, a job that somebody has locked, and one whose queue has no consumer.
sql(q{CREATE ROLE nobody_runs NOLOGIN; SELECT my_worker.grant_usage('nobody_runs'); GRANT nobody_runs TO CURRENT_USER});
my $job = (split /\n/, $node->safe_psql('postgres', q{SET ROLE nobody_runs; SET client_min_messages = error;
	SELECT my_worker.enqueue('work', queue := 'held', expires_at := clock_timestamp() + '1 s')}))[-1];
is(sql("SELECT my_worker.wait($job, '20 s')"), 'cancelled', 'a job of a role without login');
my $locked = sql(q{SELECT my_worker.enqueue('naps', queue := 'held', expires_at := clock_timestamp() + '1 s')});
my $holder = $node->background_psql('postgres');
$holder->query_safe("BEGIN; SELECT FROM my_worker._jobs WHERE id = $locked FOR UPDATE");
my $other = sql(q{SELECT my_worker.enqueue('naps', queue := 'held', expires_at := clock_timestamp() + '1.1 s')});
is(sql("SELECT my_worker.wait($other, '20 s')"), 'cancelled', 'one that is locked keeps no other waiting');
$holder->query_safe('ROLLBACK');
$holder->quit;
is(sql("SELECT my_worker.wait($locked, '20 s')"), 'cancelled', 'and ends when it is free');

# After a restart the next time is known.
$job = sql(q{SELECT my_worker.enqueue('naps', queue := 'held', expires_at := clock_timestamp() + '3 s')});
$node->restart;
is(sql("SELECT my_worker.wait($job, '20 s')"), 'cancelled', 'a job that expires after a restart');
is(sql("SELECT finished_at >= expires_at FROM my_worker.history WHERE id = $job"), 't', 'not before its time');

is(log_has($node, qr/PANIC|XX000/), 0, 'no internal error');
$node->stop;
done_testing();
