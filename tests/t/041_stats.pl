# Statistics: percentiles against an exact computation, a million rows, restarts and crashes, and who sees
# what: no payload, error text or progress of others, and none of them in the log.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('stats', 'restart_after_crash' => 'on', 'my_worker.naptime' => 1,
	'shared_buffers' => '256MB', 'max_wal_size' => '2GB', 'autovacuum' => 'off');
add_handlers($node);

sub one { return $node->safe_psql('postgres', $_[0]); }

# The best of twenty, in milliseconds: the machine may be busy.
sub best_ms
{
	my ($sql) = @_;
	my $timing = "\\o /dev/null\n\\timing on\n" . join '', map { "$sql;\n" } 1 .. 20;
	my (undef, $out) = $node->psql('postgres', $timing);
	my @times = sort { $a <=> $b } $out =~ /Time: ([\d.]+) ms/g;
	return $times[0] // 1e9;
}

# ---- percentiles --------------------------------------------------------------------------------

one(q{
	SELECT my_worker.create_queue('timed');
	CREATE FUNCTION spin(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE the_end timestamptz := clock_timestamp() + (p->>'us')::float8 * interval '1 us';
	BEGIN
		WHILE clock_timestamp() < the_end LOOP NULL; END LOOP;
	END $$;
	SELECT count(*) FROM my_worker.enqueue_many('spin',
		ARRAY(SELECT jsonb_build_object('us', power(random(), 4) * 3000) FROM generate_series(1, 10000)),
		queue => 'timed')});
wait_for($node, q{SELECT completed FROM my_worker.queue_stats WHERE queue = 'timed'}, '10000', 120);
is(one(q{
	WITH ms AS (SELECT extract(epoch FROM started_at - run_at) * 1000 AS wait,
	                   extract(epoch FROM finished_at - started_at) * 1000 AS run
	              FROM my_worker.history WHERE queue = 'timed'),
	exact AS (
		SELECT 'wait' AS what, avg(wait), percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY wait) AS p FROM ms
		UNION ALL
		SELECT 'run', avg(run), percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY run) FROM ms)
	SELECT string_agg(format('%s %s: %s instead of %s', what, name, got, want), '; ')
	  FROM exact, my_worker.queue_stats AS s,
	       LATERAL (SELECT 'mean' AS name, avg::float8 AS want, CASE what WHEN 'wait' THEN wait_mean ELSE run_mean END AS got
	                UNION ALL SELECT 'p50', p[1], CASE what WHEN 'wait' THEN wait_p50 ELSE run_p50 END
	                UNION ALL SELECT 'p95', p[2], CASE what WHEN 'wait' THEN wait_p95 ELSE run_p95 END
	                UNION ALL SELECT 'p99', p[3], CASE what WHEN 'wait' THEN wait_p99 ELSE run_p99 END) AS v
	 WHERE s.queue = 'timed' AND abs(got - want) > 0.05 * want}),
	'', 'means and percentiles of 10,000 jobs are within 5 % of the exact ones');

# ---- who sees what ------------------------------------------------------------------------------

