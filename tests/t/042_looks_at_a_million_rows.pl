# Looks at many rows: what an operator asks is answered without a scan of the queue or of the history.
#
# By default with a tenth of the rows, MY_WORKER_LONG_TESTS=1 with all: one million that wait and five million
# that have ended. The time is the best of several looks, for the machine may be busy; the pages that were read
# tell an index from a scan on any machine.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use JSON::PP;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $long = $ENV{MY_WORKER_LONG_TESTS};
my ($waiting, $ended) = $long ? (1_000_000, 5_000_000) : (100_000, 500_000);
my $limit_ms = 20;
my $looks = 50;

my $node = new_node('million', 'my_worker.naptime' => 1, 'shared_buffers' => $long ? '512MB' : '128MB',
	'max_wal_size' => '4GB', 'autovacuum' => 'off');
add_handlers($node);

sub one { return $node->safe_psql('postgres', $_[0]); }

# The best of some looks in one session, in milliseconds.
sub best_ms
{
	my ($sql, $role) = @_;
	my $before = $role ? "SET ROLE $role;\n" : '';
	my (undef, $out) = $node->psql('postgres', "$before\\o /dev/null\n\\timing on\n" . "$sql;\n" x $looks);
	my @times = sort { $a <=> $b } $out =~ /Time: ([\d.]+) ms/g;
	return @times == $looks ? $times[0] : 1e9;
}

# Pages read, by a session that has done it once before.
sub pages
{
	my ($sql) = @_;
	my $json = one("DO \$\$BEGIN PERFORM 1 FROM ($sql) AS s; END\$\$;\n" . "EXPLAIN (ANALYZE, BUFFERS, TIMING off, FORMAT json) $sql");
	my $plan = decode_json($json)->[0]{Plan};
	return $plan->{'Shared Hit Blocks'} + $plan->{'Shared Read Blocks'};
}

one(q{SELECT my_worker.create_queue('many'), my_worker.pause_queue('many');
	CREATE ROLE app LOGIN; SELECT my_worker.grant_usage('app')});
one(qq{
	ALTER TABLE my_worker._jobs DISABLE TRIGGER USER;
	INSERT INTO my_queue (queue, handler, priority, run_at, owner)
	SELECT 'many', 'public.work', n % 3, now() + CASE WHEN n % 10 = 0 THEN 1 ELSE -1 END * interval '1 h', 'app'
	  FROM generate_series(1, $waiting) AS n;
	ALTER TABLE my_worker._jobs ENABLE TRIGGER USER;
	INSERT INTO my_worker.history (id, queue, status, handler, payload, priority, run_at, created_at, started_at,
		attempts, owner, finished_at)
	SELECT -n, 'many', CASE WHEN n % 100 = 0 THEN 'failed' ELSE 'completed' END, 'public.work', '{}', 0, at, at, at, 1, 'app', at
	  FROM generate_series($ended, 1, -1) AS n, LATERAL (SELECT now() - n * interval '100 ms') AS t (at)});
one('VACUUM ANALYZE my_worker._jobs');
one('VACUUM ANALYZE my_worker.history');
is(one(q{SELECT pending, scheduled, oldest_pending_age BETWEEN '1 h' AND '2 h' FROM my_worker.queue_stats WHERE queue = 'many'}),
	join('|', $waiting * 0.9, $waiting * 0.1, 't'), 'what waits is counted exactly');

my $job = one(q{SELECT max(id) FROM my_queue});
# One job runs, so that the views have something to show.
my $running = one(q{SELECT my_worker.enqueue('work', '{"gate": "a"}')});
job_pid($node, $running);
my @asked = (
	# No page limit: the leaves of an index are counted.
	[ 'SELECT * FROM my_worker.queue_stats' ],
	[ 'SELECT * FROM my_worker.health()' ],
	[ 'SELECT * FROM my_worker.workers', 200 ],
	[ 'SELECT * FROM my_worker_status', 200 ],
	[ 'SELECT * FROM get_worker_stats()', 200 ],
	[ 'SELECT * FROM my_worker.schedules', 200 ],
	[ "SELECT my_worker.why($job)", 200 ],
	[ "SELECT my_worker.why($running)", 200 ],
	[ 'SELECT my_worker.why(-77)', 200 ],
	[ "SELECT * FROM my_worker.jobs WHERE id = $job", 200 ],
	[ 'SELECT * FROM my_worker.jobs WHERE id = -77', 200 ],
	[ "SELECT * FROM my_worker.jobs WHERE id IN ($running, $job, -1, -2)", 200 ],
	[ q{SELECT * FROM my_worker.jobs WHERE status = 'processing'}, 200 ],
	[ q{SELECT id, pid, progress, progress_message FROM my_worker.jobs WHERE status = 'processing' ORDER BY started_at}, 200 ],
	[ 'SELECT * FROM my_worker.jobs WHERE pid IS NOT NULL', 200 ],
	[ 'SELECT * FROM my_worker.jobs LIMIT 20', 200 ],
	[ 'SELECT * FROM my_worker.jobs ORDER BY id DESC LIMIT 20', 200 ],
	[ q{SELECT * FROM my_worker.jobs WHERE status = 'pending' LIMIT 20}, 200 ],
	[ q{SELECT * FROM my_worker.jobs WHERE status = 'failed' LIMIT 20}, 400 ],
	# Ten minutes of history are 6,000 rows.
	[ q{SELECT * FROM my_worker.jobs WHERE status = 'failed' AND finished_at > now() - interval '10 min'}, 600 ],
);
for my $asked (@asked)
{
	my ($sql, $most) = @$asked;
	my $ms = best_ms($sql);
	cmp_ok($ms, '<', $limit_ms, "$sql takes $ms ms");
	cmp_ok(pages($sql), '<', $most, 'and no scan') if defined $most;
}
# The same for the owner, under row-level security.
for my $sql ("SELECT * FROM my_worker.jobs WHERE id = $job", q{SELECT * FROM my_worker.jobs WHERE status = 'processing'},
	'SELECT * FROM my_worker.jobs ORDER BY id DESC LIMIT 20', "SELECT my_worker.why($job)")
{
	my $ms = best_ms($sql, 'app');
	cmp_ok($ms, '<', $limit_ms, "as its owner: $sql takes $ms ms");
}
is(one(q{SELECT count(*), count(DISTINCT id), count(pid) FROM my_worker.jobs}),
	join('|', $waiting + $ended + 1, $waiting + $ended + 1, 1), 'jobs has one row a job');
open_gate($node, 'a');
is(one("SELECT my_worker.wait($running, '30 s')"), 'completed', 'the job that ran ends');
$node->stop;
done_testing();
