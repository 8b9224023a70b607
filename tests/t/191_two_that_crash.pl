# Two jobs that crash the server, one after the other: the second crash comes before the first job is charged. Each of
# them crashes it as often as it has attempts, and no more.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('two_that_crash', 'restart_after_crash' => 'on', 'my_worker.naptime' => 1, 'my_worker.max_workers' => 1);
add_handlers($node);

sub sql { return $node->safe_psql('postgres', $_[0]) }

# To charge the first one takes long: meanwhile the one worker runs the second one, from the same slot.
sql(q{
	SELECT my_worker.create_queue('mad', max_attempts => 1);
	CREATE FUNCTION killed(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', 'kill -9 ' || pg_backend_pid());
		PERFORM pg_sleep(10);
	END $$;
	CREATE FUNCTION wait_for_crash() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.payload ? 'first'
			AND EXISTS (SELECT FROM my_worker._jobs WHERE payload ? 'second') THEN
			PERFORM pg_sleep(3);
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER wait_for_crash BEFORE INSERT ON my_worker.history FOR EACH ROW EXECUTE FUNCTION wait_for_crash()});

my $start = log_end($node);
sql(q{SELECT my_worker.enqueue('killed', '{"first": true}', 'mad'), my_worker.enqueue('killed', '{"second": true}', 'mad')});
wait_for($node, q{SELECT string_agg(status, ',') FROM my_worker.history WHERE queue = 'mad'}, 'failed,failed');
is(log_has($node, qr/Failed process was running: \S*killed\(bigint, jsonb\) \(job 1\)/, $start), 1, 'the first one has crashed the server once');
is(log_has($node, qr/Failed process was running: \S*killed\(bigint, jsonb\) \(job 2\)/, $start), 1, 'and so has the second one');
is(sql(q{SELECT string_agg(DISTINCT attempts || ' ' || jsonb_array_length(errors), ',') FROM my_worker.history}), '1 1', 'each is charged once');

# Marks that were kept do not outlast what they stand for.
$node->restart;
my $last = sql(q{SELECT my_worker.enqueue('work')});
is(sql("SELECT my_worker.wait($last, '30 s')"), 'completed', 'work goes on');

$node->stop;
done_testing();
