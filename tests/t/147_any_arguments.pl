# Every function and every view of ours with whatever arguments: NULLs, extremes, wrong ids, broken texts, by a superuser, by a
# role with usage and by one without any right. No call is an internal error (XX000), none ends its session or the server, and
# afterwards jobs run. MY_WORKER_FUZZ_SECONDS says for how long each of the roles goes on, MY_WORKER_FUZZ_SEED begins anew
# where a run that failed has begun.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $seconds = $ENV{MY_WORKER_FUZZ_SECONDS} // 4;
my $seed = $ENV{MY_WORKER_FUZZ_SEED} // time;
note("MY_WORKER_FUZZ_SEED=$seed");

my $node = new_node('any', 'my_worker.max_workers' => 2, 'my_worker.naptime' => 1, 'max_prepared_transactions' => 2);
add_handlers($node);
$node->safe_psql('postgres', q{
	CREATE ROLE served LOGIN;
	CREATE ROLE nobody_at_all LOGIN;
	SELECT my_worker.grant_usage('served');
	SELECT my_worker.create_queue(name) FROM unnest('{a,b,held}'::text[]) AS name;
	SELECT my_worker.alter_queue('a', handler => 'work');

	-- Literals of each type, the worse the better.
	CREATE TABLE public.literals (type regtype, text text);
	INSERT INTO literals SELECT 'bigint', unnest('{NULL,0,1,2,3,7,-1,9223372036854775807,-9223372036854775808,4611686018427387904}'::text[]);
	INSERT INTO literals SELECT 'integer', unnest('{NULL,0,1,2,10000,10001,-1,2147483647,-2147483648}'::text[]);
	INSERT INTO literals SELECT 'boolean', unnest('{NULL,true,false}'::text[]);
	INSERT INTO literals SELECT 'real', unnest(ARRAY['NULL', '0', '100', '-0.1', '1e38', '''NaN''', '''Infinity''', '''-Infinity''']);
	INSERT INTO literals SELECT 'interval', unnest(ARRAY['NULL', '''0''', '''1 s''', '''-1 s''', '''1 microsecond''', '''178000000 years''', '''-178000000 years''',
		'''1 mon -1 day''', '''1000 years''', '''1000 years 1 s''', '''2147483647 days''']);
	INSERT INTO literals SELECT 'timestamptz', unnest(ARRAY['NULL', 'now()', '''infinity''', '''-infinity''', '''4714-11-24 00:00:00+00 BC''',
		'''294276-12-31 23:59:59.999999+00''', '''2024-03-31 02:30 Europe/Berlin''']);
	INSERT INTO literals SELECT 'jsonb', unnest(ARRAY['NULL', '''{}''', '''null''', '''[]''', '''"x"''', '''{"a": {"b": [1, 2.5e300]}}''',
		'''"\ud83d\ude00"''', 'jsonb_build_object(repeat(''k'', 3000), repeat(''v'', 100000))', '''{"sleep": 0.001}''', '''{"fail": "x"}''']);
	INSERT INTO literals SELECT 'text', unnest(ARRAY['NULL', '''''', '''a''', '''b''', '''held''', '''work''', '''work(jsonb)''', '''public.work(bigint, jsonb)''',
		'''"''', '''a"b''', '''a.b.c.d''', '''work(''', '''pg_catalog.now''', 'repeat(''x'', 63)', 'repeat(''x'', 64)', 'repeat(''ü'', 500)',
		'repeat(''ü'', 501)', 'repeat(''x'', 1000000)', '''* * * * *''', '''@daily''', '''*/0 * * * *''', '''0 0 31 2 *''', '''60 24 32 13 8''',
		'''every 1 second''', '''every -1 days''', '''every 99999999999 years''', '''every''', 'repeat(''*,'', 5000)', '''Europe/Berlin''', '''+99''',
		'''nowhere/at_all''', '''keep''', '''rerun''', '''replace''', '''error''', '''run''', '''cancel''', '''skip''', '''all''', '''SELECT 1''',
		'''SELECT 1/0''', 'E''\n\t\\\\''', '''40001''', '''concurrency''', '''%s %n''', 'E''\u0001\u007f''', '''\u0000''', 'E''\uFFFD''']);
	INSERT INTO literals SELECT 'text[]', unnest(ARRAY['NULL', '''{}''', '''{NULL}''', '''{40001,P0}''', '''{x,"",NULL}''', '''{{a,b},{c,d}}''',
		'''[2:3]={a,b}''', 'array_fill(''40001''::text, ARRAY[20000])']);
	INSERT INTO literals SELECT 'bigint[]', unnest(ARRAY['NULL', '''{}''', '''{NULL}''', '''{1,2,3}''', '''{-1,9223372036854775807}''', '''{{1,2},{3,4}}''',
		'''[5:6]={1,2}''', 'array_fill(1::bigint, ARRAY[20000])']);
	INSERT INTO literals SELECT 'jsonb[]', unnest(ARRAY['NULL', '''{}''', '''{NULL}''', 'ARRAY[''{}''::jsonb, NULL, ''[1]'']', 'array_fill(''{}''::jsonb, ARRAY[100])',
		'''{{1,2},{3,4}}''']);
	INSERT INTO literals SELECT 'regrole', unnest(ARRAY['NULL', '''postgres''', '''served''', '0', '4294967295', '10']);
	INSERT INTO literals SELECT 'oid', unnest(ARRAY['NULL', '0', '10', '4294967295', '''my_worker._jobs''::regclass', '''my_worker.history''::regclass']);
	INSERT INTO literals SELECT 'name', unnest(ARRAY['NULL', '''a''', '''''']);
	GRANT SELECT ON literals TO PUBLIC;

	-- Calls one function after the other with whatever there is for it, in subtransactions that are sometimes rolled back; commits now
	-- and then. What is left out would end this session, or is how the others are called.
	CREATE PROCEDURE public.call_all(seconds float8, seed float8) LANGUAGE plpgsql AS $$
	DECLARE
		the_end timestamptz := clock_timestamp() + make_interval(secs => seconds);
		called record;
		call text;
		calls bigint := 0;
		failed bigint := 0;
		state text;
		message text;
		states jsonb := '{}';
	BEGIN
		PERFORM setseed(seed);
		PERFORM set_config('statement_timeout', '0', false), set_config('client_min_messages', 'error', false);
		WHILE clock_timestamp() < the_end LOOP
			FOR called IN SELECT p.oid, p.proname, n.nspname, p.proargtypes, p.proretset, p.pronargs, p.pronargdefaults, p.provariadic
				FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
				JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
				JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'my_worker'
				WHERE p.prorettype <> 'trigger'::regtype AND p.proname NOT IN ('launch_dynamic_worker') ORDER BY random() LOOP
				SELECT format('SELECT * FROM %I.%I(%s)', called.nspname, called.proname, string_agg(value, ', ' ORDER BY turn)) INTO call
				FROM (SELECT turn, (SELECT format('(%s)::%s', l.text, format_type(type, NULL)) FROM literals AS l
						WHERE l.type = t.type OR NOT EXISTS (SELECT FROM literals AS k WHERE k.type = t.type) AND l.text = 'NULL'
						-- Of each argument another one.
						ORDER BY random() + turn * 0 LIMIT 1) AS value
					FROM unnest(called.proargtypes::oid[]) WITH ORDINALITY AS t (type, turn)
					WHERE turn <= called.pronargs - (random() * (called.pronargdefaults + 0.99))::integer % (called.pronargdefaults + 1)) AS v;
				CONTINUE WHEN called.proname = 'wait' AND random() < 0.9;
				-- As long as generate_series() of that many.
				CONTINUE WHEN called.proname = 'next_runs' AND call LIKE '%2147483647%';
				calls := calls + 1;
				BEGIN
					PERFORM set_config('statement_timeout', '500ms', true);
					EXECUTE call;
					IF random() < 0.2 THEN
						RAISE division_by_zero;
					END IF;
				EXCEPTION WHEN OTHERS THEN
					failed := failed + 1;
					GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
					states := states || jsonb_build_object(state, coalesce((states->>state)::integer, 0) + 1);
					IF state LIKE 'XX%' THEN
						RAISE LOG 'internal: % of %', left(message, 200), left(call, 2000);
					END IF;
				END;
				IF random() < 0.1 THEN
					COMMIT;
				END IF;
			END LOOP;
		END LOOP;
		RAISE LOG '% calls, of which % failed: % %', calls, failed, states, left(message, 200);
	END $$;
	GRANT EXECUTE ON PROCEDURE public.call_all TO PUBLIC;});

# A statement in a procedure keeps the time-out of the call: a call that waits is ended by another session.
for my $role ('postgres', 'served', 'nobody_at_all')
{
	# The calls before may have taken that away.
	$node->safe_psql('postgres', q{SELECT my_worker.grant_usage('served')}) if $role eq 'served';
	$seed = ($seed * 7 + 1) % 1000003;
	my ($out, $err);
	my $status = $node->psql('postgres', sprintf('CALL public.call_all(%s, %s)', $seconds, $seed / 1000003),
		extra_params => [ '-U', $role ], stdout => \$out, stderr => \$err, timeout => $seconds + 60, timed_out => \my $late);
	if ($late)
	{
		# A call may last as long as its arguments ask for: it must heed a cancel.
		my $calls = q{pg_stat_activity WHERE query LIKE 'CALL public.call_all%' AND state = 'active'};
		$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM $calls");
		wait_for($node, "SELECT count(*) FROM $calls", '0');
	}
	pass("$role: each call comes back, or heeds a cancel");
	is($err // '', '', "$role: and leaves the session as it was");
	# Whatever it has set up goes away.
	$node->safe_psql('postgres', q{
		SELECT my_worker.unschedule(name, owner) FROM my_worker.schedules;
		SELECT my_worker.cancel(id) FROM my_queue});
}

# Views, by conditions of any kind.
my @views = split /\n/, $node->safe_psql('postgres', q{
	SELECT c.oid::regclass FROM pg_class AS c JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
	WHERE c.relkind IN ('r', 'v')});
cmp_ok(scalar @views, '>=', 8, 'there are views and tables');
for my $view (@views)
{
	for my $sql ("SELECT * FROM $view", "SELECT count(*) FROM $view AS a FULL JOIN $view AS b USING (tableoid)", "SELECT a, a IS NULL FROM $view AS a ORDER BY a::text DESC LIMIT 3",
		"SELECT row_to_json(a) FROM $view AS a WHERE a IS DISTINCT FROM NULL OFFSET 1", "DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT * FROM $view; FETCH LAST FROM c; FETCH BACKWARD 2 FROM c; FETCH ABSOLUTE -1 FROM c")
	{
		my ($out, $err);
		$node->psql('postgres', "\\set VERBOSITY verbose\n$sql", stdout => \$out, stderr => \$err);
		unlike($err // '', qr/XX\d{3}|server closed/, $sql) if ($err // '') =~ /XX\d{3}|server closed/;
	}
}

my $log = slurp_file($node->logfile);
is(join("\n", $log =~ /(internal: .*)/g), '', 'no call is an internal error') or diag("MY_WORKER_FUZZ_SEED=$seed");
my ($calls) = $log =~ /(\d+) calls, of which/;
cmp_ok($calls // 0, '>', 100, "there were many (" . join(', ', $log =~ /(\d+ calls, of which \d+ failed)/g) . ')');
unlike($log, qr/PANIC|was terminated by signal|TRAP/, 'the server lives');

# And jobs run.
$node->safe_psql('postgres', q{SELECT my_worker.create_queue('after_all') WHERE NOT EXISTS (SELECT FROM my_worker.queues WHERE name = 'after_all')});
my $job = $node->safe_psql('postgres', q{SELECT my_worker.enqueue('work', queue => 'after_all')});
is($node->safe_psql('postgres', "SELECT my_worker.wait($job, '30 s')"), 'completed', 'afterwards jobs run');
$node->stop;
done_testing();
