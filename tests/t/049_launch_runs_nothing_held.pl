# launch_dynamic_worker() runs nothing that a worker of the pool would pass over: jobs that are held
# for other consumers, and commands that have been claimed.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('passed_over', 'my_worker.naptime' => 3600);
add_handlers($node);
my $session = $node->background_psql('postgres');
$session->query_safe('SET client_min_messages = warning');

sub no_dynamic
{
	return wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'dynamic'}, '0');
}

sub state_of
{
	my ($job) = @_;
	return $node->safe_psql('postgres', "SELECT status, attempts, last_error FROM my_worker.jobs WHERE id = $job");
}

# Held: neither the job nor its queue says what to call.
$node->safe_psql('postgres', q{SELECT my_worker.create_queue('held', max_attempts => 1)});
my $held = $session->query_safe(q{INSERT INTO my_queue (queue) VALUES ('held') RETURNING id});
my $error = query_error($node, "SELECT launch_dynamic_worker($held)");
like($error, qr/^55000: job $held has no handler, nor has its queue/, 'a held job is refused');
like($error, qr/^HINT: .*alter_queue/m, 'with a hint');

# Its queue has a handler when it is launched, and none when the caller commits.
$session->query_safe(q{SELECT my_worker.alter_queue('held', handler => 'work')});
drained($node);
$node->safe_psql('postgres', q{SELECT my_worker.pause_queue('held')});
$held = $session->query_safe(q{INSERT INTO my_queue (queue) VALUES ('held') RETURNING id});
$session->query_safe("BEGIN; SELECT launch_dynamic_worker($held)");
$session->query_safe(q{UPDATE my_worker.queues SET handler = NULL WHERE name = 'held'; COMMIT});
no_dynamic();
is(state_of($held), 'pending|0|', 'nor is it touched if that shows later');

# A command that a worker has claimed while the caller's transaction was open.
$node->safe_psql('postgres', q{
	CREATE PROCEDURE begun(label text) LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects (label) VALUES (label);
		COMMIT;
		PERFORM gate(label);
	END $$;
	SELECT my_worker.create_queue('late');
	SELECT my_worker.pause_queue('late')});
my $command = $session->query_safe(q{SELECT my_worker.run($$CALL begun('claimed')$$, 'late')});
$session->query_safe("BEGIN; SELECT launch_dynamic_worker($command)");
$node->safe_psql('postgres', q{SELECT my_worker.resume_queue('late')});
wait_for($node, q{SELECT count(*) FROM effects WHERE label = 'claimed'}, '1');
$session->query_safe('COMMIT');
wait_for($node, q{SELECT count(*) = 0 OR (SELECT count(*) = 2 FROM effects WHERE label = 'claimed')
	FROM my_worker.workers WHERE kind = 'dynamic'});
is($node->safe_psql('postgres', q{SELECT count(*) FROM effects WHERE label = 'claimed'}), '1',
	'a command that has been claimed is not begun again');
open_gate($node, 'claimed');
is($node->safe_psql('postgres', "SELECT my_worker.wait($command, '20 s')"), 'completed', 'and ends where it was begun');

# An orphan: its process is gone, and nobody settles it while jobs are disabled.
$command = $session->query_safe(q{SELECT my_worker.run($$CALL begun('orphan')$$)});
wait_for($node, q{SELECT count(*) FROM effects WHERE label = 'orphan'}, '1');
my $pid = job_pid($node, $command);
like(query_error($node, "SELECT launch_dynamic_worker($command)"), qr/^55006: job $command is already running/,
	'while it runs, it is said to');
$node->safe_psql('postgres', 'ALTER SYSTEM SET my_worker.enabled = off');
$node->reload;
wait_for($node, 'SELECT status FROM my_worker_status', 'disabled, 1 running');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
wait_gone($pid);
$error = query_error($node, "SELECT launch_dynamic_worker($command)");
like($error, qr/^55000: job $command was begun and is not settled/, 'an orphan is refused');
like($error, qr/^HINT: .*my_worker\.enabled/m, 'with a hint');
no_dynamic() if $error ne '';
is($node->safe_psql('postgres', q{SELECT count(*) FROM effects WHERE label = 'orphan'}), '1', 'and has run once');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET my_worker.enabled');
$node->reload;
is($node->safe_psql('postgres', "SELECT my_worker.wait($command, '20 s')"), 'failed', 'it is settled later');

$session->quit;
$node->stop;
done_testing();
