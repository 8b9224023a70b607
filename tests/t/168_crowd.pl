# A crowd: many roles, queues, enqueuers, waiting sessions and workers at once. Each job runs once, each session that
# waits returns, and the processes wake up a few times a job at most.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my ($ROLES, $QUEUES, $ENQUEUERS, $WAITERS, $WORKERS) = (24, 40, 8, 16, 8);
my ($JOBS, $WAITS) = (300, 15);
my $node = new_node('crowd', 'my_worker.naptime' => 5, 'my_worker.log_jobs' => 'none', 'my_worker.max_workers' => $WORKERS,
	'max_worker_processes' => $WORKERS + 8, 'max_connections' => 100, 'autovacuum' => 'off', 'fsync' => 'off');
add_handlers($node);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(qq{SELECT count(my_worker.create_queue('queue_' || i, handler => 'work')) FROM generate_series(0, $QUEUES - 1) AS i;
	DO \$\$ BEGIN FOR i IN 0 .. $ROLES - 1 LOOP
		EXECUTE format('CREATE ROLE crowd_%s LOGIN', i); PERFORM my_worker.grant_usage(('crowd_' || i)::regrole);
	END LOOP; END \$\$;
	-- A transaction a job, each of another role and queue.
	CREATE PROCEDURE enqueue_some(seed integer, jobs integer) LANGUAGE plpgsql AS \$\$
	BEGIN
		FOR i IN 1 .. jobs LOOP
			EXECUTE format('SET LOCAL ROLE crowd_%s', (seed * 7 + i) % $ROLES);
			INSERT INTO my_queue (queue, payload) VALUES ('queue_' || (seed + i * 3) % $QUEUES, '{}');
			COMMIT;
		END LOOP;
	END \$\$;
	CREATE TABLE waited (seed integer, status text);
	GRANT INSERT ON waited TO PUBLIC;
	CREATE PROCEDURE wait_for_some(seed integer, jobs integer) LANGUAGE plpgsql AS \$\$
	DECLARE
		job bigint;
	BEGIN
		FOR i IN 1 .. jobs LOOP
			EXECUTE format('SET LOCAL ROLE crowd_%s', (seed + i) % $ROLES);
			INSERT INTO my_queue (queue, payload) VALUES ('queue_' || (seed * 5 + i) % $QUEUES, '{}') RETURNING id INTO job;
			COMMIT;
			EXECUTE format('SET LOCAL ROLE crowd_%s', (seed + i) % $ROLES);
			INSERT INTO waited VALUES (seed, my_worker.wait(job, '60 s'));
			COMMIT;
		END LOOP;
	END \$\$});

# How often our processes have given up the processor by themselves. Workers come and go.
my %switches;

sub count_switches
{
	for my $pid (worker_pids($node), worker_pids($node, 'keeper'))
	{
		open my $status, '<', "/proc/$pid/status" or next;
		($switches{$pid}) = map { /^voluntary_ctxt_switches:\s+(\d+)/ ? $1 : () } <$status>;
	}
	my $sum = 0;
	$sum += $_ // 0 for values %switches;
	return $sum;
}

my $before = count_switches();
my @sessions;
for my $seed (1 .. $WAITERS)
{
	my $session = $node->background_psql('postgres');
	$session->{stdin} .= "CALL wait_for_some($seed, $WAITS);\n";
	$session->{run}->pump_nb;
	push @sessions, $session;
}
for my $seed (1 .. $ENQUEUERS)
{
	my $session = $node->background_psql('postgres');
	$session->{stdin} .= "CALL enqueue_some($seed, $JOBS);\n";
	$session->{run}->pump_nb;
	push @sessions, $session;
}
my $jobs = $ENQUEUERS * $JOBS + $WAITERS * $WAITS;
for my $try (1 .. 3000)
{
	last if sql('SELECT count(*) FROM effects') eq $jobs;
	count_switches() if $try % 10 == 0;
	$_->{run}->pump_nb for @sessions;
	Time::HiRes::usleep(50_000);
}
drained($node);
effects_are($node, $jobs, 'each job has run once');
wait_for($node, 'SELECT count(*) FROM waited', $WAITERS * $WAITS);
is(sql(q{SELECT string_agg(DISTINCT status, ' ') FROM waited}), 'completed', 'each session that waits was told that its job is done');
is(sql(q{SELECT count(*) FROM my_worker.history AS h JOIN effects AS e ON e.job = h.id WHERE e.role::regrole <> h.owner OR h.status <> 'completed'}),
	'0', 'each as its own role');
cmp_ok(sql('SELECT count(DISTINCT pid) FROM effects'), '>=', $WORKERS, 'by many workers');

my $each = (count_switches() - $before) / $jobs;
note(sprintf '%.1f wake-ups a job, all processes together', $each);
cmp_ok($each, '<', 30, 'the processes wake up a few times a job');

$_->quit for @sessions;
is(log_has($node, qr/PANIC|terminated by signal|XX000|deadlock/), 0, 'no trouble in the log');
$node->stop;
done_testing();
