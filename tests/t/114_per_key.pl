# per_key: at most two jobs of a key run at once: eight workers and four consumers at 50 keys, with errors and kills
# of both with -9. While a job is at work, until its transaction has ended, its session has an advisory lock of the key and the
# job. Samples of the locks show how many of a key run at any moment; jobs of one batch, which run one after the other,
# count as one.
#
# Part of `make test-long`.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_node('per_key', 'my_worker.max_workers' => 8, 'max_worker_processes' => 20, 'restart_after_crash' => 'on',
	'my_worker.naptime' => 2);
$node->safe_psql('postgres', q{
	CREATE TABLE done (job bigint, key integer);
	CREATE FUNCTION at_work(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock((p->>'key')::integer, (id % 1000000)::integer);
		PERFORM pg_sleep(0.003 + random() * 0.01);
		IF random() < 0.05 THEN
			RAISE EXCEPTION 'at random';
		END IF;
		INSERT INTO done VALUES (id, (p->>'key')::integer);
	END $$;
	SELECT my_worker.create_queue('two', per_key => 2, backoff => '20 ms', backoff_max => '20 ms', max_attempts => 100);
	SELECT my_worker.alter_queue('default', max_attempts => 100)});

sub fill
{
	my ($count, $handler) = @_;
	my $name = defined $handler ? "'$handler'" : 'NULL';
	$node->safe_psql('postgres', qq{INSERT INTO my_queue (queue, handler, group_key, payload)
		SELECT 'two', $name, 'key ' || i % 50, jsonb_build_object('key', i % 50) FROM generate_series(1, $count) AS i});
	return;
}

# The most jobs of one key at one moment, and of all: one statement that samples for so many seconds. Locks of consumers
# stand at 1000 and above.
sub sampled
{
	my ($seconds) = @_;
	my ($status, undef, $stderr) = $node->psql('postgres', q{
	DO $$
	DECLARE
		until timestamptz := clock_timestamp() + interval 'SECONDS';
		most integer; jobs integer; worst integer := 0; best integer := 0; samples integer := 0;
	BEGIN
		WHILE clock_timestamp() < until LOOP
			SELECT max(n), sum(n) INTO most, jobs FROM (
				SELECT count(DISTINCT pid) FILTER (WHERE classid < 1000) + count(*) FILTER (WHERE classid >= 1000) AS n
				  FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND granted GROUP BY classid::bigint % 1000) AS k;
			worst := greatest(worst, most); best := greatest(best, jobs); samples := samples + 1;
			PERFORM pg_sleep(0.003);
		END LOOP;
		RAISE NOTICE 'worst % of a key, % at once, % samples', worst, best, samples;
	END $$} =~ s/SECONDS/$seconds s/r);
	return ($status, $stderr =~ /worst (\d+) of a key, (\d+) at once, (\d+) samples/);
}

fill(2500, 'at_work');
my ($status, $worst, $best, $samples) = sampled(3);
is($status, 0, 'sampled');
cmp_ok($samples, '>', 50, "$samples samples");
cmp_ok($worst, '<=', 2, 'never more than two of a key');
cmp_ok($best, '>=', 2, "$best jobs at once");

# Kills in between: a sample that the crash cuts off counts for nothing.
for my $round (1 .. 3)
{
	my ($s, $pid) = $node->psql('postgres', q{SELECT pid FROM my_worker.workers WHERE job_id IS NOT NULL ORDER BY random() LIMIT 1});
	crash($node, $pid) if defined $pid && $pid =~ /^\d+$/;
	($status, $worst, $best, $samples) = sampled(1);
	cmp_ok($worst // 0, '<=', 2, "after a kill never more than two of a key") if $status == 0;
}
wait_for($node, 'SELECT count(*) FROM my_queue', '0');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT job) FROM done'), '2500|2500', 'each job once');

# Consumers and workers at jobs of the same keys. Half of the consumers hold leases of their sessions, half for a time.
$node->safe_psql('postgres', 'TRUNCATE done');
$node->safe_psql('postgres', q{
	CREATE PROCEDURE consume(until timestamptz, length interval) LANGUAGE plpgsql AS $$
	DECLARE
		r record;
		ids bigint[]; leases bigint[]; keys integer[];
	BEGIN
		WHILE clock_timestamp() < until LOOP
			SELECT array_agg(j.id), array_agg(j.lease), array_agg((j.payload->>'key')::integer) INTO ids, leases, keys
			  FROM my_worker.receive('two', 3, wait => '0.2 s', lease => length) AS j;
			COMMIT;
			IF ids IS NOT NULL THEN
				PERFORM pg_advisory_lock(keys[i] + 1000, (ids[i] % 1000000)::integer) FROM generate_subscripts(ids, 1) AS i;
				PERFORM pg_sleep(0.002 + random() * 0.01);
				PERFORM pg_advisory_unlock_all();
				FOR i IN 1 .. cardinality(ids) LOOP
					IF random() < 0.1 THEN
						PERFORM my_worker.nack(ids[i], leases[i], 'at random', delay => '0');
					ELSIF random() < 0.1 THEN
						PERFORM my_worker.release(ids[i], leases[i]);
					ELSIF my_worker.ack(ids[i], leases[i]) THEN
						INSERT INTO done VALUES (ids[i], keys[i]);
					END IF;
				END LOOP;
				COMMIT;
			END IF;
		END LOOP;
	END $$});
my @consumers = map { $node->background_psql('postgres') } 1 .. 4;
for my $i (0 .. 3)
{
	my $lease = $i % 2 ? q{'10 s'} : 'NULL';
	$consumers[$i]->query_until(qr/started/, "\\echo started\nCALL consume(clock_timestamp() + interval '6 s', $lease);\n");
}
fill(1500, $_) for undef, 'at_work';
($status, $worst, $best, $samples) = sampled(4);
cmp_ok($worst, '<=', 2, 'consumers and workers: never more than two of a key');
cmp_ok($best, '>=', 2, "$best jobs at once");
wait_for($node, 'SELECT count(*) FROM my_queue', '0');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT job) FROM done'), '3000|3000', 'each job once');
$_->quit for @consumers;

