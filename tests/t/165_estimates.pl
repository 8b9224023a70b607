# queue_stats where very many jobs wait: an estimate, which says that it is one, is near, and reads a part of the index;
# health() counts nothing.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('estimates', 'my_worker.enabled' => 'off', 'autovacuum' => 'off', 'fsync' => 'off', 'shared_buffers' => '256MB');

sub sql { return $node->safe_psql('postgres', $_[0]) }

# Long names make many pages of few rows.
my $jobs = 220_000;
sql(qq{SELECT count(my_worker.create_queue(repeat('q', 62) || i)) FROM generate_series(0, 7) AS i;
	SELECT my_worker.create_queue('small'); SELECT my_worker.create_queue('empty');
	INSERT INTO my_queue (queue, handler) SELECT 'small', 'now()' FROM generate_series(1, 100);
	SET session_replication_role = replica;
	INSERT INTO my_worker._jobs (queue, handler, created_at, run_at)
		SELECT repeat('q', 62) || i % 8, 'now()', now(), now() - interval '1 hour' + i * interval '30 ms' FROM generate_series(1, $jobs) AS i;
	DELETE FROM my_worker._jobs WHERE queue = repeat('q', 62) || 3 AND id % 16 < 8});
sql('VACUUM my_worker._jobs');

my $pages = sql(q{SELECT pg_relation_size('my_worker._jobs_claim_idx') / 8192});
cmp_ok($pages, '>', 4096, "the index has so many pages that some are left out ($pages)");

my $counts = q{SELECT right(queue, 1), count(*) FILTER (WHERE run_at <= now()) AS pending, count(*) FILTER (WHERE run_at > now()) AS scheduled
	FROM my_worker._jobs WHERE queue LIKE 'qq%' GROUP BY queue};
my $near = sql(qq{SELECT count(*), max(abs(s.pending - r.pending)::numeric / r.pending), max(abs(s.scheduled - r.scheduled)::numeric / r.scheduled)
	FROM ($counts) AS r (name, pending, scheduled) JOIN my_worker.queue_stats AS s ON s.queue = repeat('q', 62) || r.name});
my ($queues, $pending, $scheduled) = split /\|/, $near;
is($queues, 8, 'each queue has its row');
note("off by at most $pending of what is pending, $scheduled of what is scheduled");
cmp_ok($pending, '<', 0.02, 'what is pending is near');
cmp_ok($scheduled, '<', 0.02, 'what is scheduled is near');
is(sql(q{SELECT string_agg(DISTINCT left(queue, 5) || ' ' || estimated, ', ' ORDER BY left(queue, 5) || ' ' || estimated) FROM my_worker.queue_stats}),
	'defau false, empty false, qqqqq true, small false', 'estimates say that they are estimates, few jobs are counted');
is(sql(q{SELECT pending FROM my_worker.queue_stats WHERE queue = 'small'}), 100, 'exactly');
is(sql(q{SELECT bool_and(oldest_pending_age BETWEEN '1 h' AND '2 h') FROM my_worker.queue_stats WHERE queue LIKE 'qq%'}), 't',
	'the oldest is known all the same');

# Pages that a statement looks at.
sub buffers
{
	my ($statement) = @_;
	my $plan = sql("$statement; EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF) $statement");
	my ($hit, $read) = (0, 0);
	($hit) = $plan =~ /Buffers: shared hit=(\d+)/;
	($read) = $plan =~ /Buffers: shared (?:hit=\d+ )?read=(\d+)/;
	return ($hit // 0) + ($read // 0);
}
my $stats = buffers('SELECT count(*) FROM my_worker.queue_stats');
my $health = buffers('SELECT count(*) FROM my_worker.health()');
note("queue_stats looks at $stats pages, health() at $health");
cmp_ok($stats, '<', 0.8 * $pages, 'queue_stats reads a part of the index');
cmp_ok($health, '<', 2000, 'health() counts nothing');
like(sql(q{SELECT detail FROM my_worker.health() WHERE "check" = 'backlog'}), qr/queue "q+0" is (00:59|01:\d\d):\d\d behind/, 'and knows what is behind');

# Few jobs are counted.
sql(q{DELETE FROM my_worker._jobs WHERE id > 1000});
is(sql('SELECT bool_or(estimated) FROM my_worker.queue_stats'), 'f', 'few jobs are counted');

$node->stop;
done_testing();
