# A job that kills its own process, and with it the server, ends failed after its attempts; jobs near
# it complete.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('crash_loop', 'restart_after_crash' => 'on', 'my_worker.naptime' => 1);
add_handlers($node);
$node->safe_psql('postgres', q{
	SELECT my_worker.create_queue('mad', backoff => '0.5 s', max_attempts => 3);
	CREATE FUNCTION probe(text) RETURNS integer AS '$libdir/my_worker', 'mw_probe' LANGUAGE C STRICT;
	CREATE FUNCTION killed(jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', 'kill -9 ' || pg_backend_pid());
		PERFORM pg_sleep(10);
	END $$;
	CREATE FUNCTION faulty(jsonb) RETURNS void LANGUAGE sql AS $$ SELECT probe('crash') $$;});

# A job of $handler takes the server down by $signal; others share its queue and its moment.
sub crashes_by
{
	my ($handler, $signal) = @_;
	$node->safe_psql('postgres', 'TRUNCATE effects; DELETE FROM my_worker.history');
	my $start = log_end($node);
	my $job = $node->safe_psql('postgres', qq{
		BEGIN;
		SELECT count(my_worker.enqueue('work', '{"sleep": 0.01}', 'mad')) FROM generate_series(1, 15) \\gset
		SELECT my_worker.enqueue('$handler', queue => 'mad');
		SELECT count(my_worker.enqueue('work', '{"sleep": 0.01}', 'mad')) FROM generate_series(1, 15) \\gset
		COMMIT;});
	wait_for($node, "SELECT status FROM my_worker.jobs WHERE id = $job", 'failed');
	wait_for($node, 'SELECT count(*) FROM my_queue', '0');

	my $crashes = log_has($node, qr/was terminated by signal $signal/, $start);
	cmp_ok($crashes, '>=', 1, "signal $signal: the job crashed the server");
	cmp_ok($crashes, '<=', 3, "but not more often than it has attempts ($crashes)");
	is($node->safe_psql('postgres', "SELECT attempts, jsonb_array_length(errors) FROM my_worker.history WHERE id = $job"),
		'3|3', 'each attempt is counted and has its error');
	like($node->safe_psql('postgres', "SELECT last_error FROM my_worker.history WHERE id = $job"),
		qr/process died|crash/, 'which says why');
	effects_are($node, 30, 'the other jobs had their effects once');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM my_worker.history WHERE status = 'completed'}), '30',
		'and completed');
	is($node->safe_psql('postgres', q{SELECT max(attempts) FROM my_worker.history WHERE status = 'completed'}), '1',
		'uncharged');
	return;
}

crashes_by('killed', 9);
crashes_by('faulty', 11);

# Marks do not outlast what they stand for.
$node->restart;
my $last = $node->safe_psql('postgres', q{SELECT my_worker.enqueue('work')});
is($node->safe_psql('postgres', "SELECT my_worker.wait($last, '30 s')"), 'completed', 'and work goes on');

$node->stop;
done_testing();
