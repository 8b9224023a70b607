# Statistics: percentiles against an exact computation, restarts and crashes, and who sees
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

# ---- one row a job ------------------------------------------------------------------------------

# Whatever starts or ends meanwhile, each look sees every job, and sees it once.
one(q{SELECT my_worker.create_queue('quick');
	SELECT count(*) FROM my_worker.enqueue_many('spin', array_fill('{"us": 300}'::jsonb, ARRAY[5000]), queue => 'quick')});
my ($odd, $looks, $between, $begin) = ('', 0, 0, time);
while (time - $begin < 60)
{
	my $look = one(q{SELECT count(*), count(DISTINCT id), count(*) FILTER (WHERE status = 'completed') FROM my_worker.jobs WHERE queue = 'quick'});
	$looks++;
	$odd .= "$look " unless $look =~ /^5000\|5000\|/;
	last if $look eq '5000|5000|5000';
	$between++ unless $look =~ /\|0$/;
}
is($odd, '', "each of $looks looks shows 5000 jobs once");
cmp_ok($between, '>', 0, 'also while they ran');

# ---- who sees what ------------------------------------------------------------------------------

one(q{
	CREATE ROLE nobody LOGIN; CREATE ROLE watcher LOGIN IN ROLE pg_monitor; CREATE ROLE other LOGIN;
	SELECT my_worker.grant_usage('other');
	CREATE TABLE late (word text UNIQUE DEFERRABLE INITIALLY DEFERRED);
	INSERT INTO late VALUES ('secret-key');
	CREATE FUNCTION failing_late(p jsonb) RETURNS void LANGUAGE sql AS $$INSERT INTO late VALUES (p->>'word')$$;
	CREATE FUNCTION saying(p jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT '"secret-result"'::jsonb$$;
	CREATE FUNCTION telling(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM my_worker.progress(50, 'secret-progress');
		PERFORM gate('told');
		RAISE EXCEPTION 'secret-error' USING DETAIL = 'secret-detail', HINT = 'secret-hint';
	END $$});
my $told = one(q{SELECT my_worker.enqueue('telling', '{"a": "secret-payload"}', max_attempts => 1, unique_key => 'secret-unique')});
my $command = one(q{SELECT my_worker.run('DO $$BEGIN RAISE ''%-command'', ''secret''; END$$')});
my $late = one(q{SELECT my_worker.enqueue('failing_late', '{"word": "secret-key"}', max_attempts => 1)});
my $said = one(q{SELECT my_worker.enqueue('saying', '{"word": "secret-payload"}')});
my $waiting = one(q{SELECT my_worker.enqueue('saying', '{"word": "secret-payload"}', run_at => 'infinity')});
one(q{SELECT my_worker.schedule('nightly', '@yearly', handler => 'saying', payload => '{"word": "secret-payload"}'),
	my_worker.schedule('hourly', '@yearly', command => 'SELECT ''secret-command''')});
job_pid($node, $told);
wait_for($node, "SELECT progress_message FROM my_worker.jobs WHERE id = $told", 'secret-progress');

# Everything of ours that can be read, and what the server shows; every function that can be called.
my @relations = split /\n/, one(q{
	SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_depend AS d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass
	 WHERE d.deptype = 'e' AND c.relkind IN ('r', 'v')
	 UNION ALL VALUES ('pg_stat_activity'), ('pg_locks'), ('pg_stat_user_tables'), ('pg_stats'), ('pg_prepared_statements')});
my @calls = split /\n/, one(qq{
	SELECT format('SELECT * FROM %s(%s)', p.oid::regproc, (
	           SELECT string_agg(CASE t.type::regtype::text WHEN 'bigint' THEN '$told' WHEN 'integer' THEN '$told'
	                                 WHEN 'interval' THEN '''1 ms''' WHEN 'boolean' THEN 'false' WHEN 'real' THEN '1'
	                                 WHEN 'text' THEN '''nightly''' ELSE 'NULL' END || '::' || t.type::regtype, ', ' ORDER BY t.n)
	             FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS t (type, n)))
	  FROM pg_proc AS p JOIN pg_depend AS d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass
	 WHERE d.deptype = 'e' AND p.prorettype <> 'trigger'::regtype});
cmp_ok(scalar @calls, '>', 35, 'all functions are called');
push @calls, map { ("SELECT my_worker.why($_)", "SELECT my_worker.wait($_, '1 ms')", "SELECT my_worker.cancel($_)",
	"SELECT my_worker.retry($_)", "SELECT launch_dynamic_worker($_)") } $told, $command, $late, $said, $waiting;
for my $moment ('while it runs', 'when it has ended')
{
	if ($moment eq 'when it has ended')
	{
		open_gate($node, 'told');
		is(one("SELECT my_worker.wait($told, '30 s'), my_worker.wait($command, '30 s'), my_worker.wait($late, '30 s'), my_worker.wait($said, '30 s')"),
			'failed|failed|failed|completed', 'the jobs have ended');
		is(one("SELECT count(*) FROM my_worker.history WHERE last_error ~ 'secret' OR errors::text ~ 'secret-key' OR result::text ~ 'secret'"),
			'4', 'and their errors and results say something');
	}
	for my $role ('nobody', 'watcher', 'other')
	{
		my $seen = '';
		for my $sql ((map { "SELECT * FROM $_" } @relations), @calls)
		{
			my (undef, $out, $err) = $node->psql('postgres', "BEGIN; $sql; ROLLBACK", extra_params => [ '-U', $role ]);
			$seen .= "$sql: $out\n" if ($out // '') =~ /secret-/;
			$seen .= "$sql: $err\n" if ($err // '') =~ /secret-/;
		}
		is($seen, '', "$role sees nothing of the jobs of others $moment");
	}
}
is(one("SELECT string_agg(status, ' ' ORDER BY id) FROM my_worker.jobs WHERE id IN ($told, $waiting)"), 'failed pending',
	'and has changed nothing');
is(log_has($node, qr/secret-/, 0), 0, 'the log has no payload, error text or progress message');
like(slurp_file($node->logfile), qr/job $late .*23505/, 'though it names the job whose COMMIT failed');

# ---- nothing is compiled ------------------------------------------------------------------------

# Our statements shun table scans, whose cost then looks as if compiling paid.
my $explain = q{LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on;
	SET auto_explain.log_analyze = on; SET client_min_messages = log; SET jit = on; SET jit_above_cost = 0; };
SKIP:
{
	my (undef, undef, $plain) = $node->psql('postgres', $explain . 'SELECT count(*) FROM my_queue');
	skip 'this server compiles nothing', 1 unless $plain =~ /JIT:/;
	my (undef, undef, $ours) = $node->psql('postgres',
		$explain . q{SELECT my_worker.create_queue('gone'); SELECT my_worker.purge_queue('gone'); SELECT my_worker.drop_queue('gone', true)});
	my @plans = grep { /Query Text: (?!SELECT my_worker\.)/ } split /LOG:  duration/, $ours;
	my @compiled = grep { /JIT:/ } @plans;
	ok(@plans > 3 && !@compiled, 'our own statements are not compiled') or diag("@compiled", $ours);
}

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
one(q{SELECT my_worker.enqueue('spin', '{"us": 1}', queue => 'timed')});
wait_for($node, q{SELECT completed FROM my_worker.queue_stats WHERE queue = 'timed'}, '1');
$node->stop('immediate');
$node->start;
like(one($all), qr/^0\|0\|0\|0\|/, 'so does an immediate shutdown, as with the statistics of the server itself');
ok(!-e $node->data_dir . '/pg_stat/my_worker.stat', 'and what it left is gone');
$node->stop;
append_to_file($node->data_dir . '/pg_stat/my_worker.stat', 'x');
$node->start;
like(one($all), qr/^0\|0\|0\|0\|/, 'a malformed file is ignored');
is(log_has($node, qr/PANIC|TRAP/, 0), 0, 'nothing panicked');

$node->stop;
done_testing();
