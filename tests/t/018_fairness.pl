# A long job delays none of those behind it while another worker is free, and a flood of one role, or
# of one queue, does not starve the others.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('fairness', 'my_worker.naptime' => 3600, 'my_worker.max_workers' => 2,
	'synchronous_commit' => 'off');
add_handlers($node);

# Nothing is known of these jobs; some thousand fast ones prove fast; then the long one comes first, in
# the middle and last of a commit of 10,000.
for my $place (1, 5000, 10_000)
{
	$node->safe_psql('postgres', 'DELETE FROM effects; DELETE FROM gates;');
	my $job = $node->safe_psql('postgres', qq{
		SELECT min(id) FILTER (WHERE i = $place) FROM (
			SELECT i, my_worker.enqueue('work',
				CASE i WHEN $place THEN '{"gate": "long"}' ELSE '{"label": "short"}' END::jsonb) AS id
			FROM generate_series(1, 10000) AS i OFFSET 0) AS jobs});
	my $begin = time;
	job_pid($node, $job);
	wait_for($node, q{SELECT count(*) FROM effects WHERE label = 'short'}, '9999', 20);
	my $took = time - $begin;
	cmp_ok($took, '<', 15, "a long job at place $place of 10,000 delays none of the others ($took s)");
	is($node->safe_psql('postgres', "SELECT status FROM my_worker.jobs WHERE id = $job"), 'processing', 'and is still running');
	open_gate($node, 'long');
	is($node->safe_psql('postgres', "SELECT my_worker.wait($job, '20 s')"), 'completed', 'until it is done');
	wait_for($node, 'SELECT count(*) FROM my_queue', '0');
	effects_are($node, 10_000, 'each effect once');
}

# Several long ones at once use all workers there are, also idle ones.
$node->safe_psql('postgres', 'DELETE FROM gates');
wait_for($node, q{SELECT every(state = 'idle') FROM my_worker.workers WHERE kind = 'worker'});
$node->safe_psql('postgres', q{SELECT count(my_worker.enqueue('work', '{"gate": "two"}')) FROM generate_series(1, 2)});
wait_for($node, q{SELECT count(*) FROM my_worker.jobs WHERE status = 'processing'}, '2', 5);
pass('two long jobs of one commit run at once');
open_gate($node, 'two');
drained($node);

# Roles. Alice's flood is there first and both workers are hers.
$node->safe_psql('postgres', q{
	DELETE FROM effects;
	CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN;
	SELECT my_worker.grant_usage('alice'), my_worker.grant_usage('bob');});
$node->safe_psql('postgres', q{SET ROLE alice;
	SELECT count(my_worker.enqueue('work', '{"sleep": 0.001}')) FROM generate_series(1, 20000)});
wait_for($node, q{SELECT count(*) > 100 FROM effects});
my $begin = time;
$node->safe_psql('postgres', q{SET ROLE bob;
	SELECT count(my_worker.enqueue('work', '{"sleep": 0.001}')) FROM generate_series(1, 20)});
wait_for($node, q{SELECT count(*) FROM effects WHERE role = 'bob'}, '20', 20);
my $took = time - $begin;
cmp_ok($took, '<', 3, "a flood of one role does not starve another ($took s)");
cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM my_queue WHERE owner = 'alice'::regrole}), '>', 1000,
	'which was still going on');

# Queues of one role.
$node->safe_psql('postgres', q{SELECT my_worker.create_queue('aside'), my_worker.create_queue('zulu')});
for my $queue ('aside', 'zulu')
{
	$begin = time;
	$node->safe_psql('postgres', qq{SET ROLE alice;
		SELECT count(my_worker.enqueue('work', '{"label": "$queue"}', '$queue')) FROM generate_series(1, 20)});
	wait_for($node, qq{SELECT count(*) FROM effects WHERE label = '$queue'}, '20', 20);
	$took = time - $begin;
	cmp_ok($took, '<', 3, "nor does one of a queue starve another of the same role ($queue, $took s)");
}
is($node->safe_psql('postgres', q{SELECT count(*) > 1000 FROM my_queue WHERE owner = 'alice'::regrole}), 't',
	'with the flood still there');


# What is left of the flood is run to its end, long before the nap: no batch of a worker that had to
# give way is forgotten.
$node->safe_psql('postgres', q{DELETE FROM my_queue WHERE payload ? 'sleep' AND id % 16 <> 0});
drained($node);
pass('the flood is run to its end');

# More roles than workers: each gets its turn, although the floods of the others never end.
$node->safe_psql('postgres', q{
	DELETE FROM effects;
	ALTER SYSTEM SET my_worker.max_workers = 1;
	SELECT pg_reload_conf();
	CREATE ROLE carol LOGIN;
	SELECT my_worker.grant_usage('carol');});
wait_for($node, 'SHOW my_worker.max_workers', '1');
$node->safe_psql('postgres', qq{SET ROLE $_;
	SELECT count(my_worker.enqueue('work', '{"sleep": 0.002}')) FROM generate_series(1, 5000)}) for qw(alice carol);
wait_for($node, q{SELECT count(DISTINCT role) FROM effects}, '2', 5);
$begin = time;
$node->safe_psql('postgres', q{SET ROLE bob; SELECT count(my_worker.enqueue('work')) FROM generate_series(1, 20)});
wait_for($node, q{SELECT count(*) FROM effects WHERE role = 'bob'}, '20', 20);
$took = time - $begin;
cmp_ok($took, '<', 4, "one worker, three roles, two floods: the third one is served ($took s)");
is($node->safe_psql('postgres', q{SELECT count(DISTINCT owner) FROM my_queue}), '2', 'with both floods still there');
$node->safe_psql('postgres', q{DELETE FROM my_queue WHERE id % 32 <> 0});
drained($node);
is($node->safe_psql('postgres', q{SELECT count(*) - count(DISTINCT job) FROM effects}), '0', 'none ran twice');
is($node->safe_psql('postgres', q{SELECT count(*) FROM my_worker.history WHERE attempts > 1 OR status <> 'completed'}), '0',
	'none was charged for giving way');

# More roles with work at once than the shared memory has lanes for.
$node->safe_psql('postgres', q{
	DELETE FROM effects;
	ALTER SYSTEM SET my_worker.max_workers = 4;
	ALTER SYSTEM SET my_worker.enabled = off;
	SELECT pg_reload_conf();
	CREATE ROLE crowd;
	SELECT my_worker.grant_usage('crowd');
	DO $$ BEGIN
		FOR i IN 1 .. 300 LOOP
			EXECUTE format('CREATE ROLE many%s LOGIN IN ROLE crowd', i);
			EXECUTE format('SET ROLE many%s', i);
			PERFORM my_worker.enqueue('work');
			RESET ROLE;
		END LOOP;
	END $$;
	ALTER SYSTEM SET my_worker.enabled = on;
	SELECT pg_reload_conf();});
$begin = time;
wait_for($node, 'SELECT count(*) FROM my_queue', '0');
$took = time - $begin;
effects_are($node, 300, "a job each of 300 roles ($took s)");
is($node->safe_psql('postgres', 'SELECT count(DISTINCT role) FROM effects'), '300', 'each as its owner');
is(log_has($node, qr/PANIC|terminated by signal|XX000/), 0, 'no crash, no internal error');

$node->stop;
done_testing();
