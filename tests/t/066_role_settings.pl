# ALTER ROLE ... SET and ALTER DATABASE ... SET reach workers that live: the worker leaves, and a new one
# does the next job.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('settings', 'my_worker.naptime' => 3600);
add_handlers($node);
$node->safe_psql('postgres', q{
	CREATE ROLE app LOGIN; CREATE ROLE other LOGIN;
	SELECT my_worker.grant_usage('app'), my_worker.grant_usage('other');
	CREATE FUNCTION says(bigint, jsonb) RETURNS text LANGUAGE sql AS $$
		SELECT current_setting('statement_timeout') || ' ' || current_setting('work_mem') $$;
	CREATE FUNCTION slow(bigint, jsonb) RETURNS text LANGUAGE sql AS 'SELECT pg_sleep(4)::text';});

sub enqueue
{
	my ($role, $handler) = @_;
	return $node->safe_psql('postgres', qq{SET ROLE $role; SELECT my_worker.enqueue('$handler', max_attempts := 1)});
}

sub result
{
	my ($role) = @_;
	my $job = enqueue($role, 'says');
	is($node->safe_psql('postgres', "SELECT my_worker.wait($job, '20 s')"), 'completed', "a job of $role runs");
	return $node->safe_psql('postgres', "SELECT result #>> '{}' FROM my_worker.history WHERE id = $job");
}

sub worker_of
{
	my ($role) = @_;
	return $node->safe_psql('postgres', "SELECT pid FROM my_worker.workers WHERE kind = 'worker' AND role = '$role'");
}

like(result($_), qr/^0 /, "no time-out for $_") for qw(app other);
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'worker' AND state = 'idle'}, '2');
my ($app, $other) = (worker_of('app'), worker_of('other'));

$node->safe_psql('postgres', q{ALTER ROLE app SET statement_timeout = '1s'});
my $begin = time;
my $slow = enqueue('app', 'slow');
is($node->safe_psql('postgres', "SELECT my_worker.wait($slow, '20 s')"), 'failed', 'a job of 4 s fails by the new statement_timeout of 1 s');
cmp_ok(time - $begin, '<', 3.5, 'before its 4 s are over');
like($node->safe_psql('postgres', "SELECT last_error || errors::text FROM my_worker.history WHERE id = $slow"),
	qr/statement timeout|57014/, 'with the error of the time-out');
like(result('other'), qr/^0 /, 'another role keeps its own settings');
isnt(worker_of('app'), $app, 'the worker of the role is another process');
is(worker_of('other'), $other, 'that of the other role is not');

for my $case (
	[ q{ALTER ROLE app SET statement_timeout = '7s'}, qr/^7s /, 'changed' ],
	[ q{ALTER ROLE app IN DATABASE postgres SET statement_timeout = '8s'}, qr/^8s /, 'set in the database' ],
	[ q{ALTER ROLE app IN DATABASE postgres RESET ALL; ALTER ROLE app RESET statement_timeout}, qr/^0 /, 'reset' ],
	[ q{ALTER DATABASE postgres SET work_mem = '5MB'}, qr/ 5MB$/, 'set for the database' ],
	[ q{ALTER ROLE ALL SET statement_timeout = '9s'}, qr/^9s 5MB$/, 'set for all roles' ],
	[ q{ALTER ROLE ALL RESET ALL; ALTER DATABASE postgres RESET ALL}, qr/^0 4MB$/, 'taken back' ])
{
	my ($statement, $expected, $name) = @$case;
	$node->safe_psql('postgres', $statement);
	like(result('app'), $expected, "settings are $name");
}
like(result('other'), qr/^0 4MB$/, 'for the other role, too');

# A worker that never rests hears of it within a second or so.
$node->safe_psql('postgres', q{
	CREATE TABLE seen (setting text, at timestamptz DEFAULT clock_timestamp());
	GRANT INSERT ON seen TO app;
	CREATE FUNCTION notes(bigint, jsonb) RETURNS void LANGUAGE sql AS $$
		INSERT INTO seen (setting) SELECT current_setting('work_mem'); SELECT pg_sleep(0.005) $$;
	SET ROLE app;
	SELECT count(my_worker.enqueue('notes')) FROM generate_series(1, 2000);});
wait_for($node, q{SELECT count(*) > 50 FROM seen});
$node->safe_psql('postgres', q{ALTER ROLE app SET work_mem = '6MB'});
wait_for($node, q{SELECT count(*) > 0 FROM seen WHERE setting = '6MB'}, 't', 8);
is($node->safe_psql('postgres', q{SELECT count(*) > 0 FROM my_queue}), 't', 'a busy worker leaves before its queue is empty');
$node->safe_psql('postgres', q{DELETE FROM my_queue WHERE id % 16 <> 0});
drained($node);
is($node->safe_psql('postgres', q{SELECT count(*) FROM my_worker.history WHERE status <> 'completed' OR attempts > 1}), '1',
	'no job but the slow one was charged');
is(log_has($node, qr/PANIC|terminated by signal|XX000/), 0, 'no crash, no internal error');

$node->stop;
done_testing();
