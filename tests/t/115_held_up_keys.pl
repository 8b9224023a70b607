# What a key that is held up costs others: 200,000 of its jobs stand before 1,000 of others, which are done within some twice
# the time without them, by workers that were there and by new ones; workers that sleep are not woken for them. An older
# job that comes back while a later one runs waits for it, and goes before the rest. Roles with the same key do not meet.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('held_up', 'my_worker.max_workers' => 4, 'my_worker.naptime' => 5, 'shared_buffers' => '256MB',
	'fsync' => 'off', 'max_wal_size' => '2GB');
add_handlers($node);
$node->safe_psql('postgres', q{
	CREATE TABLE done (at timestamptz DEFAULT clock_timestamp());
	CREATE FUNCTION nap() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.002); INSERT INTO done DEFAULT VALUES; END $$;
	SELECT my_worker.create_queue('free', handler => 'nap', fifo => true);
	SELECT my_worker.create_queue('held', handler => 'nap', fifo => true);
	SELECT my_worker.alter_queue('default', fifo => true)});

# How long 1,000 jobs of others take, half of them without a key.
sub others_take
{
	my ($queue) = @_;
	$node->safe_psql('postgres', q{TRUNCATE done});
	my $begin = time;
	$node->safe_psql('postgres', qq{INSERT INTO my_queue (queue, group_key)
		SELECT '$queue', CASE WHEN i % 2 = 0 THEN 'key ' || i END FROM generate_series(1, 1000) AS i});
	wait_for($node, 'SELECT count(*) FROM done', '1000');
	return time - $begin;
}
others_take('free');
my $without = others_take('free');
$node->safe_psql('postgres', q{
	INSERT INTO my_queue (queue, group_key, run_at) VALUES ('held', 'held up', now() + interval '1 day');
	INSERT INTO my_queue (queue, group_key) SELECT 'held', 'held up' FROM generate_series(1, 200000)});
my $with = others_take('held');
# Steps over each of the jobs would take ten times as long; twice as long is what a busy machine may do by itself.
cmp_ok($with, '<', 2 * $without + 2, "200,000 jobs that are held up: $with s, $without s without");
$with = others_take('held');
cmp_ok($with, '<', 2 * $without + 2, "once more: $with s");

# Nobody wakes the workers for them, over some looks of the keeper.
my $cpu = sub {
	my $sum = 0;
	for my $pid (worker_pids($node, 'worker'))
	{
		open my $stat, '<', "/proc/$pid/stat" or next;
		my @fields = split ' ', <$stat>;
		$sum += $fields[13] + $fields[14];
	}
	return $sum;
};
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'worker' AND state = 'running'}, '0');
my $before = $cpu->();
# In which nothing is to happen, though the server changes.
$node->safe_psql('postgres', 'CREATE TABLE changes AS SELECT 1; SELECT pg_sleep(6); DROP TABLE changes; SELECT pg_sleep(5)');
cmp_ok($cpu->() - $before, '<=', 10, 'workers sleep on');
$node->safe_psql('postgres', q{SELECT my_worker.purge_queue('held')});

# An older job comes back while a later one runs.
my $old = $node->safe_psql('postgres', q{SELECT my_worker.enqueue('work', '{"label": "old", "fail": "no"}', max_attempts => 1, group_key => 'k')});
is($node->safe_psql('postgres', "SELECT my_worker.wait($old, '30 s')"), 'failed', 'an old job has failed');
my $later = $node->safe_psql('postgres', q{SELECT my_worker.enqueue('work', '{"label": "later", "gate": "a"}', group_key => 'k')});
job_pid($node, $later);
my $last = $node->safe_psql('postgres', q{SELECT my_worker.enqueue('work', '{"label": "last"}', group_key => 'k')});
is($node->safe_psql('postgres', qq{SELECT my_worker.retry($old)}), 't', 'it comes back');
is($node->safe_psql('postgres', qq{SELECT my_worker.wait($old, '0.5 s') IS NULL}), 't', 'and waits for a later one that runs');
like($node->safe_psql('postgres', qq{SELECT waits_for FROM my_worker.jobs WHERE id = $old}), qr/of the same key/, 'as it says');
like($node->safe_psql('postgres', qq{SELECT waits_for FROM my_worker.jobs WHERE id = $last}), qr/^job $old of the same key$/,
	'a waiting one waits for it');
open_gate($node, 'a');
is($node->safe_psql('postgres', qq{SELECT my_worker.wait($last, '30 s')}), 'completed', 'the last one is done');
is($node->safe_psql('postgres', qq{SELECT string_agg(id::text, ' ' ORDER BY started_at) FROM my_worker.history WHERE id IN ($old, $later, $last)}),
	"$later $old $last", 'in order');

# Two roles with the same key.
$node->safe_psql('postgres', q{CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN;
	SELECT my_worker.grant_usage(r::regrole) FROM unnest('{alice,bob}'::text[]) AS r});
my $of_alice = $node->safe_psql('postgres', q{SET ROLE alice; SELECT my_worker.enqueue('work', '{"gate": "b"}', group_key => 'k')});
job_pid($node, $of_alice);
my $of_bob = $node->safe_psql('postgres', q{SET ROLE bob; SELECT my_worker.enqueue('work', '{}', group_key => 'k')});
is($node->safe_psql('postgres', qq{SELECT my_worker.wait($of_bob, '30 s')}), 'completed', 'roles do not wait for each other');
open_gate($node, 'b');
is($node->safe_psql('postgres', qq{SELECT my_worker.wait($of_alice, '30 s')}), 'completed', 'both are done');

# Transactions with one snapshot for all keep the order, too.
$node->safe_psql('postgres', q{ALTER ROLE alice SET default_transaction_isolation = 'serializable'; SELECT my_worker.pause_queue('default')});
$node->safe_psql('postgres', q{SET ROLE alice; SELECT count(my_worker.enqueue('work', '{}', priority => -i, group_key => 'k' || i % 3))
	FROM generate_series(1, 60) AS i});
$node->safe_psql('postgres', q{TRUNCATE effects; SELECT my_worker.resume_queue('default')});
wait_for($node, 'SELECT count(*) FROM effects', '60');
is($node->safe_psql('postgres', q{SELECT count(*) FROM (SELECT job, lag(job) OVER (PARTITION BY job % 3 ORDER BY at) AS before FROM effects) AS d
	WHERE job < before}), '0', 'serializable transactions run in order');

$node->stop;
done_testing();
