# One role's future jobs, each of another priority, keep nobody waiting: another role's delayed jobs and
# schedules are in time. And what a look cannot tell in time is found all the same.
#
# Part of `make test-long`.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('priorities', 'my_worker.naptime' => 1, 'my_worker.log_jobs' => 'none', 'autovacuum' => 'off',
	'max_prepared_transactions' => 2, 'fsync' => 'off');
add_handlers($node);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(q{
	CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN;
	SELECT my_worker.grant_usage('alice'), my_worker.grant_usage('bob')});

# How late bob's jobs start, at most: delayed ones and those of a schedule.
sub latest
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	sql(q{TRUNCATE my_worker.history});
	sql(q{SET ROLE bob;
		SELECT my_worker.schedule('tick', 'every 1 second', handler := 'work', overlap := 'allow');
		SELECT count(my_worker.enqueue('work', run_at := clock_timestamp() + i * interval '400 ms', priority := i))
			FROM generate_series(1, 15) AS i});
	wait_for($node, q{SELECT count(*) FROM my_worker.history WHERE owner = 'bob'::regrole AND priority > 0}, '15');
	wait_for($node, q{SELECT count(*) >= 5 FROM my_worker.history WHERE owner = 'bob'::regrole AND priority = 0});
	sql(q{SET ROLE bob; SELECT my_worker.unschedule('tick')});
	my $ms = sql(q{SELECT round(1000 * max(extract(epoch FROM started_at - run_at))) FROM my_worker.history
		WHERE owner = 'bob'::regrole});
	note("$name: $ms ms late at most");
	cmp_ok($ms, '<', 1000, "$name: another role's jobs are in time");
	return;
}

sql(q{SET ROLE alice; INSERT INTO my_queue (handler, priority, run_at)
	SELECT 'work', i, now() + interval '1 day' FROM generate_series(1, 300000) AS i});
latest('300,000 priorities');

# A job behind all of them that nobody has announced: the keeper comes to it in steps.
sql(q{SET ROLE alice; BEGIN; INSERT INTO my_queue (handler, priority) VALUES ('work', 400000);
	PREPARE TRANSACTION 'silent'});
sql(q{COMMIT PREPARED 'silent'});
wait_for($node, q{SELECT count(*) FROM my_worker.history WHERE priority = 400000}, '1');
pass('a job that was committed by COMMIT PREPARED is found behind 300,000 priorities');

# Delayed ones of the role itself, before and behind.
sql(q{SET ROLE alice; INSERT INTO my_queue (handler, priority, run_at)
	SELECT 'work', p, clock_timestamp() + interval '1 s' FROM unnest(ARRAY[-1, 150000, 500000]) AS p});
wait_for($node, q{SELECT count(*) FROM my_worker.history WHERE priority IN (-1, 150000, 500000)}, '3');
pass('its own delayed jobs run, too');

# run_at is set back by hand, without a trigger; and a row from the future.
sql(q{SET session_replication_role = replica;
	UPDATE my_queue SET run_at = clock_timestamp() WHERE priority IN (7, 299999);
	UPDATE my_queue SET created_at = now() + interval '1 year', run_at = now() + interval '2 s' WHERE priority = 20});
wait_for($node, q{SELECT count(*) FROM my_worker.history WHERE owner = 'alice'::regrole
	AND priority IN (7, 20, 299999)}, '3');
pass('and those whose time was changed by hand');
sql(q{DELETE FROM my_queue WHERE owner = 'alice'::regrole});

# Entries of rows that are gone, and that an old snapshot keeps.
my $old = $node->background_psql('postgres');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM my_queue');
sql(q{SELECT my_worker.pause_queue('default'); SET ROLE alice; INSERT INTO my_queue (handler, priority)
	SELECT 'work', i FROM generate_series(1, 150000) AS i; RESET ROLE; SELECT my_worker.resume_queue('default'); DELETE FROM my_queue WHERE owner = 'alice'::regrole});
latest('150,000 rows that are gone');
$old->quit;

# Jobs for other consumers, before one that may run.
sql(q{SET ROLE alice; BEGIN; INSERT INTO my_queue (priority) SELECT i FROM generate_series(1, 50000) AS i;
	INSERT INTO my_queue (handler, priority) VALUES ('work', 60000); PREPARE TRANSACTION 'silent'});
sql(q{COMMIT PREPARED 'silent'});
latest('50,000 jobs that nobody runs');
wait_for($node, q{SELECT count(*) FROM my_queue WHERE priority = 60000}, '0');
pass('what stands behind them runs');

is(log_has($node, qr/PANIC|terminated by signal|XX000|ERROR/), 0, 'no trouble in the log');
$node->stop;
done_testing();
