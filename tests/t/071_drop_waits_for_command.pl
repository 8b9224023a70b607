# DROP EXTENSION waits for a command that runs, also after its transactions were rolled back; and a failing
# command leaves nothing in the log but its failure.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('drop', 'my_worker.naptime' => 1);
add_handlers($node);
$node->safe_psql('postgres', q{
	CREATE PROCEDURE rolls_back(which text) LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects VALUES (0);
		ROLLBACK;
		PERFORM gate(which);
		INSERT INTO effects VALUES (1, which);
	END $$});

my $log = log_end($node);
for my $bad ('SELECT 1/0', 'BEGIN; SELECT 1/0; COMMIT', 'BEGIN; SELECT 1; ROLLBACK', 'BEGIN', 'SELECT 1; CALL rolls_back(NULL)',
	q{CREATE TABLE x (i int CHECK (i > 0)); INSERT INTO x VALUES (0)}, 'no sql', 'ROLLBACK; SELECT 1/0',
	q{DO $$ BEGIN RAISE 'no'; EXCEPTION WHEN OTHERS THEN ROLLBACK; END $$})
{
	my $job = $node->safe_psql('postgres', q{SELECT my_worker.run($sql$} . $bad . q{$sql$)});
	$node->safe_psql('postgres', "SELECT my_worker.wait($job, '30 s')");
}
is(log_has($node, qr/you don't own a lock/, $log), 0, 'commands that fail or roll back do not warn of a lock');
is(log_has($node, qr/exited with exit code/, $log), 0, 'and end no process');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND classid = 'pg_extension'::regclass
	AND pid IN (SELECT pid FROM my_worker.workers)}), '0', 'nor keep one');

my %commands = (
	'after a ROLLBACK' => q{BEGIN; INSERT INTO effects VALUES (0); ROLLBACK; SELECT gate('%1$s'); INSERT INTO effects VALUES (1, '%1$s')},
	'after a ROLLBACK in a procedure' => q{CALL rolls_back('%s')},
	'after a COMMIT' => q{BEGIN; COMMIT; SELECT gate('%1$s'); INSERT INTO effects VALUES (1, '%1$s')},
	'after an error that was caught' => q{DO $do$ BEGIN BEGIN PERFORM 1/0; EXCEPTION WHEN OTHERS THEN NULL; END; PERFORM gate('%1$s'); INSERT INTO effects VALUES (1, '%1$s'); END $do$});
my $n = 0;
for my $when (sort keys %commands)
{
	my $gate = 'g' . ++$n;
	my $job = $node->safe_psql('postgres', q{SELECT my_worker.run($sql$} . sprintf($commands{$when}, $gate) . q{$sql$)});
	my $pid = job_pid($node, $job);
	wait_for($node, "SELECT wait_event FROM pg_stat_activity WHERE pid = $pid", 'PgSleep');
	my $dropper = $node->background_psql('postgres');
	$dropper->query_until(qr/begun/, "\\echo begun\nSET application_name = 'dropper';\nDROP EXTENSION my_worker CASCADE;\n");
	ok(wait_for($node, q{SELECT wait_event_type FROM pg_stat_activity WHERE application_name = 'dropper'}, 'Lock'), "$when: DROP EXTENSION waits");
	is($node->safe_psql('postgres', "SELECT count(*) FROM effects WHERE label = '$gate'"), '0', 'for the command');
	open_gate($node, $gate);
	wait_for($node, q{SELECT count(*) FROM pg_extension WHERE extname = 'my_worker'}, '0');
	is($node->safe_psql('postgres', "SELECT count(*) FROM effects WHERE label = '$gate'"), '1', 'which has done all of its work');
	$dropper->quit;
	$node->safe_psql('postgres', 'CREATE EXTENSION my_worker');
}

$node->stop;
done_testing();
