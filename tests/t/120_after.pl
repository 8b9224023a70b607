# Jobs that come after others: a chain, and a diamond, each job once and in order, also when processes are killed
# meanwhile; two that end at the same moment; jobs that are enqueued while what they come after ends; ends that
# nobody tells; rows that are locked, or cannot be ended.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('after', 'my_worker.naptime' => 1, 'my_worker.max_workers' => 4, 'restart_after_crash' => 'on',
	'max_prepared_transactions' => 2);
add_handlers($node);

sub sql { return $node->safe_psql('postgres', $_[0]) }

$node->safe_psql('postgres', q{
	CREATE TABLE seen (turn bigserial, job bigint);
	-- Fails unless all that the job comes after has ended.
	CREATE FUNCTION sees(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		early bigint;
	BEGIN
		SELECT s.job INTO early FROM my_queue AS q JOIN unnest(q.after) AS a (id) ON true
			LEFT JOIN seen AS s ON s.job = a.id WHERE q.id = sees.id AND s.job IS NULL LIMIT 1;
		IF FOUND THEN
			RAISE 'too early';
		END IF;
		PERFORM pg_sleep((p->>'sleep')::float8);
		IF p ? 'fail' THEN
			RAISE 'no';
		END IF;
		INSERT INTO seen (job) VALUES (id);
	END $$;
	CREATE FUNCTION diamond(n int, p jsonb DEFAULT '{}') RETURNS bigint LANGUAGE plpgsql AS $$
	DECLARE
		root bigint := my_worker.enqueue('sees', p, max_attempts := CASE WHEN p ? 'fail' THEN 1 END);
		middle bigint[];
	BEGIN
		SELECT array_agg(m) INTO middle
		  FROM my_worker.enqueue_many('sees', array_fill('{}'::jsonb, ARRAY[n]), after := ARRAY[root]) AS m;
		RETURN my_worker.enqueue('sees', after := middle);
	END $$;});
sql(q{CREATE FUNCTION chain(n int, p jsonb DEFAULT '{}') RETURNS bigint LANGUAGE plpgsql AS $$
	DECLARE
		last bigint := my_worker.enqueue('sees', p);
	BEGIN
		FOR i IN 2 .. n LOOP
			last := my_worker.enqueue('sees', p, after := ARRAY[last]);
		END LOOP;
		RETURN last;
	END $$});

# All of them are done, each once, the last one last.
sub all_seen
{
	my ($count, $last, $name) = @_;
	is(sql('SELECT count(*), count(DISTINCT job) FROM seen'), "$count|$count", "$name: each once");
	is(sql('SELECT job FROM seen ORDER BY turn DESC LIMIT 1'), $last, "$name: the last one last");
	is(sql(q{SELECT count(*) FROM my_worker.history WHERE status <> 'completed' OR errors::text ~ 'too early'}), '0', "$name: none too early");
	sql('TRUNCATE seen; TRUNCATE my_worker.history');
	return;
}

# A chain.
my $last = sql('SELECT chain(1000)');
my $begin = time;
is(sql("SELECT my_worker.wait($last, '60 s')"), 'completed', 'a chain of 1,000 jobs ends');
my $took = time - $begin;
note(sprintf 'a chain of 1,000 took %.2f s', $took);
# Alone on a machine it takes about 1 s.
cmp_ok($took, '<', 10, 'in time');
all_seen(1000, $last, 'a chain');

# A diamond.
$last = sql('SELECT diamond(2000)');
is(sql("SELECT my_worker.wait($last, '60 s')"), 'completed', 'a diamond ends');
all_seen(2002, $last, 'a diamond');

# Its root fails: all others are cancelled, and say why.
$last = sql(q{SELECT diamond(2000, '{"fail": 1, "sleep": 0.1}')});
my $root = $last - 2001;
wait_for($node, q{SELECT count(*) FROM my_worker.history WHERE status = 'cancelled'}, '2001');
is(sql(q{SELECT DISTINCT last_error FROM my_worker.history WHERE status = 'cancelled'}),
	"job $root failed, which this job comes after", 'each names the root');
wait_for($node, 'SELECT count(*) FROM my_worker._dependencies', '0');
sql('TRUNCATE my_worker.history');

# Workers and the keeper are killed meanwhile; a crash of the server costs a job an attempt.
sql(q{SELECT my_worker.alter_queue('default', max_attempts := 100, backoff := '1 ms', backoff_max := '10 ms')});
for my $shape ('chain(200, \'{"sleep": 0.005}\')', 'diamond(300, \'{"sleep": 0.2}\')')
{
	my ($name, $count) = $shape =~ /^chain/ ? ('a killed chain', 200) : ('a killed diamond', 302);
	$last = sql("SELECT $shape");
	for my $kill (1 .. 3)
	{
		# A job runs, and some more have run; or all have.
		wait_for($node, sprintf(q{SELECT NOT EXISTS (SELECT FROM my_queue) OR count(*) >= %d AND EXISTS (SELECT FROM my_worker.workers
			WHERE job_id IS NOT NULL) FROM seen}, 20 * ($kill - 1)));
		my ($pid) = worker_pids($node, $kill == 2 ? 'keeper' : 'worker');
		crash($node, $pid) if $pid;
	}
	wait_for($node, 'SELECT count(*) FROM my_queue', '0');
	is(sql('SELECT count(*), count(DISTINCT job) FROM seen'), "$count|$count", "$name: each once");
	is(sql('SELECT job FROM seen ORDER BY turn DESC LIMIT 1'), $last, "$name: the last one last");
	is(sql(q{SELECT count(*) FROM my_worker.history WHERE errors::text ~ 'too early'}), '0', "$name: none too early");
	sql('TRUNCATE seen; TRUNCATE my_worker.history');
}

# Two that end at the same moment do not see each other; jobs are enqueued while what they come after ends.
sql(q{CREATE FUNCTION nothing() RETURNS void LANGUAGE sql AS ''});
my $script = PostgreSQL::Test::Utils::tempdir() . '/race.sql';
append_to_file($script, q{
SELECT my_worker.enqueue('nothing') AS a, my_worker.enqueue('nothing') AS b \gset
SELECT my_worker.enqueue('nothing', after := ARRAY[:a, :b]) AS c \gset
SELECT my_worker.enqueue('nothing', after := ARRAY[:c, :b]) AS d \gset
});
$node->command_ok([ 'pgbench', '-n', '-c', 4, '-t', 500, '-f', $script, '-h', $node->host, '-p', $node->port, 'postgres' ], 'races');
wait_for($node, 'SELECT count(*) FROM my_queue', '0', 20);
is(sql(q{SELECT count(*), count(DISTINCT id) FROM my_worker.history WHERE status = 'completed'}), '8000|8000', 'all of them ran');
sql('TRUNCATE my_worker.history');

# What nobody tells: transactions that are prepared first.
sql(q{SELECT my_worker.create_queue('held'); SELECT my_worker.pause_queue('held')});
my $job = sql(q{SELECT my_worker.enqueue('nothing', queue := 'held')});
my $next = sql("SELECT my_worker.enqueue('nothing', after := ARRAY[$job])");
sql("BEGIN; DELETE FROM my_queue WHERE id = $job; PREPARE TRANSACTION 'ends'");
is(sql("SELECT status FROM my_queue WHERE id = $next"), 'blocked', 'a prepared end is none yet');
sql("COMMIT PREPARED 'ends'");
is(sql("SELECT my_worker.wait($next, '20 s')"), 'completed', 'an end by COMMIT PREPARED is seen');
$job = sql(q{SELECT my_worker.enqueue('nothing')});
sql("BEGIN; INSERT INTO my_queue (handler, after, payload) VALUES ('nothing', ARRAY[$job], '{\"late\": 1}'); PREPARE TRANSACTION 'begins'");
sql("SELECT my_worker.wait($job, '20 s')");
sql("COMMIT PREPARED 'begins'");
wait_for($node, q{SELECT count(*) FROM my_worker.history WHERE payload ? 'late'}, '1');
pass('a job that comes by COMMIT PREPARED is seen');

# A row that somebody has locked is left for a moment.
$job = sql(q{SELECT my_worker.enqueue('nothing', queue := 'held')});
$next = sql("SELECT my_worker.enqueue('nothing', after := ARRAY[$job])");
my $other = sql("SELECT my_worker.enqueue('nothing', after := ARRAY[$job])");
my $holder = $node->background_psql('postgres');
$holder->query_safe("BEGIN; SELECT FROM my_worker._jobs WHERE id = $next FOR UPDATE");
sql("SELECT my_worker.cancel($job)");
is(sql("SELECT my_worker.wait($other, '20 s')"), 'cancelled', 'one that is locked keeps no other waiting');
is(sql("SELECT status FROM my_queue WHERE id = $next"), 'blocked', 'and stays');
$holder->query_safe('ROLLBACK');
$holder->quit;
is(sql("SELECT my_worker.wait($next, '20 s')"), 'cancelled', 'until it is free');

# A row that cannot be ended is set aside, and counts as failed.
$job = sql(q{SELECT my_worker.enqueue('nothing', queue := 'held')});
sql(q{CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	IF NEW.payload ? 'refused' THEN RAISE 'no such end'; END IF; RETURN NEW; END $$;
	CREATE TRIGGER refuses BEFORE INSERT ON my_worker.history FOR EACH ROW EXECUTE FUNCTION refuses()});
$next = sql("SELECT my_worker.enqueue('nothing', '{\"refused\": 1}', after := ARRAY[$job])");
$other = sql("SELECT my_worker.enqueue('nothing', after := ARRAY[$next])");
sql("SELECT my_worker.cancel($job)");
is(sql("SELECT my_worker.wait($other, '20 s')"), 'cancelled', 'a job that was set aside cancels those after it');
is(sql("SELECT status FROM my_queue WHERE id = $next"), 'failed', 'it stays in the queue');
is(sql("SELECT last_error FROM my_worker.history WHERE id = $other"), "job $next failed, which this job comes after", 'and is named');
sql(q{DROP TRIGGER refuses ON my_worker.history; DELETE FROM my_queue});

# Nothing is left, and nothing burns.
wait_for($node, 'SELECT count(*) FROM my_worker._dependencies', '0');
is(log_has($node, qr/PANIC|XX000/), 0, 'no internal error');
$node->stop;
done_testing();
