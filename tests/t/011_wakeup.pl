# Commits and due times wake workers at once; the nap is a safety net only.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('wakeup', 'my_worker.naptime' => 3600, 'max_prepared_transactions' => 4);
add_handlers($node);

sub count_of { return $node->safe_psql('postgres', "SELECT count(*) FROM effects WHERE label = '$_[0]'") }
sub enqueue_sql
{
	my ($label, $rest) = @_;
	return qq{INSERT INTO my_queue (handler, payload$rest->[0]) SELECT 'work', '{"label": "$label"}'$rest->[1]};
}

# One job first, so that the keeper is there.
$node->safe_psql('postgres', enqueue_sql('warm', [ '', '' ]));
drained($node);

# 500 INSERTs, each a statement of its own, in one transaction and in 500; time is the server's.
$node->safe_psql('postgres', join '', 'BEGIN;', map({ enqueue_sql('batch', [ '', '' ]) . ';' } 1 .. 500),
	q{INSERT INTO effects (label) SELECT 'mark'; COMMIT;});
drained($node);
is(count_of('batch'), 500, '500 INSERTs of one transaction ran once each');
my $took = $node->safe_psql('postgres', q{
	SELECT extract(epoch FROM max(at) FILTER (WHERE label = 'batch') - max(at) FILTER (WHERE label = 'mark')) FROM effects});
cmp_ok($took, '<', 1, "within a second of COMMIT, with naptime 3600 ($took s)");
$node->safe_psql('postgres', join '', map({ enqueue_sql('single', [ '', '' ]) . ';' } 1 .. 500),
	q{INSERT INTO effects (label) VALUES ('mark2')});
drained($node);
is(count_of('single'), 500, '500 INSERTs of 500 transactions ran once each');
$took = $node->safe_psql('postgres', q{
	SELECT extract(epoch FROM max(at) FILTER (WHERE label = 'single') - max(at) FILTER (WHERE label = 'mark2')) FROM effects});
cmp_ok($took, '<', 1, "within a second of the last COMMIT ($took s)");
is($node->safe_psql('postgres', q{SELECT count(*) FROM (SELECT job FROM effects WHERE job IS NOT NULL GROUP BY 1 HAVING count(*) > 1) AS d}),
	'0', 'none ran twice');

# Due times: two seconds ahead, among many that are far away. Twice, so that a timer that is set
# once only shows.
$node->safe_psql('postgres', q{
	INSERT INTO my_queue (handler, payload, run_at, priority)
	SELECT 'work', '{"label": "far"}', now() + interval '1 day' + i * interval '1 ms', i % 5
	FROM generate_series(1, 20000) AS i});
for my $round (1, 2)
{
	$node->safe_psql('postgres', qq{
		INSERT INTO my_queue (handler, payload, run_at)
		SELECT 'work', '{"label": "due$round"}', clock_timestamp() + i * interval '1 s' FROM generate_series(1, 2) AS i});
	drained($node);
	wait_for($node, "SELECT count(*) FROM effects WHERE label = 'due$round'", '2', 10);
	my $late = $node->safe_psql('postgres', qq{
		SELECT extract(epoch FROM max(at - run_at)) * 1000 FROM effects JOIN my_worker.history ON id = job WHERE label = 'due$round'});
	my $early = $node->safe_psql('postgres', qq{
		SELECT count(*) FROM effects JOIN my_worker.history ON id = job WHERE label = 'due$round' AND at < run_at});
	cmp_ok($late, '<', 50, "a due job starts within 50 ms of its time ($late ms)");
	is($early, '0', 'and never before it');
}

# An earlier time that is enqueued later.
$node->safe_psql('postgres', q{
	INSERT INTO my_queue (handler, payload, run_at) VALUES ('work', '{"label": "later"}', clock_timestamp() + interval '1 hour');
	INSERT INTO my_queue (handler, payload, run_at) VALUES ('work', '{"label": "sooner"}', clock_timestamp() + interval '0.5 s')});
wait_for($node, q{SELECT count(*) FROM effects WHERE label = 'sooner'}, '1', 10);
pass('a time before the next known one counts');

# A due time that an UPDATE brings forward.
$node->safe_psql('postgres', q{UPDATE my_queue SET run_at = now() WHERE payload->>'label' = 'later'});
wait_for($node, q{SELECT count(*) FROM effects WHERE label = 'later'}, '1', 10);
pass('an UPDATE that makes a job due wakes, too');

