# "every 1 second" through two crashes of the server: no due time runs twice, and hardly one is left
# out. 14 seconds, or as many as MY_WORKER_CRASH_SECONDS says.
#
# Each kill -9 of a backend makes the postmaster restart the server; due times within a crash are
# made up for, since the server is back within the time that counts as punctual.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $SECONDS = $ENV{MY_WORKER_CRASH_SECONDS} // 14;

my $node = new_node('main', 'restart_after_crash' => 'on', 'my_worker.log_jobs' => 'none');

$node->safe_psql('postgres', q{
	CREATE TABLE ran (job bigint, at timestamptz DEFAULT clock_timestamp());
	CREATE FUNCTION work(id bigint, payload jsonb) RETURNS void LANGUAGE sql AS
		'INSERT INTO ran (job) VALUES (id)';
	SELECT my_worker.schedule('tick', 'every 1 second', handler := 'work')});

for my $crash (1, 2)
{
	my $after = int($SECONDS * $crash / 3);
	wait_for($node, "SELECT clock_timestamp() >= created_at + interval '$after s' FROM my_worker.schedules",
		't', $SECONDS + 60);
	my ($victim) = worker_pids($node, $crash == 1 ? 'keeper' : 'worker');
	kill 'KILL', $victim;
	wait_for($node, "SELECT count(*) > 0 FROM my_worker.workers WHERE pid <> $victim AND kind = 'keeper'");
	pass("crash $crash: the server is back");
}
wait_for($node, "SELECT clock_timestamp() >= created_at + interval '$SECONDS.5 s' FROM my_worker.schedules",
	't', $SECONDS + 60);
$node->safe_psql('postgres', q{SELECT my_worker.pause_schedule('tick')});
drained($node);

my $runs = $node->safe_psql('postgres', q{SELECT count(*) FROM ran});
my $due = $node->safe_psql('postgres', q{
	SELECT floor(extract(epoch FROM last_due - created_at) + 0.5) FROM my_worker.schedules});
is($node->safe_psql('postgres', q{
	SELECT run_at FROM my_worker.history GROUP BY run_at HAVING count(*) > 1}),
	'', 'no due time has two jobs');
is($node->safe_psql('postgres', q{SELECT job FROM ran GROUP BY job HAVING count(*) > 1}),
	'', 'and no job two runs');
cmp_ok($runs, '>=', $due - 2, "$runs runs of $due due times: at most two are left out");
cmp_ok($runs, '<=', $due + 1, 'and none is added');

$node->stop;
done_testing();