# The same, while a consumer that has jobs is killed with -9, which ends all others, too. Who takes a job notes it by a
# lock of its session, so a sample that a crash does not cut off sees all that run.
$node->safe_psql('postgres', 'TRUNCATE done');
for my $round (1 .. 3)
{
	fill(2500, undef);
	@consumers = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 4;
	for my $i (0 .. 3)
	{
		my $lease = $i % 2 ? q{'1 s'} : 'NULL';
		$consumers[$i]->query_until(qr/started/, "\\echo started\nCALL consume(clock_timestamp() + interval '20 s', $lease);\n");
	}
	($status, $worst) = sampled(1);
	cmp_ok($worst // 99, '<=', 2, "consumers after $round starts: never more than two of a key");
	wait_for($node, q{SELECT count(*) > 0 FROM my_worker.workers WHERE kind = 'consumer' AND job_id IS NOT NULL}, 't');
	crash($node, $node->safe_psql('postgres', q{SELECT pid FROM my_worker.workers WHERE kind = 'consumer' ORDER BY job_id LIMIT 1}));
	$_->{run}->finish for @consumers;
}
@consumers = map { $node->background_psql('postgres') } 1 .. 4;
$consumers[$_]->query_until(qr/started/, "\\echo started\nCALL consume(clock_timestamp() + interval '15 s', NULL);\n") for 0 .. 3;
($status, $worst) = sampled(2);
cmp_ok($worst, '<=', 2, 'consumers after the last kill: never more than two of a key');
wait_for($node, 'SELECT count(*) FROM my_queue', '0');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT job) FROM done'), '7500|7500', 'each job once');
$_->quit for @consumers;

# Two where there are: three jobs of one key that wait for this session.
$node->safe_psql('postgres', q{
	CREATE FUNCTION waits() RETURNS void LANGUAGE plpgsql AS $$BEGIN PERFORM pg_advisory_xact_lock_shared(99, 99); END$$});
my $gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(99, 99)');
$node->safe_psql('postgres', q{SELECT my_worker.enqueue('waits', queue => 'two', group_key => 'k') FROM generate_series(1, 3)});
wait_for($node, q{SELECT count(*) FROM pg_locks WHERE classid = 99 AND NOT granted}, '2');
is($node->safe_psql('postgres', q{SELECT waits_for IS NOT NULL FROM my_worker.jobs WHERE queue = 'two' AND status = 'pending'}),
	't', 'two of a key run, and the third waits for them');
$gate->query_safe('SELECT pg_advisory_unlock(99, 99)');
wait_for($node, 'SELECT count(*) FROM my_queue', '0');
$gate->quit;

$node->stop;
done_testing();
