# Fast shutdown with long jobs at work ends within seconds; they are not charged and run again after
# the restart. Smart shutdown and a restart under load, too.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('shutdown', 'my_worker.naptime' => 3600);
add_handlers($node);
$node->safe_psql('postgres', q{
	CREATE FUNCTION busy(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects (job, label) VALUES (id, 'busy');
		WHILE NOT EXISTS (SELECT FROM gates) LOOP NULL; END LOOP;
	END $$;});

sub enqueue { return $node->safe_psql('postgres', "SELECT my_worker.enqueue('$_[0]', '$_[1]')") }
my @jobs = (enqueue('work', '{"sleep": 60}'), enqueue('busy', '{}'), enqueue('work', '{"gate": "open"}'));
job_pid($node, $_) for @jobs;
my $launched = $node->safe_psql('postgres', q{
	SELECT my_worker.create_queue('held');
	SELECT my_worker.pause_queue('held');
	SELECT my_worker.enqueue('work', '{"gate": "open"}', 'held')}) =~ s/\s//gr;
$node->safe_psql('postgres', "SELECT launch_dynamic_worker($launched)");
job_pid($node, $launched);

my @ours = worker_pids($node);
my $begin = time;
$node->stop('fast');
my $took = time - $begin;
cmp_ok($took, '<', 5, "fast shutdown ends within 5 s ($took s)");
is(scalar(grep { is_alive($_) } @ours), 0, 'no process is left');

$node->start;
job_pid($node, $_) for @jobs;
is($node->safe_psql('postgres', q{SELECT count(*), sum(attempts) FROM my_queue}), '4|0', 'no job was charged');
is($node->safe_psql('postgres', "SELECT status FROM my_worker.jobs WHERE id = $launched"), 'pending',
	'the launched one is back in its queue');
$node->safe_psql('postgres', "SELECT my_worker.cancel($jobs[0])");
open_gate($node, 'open');
is($node->safe_psql('postgres', "SELECT my_worker.wait($_, '30 s')"), 'completed', "job $_ runs after the restart")
	for @jobs[1, 2];
is($node->safe_psql('postgres', "SELECT status FROM my_worker.history WHERE id = $jobs[0]"), 'cancelled',
	'the long one could be cancelled');
is($node->safe_psql('postgres', 'SELECT max(attempts) FROM my_worker.history'), '1', 'each in its first attempt');

# Restart after restart under load: nothing is lost or done twice.
$node->safe_psql('postgres', q{
	SELECT my_worker.drop_queue('held', true);
	DELETE FROM effects;
	SELECT count(my_worker.enqueue('work', '{"sleep": 0.02}')) FROM generate_series(1, 200)});
for (1 .. 3)
{
	$node->safe_psql('postgres', 'SELECT count(*) FROM my_queue');
	$node->restart;
}
drained($node);
effects_are($node, 200, 'three restarts under load: every effect once');
is($node->safe_psql('postgres', 'SELECT max(attempts) FROM my_worker.history'), '1', 'and none charged');

$node->safe_psql('postgres', q{SELECT count(my_worker.enqueue('work', '{"sleep": 30}')) FROM generate_series(1, 4)});
wait_for($node, q{SELECT count(*) FROM my_worker.jobs WHERE status = 'processing'}, '4');
$begin = time;
$node->stop('smart');
$took = time - $begin;
cmp_ok($took, '<', 5, "smart shutdown does not wait for jobs ($took s)");

is(log_has($node, qr/PANIC|terminated by signal|XX000/), 0, 'no trouble in the log');
done_testing();
