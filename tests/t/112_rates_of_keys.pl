# Each key has its own rate: a thousand of them run at the workers' speed, and each keeps to its own. Where there
# are more than there is room for, new ones wait.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('rates', 'my_worker.max_rate_keys' => 1000, 'restart_after_crash' => 'on', 'my_worker.naptime' => 3600);
sub sql { return $node->safe_psql('postgres', join(' ', @_)) }
sql(q{
	CREATE FUNCTION nothing() RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
	CREATE FUNCTION together(ids bigint[], payloads jsonb[]) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
	-- The most starts of a key within any half-open window.
	CREATE FUNCTION most(name text, period interval) RETURNS bigint LANGUAGE sql AS $$
		SELECT max(n) FROM (SELECT count(*) OVER (PARTITION BY group_key ORDER BY started_at
			RANGE BETWEEN CURRENT ROW AND (period - interval '1 us') FOLLOWING)
			FROM my_worker.history WHERE queue = name) AS w (n) $$;
	SELECT my_worker.create_queue('keys', handler => 'nothing', rate => 1, rate_period => '1 s', rate_per_key => true);
	SELECT my_worker.create_queue('free', handler => 'nothing')});
my $spread = q{INSERT INTO my_queue (queue, group_key) SELECT '%s', 'key ' || k FROM generate_series(1, 1000) AS k, generate_series(1, %d)};

# As fast as without a rate where each key has one job.
sub run
{
	my ($queue, $each) = @_;
	sql(q{SELECT my_worker.pause_queue('} . $queue . q{')});
	sql(sprintf $spread, $queue, $each);
	my $begin = time;
	sql(q{SELECT my_worker.resume_queue('} . $queue . q{')});
	drained($node);
	my $took = time - $begin;
	return $took;
}
run('free', 1);
wait_for($node, q{SELECT clock_timestamp() > pg_postmaster_start_time() + interval '2 s'});
my ($free, $limited) = (run('free', 1), run('keys', 1));
note(sprintf 'a thousand keys: %.3f s without a rate, %.3f s with', $free, $limited);
cmp_ok($limited, '<', 2 * $free + 0.8, 'a thousand keys start at once');
wait_for($node, q{SELECT clock_timestamp() > max(started_at) + interval '1 s' FROM my_worker.history WHERE queue = 'keys'});
my $took = run('keys', 4);
note(sprintf 'four jobs each: %.3f s', $took);
cmp_ok($took, '>=', 3, 'each key keeps to its rate');
cmp_ok($took, '<', 5, 'and none waits for another');
is(sql(q{SELECT most('keys', '1 s')}), '1', 'no window of a key has more than one');
is(sql(q{SELECT count(*) FROM my_worker.history WHERE queue = 'keys' AND status = 'completed'}), '5000', 'all have run');

# One key is held back, others go on; jobs without a key share one rate.
sql(q{SELECT my_worker.create_queue('held', handler => 'nothing', rate => 1, rate_period => '10 s', rate_per_key => true)});
wait_for($node, q{SELECT clock_timestamp() > pg_postmaster_start_time() + interval '11 s'});
sql(q{INSERT INTO my_queue (queue, group_key) SELECT 'held', 'a' FROM generate_series(1, 500)});
my @ids = map { sql(qq{SELECT my_worker.enqueue('nothing', queue => 'held', group_key => $_)}) } q{'b'}, q{'c'}, 'NULL', 'NULL';
is(sql("SELECT my_worker.wait($ids[$_], '5 s')"), 'completed', 'a key behind one that waits runs') for 0 .. 2;
is(sql("SELECT status FROM my_worker.jobs WHERE id = $ids[3]"), 'pending', 'jobs without a key share a rate');
like(sql("SELECT my_worker.why($ids[3])"), qr/^queue "held" is limited to 1 per 10 s for each key: next start at /, 'why() says it');
is(sql(q{SELECT limited FROM my_worker.queue_stats WHERE queue = 'held'}), 't', 'so does queue_stats');
sql(q{SELECT my_worker.purge_queue('held')});

# A batch handler gets one of each key.
sql(q{SELECT my_worker.create_queue('calls', handler => 'together', rate => 1, rate_period => '1 s', rate_per_key => true)});
sql(q{INSERT INTO my_queue (queue, group_key) SELECT 'calls', 'key ' || k % 20 FROM generate_series(1, 60) AS k});
drained($node);
is(sql(q{SELECT most('calls', '1 s')}), '1', 'no window of a key has more than one in calls either');

# A call that fails costs those that were in it no start: each is called alone at once.
sql(q{
	CREATE FUNCTION picky(ids bigint[], payloads jsonb[]) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF '{"bad": true}' = ANY (payloads) THEN RAISE EXCEPTION 'bad'; END IF;
	END $$;
	SELECT my_worker.create_queue('picky', handler => 'picky', rate => 1, rate_period => '5 s', rate_per_key => true, max_attempts => 1);
	INSERT INTO my_queue (queue, group_key, payload)
		SELECT 'picky', 'key ' || k, CASE k WHEN 10 THEN '{"bad": true}' ELSE '{}' END::jsonb FROM generate_series(1, 20) AS k});
wait_for($node, q{SELECT count(*) FROM my_queue WHERE queue = 'picky'}, '0', 3);
is(sql(q{SELECT string_agg(c, ' ' ORDER BY c) FROM (SELECT status || ' ' || count(*) FROM my_worker.history WHERE queue = 'picky' GROUP BY status) AS s (c)}),
	'completed 19 failed 1', 'jobs of a call that failed start again by what they had');

# Consumers.
sql(q{SELECT my_worker.create_queue('out', rate => 1, rate_period => '1 s', rate_per_key => true)});
sql(q{SELECT my_worker.send('out', group_key => 'key ' || k % 10) FROM generate_series(1, 30) AS k});
is(sql(q{SELECT count(*), count(DISTINCT group_key) FROM my_worker.receive('out', 100, lease => '1 min')}), '10|10', 'receive() gets one of each key');
is(sql(q{SELECT count(*), count(DISTINCT group_key) FROM my_worker.receive('out', 100, lease => '1 min')}), '0|0', 'and no more');
is(sql(q{SELECT count(*), count(DISTINCT group_key) FROM my_worker.receive('out', 100, wait => '3 s', lease => '1 min')}) =~ /^(\d+)\|\1$/ && $1 > 0,
	1, 'one who waits gets the next of each key');

# More keys than there is room for.
sql(q{SELECT my_worker.create_queue('many', handler => 'nothing', rate => 1, rate_period => '3 s', rate_per_key => true)});
sql(q{INSERT INTO my_queue (queue, group_key) SELECT 'many', 'key ' || k FROM generate_series(1, 1500) AS k});
wait_for($node, q{SELECT count(*) >= 900 FROM my_worker.history WHERE queue = 'many'});
like(sql(q{SELECT my_worker.why(max(id)) FROM my_queue WHERE queue = 'many'}),
	qr/^queue "many" has more keys at work than there is room for \(my_worker.max_rate_keys\): next start at /, 'new keys wait');
is(sql(sprintf q{SELECT my_worker.wait(%d, '1 s')}, sql(q{SELECT my_worker.enqueue('nothing', queue => 'free')})), 'completed',
	'other queues go on');
wait_for($node, q{SELECT count(*) FROM my_queue WHERE queue = 'many'}, '0');
is(sql(q{SELECT count(*) FROM my_worker.history WHERE queue = 'many' AND status = 'completed'}), '1500', 'and start when others have rested');

$node->stop;
done_testing();
