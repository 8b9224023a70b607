# The rate of a queue holds over workers and servers that die, and for workers and consumers together.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('rates', 'restart_after_crash' => 'on', 'my_worker.max_workers' => 3);
sub sql { return $node->safe_psql('postgres', join(' ', @_)) }
add_handlers($node);
sql(q{
	CREATE FUNCTION nothing() RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
	CREATE FUNCTION most(name text, period interval) RETURNS bigint LANGUAGE sql AS $$
		SELECT max(n) FROM (SELECT count(*) OVER (ORDER BY started_at
			RANGE BETWEEN CURRENT ROW AND (period - interval '1 us') FOLLOWING)
			FROM my_worker.history WHERE queue = name) AS w (n) $$;
	SELECT my_worker.create_queue('killed', handler => 'nothing', rate => 20, rate_period => '1 s', burst => 3)});

# Killed and killed again, by the worker and by the launcher.
sql(q{INSERT INTO my_queue (queue) SELECT 'killed' FROM generate_series(1, 80)});
for my $round (1 .. 3)
{
	my $before = sql(q{SELECT count(*) FROM my_worker.history WHERE queue = 'killed'});
	wait_for($node, qq{SELECT count(*) > $before + 5 FROM my_worker.history WHERE queue = 'killed'});
	my ($pid) = worker_pids($node, $round == 2 ? 'launcher' : 'worker');
	crash($node, $pid);
}
$node->restart;
# Also one that a killed worker was in, and that waits for its next attempt.
wait_for($node, q{SELECT count(*) FROM my_queue}, '0');
is(sql(q{SELECT count(*) FROM my_worker.history WHERE queue = 'killed' AND status = 'completed'}), '80', 'all have run');
cmp_ok(sql(q{SELECT most('killed', '1 s')}), '<=', 22, 'no window has more than it may');

# Workers and consumers share the queue's rate: those for whom a job says what to do, and those for whom none does.
sql(q{SELECT my_worker.create_queue('shared', rate => 20, rate_period => '1 s', burst => 2)});
# The server's start counts as a start of each queue.
wait_for($node, q{SELECT clock_timestamp() > pg_postmaster_start_time() + interval '0.2 s'});
my $consume = q{DO $$
	DECLARE j record; got int := 0;
	BEGIN
		FOR i IN 1 .. 200 LOOP
			FOR j IN SELECT * FROM my_worker.receive('shared', 5, wait => '1 s', lease => %s) LOOP
				PERFORM my_worker.ack(j.id, j.lease);
				got := got + 1;
			END LOOP;
			COMMIT;
			EXIT WHEN got >= 15;
		END LOOP;
	END $$};
sql(q{SELECT my_worker.send('shared') FROM generate_series(1, 30);},
	q{SELECT my_worker.enqueue('nothing', queue => 'shared') FROM generate_series(1, 30)});
my @sessions = map
{
	my $session = $node->background_psql('postgres');
	$session->query_until(qr/begun/, "\\echo begun\n" . sprintf("$consume;\n", $_));
	$session;
} 'NULL', q{'10 s'};
drained($node);
wait_for($node, q{SELECT count(*) FROM my_worker.history WHERE queue = 'shared'}, '60');
$_->quit for @sessions;
cmp_ok(sql(q{SELECT most('shared', '1 s')}), '<=', 21, 'workers and consumers keep to one rate');
cmp_ok(sql(q{SELECT 59 / extract(epoch FROM max(started_at) - min(started_at)) FROM my_worker.history WHERE queue = 'shared'}),
	'>=', 18, 'and use it');

# What is received counts, whatever comes of it.
sql(q{SELECT my_worker.create_queue('back', rate => 3600, rate_period => '1 h', burst => 2)});
sql(q{SELECT my_worker.send('back') FROM generate_series(1, 5)});
is(sql(q{BEGIN; SELECT count(*) FROM my_worker.receive('back', 5); ROLLBACK}), '2', 'as many as may start are received');
is(sql(q{SELECT count(*) FROM my_worker.receive('back', 5)}), '0', 'a rollback gives back no start');
my $begin = time;
is(sql(q{SELECT count(*) FROM my_worker.receive('back', 5, wait => '4 s')}), '1', 'one who waits gets the next');
cmp_ok(time - $begin, '<', 2, 'in time');
like(sql(q{SELECT my_worker.why(max(id)) FROM my_queue WHERE queue = 'back'}),
	qr/^queue "back" is limited to 3600 per 1 h: next start at /, 'why() says it of jobs of consumers');

$node->stop;
done_testing();
