# A queue's concurrency is never exceeded: sampled every few milliseconds under load, with four workers,
# failing jobs, errors at commit and killed processes.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('concurrency', 'restart_after_crash' => 'on', 'my_worker.naptime' => 1,
	'my_worker.max_workers' => 4);
add_handlers($node);

# Each job notes in a table that is not transactional for the others to see: advisory locks, which the
# sampler counts; and my_worker.jobs and workers must agree.
$node->safe_psql('postgres', q{
	SELECT my_worker.create_queue('one', concurrency => 1, backoff => '0.05 s', backoff_max => '0.1 s', max_attempts => 50),
	       my_worker.create_queue('two', concurrency => 2, backoff => '0.05 s', backoff_max => '0.1 s', max_attempts => 50);
	CREATE FUNCTION limited(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock_shared(7, (p->>'queue')::int);
		INSERT INTO effects (job) VALUES (id);
		PERFORM pg_sleep(0.003);
		IF id % 10 = 0 AND random() < 0.5 THEN
			RAISE EXCEPTION 'now and then';
		END IF;
	END $$;
	CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF random() < 0.02 THEN RAISE EXCEPTION 'at commit'; END IF;
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER late AFTER INSERT ON effects DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION at_commit();
	CREATE TABLE samples (queue int, locks int, jobs int, slots int, at timestamptz DEFAULT clock_timestamp());
	CREATE PROCEDURE sample(seconds float8) LANGUAGE plpgsql AS $$
	DECLARE
		until timestamptz := clock_timestamp() + seconds * interval '1 s';
	BEGIN
		WHILE clock_timestamp() < until AND EXISTS (SELECT FROM my_queue) LOOP
			INSERT INTO samples
				SELECT q, (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 7 AND objid = q),
					(SELECT count(*) FROM my_worker.jobs AS j WHERE j.queue = name AND j.status = 'processing'),
					(SELECT count(*) FROM my_worker.workers AS w WHERE w.queue = name AND w.job_id IS NOT NULL)
				FROM (VALUES (1, 'one'), (2, 'two')) AS v (q, name);
			COMMIT;
			PERFORM pg_sleep(0.008);
		END LOOP;
	END $$;});

sub load
{
	my ($jobs) = @_;
	$node->safe_psql('postgres', qq{
		SELECT count(my_worker.enqueue('limited', '{"queue": 1}', 'one')), count(my_worker.enqueue('limited', '{"queue": 2}', 'two'))
		FROM generate_series(1, $jobs)});
	return;
}

load(300);
$node->safe_psql('postgres', 'CALL sample(30)');
wait_for($node, 'SELECT count(*) FROM my_queue', '0');
is($node->safe_psql('postgres', q{SELECT queue, max(locks), max(slots) FROM samples GROUP BY 1 ORDER BY 1}),
	"1|1|1\n2|2|2", 'as many run at once as may, never more, under load with errors');
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) / 2 FROM samples'), '>', 50, 'in many samples');
cmp_ok($node->safe_psql('postgres', 'SELECT max(jobs) FROM samples WHERE queue = 1'), '<=', 1, 'my_worker.jobs agrees');
effects_are($node, 600, 'every effect once');
cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM my_worker.history WHERE attempts > 1}), '>', 5, 'there were errors');

# With processes that are killed.
$node->safe_psql('postgres', 'TRUNCATE samples, effects');
load(400);
my $kills = 0;
my $begin = time;
while (time < $begin + 4 || $kills < 2 && time < $begin + 60)
{
	# The sampler dies in each crash, too.
	$node->psql('postgres', 'CALL sample(0.6)');
	my ($status, $stdout) = $node->psql('postgres',
		q{SELECT pid FROM my_worker.workers WHERE kind = 'worker' AND pid IS NOT NULL ORDER BY random() LIMIT 1});
	if ($status == 0 && $stdout =~ /^\d+$/)
	{
		$kills += kill 'KILL', $stdout;
		wait_gone($stdout);
	}
	wait_for($node, 'SELECT true');
}
wait_for($node, 'SELECT true');
$node->psql('postgres', 'CALL sample(20)');
wait_for($node, 'SELECT count(*) FROM my_queue', '0');
cmp_ok($kills, '>', 1, "$kills processes killed");
cmp_ok($node->safe_psql('postgres', 'SELECT max(locks) FILTER (WHERE queue = 1) FROM samples'), '<=', 1, 'limit 1 held');
cmp_ok($node->safe_psql('postgres', 'SELECT max(locks) FILTER (WHERE queue = 2) FROM samples'), '<=', 2, 'limit 2 held');
effects_are($node, 800, 'every effect once');

# A limit that is changed under load counts at once, as does a cancelled holder.
$node->safe_psql('postgres', 'DROP TRIGGER late ON effects; TRUNCATE samples, effects');
my @jobs = split /\n/, $node->safe_psql('postgres', q{
	SELECT my_worker.enqueue('work', '{"gate": "g"}', 'one') FROM generate_series(1, 3)});
job_pid($node, $jobs[0]);
is($node->safe_psql('postgres', q{SELECT count(*) FROM my_worker.jobs WHERE status = 'processing'}), '1', 'one holds the queue');
$node->safe_psql('postgres', "SELECT my_worker.cancel($jobs[0])");
job_pid($node, $jobs[1]);
pass('the next one follows a cancelled one');
$node->safe_psql('postgres', q{SELECT my_worker.alter_queue('one', concurrency => 2)});
job_pid($node, $jobs[2]);
pass('a higher limit counts at once');
open_gate($node, 'g');
drained($node);

$node->stop;
done_testing();
