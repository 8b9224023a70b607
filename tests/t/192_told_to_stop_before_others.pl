# Commands whose process was told to stop, or went down because of another one: a worker in the same place runs other
# commands before the keeper looks at them. It still knows that they are not to be charged.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('told_to_stop', 'restart_after_crash' => 'on', 'my_worker.naptime' => 1, 'my_worker.max_workers' => 1);
add_handlers($node);

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub ended { return sql("SELECT status, attempts, coalesce(jsonb_array_length(errors), 0) FROM my_worker.history WHERE id = $_[0]") }

my $job = sql(q{SELECT my_worker.run($c$SELECT gate('a')$c$, max_attempts => 3)});
my $worker = job_pid($node, $job);
my $holder = $node->background_psql('postgres');
$holder->query_safe("BEGIN; SELECT id FROM my_queue WHERE id = $job FOR UPDATE");
is(sql("SELECT pg_terminate_backend($worker, 10000)"), 't', 'a command is told to stop while somebody has its row');
for (1 .. 3)
{
	my $other = sql(q{SELECT my_worker.run('SELECT 1')});
	is(sql("SELECT my_worker.wait($other, '60 s')"), 'completed', 'another one runs in its place');
}
$holder->query_safe('COMMIT');
$holder->quit;
job_pid($node, $job);
open_gate($node, 'a');
is(sql("SELECT my_worker.wait($job, '60 s')"), 'completed', 'it runs again once its row is free');
is(ended($job), 'completed|1|0', 'and was not charged');

# After a crash the keeper takes long over the first command; workers run others before it looks at the second one.
sql(q{
	CREATE FUNCTION slow_history() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.status = 'failed' AND EXISTS (SELECT FROM public.my_queue WHERE command = 'SELECT 2') THEN
			PERFORM pg_sleep(2);
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER slow_history BEFORE INSERT ON my_worker.history FOR EACH ROW EXECUTE FUNCTION slow_history();
	ALTER SYSTEM SET my_worker.max_workers = 2;
	SELECT pg_reload_conf()});
my @jobs = map { sql("SELECT my_worker.run(\$c\$SELECT gate('b$_')\$c\$, max_attempts => $_)") } 1, 3;
job_pid($node, $_) for @jobs;
my $others = sql(q{SELECT string_agg(my_worker.run('SELECT 2')::text, ',') FROM generate_series(1, 8)});
my $session = $node->background_psql('postgres');
crash($node, $session->query_safe('SELECT pg_backend_pid()'));
$session->{run}->finish;
job_pid($node, $jobs[1]);
open_gate($node, 'b3');
is(sql("SELECT my_worker.wait($jobs[1], '60 s')"), 'completed', 'the command of a bystander runs again');
is(ended($jobs[1]), 'completed|1|0', 'and was not charged');
is(sql("SELECT status, errors->0->>'sqlstate' FROM my_worker.history WHERE id = $jobs[0]"), 'failed|57P01',
	'that of another one, which may run once only, was told to stop');
is(sql("SELECT string_agg(DISTINCT status, ',') FROM my_worker.history WHERE id IN ($others)"), 'completed', 'others have run meanwhile');

# The note of a database that is gone goes, too.
sql('CREATE DATABASE away');
sql(q{ALTER SYSTEM SET my_worker.database = 'postgres,away'});
$node->restart;
$node->safe_psql('away', 'CREATE EXTENSION my_worker');
$job = $node->safe_psql('away', q{SELECT my_worker.run('SELECT pg_sleep(100)')});
wait_for($node, "SELECT count(*) FROM my_worker.workers WHERE database = 'away' AND job_id = $job", '1');
is_deeply([noted_jobs($node)], [$job], 'a command of another database is noted');
sql('DROP DATABASE away WITH (FORCE)');
ok(wait_until(sub { !noted_jobs($node) }, 'the note of a dropped database to go'), 'it goes with the database');

$node->stop;
done_testing();
