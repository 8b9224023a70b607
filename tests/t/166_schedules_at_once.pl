# Many schedules that are due at once are fired together. One whose earlier run is unfinished, one that is damaged,
# one that somebody has locked, and one that nobody may run any more cost themselves alone.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('together', 'my_worker.naptime' => 5, 'my_worker.log_jobs' => 'none', 'autovacuum' => 'off', 'fsync' => 'off');
add_handlers($node);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(q{CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; SELECT my_worker.grant_usage('alice'), my_worker.grant_usage('bob');
	SELECT my_worker.create_queue('paused'); SELECT my_worker.pause_queue('paused');
	SET ROLE alice;
	SELECT count(my_worker.schedule('s' || lpad(i::text, 4, '0'), '0 0 1 1 *', handler := 'work',
		payload := jsonb_build_object('label', 's' || i), queue := 'paused')) FROM generate_series(1, 2000) AS i;
	SELECT my_worker.schedule('command', '0 0 1 1 *', command := 'SELECT 1', queue := 'paused', max_attempts := 3, timeout := '1 min');
	RESET ROLE; SET ROLE bob;
	SELECT my_worker.schedule('of bob', '0 0 1 1 *', handler := 'work', queue := 'paused')});

# All are due at that moment; the keeper is told by the trigger.
sub due
{
	my ($condition) = @_;
	sql(qq{UPDATE my_worker._schedules SET next_run_at = clock_timestamp() - interval '10 ms' WHERE $condition});
	return;
}

due('true');
wait_for($node, q{SELECT count(*) FROM my_queue}, '2002');
is(sql(q{SELECT count(*), count(DISTINCT schedule_id), count(*) FILTER (WHERE owner <> s_owner) FROM (
	SELECT q.*, s.owner AS s_owner FROM my_queue AS q JOIN my_worker._schedules AS s ON s.id = q.schedule_id) AS j}),
	'2002|2002|0', 'each has enqueued one job, of its owner');
cmp_ok(sql('SELECT count(DISTINCT xmin::text) FROM my_worker._jobs'), '<', 200, 'in few transactions and subtransactions');
is(sql(q{SELECT q.command, q.handler IS NULL, q.max_attempts, q.timeout, q.payload, q.queue, q.priority FROM my_queue AS q
	WHERE q.command IS NOT NULL}), 'SELECT 1|t|3|00:01:00|{}|paused|0', 'a job is as its schedule says');
is(sql(q{SELECT count(*) FROM my_worker._schedules AS s JOIN my_queue AS q ON q.id = s.last_job_id
	WHERE s.live_jobs = ARRAY[q.id] AND s.held_jobs = '{}' AND s.runs = 1 AND s.next_run_at > now() AND s.last_due = q.run_at
	AND s.last_enqueued_at BETWEEN q.run_at AND now() AND s.last_skipped_at IS NULL}), '2002', 'and the schedule knows it');
is(sql(q{SELECT count(*) FROM (SELECT q.payload ->> 'label' FROM my_queue AS q JOIN my_worker._schedules AS s ON s.id = q.schedule_id
	WHERE q.payload <> '{}' AND 's' || ltrim(substr(s.name, 2), '0') <> q.payload ->> 'label') AS x}), '0', 'with the payload that is its own');

# Earlier runs are unfinished now: they skip, queue, or run beside it.
sql(q{UPDATE my_worker._schedules SET overlap = CASE id % 3 WHEN 0 THEN 'skip' WHEN 1 THEN 'queue' ELSE 'allow' END});
due('id <= 300');
wait_for($node, q{SELECT count(*) FROM my_worker._schedules WHERE id <= 300 AND next_run_at > now()}, '300');
is(sql(q{SELECT s.overlap, count(*), sum(s.runs), sum(cardinality(s.held_jobs)), count(s.last_skipped_at) FROM my_worker._schedules AS s
	WHERE id <= 300 GROUP BY 1 ORDER BY 1}), "allow|100|200|0|0\nqueue|100|200|100|0\nskip|100|100|0|100",
	'those whose earlier run is unfinished do as they say');

# Some of many are damaged, locked, or of a role that is gone or may not log in.
sql(q{DELETE FROM my_queue; UPDATE my_worker._schedules SET overlap = 'skip', live_jobs = '{}', held_jobs = '{}', last_skipped_at = NULL;
	UPDATE my_worker._schedules SET schedule = 'not a rule' WHERE id IN (50, 51, 777); ALTER ROLE bob NOLOGIN});
my $holder = $node->background_psql('postgres');
due('true');
$holder->query_safe('BEGIN; SELECT id FROM my_worker._schedules WHERE id = 1000 FOR UPDATE');
wait_for($node, q{SELECT count(*) FROM my_worker._schedules WHERE active AND next_run_at <= now() AND id <> 1000}, '0');
is(sql(q{SELECT string_agg(name, ' ' ORDER BY id) FROM my_worker._schedules WHERE NOT active}), 's0050 s0051 s0777 of bob',
	'those that are damaged, or of a role without login, are disabled');
$holder->quit;
wait_for($node, q{SELECT count(*) FROM my_queue}, '1998');
is(sql(q{SELECT count(DISTINCT schedule_id) FROM my_queue}), '1998', 'each of the others has enqueued one job');

is(log_has($node, qr/PANIC|terminated by signal|XX000|ERROR/), 0, 'no trouble in the log');
$node->stop;
done_testing();