one(q{
	CREATE ROLE nobody LOGIN; CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
	CREATE FUNCTION telling(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM my_worker.progress(50, 'secret-progress');
		PERFORM gate('told');
		RAISE EXCEPTION 'secret-error' USING DETAIL = 'secret-detail', HINT = 'secret-hint';
	END $$});
my $told = one(q{SELECT my_worker.enqueue('telling', '{"a": "secret-payload"}', max_attempts => 1)});
my $command = one(q{SELECT my_worker.run('DO $$BEGIN RAISE ''%-command'', ''secret''; END$$')});
job_pid($node, $told);
wait_for($node, "SELECT progress_message FROM my_worker.jobs WHERE id = $told", 'secret-progress');
for my $moment ('while it runs', 'when it has ended')
{
	if ($moment eq 'when it has ended')
	{
		open_gate($node, 'told');
		is(one("SELECT my_worker.wait($told, '30 s'), my_worker.wait($command, '30 s')"), 'failed|failed', 'both have failed');
	}
	for my $role ('nobody', 'watcher')
	{
		my $seen = '';
		# Everything in our schema and of ours in public that can be read, and what the server shows.
		my @relations = split /\n/, one(q{
			SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_depend AS d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass
			 WHERE d.deptype = 'e' AND c.relkind IN ('r', 'v')
			 UNION ALL VALUES ('pg_stat_activity'), ('pg_locks')});
		for my $sql ((map { "SELECT * FROM $_" } @relations), 'SELECT * FROM my_worker.health()',
			'SELECT * FROM my_worker._running()', 'SELECT * FROM my_worker._queue_stats()',
			"SELECT my_worker.why($told)", "SELECT my_worker.why($command)")
		{
			my (undef, $out, $err) = $node->psql('postgres', $sql, extra_params => [ '-U', $role ]);
			$seen .= "$sql: $out\n" if ($out // '') =~ /secret-/;
			$seen .= "$sql: $err\n" if ($err // '') =~ /secret-/;
		}
		is($seen, '', "$role sees nothing of the job $moment");
	}
}
is(log_has($node, qr/secret-/, 0) - log_has($node, qr/STATEMENT:.*secret-/, 0), 0,
	'the log has no payload, error text or progress message');

# ---- the log is not flooded ----

my $mark = log_end($node);
one(q{SELECT count(*) FROM my_worker.enqueue_many('work', array_fill('{"fail": "secret-flood"}'::jsonb, ARRAY[500]), max_attempts => 1)});
drained($node);
my $lines = log_has($node, qr/failed in attempt 1 with SQLSTATE P0001/, $mark);
cmp_ok($lines, '>', 0, 'failures are logged');
cmp_ok($lines, '<', 50, "but not each of 500 ($lines lines)");
is(log_has($node, qr/secret-flood/, $mark), 0, 'without their words');

# ---- restart and crash --------------------------------------------------------------------------

my $all = q{SELECT completed, failed, retried, cancelled, wait_mean, wait_p99, run_mean, run_p50 FROM my_worker.queue_stats
	WHERE queue = 'timed'};
my $before = one($all);
like($before, qr/^10000\|0\|0\|0\|/, 'there is something to keep');
$node->restart;
is(one($all), $before, 'a clean restart keeps the counters');
ok(!-e $node->data_dir . '/pg_stat/my_worker.stat', 'and removes the file');
one('SELECT pg_reload_conf()');
crash($node, one(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'}));
like(one($all), qr/^0\|0\|0\|0\|/, 'a crash starts from zero');
$node->stop;
append_to_file($node->data_dir . '/pg_stat/my_worker.stat', 'x');
$node->start;
like(one($all), qr/^0\|0\|0\|0\|/, 'a malformed file is ignored');
is(log_has($node, qr/PANIC|TRAP/, 0), 0, 'nothing panicked');

# ---- a million rows -----------------------------------------------------------------------------

one(q{ALTER SYSTEM SET my_worker.enabled = off});
$node->reload;
one(q{SELECT my_worker.create_queue('many');
	ALTER TABLE my_queue DISABLE TRIGGER USER;
	INSERT INTO my_queue (queue, handler, priority, run_at, owner)
	SELECT 'many', 'public.work', n % 3, now() + CASE WHEN n % 10 = 0 THEN 1 ELSE -1 END * interval '1 h', current_user::regrole
	  FROM generate_series(1, 1000000) AS n;
	ALTER TABLE my_queue ENABLE TRIGGER USER});
is(one(q{SELECT pending, scheduled, oldest_pending_age BETWEEN '1 h' AND '2 h' FROM my_worker.queue_stats WHERE queue = 'many'}),
	'900000|100000|t', 'a million rows are counted');
my $waiting = one(q{SELECT max(id) FROM my_queue});
for my $sql (
	'SELECT * FROM my_worker.queue_stats', 'SELECT * FROM my_worker.workers', 'SELECT * FROM my_worker_status',
	"SELECT * FROM my_worker.jobs WHERE id = $waiting", "SELECT my_worker.why($waiting)")
{
	my $ms = best_ms($sql);
	# 20 ms on a quiet machine; a busy one may take some times that.
	cmp_ok($ms, "<", 100, "$sql does not take the time of a scan");
	note("$sql: $ms ms");
}
my $health = best_ms('SELECT * FROM my_worker.health()');
cmp_ok($health, '<', 60, "health() takes $health ms");
like(one("SELECT my_worker.why($waiting)"), qr/disabled/, 'why: workers are disabled');
is(one(q{SELECT string_agg("check", ' ') FROM my_worker.health() WHERE NOT ok}), 'enabled backlog', 'health: disabled, and far behind');
$node->stop;
done_testing();
