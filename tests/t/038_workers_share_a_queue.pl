# Workers that share a queue stay out of each other's way, and there are never more than max_workers.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('shared', 'my_worker.max_workers' => 2, 'my_worker.naptime' => 3600, 'my_worker.max_items' => 1000);
my $workers = q{SELECT count(*) FROM my_worker.workers WHERE kind = 'worker'};
add_handlers($node);
$node->safe_psql('postgres', q{
	CREATE FUNCTION nothing() RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
	SELECT my_worker.create_queue('fast', handler => 'nothing', retention => '0');
	CREATE TABLE seen (longest interval);
	CREATE PROCEDURE watch() LANGUAGE plpgsql AS $$
	DECLARE
		longest interval := '0';
	BEGIN
		LOOP
			EXIT WHEN NOT EXISTS (SELECT FROM my_queue);
			SELECT greatest(longest, max(clock_timestamp() - a.xact_start)) INTO longest
				FROM pg_stat_activity AS a JOIN my_worker.workers AS w USING (pid) WHERE w.kind = 'worker';
			PERFORM pg_sleep(0.005);
			COMMIT;
		END LOOP;
		INSERT INTO seen VALUES (longest);
	END $$});

# Has two workers at jobs; answers what ends these.
my $gates = 0;
sub two_workers
{
	my @gates = map { "gate " . ++$gates } 1, 2;
	$node->safe_psql('postgres', qq{SELECT my_worker.enqueue('work', '{"gate": "$_"}')}) for @gates;
	wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'worker' AND job_id IS NOT NULL}, '2');
	return sub { open_gate($node, $_) for @gates };
}

# A worker that stayed in one transaction would try for ever what the other has done meanwhile.
two_workers()->();
drained($node);
my $done = q{SELECT count(*) FILTER (WHERE jobs_done > 5000) FROM my_worker.workers WHERE kind = 'worker'};
for my $round (1 .. 3)
{
	$node->safe_psql('postgres', q{INSERT INTO my_queue (queue) SELECT 'fast' FROM generate_series(1, 100000)});
	$node->safe_psql('postgres', q{CALL watch()});
}
is($node->safe_psql('postgres', q{SELECT count(*) FROM seen WHERE longest > '2 s'}), '0', 'no worker stays in one transaction')
	or diag($node->safe_psql('postgres', 'SELECT string_agg(longest::text, $$, $$) FROM seen'));
is($node->safe_psql('postgres', $done), '2', 'both have worked');

# Lowered while both are at work: one leaves, after its job.
my $go_on = two_workers();
$node->append_conf('postgresql.conf', 'my_worker.max_workers = 1');
$node->reload;
wait_for($node, q{SELECT count(*) FROM pg_file_settings WHERE name = 'my_worker.max_workers' AND setting = '1' AND applied}, '1');
is($node->safe_psql('postgres', $workers), '2', 'nobody leaves in the middle of a job');
$go_on->();
wait_for($node, $workers, '1');
drained($node);
is($node->safe_psql('postgres', q{SELECT count(*), max(attempts) FROM my_worker.history WHERE queue = 'default'}),
	'4|1', 'all jobs have run once');

# Lowered while both are idle.
$node->append_conf('postgresql.conf', 'my_worker.max_workers = 2');
$node->reload;
two_workers()->();
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'worker' AND state = 'idle'}, '2');
$node->append_conf('postgresql.conf', 'my_worker.max_workers = 1');
$node->reload;
wait_for($node, $workers, '1');
pass('an idle worker too many leaves at once');

$node->stop;
done_testing();
