# Each end is counted by minute and by handler, whoever writes it: workers whose transaction fails, the keeper,
# consumers that go. A restart and a crash begin anew.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('minutes', 'restart_after_crash' => 'on', 'my_worker.naptime' => 1);
sub sql { return $node->safe_psql('postgres', join(' ', @_)) }
add_handlers($node);
sql(q{CREATE ROLE app LOGIN; CREATE ROLE gone LOGIN; CREATE ROLE strict LOGIN;
	SELECT my_worker.grant_usage(r::regrole) FROM unnest('{app,gone,strict}'::text[]) AS r;
	ALTER ROLE strict SET default_transaction_isolation = serializable;
	SELECT my_worker.create_queue(q, max_attempts => 2, backoff => '10 ms') FROM unnest('{a,b,c,d,e}'::text[]) AS q});

# Completed, failed, retried, cancelled.
my $minutes = q{SELECT sum(completed), sum(failed), sum(retried), sum(cancelled) FROM my_worker.queue_minutes WHERE queue = '%s'};
my $stats = q{SELECT completed, failed, retried, cancelled FROM my_worker.queue_stats WHERE queue = '%s'};
sub counted
{
	my ($queue, $counts, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_for($node, sprintf($minutes, $queue), $counts);
	is(sql(sprintf $stats, $queue), $counts, $what);
	return;
}
sub handler
{
	my ($like) = @_;
	return sql("SELECT runs, calls, failures FROM my_worker.handler_stats WHERE coalesce(handler, runs) LIKE '$like'");
}
sub as { my ($role, $sql) = @_; return sql("SET ROLE $role; $sql") }

# The keeper: a job that came too late, one of a role that may have no session, a command whose process died.
sql(q{SELECT my_worker.pause_queue('a')});
as('gone', q{SELECT my_worker.enqueue('work', queue => 'a')});
sql(q{ALTER ROLE gone NOLOGIN});
sql(q{INSERT INTO my_queue (queue, handler, expires_at) VALUES ('a', 'work', now() + interval '200 ms')});
counted('a', '0|0|0|1', 'the keeper counts a job that came too late');
sql(q{SELECT my_worker.resume_queue('a')});
counted('a', '0|1|0|1', 'and one whose role may have no session');
is(handler('public.work(%'), 'handler|1|1', 'of these only the one that failed is a call');

my $command = sql(q{SELECT my_worker.run('SELECT gate(''never'')', queue => 'b')});
wait_for($node, "SELECT count(*) FROM my_worker.workers WHERE job_id = $command", '1');
sql("SELECT pg_terminate_backend(pid) FROM my_worker.workers WHERE job_id = $command");
is(sql("SELECT my_worker.wait($command, '30 s')"), 'failed', 'a command whose process is terminated fails');
counted('b', '0|1|0|0', 'and is counted');
is(handler('command'), 'command|1|1', 'as a call that failed');

# A transaction that fails as a whole: roles whose jobs are serializable.
as('strict', q{SELECT my_worker.enqueue('work', '{"fail": "no"}', queue => 'c')});
counted('c', '0|1|1|0', 'jobs that fail with their transaction');
is(as('strict', q{SELECT calls, failures, run_p50 > 0 FROM my_worker.handler_stats}), '2|2|t', 'are calls of their handler');

# A job that is cancelled while it runs.
my $job = as('app', q{SELECT my_worker.enqueue('work', '{"gate": "never"}', queue => 'c')});
job_pid($node, $job);
is(sql("SELECT my_worker.cancel($job)"), 't', 'a job is cancelled');
counted('c', '0|1|1|1', 'and is counted');
is(as('app', q{SELECT calls, failures FROM my_worker.handler_stats}), '1|0', 'as a call that did not fail');

# A dynamic worker.
sql(q{SELECT my_worker.pause_queue('d')});
$job = sql(q{SELECT my_worker.enqueue('work', queue => 'd')});
sql("SELECT launch_dynamic_worker($job)");
is(sql("SELECT my_worker.wait($job, '30 s')"), 'completed', 'a dynamic worker runs a job');
counted('d', '1|0|0|0', 'and counts it');

# Consumers: one that acknowledges in a transaction, one that rolls that back, one that dies.
sql(q{SELECT my_worker.send('e') FROM generate_series(1, 3)});
sql(q{BEGIN; SELECT my_worker.ack(id, lease) FROM my_worker.receive('e'); ROLLBACK});
sql(q{BEGIN; SELECT my_worker.ack(id, lease) FROM my_worker.receive('e'); COMMIT});
my $session = $node->background_psql('postgres');
my $pid = $session->query_safe(q{SELECT pg_backend_pid() FROM my_worker.receive('e')});
sql("SELECT pg_terminate_backend($pid)");
eval { $session->quit };
counted('e', '1|0|1|0', 'a consumer that acknowledges, and one that is terminated');
is(handler('consumer'), 'consumer|2|1', 'are calls of consumers');

# All of it, against the history and the other statistics.
is(sql(q{SELECT bool_and(m.n = s.n) FROM
	(SELECT queue, sum(completed + failed + retried + cancelled) AS n FROM my_worker.queue_minutes GROUP BY queue) AS m
	JOIN (SELECT queue, completed + failed + retried + cancelled AS n FROM my_worker.queue_stats) AS s USING (queue)}), 't',
	'both statistics count the same');

# Begin anew.
my $all = q{SELECT (SELECT count(*) FROM my_worker.queue_minutes), (SELECT count(*) FROM my_worker.handler_stats),
	(SELECT bool_and(since > pg_postmaster_start_time() - interval '1 min') FROM my_worker.stats_reach)};
isnt(sql($all), '0|0|t', 'there is something to forget');
$node->restart;
is(sql($all), '0|0|t', 'a restart begins anew');
$job = sql(q{SELECT my_worker.enqueue('work')});
is(sql("SELECT my_worker.wait($job, '30 s')"), 'completed', 'a job runs');
wait_for($node, $all, '1|1|t');
crash($node, sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'}));
is(sql($all), '0|0|t', 'so does a crash');
is(log_has($node, qr/PANIC|TRAP/, 0), 0, 'nothing panicked');

$node->stop;
done_testing();
