# "Sync this row" jobs, enqueued with unique_mode rerun by the transaction that changes the row: at the end the copy
# equals the truth, whoever runs the jobs, and whatever is killed meanwhile. With keep it would not.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;

# The keeper looks for what was left behind when it is asked, or starts.
my $node = new_node('rerun', 'restart_after_crash' => 'on', 'my_worker.naptime' => 3600,
	'my_worker.max_workers' => 4, 'max_worker_processes' => 24);
sub sql { return $node->safe_psql('postgres', join(' ', @_)) }

sql(q{
	CREATE TABLE truth (k integer PRIMARY KEY, v integer NOT NULL);
	CREATE TABLE copy (k integer PRIMARY KEY, v integer NOT NULL, runs integer NOT NULL DEFAULT 0);
	INSERT INTO truth SELECT k, 0 FROM generate_series(1, 200) AS k;
	INSERT INTO copy SELECT * FROM truth;
	-- Reads the truth, and writes it a moment later.
	CREATE FUNCTION sync(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		seen integer := (SELECT v FROM truth WHERE k = (p->>'k')::integer);
	BEGIN
		PERFORM pg_sleep(random() * 0.002);
		UPDATE copy SET v = seen, runs = runs + 1 WHERE k = (p->>'k')::integer;
	END $$;
	CREATE FUNCTION sync_all(ids bigint[], p jsonb[]) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		one jsonb;
	BEGIN
		FOREACH one IN ARRAY p LOOP
			PERFORM sync(one);
		END LOOP;
	END $$;
	CREATE FUNCTION sync_some(ids bigint[], p jsonb[]) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM count(*) FROM (SELECT FROM my_worker._jobs WHERE queue = 'none' FOR UPDATE) AS locked;
		PERFORM sync_all(ids, p);
	END $$;
	-- Sometimes the first attempts fail.
	CREATE FUNCTION sync_badly(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM sync(p);
		IF random() < 0.3 THEN
			RAISE 'bad luck';
		END IF;
	END $$;
	SELECT my_worker.create_queue('sync', backoff => '5 ms', max_attempts => 1000);
	SELECT my_worker.create_queue('strict', backoff => '5 ms', max_attempts => 1000);
	SELECT my_worker.create_queue('sent', backoff => '5 ms', max_attempts => 1000);
	CREATE ROLE strict LOGIN;
	ALTER ROLE strict SET default_transaction_isolation = 'repeatable read';
	SELECT my_worker.grant_usage('strict');
	GRANT ALL ON truth, copy TO strict;
});

# What a transaction of the load does: $to, as $role, for $seconds by so many sessions.
my $dir = $node->basedir;
sub change
{
	my ($enqueue, $keys, $seconds, $role) = @_;
	my $script = "$dir/change.sql";
	append_to_file("$script.new", join '', ($role ? "SET ROLE $role;\n" : ()), "\\set k random(1, $keys)\n",
		"BEGIN;\nUPDATE truth SET v = v + 1 WHERE k = :k;\n$enqueue;\nEND;\n");
	rename "$script.new", $script;
	my ($stdout, $stderr) = ('', '');
	my $load = IPC::Run::start([ 'pgbench', '-n', '-h', $node->host, '-p', $node->port, '-c', 4, '-j', 2, '-T', $seconds,
			'-f', $script, 'postgres' ], '<', \'', '>', \$stdout, '2>', \$stderr);
	return sub { eval { $load->finish }; return ($stdout, $stderr) };
}
sub enqueue_by
{
	my ($handler, $queue) = @_;
	return "SELECT my_worker.enqueue('$handler', jsonb_build_object('k', :k), '$queue', unique_key => (:k)::text, unique_mode => 'rerun')";
}

my $unequal = 'SELECT count(*) FROM truth JOIN copy USING (k) WHERE truth.v <> copy.v';
sub is_in_sync
{
	my ($what, $done) = @_;
	my ($stdout, $stderr) = $done->();
	like($stdout, qr/processed: [1-9]/, "$what: rows were changed") or diag $stderr;
	unlike($stderr, qr/ERROR/, "$what: no error");
	wait_for($node, q{SELECT count(*) FROM my_queue}, '0');
	is(sql($unequal), '0', "$what: the copy equals the truth");
	is(sql(q{SELECT count(*) FROM my_worker.jobs WHERE status IN ('blocked', 'pending')}), '0', "$what: nothing waits");
	return;
}

is_in_sync('handler', change(enqueue_by('sync', 'sync'), 20, 2));
is_in_sync('one row', change(enqueue_by('sync', 'sync'), 1, 1));
is_in_sync('batch handler', change(enqueue_by('sync_all', 'sync'), 200, 2));
is_in_sync('batch handler that locks', change(enqueue_by('sync_some', 'sync'), 50, 1));
is_in_sync('failing attempts', change(enqueue_by('sync_badly', 'sync'), 20, 2));
is_in_sync('workers with one snapshot', change(enqueue_by('sync', 'strict'), 20, 2, 'strict'));
is_in_sync('commands', change(q{SELECT my_worker.run(format('UPDATE copy SET v = truth.v FROM truth WHERE truth.k = copy.k AND copy.k = %s', :k),
	'sync', max_attempts => 1000, unique_key => 'c' || :k, unique_mode => 'rerun')}, 5, 2));

# Consumers, two of either kind, that read the truth when they have received the job.
$node->safe_psql('postgres', q{
	CREATE PROCEDURE consume(seconds integer, length interval) LANGUAGE plpgsql AS $$
	DECLARE
		the_end timestamptz := clock_timestamp() + make_interval(secs => seconds);
		job record;
		seen integer;
	BEGIN
		WHILE clock_timestamp() < the_end LOOP
			SELECT * INTO job FROM my_worker.receive('sent', lease => length);
			COMMIT;
			IF job.id IS NULL THEN
				PERFORM pg_sleep(0.001);
				CONTINUE;
			END IF;
			seen := (SELECT v FROM truth WHERE k = (job.payload->>'k')::integer);
			PERFORM pg_sleep(random() * 0.002);
			UPDATE copy SET v = seen WHERE k = (job.payload->>'k')::integer;
			IF NOT my_worker.ack(job.id, job.lease) THEN
				ROLLBACK;
			END IF;
			COMMIT;
		END LOOP;
	END $$;});
my $send = q{SELECT my_worker.send('sent', jsonb_build_object('k', :k), unique_key => (:k)::text, unique_mode => 'rerun')};
my @consumers = map { IPC::Run::start([ 'psql', '-XqAt', '-h', $node->host, '-p', $node->port, '-d', 'postgres', '-c', "CALL consume(5, $_)" ],
		'<', \'', '>', \my $out, '2>', \my $err) } ('NULL', 'NULL', q{'10 s'}, q{'10 s'});
is_in_sync('consumers', change($send, 20, 2));
$_->finish for @consumers;

# Processes of the pool are killed meanwhile: the server restarts each time.
my $start = log_end($node);
my $kills = 0;
for my $round (1 .. 3)
{
	my $done = change(enqueue_by($round % 2 ? 'sync' : 'sync_all', 'sync'), 20, 30);
	my $ended = sql(q{SELECT count(*) FROM my_worker.history WHERE queue = 'sync'});
	wait_for($node, qq{SELECT count(*) > $ended + 10 FROM my_worker.history WHERE queue = 'sync'});
	my ($status, $stdout) = $node->psql('postgres',
		q{SELECT pid FROM my_worker.workers WHERE kind = 'worker' AND pid IS NOT NULL ORDER BY random() LIMIT 1});
	if (defined $status && $status == 0 && $stdout =~ /^\d+$/)
	{
		crash($node, $stdout);
		$kills++;
	}
	$done->();
}
cmp_ok($kills, '>=', 1, "$kills workers were killed");
wait_for($node, q{SELECT count(*) FROM my_queue}, '0');
is(sql($unequal), '0', 'killed workers: the copy equals the truth');
is(log_has($node, qr/PANIC|signal 11|XX000/, $start), 0, 'no other trouble');

# What keep loses: a change while the job runs.
sql(q{CREATE FUNCTION gated_sync(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		seen integer := (SELECT v FROM truth WHERE k = 1);
	BEGIN
		PERFORM pg_advisory_xact_lock_shared(1);
		UPDATE copy SET v = seen WHERE k = 1;
	END $$});
for my $mode ('keep', 'rerun')
{
	my $gate = $node->background_psql('postgres');
	$gate->query_safe('SELECT pg_advisory_lock(1)');
	my $call = "SELECT my_worker.enqueue('gated_sync', '{}', 'sync', unique_key => 'one', unique_mode => '$mode')";
	sql("BEGIN; UPDATE truth SET v = v + 1 WHERE k = 1; $call; COMMIT");
	wait_for($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, '1');
	sql("BEGIN; UPDATE truth SET v = v + 1 WHERE k = 1; $call; COMMIT");
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	$gate->quit;
	wait_for($node, q{SELECT count(*) FROM my_queue}, '0');
	is(sql($unequal), $mode eq 'keep' ? 1 : 0, "$mode " . ($mode eq 'keep' ? 'loses a change' : 'loses none') . ' that comes while the job runs');
}

$node->stop;
done_testing();
