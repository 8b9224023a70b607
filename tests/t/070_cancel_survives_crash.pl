# cancel() was true, and the server crashes before the job has ended: it ends as cancelled, and does not
# run again. So it does if its process is terminated, and if the server is shut down.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('cancelled', 'my_worker.naptime' => 1, restart_after_crash => 'on');
add_handlers($node);
$node->safe_psql('postgres', q{
	CREATE FUNCTION deaf(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects (job) VALUES (id);
		LOOP
			BEGIN PERFORM pg_sleep(0.1); EXCEPTION WHEN query_canceled THEN PERFORM nextval('heard'); END;
		END LOOP;
	END $$;
	CREATE SEQUENCE heard;
	CREATE PROCEDURE deaf_command() LANGUAGE plpgsql AS $$ BEGIN PERFORM deaf(0, '{}'); END $$});

# Cancels a job that goes on, and answers it and its process.
sub cancelled_job
{
	my ($sql) = @_;
	my $job = $node->safe_psql('postgres', "SELECT $sql");
	my $pid = job_pid($node, $job);
	my $heard = $node->safe_psql('postgres', 'SELECT last_value FROM heard');
	is($node->safe_psql('postgres', "SELECT my_worker.cancel($job)"), 't', 'cancel() is true');
	return ($job, $pid);
}

sub ends_cancelled
{
	my ($job, $name) = @_;
	wait_for($node, "SELECT my_worker.wait($job, '30 s')", 'cancelled');
	ok(1, "$name: it ends as cancelled");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM effects'), '0', "$name: nothing of it is left, and it has not run again");
	return;
}

my %kinds = (handler => q{my_worker.enqueue('deaf')}, command => q{my_worker.run('CALL deaf_command()', max_attempts => 3)});
for my $kind (sort keys %kinds)
{
	my ($job, $pid) = cancelled_job($kinds{$kind});
	crash($node, $pid);
	ends_cancelled($job, "$kind, killed");

	# Somebody else's crash.
	($job, $pid) = cancelled_job($kinds{$kind});
	crash($node, (worker_pids($node, 'keeper'))[0]);
	ends_cancelled($job, "$kind, a crash of another process");

	($job, $pid) = cancelled_job($kinds{$kind});
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	ends_cancelled($job, "$kind, terminated");

	($job, $pid) = cancelled_job($kinds{$kind});
	$node->restart;
	ends_cancelled($job, "$kind, a fast restart");
}

# Notes of bystanders are taken away: nothing of them is left for the next crash.
my $bystander = $node->safe_psql('postgres', q{SELECT my_worker.enqueue('work', '{"gate": "open"}')});
job_pid($node, $bystander);
crash($node, (worker_pids($node, 'keeper'))[0]);
open_gate($node, 'open');
is($node->safe_psql('postgres', "SELECT my_worker.wait($bystander, '30 s')"), 'completed', 'a bystander runs again');
is($node->safe_psql('postgres', "SELECT attempts FROM my_worker.history WHERE id = $bystander"), '1', 'uncharged');
is_deeply([noted_jobs($node)], [], 'and its note is gone');

$node->stop;
done_testing();
