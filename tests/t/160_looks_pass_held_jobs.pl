# What a look costs where jobs that may not start yet stand in front: 100,000 of a key that its rate holds back, of many
# such keys, of jobs without a key, of 5,000 keys whose first job is not due, and in 200 queues that wait for consumers. Later
# looks read none of them: counted are the index entries that are read for jobs behind them. What is held back starts in time
# all the same, in order.
#
# Part of `make test-long`.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('held_back', 'my_worker.naptime' => 3600, 'my_worker.worker_idle_timeout' => 600, 'my_worker.max_workers' => 1,
	'shared_buffers' => '256MB', 'max_wal_size' => '2GB', 'autovacuum' => 'off');
sub sql { return $node->safe_psql('postgres', join(' ', @_)) }

# With 3 s between two starts of a key.
my $rate = q{rate => 1, rate_period => '3 s', rate_per_key => true};
sql(qq{
	CREATE FUNCTION nothing() RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
	SELECT my_worker.create_queue(q, handler => 'nothing', $rate) FROM unnest('{one,many,none}'::text[]) AS q;
	SELECT my_worker.create_queue('first', handler => 'nothing', fifo => true);
	SELECT my_worker.create_queue('out', $rate)});
wait_for($node, q{SELECT clock_timestamp() > pg_postmaster_start_time() + interval '4 s'});

# Entries of our indexes that were read. A worker tells the server of what it has read before it goes to sleep.
sub read_so_far
{
	wait_for($node, q{SELECT count(*) FROM my_worker.workers AS w WHERE kind = 'worker' AND NOT EXISTS (
		SELECT FROM pg_stat_activity AS a WHERE a.pid = w.pid AND wait_event IN ('MyWorkerWorkerIdle', 'Extension'))}, '0');
	return sql(q{SELECT sum(idx_tup_read) FROM pg_stat_all_indexes WHERE relname = '_jobs'});
}

# Reads of jobs that are enqueued one after the other, each of a key of its own, while they are run.
my $keys = 0;
sub reads_of_others
{
	my ($queue, $jobs) = @_;
	my $before = read_so_far();
	for (1 .. $jobs)
	{
		$keys++;
		my $id = sql(qq{SELECT my_worker.enqueue('nothing', queue => '$queue', group_key => 'other $keys')});
		is(sql(qq{SELECT my_worker.wait($id, '30 s')}), 'completed', "$queue: a job behind those that are held back runs") if $_ == 1;
		sql(qq{SELECT my_worker.wait($id, '30 s')});
	}
	return read_so_far() - $before;
}

sub held_back_cost_nothing
{
	my ($queue, $what) = @_;
	# One look that reads all, or several. The last of them may come while the others run: one for each would be 2,000,000.
	reads_of_others($queue, 1);
	my $reads = reads_of_others($queue, 20);
	cmp_ok($reads, '<', 150_000, "$queue: 20 jobs behind 100,000 $what, $reads entries read");
	return;
}

sub waiting { return sql("SELECT count(*) FROM my_queue WHERE queue = '$_[0]'") }

# A key. Its jobs start one after the other, each in its time.
sql(q{INSERT INTO my_queue (queue, group_key, priority) SELECT 'one', 'hot', i % 3 FROM generate_series(1, 100000) AS i});
held_back_cost_nothing('one', 'of a key');
my $left = waiting('one');
wait_for($node, qq{SELECT count(*) <= $left - 2 FROM my_queue WHERE queue = 'one'}, 't', 10);
is(sql(q{SELECT count(*) FROM (SELECT started_at - lag(started_at) OVER (ORDER BY started_at) AS gap FROM my_worker.history
	WHERE queue = 'one' AND group_key = 'hot') AS g WHERE gap < interval '3 s'}), '0', 'a key that is held back keeps to its rate');
my $urgent = sql(q{SELECT my_worker.enqueue('nothing', queue => 'one', group_key => 'hot', priority => -1)});
is(sql("SELECT my_worker.wait($urgent, '10 s')"), 'completed', 'an urgent job of it comes next');
sql(q{SELECT my_worker.purge_queue('one')});

# Jobs without a key.
sql(q{INSERT INTO my_queue (queue) SELECT 'none' FROM generate_series(1, 100000)});
held_back_cost_nothing('none', 'without a key');
$left = waiting('none');
wait_for($node, qq{SELECT count(*) <= $left - 2 FROM my_queue WHERE queue = 'none'}, 't', 10);
is(sql(q{SELECT count(*) FROM (SELECT started_at - lag(started_at) OVER (ORDER BY started_at) AS gap FROM my_worker.history
	WHERE queue = 'none' AND group_key IS NULL) AS g WHERE gap < interval '3 s'}), '0', 'jobs without a key keep to their rate');
sql(q{SELECT my_worker.purge_queue('none')});

# 5,000 keys that have just had a start each, and may have the next in an hour.
sql(q{SELECT my_worker.alter_queue('many', rate_period => '3 s');
	INSERT INTO my_queue (queue, group_key) SELECT 'many', 'key ' || i FROM generate_series(0, 4999) AS i});
wait_for($node, q{SELECT count(*) FROM my_queue WHERE queue = 'many'}, '0');
sql(q{SELECT my_worker.alter_queue('many', rate_period => '1 h');
	INSERT INTO my_queue (queue, group_key) SELECT 'many', 'key ' || i % 5000 FROM generate_series(1, 100000) AS i});
