# Consumers that have jobs of keys, in queues with "per_key" 1 and with "fifo", are killed with -9, which ends all processes, or
# their sessions are terminated. No key stays held, and no two jobs of a key are out at a time: who has a job holds an
# advisory lock of its key, and would find it taken. In the fifo queue the jobs of a key end in the order of their ids. A
# batch handler gets each job once where a key was given back while it looked elsewhere.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('lost', 'my_worker.max_workers' => 4, 'max_worker_processes' => 20, 'restart_after_crash' => 'on', 'my_worker.naptime' => 3600);
sub sql { return $node->safe_psql('postgres', join(' ', @_)) }
sql(q{
	CREATE TABLE done (n bigint GENERATED ALWAYS AS IDENTITY, queue text, key integer, job bigint);
	CREATE TABLE met (queue text, key integer, job bigint);
	SELECT my_worker.create_queue('one', per_key => 1, backoff => '10 ms', backoff_max => '10 ms', max_attempts => 100);
	SELECT my_worker.create_queue('first', fifo => true, backoff => '10 ms', backoff_max => '10 ms', max_attempts => 100);
	CREATE PROCEDURE consume(name text, length interval) LANGUAGE plpgsql AS $$
	DECLARE
		r record;
		key integer;
	BEGIN
		LOOP
			SELECT * INTO r FROM my_worker.receive(name, 1, wait => '0.2 s', lease => length);
			COMMIT;
			CONTINUE WHEN r.id IS NULL;
			key := (r.payload->>'key')::integer;
			IF NOT pg_try_advisory_lock(hashtext(name), key) THEN
				INSERT INTO met VALUES (name, key, r.id);
			ELSE
				PERFORM pg_sleep(random() * 0.03);
				-- Before others can have the next one.
				PERFORM pg_advisory_unlock_all();
			END IF;
			IF my_worker.ack(r.id, r.lease) THEN
				INSERT INTO done (queue, key, job) VALUES (name, key, r.id);
			END IF;
			COMMIT;
		END LOOP;
	END $$});

# Four sessions of each queue, one of them with leases for a time: a longer one than a crowded machine keeps a job waiting, since whoever has lost
# a lease still has its advisory lock.
sub consumers
{
	my @all;
	for my $i (0 .. 7)
	{
		my ($queue, $lease) = ($i < 4 ? 'one' : 'first', $i % 4 == 3 ? q{'5 s'} : 'NULL');
		my $session = $node->background_psql('postgres', on_error_stop => 0);
		$session->query_until(qr/started/, "\\echo started\nCALL consume('$queue', $lease);\n");
		push @all, $session;
	}
	return @all;
}

my $rounds = 6;
sub fill
{
	sql(q{INSERT INTO my_queue (queue, group_key, payload)
		SELECT q, 'key ' || i % 20, jsonb_build_object('key', i % 20) FROM unnest('{one,first}'::text[]) AS q, generate_series(1, 400) AS i});
	return;
}
my @consumers = consumers();
my $killed = 0;
my $holder = q{SELECT pid FROM my_worker.workers WHERE kind = 'consumer' ORDER BY job_id IS NULL, random() LIMIT 1};
for my $round (1 .. $rounds)
{
	my $count = sql('SELECT count(*) FROM done');
	fill();
	wait_for($node, "SELECT count(*) > $count + 50 FROM done");
	my $pid = sql($holder);
	next if $pid eq '';
	$killed++;
	if ($round % 3 == 0)
	{
		crash($node, $pid);
		$_->{run}->finish for @consumers;
		@consumers = consumers();
	}
	else
	{
		sql("SELECT pg_terminate_backend($pid)");
	}
}
$_->{run}->kill_kill for @consumers;
@consumers = consumers();
wait_for($node, 'SELECT count(*) FROM my_queue', '0');
is(sql('SELECT queue, count(*), count(DISTINCT job) FROM done GROUP BY queue ORDER BY queue'), "first|2400|2400\none|2400|2400", "each job once, no key stays held ($killed kills)");
cmp_ok($killed, '>=', 2, 'some were killed');
is(sql('SELECT count(*) FROM met'), '0', 'no two of a key at a time');
is(sql(q{SELECT count(*) FROM (SELECT job, lag(job) OVER (PARTITION BY key ORDER BY n) AS before FROM done WHERE queue = 'first') AS d
	WHERE job < before}), '0', 'the fifo queue in order');
$_->{run}->kill_kill for @consumers;
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'consumer'}, '0');

# A batch handler: a key is given back while a worker has passed by its jobs.
sql(q{
	CREATE TABLE calls (ids bigint[]);
	CREATE TABLE gates (name text PRIMARY KEY);
	CREATE FUNCTION together(ids bigint[], payloads jsonb[]) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		WHILE payloads[1] ? 'gate' AND NOT EXISTS (SELECT FROM gates WHERE name = payloads[1]->>'gate') LOOP
			PERFORM pg_sleep(0.01);
		END LOOP;
		INSERT INTO calls VALUES (ids);
	END $$;
	SELECT my_worker.create_queue('calls', handler => 'together', fifo => true);
	SELECT my_worker.create_queue('pairs', handler => 'together', per_key => 1)});
for my $queue ('calls', 'pairs')
{
	sql('TRUNCATE calls, gates');
	my $first = sql(qq{SELECT my_worker.enqueue('together', '{"gate": "$queue"}', queue => '$queue', group_key => 'k')});
	job_pid($node, $first);
	sql(qq{INSERT INTO my_queue (queue, group_key) SELECT '$queue', 'k' FROM generate_series(1, 5)});
	# Another worker passes by them.
	my $other = sql(qq{SELECT my_worker.enqueue('together', queue => '$queue', group_key => 'other')});
	is(sql("SELECT my_worker.wait($other, '30 s')"), 'completed', "$queue: another key runs");
	sql("INSERT INTO gates VALUES ('$queue')");
	wait_for($node, qq{SELECT count(*) FROM my_queue WHERE queue = '$queue'}, '0');
	is(sql('SELECT count(*), count(DISTINCT id) FROM calls, unnest(ids) AS id'), '7|7', "$queue: each job is called once");
	is(sql(qq{SELECT count(*) FROM my_worker.history WHERE queue = '$queue' AND (status <> 'completed' OR attempts > 1)}), '0', "$queue: none fails");
}

$node->stop;
done_testing();
