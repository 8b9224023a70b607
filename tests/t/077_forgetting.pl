# The keeper keeps nobody waiting while it forgets finished jobs or ends those of a role that may not log in;
# and it forgets exactly what queues no longer keep.
#
# Part of `make test-long`.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

use Time::HiRes qw(time);

my $node = new_node('forgetting', 'my_worker.naptime' => 1, 'my_worker.log_jobs' => 'failures', 'autovacuum' => 'off',
	'fsync' => 'off');
add_handlers($node);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(q{
	CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN;
	SELECT my_worker.grant_usage('alice'), my_worker.grant_usage('bob');
	SELECT my_worker.create_queue('bulk', retention => '7 days'); SELECT my_worker.create_queue('short', retention => '1 s');
	SELECT my_worker.create_queue('long', retention => '100 days');
	SELECT my_worker.schedule('tick', 'every 1 second', handler := 'work', overlap := 'allow', catchup := 'all')});

sub fill
{
	my ($queue, $status, $age, $rows) = @_;
	sql(qq{INSERT INTO my_worker.history (id, queue, status, handler, payload, priority, run_at, created_at, attempts, owner,
		finished_at) SELECT -i, '$queue', '$status', 'public.work(bigint, jsonb)', '{}', 0, now(), now(), 1, 'alice'::regrole,
		now() - interval '$age' FROM generate_series(1, $rows) AS i});
	return;
}

# How late the runs of the schedule since then were, at most.
sub latest
{
	my ($since, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_for($node, qq{SELECT count(*) >= 3 FROM my_worker.history WHERE queue = 'default' AND id > 0 AND run_at > '$since'});
	my $ms = sql(qq{SELECT round(1000 * max(extract(epoch FROM started_at - run_at))) FROM my_worker.history
		WHERE queue = 'default' AND id > 0 AND run_at > '$since'});
	note("$name: a schedule is $ms ms late at most");
	cmp_ok($ms, '<', 1000, "$name: a schedule is in time");
	return;
}

# What there is, by queue, status and age, and how much of it may stay.
fill('bulk', 'completed', '2 hours', 300000);
fill('bulk', 'completed', '10 minutes', 10);
fill('bulk', 'failed', '2 hours', 20);
fill('bulk', 'cancelled', '8 days', 30);
fill('long', 'completed', '99 days', 40);
fill('long', 'failed', '101 days', 50);
fill('gone', 'completed', '6 days', 60);
fill('gone', 'failed', '8 days', 70);
fill('short', 'completed', '1 day', 80);
fill('short', 'failed', '1 day', 90);
sql(q{UPDATE my_worker.history SET finished_at = '-infinity' WHERE queue = 'bulk' AND id = -1 AND status = 'failed';
	UPDATE my_worker.history SET finished_at = 'infinity' WHERE queue = 'bulk' AND id = -2 AND status = 'failed'});
my $rest = q{SELECT string_agg(format('%s %s %s', queue, status, n), ', ' ORDER BY queue, status) FROM (
	SELECT queue, status, count(*) AS n FROM my_worker.history WHERE id < 0 GROUP BY 1, 2) AS h};

# A row that somebody holds stays, and holds up nobody.
my $holder = $node->background_psql('postgres');
sql(q{SELECT my_worker.alter_queue('bulk', retention => '1 hour')});
$node->restart;
$holder->quit;
my $since = sql('SELECT clock_timestamp()');
my $begin = time;
wait_for($node, $rest, 'bulk completed 10, bulk failed 19, gone completed 60, long completed 40, short failed 90');
note(sprintf '300,000 rows are forgotten in %.1f s', time - $begin);
pass('what has expired is forgotten, and nothing else');
latest($since, 'while 300,000 rows are forgotten');

# Each row is read once: the time grows with the rows and no faster. A minute later what has expired since
# is found by its time, also what a shorter retention brings.
sql(q{SET ROLE alice; SELECT my_worker.enqueue('work', queue := 'short')});
drained($node);
fill('short', 'completed', '1 ms', 20000);
$since = sql('SELECT clock_timestamp()');
$begin = time;
wait_for($node, q{SELECT count(*) FROM my_worker.history WHERE queue = 'short' AND status = 'completed'}, '0', 100);
note(sprintf 'what expired meanwhile is forgotten after %.1f s', time - $begin);
is(sql($rest), 'bulk completed 10, bulk failed 19, gone completed 60, long completed 40, short failed 90',
	'what has expired since is forgotten within a minute or so, and nothing else');
latest($since, 'while it is');
is(log_has($node, qr/ERROR|could not be forgotten|put off/), 0, 'no trouble in the log');

# Jobs of a role that may not log in any more.
sql(q{SELECT my_worker.pause_queue('bulk'); SET ROLE bob;
	INSERT INTO my_queue (queue, handler) SELECT 'bulk', 'work' FROM generate_series(1, 20000);
	RESET ROLE; ALTER ROLE bob NOLOGIN});
my $start = log_end($node);
$since = sql('SELECT clock_timestamp()');
$begin = time;
sql(q{SELECT my_worker.resume_queue('bulk')});
wait_for($node, q{SELECT count(*) FROM my_queue WHERE owner = 'bob'::regrole}, '0', 120);
my $took = time - $begin;
my $lines = log_has($node, qr/\n/, $start);
note(sprintf '20,000 jobs of a role without login ended in %.1f s, with %d lines of log', $took, $lines);
cmp_ok($lines, '<', 15 * $took + 20, 'the log hears of them a few times a second');
latest($since, 'while they end');
is(sql(q{SELECT count(*) FROM my_worker.history WHERE owner = 'bob'::regrole AND status = 'failed'}), '20000',
	'each has failed, and says why');

# Rows that cannot be deleted cost themselves alone.
sql(q{CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'never'; END $$;
	CREATE TRIGGER never BEFORE DELETE ON my_worker.history FOR EACH ROW WHEN (old.id = -5) EXECUTE FUNCTION never()});
sql(q{SELECT my_worker.alter_queue('bulk', retention => '1 s'), my_worker.alter_queue('long', retention => '1 s')});
my ($keeper) = worker_pids($node, 'keeper');
wait_for($node, q{SELECT string_agg(id::text, ' ') FROM my_worker.history WHERE queue IN ('bulk', 'long') AND status = 'completed'},
	'-5 -5', 100);
is((worker_pids($node, 'keeper'))[0], $keeper, 'the keeper lives on when rows cannot be deleted');
cmp_ok(log_has($node, qr/finished jobs could not be forgotten, SQLSTATE P0001/), '>=', 1, 'the log says so');

$node->stop;
done_testing();