my $other = sql(q{SELECT my_worker.enqueue('nothing', queue => 'one', group_key => 'other')});
is(sql("SELECT my_worker.wait($other, '30 s')"), 'completed', 'other queues go on');
my $before = read_so_far();
for (1 .. 20)
{
	my $id = sql(q{SELECT my_worker.enqueue('nothing', queue => 'many', group_key => 'key 17', priority => -5)});
	my $own = sql(qq{SELECT my_worker.enqueue('nothing', queue => 'one', group_key => 'another $_')});
	sql("SELECT my_worker.wait($own, '30 s')");
}
my $reads = read_so_far() - $before;
cmp_ok($reads, '<', 20_000, "many: 20 more before 100,000 of 5,000 keys, $reads entries read");
is(waiting('many'), '100020', 'none has started');
sql(q{SELECT my_worker.alter_queue('many', rate_period => '1 s', burst => 30)});
wait_for($node, q{SELECT count(*) FROM my_queue WHERE queue = 'many'}, '0', 120);
is(sql(q{SELECT min(n), max(n) FROM (SELECT count(*) AS n FROM my_worker.history
	WHERE queue = 'many' AND group_key <> 'key 17' GROUP BY group_key) AS k}), '21|21', 'with a new rate all start');

# As many keys of a fifo queue, whose first jobs are due tomorrow.
sql(q{INSERT INTO my_queue (queue, group_key, run_at)
	SELECT 'first', 'key ' || i % 5000, CASE WHEN i <= 5000 THEN now() + interval '1 day' ELSE now() END FROM generate_series(1, 100000) AS i});
held_back_cost_nothing('first', 'of 5,000 keys');
$left = waiting('first');
sql(q{UPDATE my_queue SET run_at = now() WHERE queue = 'first' AND group_key = 'key 7' AND run_at > now()});
wait_for($node, q{SELECT count(*) FROM my_queue WHERE queue = 'first' AND group_key = 'key 7'}, '0');
is(waiting('first'), $left - 20, 'a key whose first job comes due runs, and no other');
is(sql(q{SELECT count(*) FROM (SELECT id, lag(id) OVER (ORDER BY started_at, id) AS before FROM my_worker.history
	WHERE queue = 'first' AND group_key = 'key 7') AS h WHERE id < before}), '0', 'in order');
sql(q{SELECT my_worker.purge_queue('first')});

# Jobs in many queues that no worker serves.
sql(q{SELECT my_worker.create_queue('held ' || i) FROM generate_series(1, 200) AS i;
	INSERT INTO my_queue (queue) SELECT 'held ' || 1 + i % 200 FROM generate_series(1, 100000) AS i});
held_back_cost_nothing('one', 'in 200 queues without a handler');

# A new worker begins with the job that it was started for, and hears of others while it reads what is held: here of
# one that the first has enqueued. A worker counts what it reads until it rests.
sql(q{
	CREATE TABLE seen (n bigint GENERATED ALWAYS AS IDENTITY, reads bigint);
	CREATE FUNCTION see(job jsonb) RETURNS bigint LANGUAGE sql AS $$
		INSERT INTO seen (reads) SELECT idx_tup_fetch FROM pg_stat_xact_all_tables WHERE relname = '_jobs';
		SELECT my_worker.enqueue('see', '{}', 'seen') WHERE job ? 'again'
	$$;
	SELECT my_worker.create_queue('seen')});
$node->restart;
sql(q{SELECT my_worker.enqueue('see', '{"again": true}', 'seen')});
wait_for($node, q{SELECT count(*) FROM seen}, '2');
my ($first, $second) = split /\|/, sql(q{SELECT min(reads), max(reads) FROM seen});
cmp_ok($first, '<', 100, "the first job comes before 100,000 in 200 queues without a handler, $first rows read");
cmp_ok($second, '<', 25_000, "the next one is heard of meanwhile, $second rows read");
sql(q{SELECT my_worker.drop_queue('held ' || i, force => true) FROM generate_series(1, 200) AS i});

# A consumer.
sql(q{SELECT my_worker.alter_queue('out', rate_period => '1 min')});
wait_for($node, q{SELECT clock_timestamp() > pg_postmaster_start_time() + interval '61 s'});
sql(q{INSERT INTO my_queue (queue, group_key) SELECT 'out', CASE WHEN i % 2 = 0 THEN 'hot' END FROM generate_series(1, 100000) AS i});
$before = read_so_far();
sql(q{
	CREATE TABLE got (n bigint GENERATED ALWAYS AS IDENTITY, key text);
	DO $$
	BEGIN
		FOR i IN 1 .. 23 LOOP
			IF i > 3 THEN
				PERFORM my_worker.send('out', group_key => 'other ' || i);
				COMMIT;
			END IF;
			INSERT INTO got (key) SELECT coalesce(group_key, 'none') FROM my_worker.receive('out', 1, lease => '1 h');
			COMMIT;
		END LOOP;
	END $$});
is(sql(q{SELECT string_agg(key, ' ' ORDER BY key) FROM got WHERE key !~ 'other'}), 'hot none', 'a consumer gets a job of each, and no more');
is(sql(q{SELECT count(DISTINCT key) FROM got WHERE key ~ 'other'}), '20', 'and those behind them');
$reads = read_so_far() - $before;
# It reads all once; and every ten seconds a session of consumers looks afresh.
cmp_ok($reads, '<', 500_000, "out: 20 jobs behind 100,000 for consumers, $reads entries read");

$node->stop;
done_testing();
