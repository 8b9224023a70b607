# A queue with concurrency 1 is worked off in order, also while several workers take turns at it: each
# holds the queue's one permit for a batch, and the next goes on where that ended.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('fifo', 'my_worker.max_workers' => 4, 'my_worker.naptime' => 3600);
$node->safe_psql('postgres', q{
	CREATE TABLE done (n bigint GENERATED ALWAYS AS IDENTITY, job bigint, pid int DEFAULT pg_backend_pid());
	CREATE FUNCTION note(id bigint, payload jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO done (job) VALUES (id)';
	SELECT my_worker.create_queue('line', handler => 'note', concurrency => 1)});

# Four workers, which stay.
add_handlers($node);
$node->safe_psql('postgres', q{SELECT count(my_worker.enqueue('work', '{"gate": "a"}')) FROM generate_series(1, 4)});
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'worker' AND job_id IS NOT NULL}, '4');
open_gate($node, 'a');
drained($node);

my $session = $node->background_psql('postgres');
for my $round (1 .. 5)
{
	$session->query_safe(q{INSERT INTO my_queue (queue) SELECT 'line' FROM generate_series(1, 2000)});
	# Each that comes meanwhile wakes one of the others.
	$session->query_safe(q{INSERT INTO my_queue (queue) VALUES ('line')}) for 1 .. 300;
	drained($node);
}
$session->quit;
is($node->safe_psql('postgres', 'SELECT count(*) FROM done'), 5 * 2300, 'each job has run once');
is($node->safe_psql('postgres', q{SELECT count(*) FROM (SELECT job, lag(job) OVER (ORDER BY n) AS before FROM done) AS d WHERE job < before}),
	'0', 'in order');
cmp_ok($node->safe_psql('postgres', 'SELECT count(DISTINCT pid) FROM done'), '>', 1, 'by several workers in turn');

$node->stop;
done_testing();