# A rollback wakes nobody: no process of ours uses a transaction.
is($node->safe_psql('postgres', q{SELECT count(*) FROM effects WHERE label = 'far'}), '0', 'far ones wait');
$node->safe_psql('postgres', q{DELETE FROM my_queue});
wait_for($node, q{SELECT count(*) = 0 FROM my_worker.workers WHERE kind = 'worker' AND state <> 'idle'});
my $workers = q{SELECT string_agg(slot || ' ' || pid || ' ' || state || ' ' || jobs_done, ',' ORDER BY slot) FROM my_worker.workers};
my $seen = $node->safe_psql('postgres', $workers);
$node->safe_psql('postgres', 'BEGIN;' . enqueue_sql('gone', [ '', '' ]) . ';ROLLBACK;');
$node->safe_psql('postgres', 'BEGIN; SAVEPOINT a;' . enqueue_sql('gone', [ '', '' ]) . ';ROLLBACK TO a; COMMIT;');
$node->safe_psql('postgres', q{DO $$ BEGIN BEGIN } . enqueue_sql('gone', [ '', '' ]) . q{; RAISE 'no'; EXCEPTION WHEN OTHERS THEN NULL; END; END $$});
is($node->safe_psql('postgres', $workers), $seen, 'rollbacks start nothing');
$node->safe_psql('postgres', 'BEGIN; SAVEPOINT a;' . enqueue_sql('gone', [ '', '' ]) . ';ROLLBACK TO a; SAVEPOINT b;'
	  . enqueue_sql('kept', [ '', '' ]) . '; RELEASE b; COMMIT;');
wait_for($node, q{SELECT count(*) FROM effects WHERE label = 'kept'}, '1', 10);
is(count_of('gone'), 0, 'what was rolled back never ran, its neighbour did');

# COPY, and a function called in a loop.
$node->safe_psql('postgres', qq{COPY my_queue (handler, payload) FROM STDIN;\nwork\t{"label": "copy"}\nwork\t{"label": "copy"}\n\\.\n});
wait_for($node, q{SELECT count(*) FROM effects WHERE label = 'copy'}, '2', 10);
pass('COPY wakes');
$node->safe_psql('postgres', q{SELECT my_worker.enqueue('work', '{"label": "fn"}') FROM generate_series(1, 10)});
wait_for($node, q{SELECT count(*) FROM effects WHERE label = 'fn'}, '10', 10);
pass('enqueue() wakes');

# Prepared transactions: within a nap of COMMIT PREPARED.
$node->safe_psql('postgres', q{ALTER SYSTEM SET my_worker.naptime = 1; SELECT pg_reload_conf()});
$node->safe_psql('postgres', 'BEGIN;' . enqueue_sql('prepared', [ '', '' ]) . q{; PREPARE TRANSACTION 'p'});
$node->safe_psql('postgres', 'BEGIN;' . enqueue_sql('unprepared', [ '', '' ]) . q{; PREPARE TRANSACTION 'r'});
is(count_of('prepared'), 0, 'a prepared transaction has no effect yet');
$node->safe_psql('postgres', q{ROLLBACK PREPARED 'r'});
$node->safe_psql('postgres', q{COMMIT PREPARED 'p'});
wait_for($node, q{SELECT count(*) FROM effects WHERE label = 'prepared'}, '1', 10);
is(count_of('unprepared'), 0, 'COMMIT PREPARED runs its jobs, ROLLBACK PREPARED none');

# A worker that has left costs its lane nothing: the next job starts one at once.
$node->safe_psql('postgres', q{ALTER SYSTEM SET my_worker.worker_idle_timeout = 0; SELECT pg_reload_conf()});
for my $round (1 .. 8)
{
	wait_for($node, q{SELECT count(*) = 0 FROM my_worker.workers WHERE kind = 'worker'});
	$node->safe_psql('postgres', enqueue_sql('fresh', [ ', run_at', ', clock_timestamp()' ]));
	drained($node);
}
my $slowest = $node->safe_psql('postgres', q{
	SELECT extract(epoch FROM max(at - run_at)) * 1000 FROM effects JOIN my_worker.history ON id = job WHERE label = 'fresh'});
cmp_ok($slowest, '<', 300, "leaving workers are no failures: the next one starts at once ($slowest ms)");

$node->stop;
done_testing();
