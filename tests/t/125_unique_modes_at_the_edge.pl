# unique_mode where things go wrong: a storm of replaces, jobs that are taken away by ways past the door for ends,
# a row that slips in, transactions that stay open, a server that crashes.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('edge', 'restart_after_crash' => 'on', 'my_worker.naptime' => 1, 'max_prepared_transactions' => 5,
	'my_worker.max_workers' => 4, 'max_worker_processes' => 24);
sub sql { return $node->safe_psql('postgres', join(' ', @_)) }
add_handlers($node);
sql(q{
	SELECT my_worker.create_queue('q', backoff => '1 h'), my_worker.create_queue('sent', backoff => '10 ms', max_attempts => 1);
	CREATE SEQUENCE numbers;
	CREATE TABLE put (id bigint, n bigint, at timestamptz);
	CREATE TABLE ran (id bigint, n bigint);
	CREATE FUNCTION note(id bigint, p jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO ran VALUES (id, (p->>''n'')::bigint)';
	CREATE FUNCTION gated(id bigint, p jsonb) RETURNS void LANGUAGE sql AS
		'SELECT pg_advisory_xact_lock_shared(7); INSERT INTO ran VALUES (id, (p->>''n'')::bigint)';
	CREATE FUNCTION bad(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS
		$$BEGIN PERFORM pg_advisory_xact_lock_shared(7); RAISE 'no'; END$$});

# A debounce: 1,000 replaces by four sessions within a second or so, each later than the last. One run, with the last
# payload: the one that was put last by the order of the row's versions.
append_to_file($node->basedir . '/replace.sql', q{
INSERT INTO put SELECT my_worker.enqueue('note', jsonb_build_object('n', n), 'q', run_at => clock_timestamp() + '1 s',
    unique_key => 'debounced', unique_mode => 'replace'), n, clock_timestamp() FROM nextval('numbers') AS n;
});
my $began = time;
$node->command_ok([ 'pgbench', '-n', '-c', 4, '-j', 2, '-t', 250, '-f', $node->basedir . '/replace.sql', 'postgres' ], 'a thousand replaces');
my $took = time - $began;
my $last = sql(q{SELECT payload->>'n' FROM my_queue});
wait_for($node, 'SELECT count(*) FROM my_queue', '0');
is(sql('SELECT count(*), count(DISTINCT id) FROM put'), '1000|1', "a thousand calls in $took s have answered one id");
is(sql('SELECT n FROM ran'), $last, 'it has run once, with the last payload');
cmp_ok($last, '>', 990, 'which is one of the last');
# The same while workers are at it: what was put last, or later than that, has run, and nothing is left.
sql('TRUNCATE put, ran');
append_to_file($node->basedir . '/at_once.sql', q{
INSERT INTO put SELECT my_worker.enqueue('note', jsonb_build_object('n', n), 'q',
    unique_key => 'at once', unique_mode => 'rerun'), n, clock_timestamp() FROM nextval('numbers') AS n;
});
$node->command_ok([ 'pgbench', '-n', '-c', 1, '-t', 1000, '-f', $node->basedir . '/at_once.sql', 'postgres' ], 'a thousand reruns by one session');
wait_for($node, 'SELECT count(*) FROM my_queue', '0');
is(sql('SELECT count(*) FROM ran WHERE n = (SELECT max(n) FROM put)'), '1', 'the last payload has run');
is(sql('SELECT count(*) FROM (SELECT n FROM ran GROUP BY n HAVING count(*) > 1) AS twice'), '0', 'and none twice');

# Two jobs of one key, of which the first waits for its second attempt, and the second for its end.
sub pair
{
	my ($key) = @_;
	my $gate = $node->background_psql('postgres');
	$gate->query_safe('SELECT pg_advisory_lock(7)');
	my $first = sql("SELECT my_worker.enqueue('bad', '{}', 'q', max_attempts => 2, unique_key => '$key')");
	wait_for($node, "SELECT status FROM my_worker.jobs WHERE id = $first", 'processing');
	my $second = sql("SELECT my_worker.enqueue('note', '{}', 'q', unique_key => '$key', unique_mode => 'rerun')");
	$gate->quit;
	wait_for($node, "SELECT attempts FROM my_queue WHERE id = $first", '1');
	return ($first, $second);
}
sub status { my ($job) = @_; return sql("SELECT status FROM my_worker.jobs WHERE id = $job") }
# The keeper has looked: it has found what nobody announced.
my $unannounced = 0;
sub keeper_looks
{
	$unannounced--;
	sql(qq{BEGIN; SELECT my_worker.enqueue('note', '{"n": $unannounced}', 'q'); PREPARE TRANSACTION 'unannounced'});
	sql("COMMIT PREPARED 'unannounced'");
	wait_for($node, "SELECT count(*) FROM ran WHERE n = $unannounced", '1');
	return;
}
sub goes { my ($job, $what) = @_; is(sql("SELECT my_worker.wait($job, '20 s')"), 'completed', $what); return }

my ($first, $second) = pair('purged');
sql("SELECT my_worker.cancel($first)");
goes($second, 'a cancel of the first lets the second go');
($first, $second) = pair('deleted');
sql("DELETE FROM my_queue WHERE id = $first");
goes($second, 'DELETE does');
($first, $second) = pair('replica');
sql("SET session_replication_role = replica; DELETE FROM my_queue WHERE id = $first");
goes($second, 'so does one that fires no trigger, by the keeper');
($first, $second) = pair('prepared');
sql("BEGIN; SELECT my_worker.cancel($first); PREPARE TRANSACTION 'cancel'");
is(status($second), 'blocked', 'a prepared cancel is none yet');
sql("COMMIT PREPARED 'cancel'");
goes($second, 'and is one once it is committed');
($first, $second) = pair('rolled back');
sql("BEGIN; SELECT my_worker.cancel($first); ROLLBACK");
is(status($second), 'blocked', 'a cancel that is rolled back lets nothing go');
sql("UPDATE my_queue SET unique_key = NULL WHERE id = $first");
goes($second, 'a first one that gives its key up does');

# Somebody holds the second's row while the first ends.
($first, $second) = pair('held');
my $holder = $node->background_psql('postgres');
$holder->query_safe("BEGIN; SELECT my_worker.enqueue('note', '{}', 'q', unique_key => 'held', unique_mode => 'rerun')");
sql("SELECT my_worker.cancel($first)");
is(status($second), 'blocked', 'a row that somebody holds is not waited for');
$holder->query_safe('ROLLBACK');
goes($second, 'and let go when it is free');
$holder->quit;

# A row that slips in between: the second waits for it, and the keeper for nobody.
($first, $second) = pair('slipped');
$holder = $node->background_psql('postgres');
sql("SET session_replication_role = replica; UPDATE my_worker._jobs SET unique_key = NULL WHERE id = $first; " .
	"INSERT INTO my_worker._jobs (queue, handler, unique_key, run_at, payload) VALUES ('q', 'note(bigint, jsonb)', 'slipped', 'infinity', '{}')");
keeper_looks() for 1 .. 2;
is(status($second), 'blocked', 'the second waits for a row that has slipped in');
like(sql("SELECT my_worker.why($second)"), qr/^job \d+, which has its unique key, has not ended$/, 'and says so');
my $slipped = sql(q{SELECT id FROM my_queue WHERE unique_key = 'slipped' AND status = 'pending'});
sql("SELECT my_worker.cancel($slipped)");
goes($second, 'until that has ended');
($first, $second) = pair('slipping');
$holder->query_safe("SET session_replication_role = replica; BEGIN; DELETE FROM my_worker._jobs WHERE id = $first; COMMIT; BEGIN; " .
	"INSERT INTO my_worker._jobs (queue, handler, unique_key, payload) VALUES ('q', 'note(bigint, jsonb)', 'slipping', '{}') ON CONFLICT DO NOTHING");
keeper_looks() for 1 .. 3;
is(status($second), 'blocked', 'the second waits for a row that is being inserted');
pass('the keeper waits for no row that somebody inserts');
$holder->query_safe('ROLLBACK');
goes($second, 'the second goes in the end');
$holder->quit;

# A crash of the server: what it has cut off may fail for good, and the change that comes right after it runs.
sql(q{TRUNCATE ran});
my $gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(7)');
$first = sql(q{SELECT my_worker.enqueue('gated', '{"n": 1}', 'q', max_attempts => 1, unique_key => 'crash')});
wait_for($node, "SELECT status FROM my_worker.jobs WHERE id = $first", 'processing');
crash($node, job_pid($node, $first));
eval { $gate->quit };
$second = sql(q{SELECT my_worker.enqueue('note', '{"n": 2}', 'q', unique_key => 'crash', unique_mode => 'rerun')});
goes($second, 'a change after a crash runs');
is(sql('SELECT n FROM ran'), '2', 'with its payload');
is(status($first), 'failed', 'and what was cut off has failed');

# A consumer whose lease is lost has begun: its last attempt fails, and the change runs.
$first = sql(q{SELECT my_worker.send('sent', '1', unique_key => 'k')});
my $consumer = $node->background_psql('postgres');
is($consumer->query_safe("SELECT id FROM my_worker.receive('sent')"), $first, 'a consumer has a job');
$second = sql(q{SELECT my_worker.send('sent', '2', unique_key => 'k', unique_mode => 'rerun')});
isnt($second, $first, 'a rerun is another one');
$consumer->quit;
wait_for($node, "SELECT status FROM my_worker.jobs WHERE id = $first", 'failed');
wait_for($node, "SELECT payload FROM my_worker.receive('sent', wait => '1 s', lease => '1 min')", '2');
sql(q{SELECT my_worker.cancel(id) FROM my_queue});

# Keys of another role, and the limit of waiting jobs.
sql(q{CREATE ROLE alice LOGIN; SELECT my_worker.grant_usage('alice');
	ALTER SYSTEM SET my_worker.max_waiting_per_role = 1; SELECT pg_reload_conf()});
wait_for($node, 'SHOW my_worker.max_waiting_per_role', '1');
is(sql(q{SET ROLE alice; SELECT count(DISTINCT my_worker.run('SELECT 1', 'q', run_at => 'infinity', unique_key => 'k', unique_mode => m))
	FROM unnest('{keep,replace,rerun,replace}'::text[]) AS m}), '1', 'who replaces a job has no more of them');
sql(q{ALTER SYSTEM RESET my_worker.max_waiting_per_role; SELECT pg_reload_conf(); SELECT my_worker.purge_queue('q')});

# A dump takes those that wait along.
($first, $second) = pair('dumped');
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, 'postgres' ], 'a dump');
sql('CREATE DATABASE restored');
$node->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', 'restored', '-f', $dump ], 'is restored');
is($node->safe_psql('restored', "SELECT status, rerun FROM my_worker._jobs WHERE id = $second"), 'blocked|t', 'with the job that waits');

is(log_has($node, qr/PANIC|signal 11|XX000/, 0), 0, 'no other trouble');
$node->stop;
done_testing();
