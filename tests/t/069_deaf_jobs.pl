# A job that catches cancels in a loop: its time-out, or cancel(), ends it all the same. Its process is
# terminated three seconds later, once, and the job is charged, or cancelled; others are not.
#
# Part of `make test-long`.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('deaf', 'my_worker.naptime' => 3600);
add_handlers($node);
$node->safe_psql('postgres', q{
	CREATE PROCEDURE never_ends() LANGUAGE plpgsql AS $$
	BEGIN
		LOOP
			BEGIN
				PERFORM pg_sleep(100);
			EXCEPTION WHEN query_canceled THEN NULL;
			END;
		END LOOP;
	END $$;
	CREATE FUNCTION deaf(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN CALL never_ends(); END $$;
	CREATE FUNCTION deaf_batch(bigint[], jsonb[]) RETURNS void LANGUAGE plpgsql AS $$ BEGIN CALL never_ends(); END $$;
	SELECT my_worker.create_queue('timed', timeout => '500 ms', max_attempts => 1)});

sub gone_in_time
{
	my ($name, $since, $limit, $job, $status) = @_;
	is($node->safe_psql('postgres', "SELECT my_worker.wait($job, '20 s')"), $status, "$name: $status");
	cmp_ok(time - $since, '<', $limit, 'in time');
	return;
}

my $log = log_end($node);
my %kinds = (
	handler => q{my_worker.enqueue('deaf', max_attempts => 1, timeout => '500 ms')},
	'batch handler' => q{my_worker.enqueue('deaf_batch', queue => 'timed')},
	command => q{my_worker.run('CALL never_ends()', timeout => '500 ms')},
	launched => q{my_worker.enqueue('deaf', run_at => 'infinity', max_attempts => 1, timeout => '500 ms')});
for my $kind (sort keys %kinds)
{
	my $since = time;
	my $job = $node->safe_psql('postgres', "SELECT $kinds{$kind}");
	$node->safe_psql('postgres', "SELECT launch_dynamic_worker($job)") if $kind eq 'launched';
	my $pid = job_pid($node, $job);
	gone_in_time("$kind that is deaf to its time-out", $since, 5.5, $job, 'failed');
	wait_gone($node, $pid);
	is($node->safe_psql('postgres', "SELECT attempts, jsonb_array_length(errors), errors->0->>'sqlstate' FROM my_worker.history WHERE id = $job"),
		'1|1|57014', "$kind: charged once");
	like($node->safe_psql('postgres', "SELECT last_error FROM my_worker.history WHERE id = $job"), qr/did not heed the cancel/, "$kind: it says why");
	ok(log_has($node, qr/job $job did not heed its cancel/, $log), "$kind: so does the log");
}

for my $kind (sort keys %kinds)
{
	my $job = $node->safe_psql('postgres', "SELECT " . ($kinds{$kind} =~ s/, timeout => '500 ms'//r =~ s/'timed'/'default'/r));
	$node->safe_psql('postgres', "SELECT launch_dynamic_worker($job)") if $kind eq 'launched';
	my $pid = job_pid($node, $job);
	my $since = time;
	is($node->safe_psql('postgres', "SELECT my_worker.cancel($job)"), 't', "$kind: cancel() is true");
	gone_in_time("$kind that is deaf to cancel()", $since, 5, $job, 'cancelled');
	wait_gone($node, $pid);
}

# A retry is left, and neighbours: none of them is charged, and none runs twice.
my ($before, $deaf, $after) = split /\n/, $node->safe_psql('postgres', q{BEGIN;
	SELECT my_worker.enqueue('work', '{}', 'default');
	SELECT my_worker.enqueue('deaf', max_attempts => 2, timeout => '500 ms');
	SELECT my_worker.enqueue('work', '{}', 'default'); COMMIT});
wait_for($node, "SELECT attempts FROM my_queue WHERE id = $deaf", '1');
is($node->safe_psql('postgres', "SELECT status FROM my_worker.jobs WHERE id = $deaf"), 'pending', 'a job with attempts left waits for the next one');
wait_for($node, "SELECT string_agg(status, ' ') FROM my_worker.history WHERE id IN ($before, $after)", 'completed completed');
effects_are($node, 2, 'its neighbours ran once');
is($node->safe_psql('postgres', "SELECT max(attempts) FROM my_worker.history WHERE id IN ($before, $after)"), '1', 'and were not charged');

# A command that may run again is charged, too, not released as one that was told to stop.
my $again = $node->safe_psql('postgres', q{SELECT my_worker.run('CALL never_ends()', max_attempts => 2, timeout => '500 ms')});
wait_for($node, "SELECT attempts FROM my_queue WHERE id = $again AND status = 'pending'", '1');
ok(1, 'a command with attempts left is charged');

# A job that heeds its cancel late, but in time, is left alone.
my $slow = $node->safe_psql('postgres', q{
	CREATE FUNCTION slow() RETURNS text LANGUAGE plpgsql AS $$
	BEGIN PERFORM pg_sleep(10); EXCEPTION WHEN query_canceled THEN PERFORM pg_sleep(1); RETURN 'cleaned up'; END $$;
	SELECT my_worker.enqueue('slow', max_attempts => 1, timeout => '200 ms')});
is($node->safe_psql('postgres', "SELECT my_worker.wait($slow, '20 s')"), 'failed', 'one that cleans up fails by its time-out');
is($node->safe_psql('postgres', "SELECT last_error FROM my_worker.history WHERE id = $slow"), 'canceling statement due to statement timeout', 'as ever');

$node->stop;
done_testing();
