# A fifo queue: 20 keys with 500 jobs each, four workers, one job in ten fails twice and waits for its retry. Each
# key's jobs run in the order of their ids, without a gap and once, also while workers are killed with -9. Keys
# without failures are not held up by those that have some.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_node('fifo', 'my_worker.max_workers' => 4, 'restart_after_crash' => 'on', 'my_worker.naptime' => 2);
$node->safe_psql('postgres', q{
	CREATE TABLE effects (n bigint GENERATED ALWAYS AS IDENTITY, queue text, key text, job bigint,
		at timestamptz DEFAULT clock_timestamp());
	CREATE FUNCTION effect(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		j my_queue;
	BEGIN
		SELECT * INTO STRICT j FROM my_queue AS q WHERE q.id = effect.id;
		INSERT INTO effects (queue, key, job) VALUES (j.queue, j.group_key, j.id);
		PERFORM pg_sleep((p->>'nap')::float8) WHERE p ? 'nap';
		IF p ? 'fails' AND j.attempts < (p->>'fails')::integer THEN
			RAISE EXCEPTION 'not yet';
		END IF;
	END $$;
	CREATE VIEW out_of_order AS
		SELECT * FROM (SELECT e.*, lag(job) OVER (PARTITION BY queue, key ORDER BY n) AS before FROM effects AS e) AS d
		 WHERE job <= before});

sub make_queue
{
	my ($name) = @_;
	$node->safe_psql('postgres', qq{SELECT my_worker.create_queue('$name', handler => 'effect', fifo => true,
		backoff => '50 ms', backoff_max => '50 ms', max_attempts => 50)});
	return;
}

# Jobs of keys take turns. In keys of two digits one in ten fails twice.
sub fill
{
	my ($name, $jobs, $where) = @_;
	$node->safe_psql('postgres', qq{INSERT INTO my_queue (queue, group_key, priority, payload)
		SELECT '$name', 'key ' || k, (i * k) % 3, CASE WHEN k >= 10 AND i % 10 = 3 THEN '{"fails": 2}' ELSE '{}' END::jsonb
		  FROM generate_series(1, $jobs) AS i, generate_series(8, 27) AS k WHERE $where ORDER BY i, k});
	return;
}

sub all_in_order
{
	my ($name, $jobs, $what) = @_;
	is($node->safe_psql('postgres', qq{SELECT count(*), count(DISTINCT job) FROM effects WHERE queue = '$name'}),
		"$jobs|$jobs", "$what: each job once");
	is($node->safe_psql('postgres', qq{SELECT * FROM out_of_order WHERE queue = '$name' LIMIT 5}), '', "$what: in order");
	return;
}

# Without kills.
sub clean_keys_take
{
	my ($name, $where) = @_;
	make_queue($name);
	$node->safe_psql('postgres', "SELECT my_worker.pause_queue('$name')");
	fill($name, 100, $where);
	$node->safe_psql('postgres', "SELECT my_worker.resume_queue('$name')");
	drained($node);
	wait_for($node, "SELECT count(*) FROM my_queue WHERE queue = '$name'", '0');
	return $node->safe_psql('postgres', qq{SELECT extract(epoch FROM max(at) FILTER (WHERE key IN ('key 8', 'key 9')) - min(at))
		FROM effects WHERE queue = '$name'});
}
my $without = clean_keys_take('without', 'k < 10 OR i % 10 <> 3');
my $with = clean_keys_take('with', 'true');
all_in_order('with', 2000, 'with failures');
cmp_ok($with, '<', 1.3 * $without + 0.1, "keys without failures go on ($with s, $without s if nothing fails)");

# The same with whole keys left out: in front stand 18 whose first job fails again and again, each with others behind it.
sub clean_keys_alone_take
{
	my ($name, $others) = @_;
	make_queue($name);
	$node->safe_psql('postgres', "SELECT my_worker.pause_queue('$name')");
	$node->safe_psql('postgres', qq{
		INSERT INTO my_queue (queue, group_key, payload) SELECT '$name', 'other ' || k, CASE i WHEN 1 THEN '{"fails": 100}' ELSE '{}' END::jsonb
		  FROM generate_series(1, 50) AS i, generate_series(1, $others) AS k ORDER BY i;
		INSERT INTO my_queue (queue, group_key, payload) SELECT '$name', 'key ' || i % 2, '{"nap": 0.002}' FROM generate_series(1, 600) AS i});
	$node->safe_psql('postgres', "SELECT my_worker.resume_queue('$name')");
	wait_for($node, "SELECT count(*) FROM effects WHERE queue = '$name' AND key LIKE 'key%'", '600');
	my $took = $node->safe_psql('postgres', qq{SELECT extract(epoch FROM max(at) - min(at)) FROM effects WHERE queue = '$name' AND key LIKE 'key%'});
	$node->safe_psql('postgres', "SELECT my_worker.purge_queue('$name')");
	return $took;
}
$without = clean_keys_alone_take('alone', 0);
$with = clean_keys_alone_take('beside', 18);
cmp_ok($with, '<', 1.3 * $without + 0.2, "keys without failures go on beside keys that fail ($with s, $without s alone)");

# With kills.
make_queue('storm');
my $begin = time;
fill('storm', 500, 'true');
my $kills = 0;
for my $round (1 .. 5)
{
	# The kills are spread over the time that the jobs take.
	my $next = $begin + 1.2 * $round;
	usleep(1_000_000 * ($next - time)) if $next > time;
	my ($status, $stdout) = $node->psql('postgres',
		q{SELECT pid FROM my_worker.workers WHERE kind = 'worker' ORDER BY job_id IS NULL, random() LIMIT 1});
	$kills += kill 'KILL', $stdout if $status == 0 && $stdout =~ /^\d+$/;
}
wait_for($node, q{SELECT count(*) FROM my_queue}, '0', 60);
my $took = time - $begin;
cmp_ok($kills, '>=', 2, "$kills workers were killed, all is done after $took s");
all_in_order('storm', 10000, 'with kills');

$node->stop;
done_testing();
