# Dead letters under kill -9: thousands of jobs die into a dead-letter queue and are redriven, while processes of the pool
# are killed. Each id is in one place at any time, and each job is done exactly once. MW_LETTERS sets how many.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $jobs = $ENV{MW_LETTERS} // 3000;
my $node = new_node('letters', 'restart_after_crash' => 'on', 'my_worker.naptime' => 2);
sub sql { return $node->safe_psql('postgres', join(' ', @_)) }
add_handlers($node);
sql(q{
	CREATE TABLE mended (said text);
	CREATE FUNCTION fragile(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects (job) VALUES (id);
		IF NOT EXISTS (SELECT FROM mended) THEN
			PERFORM my_worker.give_up('broken');
		END IF;
	END $$;
	SELECT my_worker.create_queue('dead');
	SELECT my_worker.create_queue('live', max_attempts => 50, backoff => '20 ms', backoff_max => '50 ms', dead_letter => 'dead');});

# Kills a worker every 0.7 s until the query answers true. Meanwhile no job is lost or doubled.
my $kills = 0;
sub kill_until
{
	my ($query, $most) = @_;
	my ($wrong, $killed, $end) = (0, 0, time + 120);
	while (time < $end)
	{
		my ($status, $stdout) = $node->psql('postgres', qq{SELECT ($query), (SELECT count(*) || '/' || count(DISTINCT id)
			FROM (SELECT id FROM my_queue UNION ALL SELECT id FROM my_worker.history) AS j), (SELECT pid FROM my_worker.workers
			WHERE kind = 'worker' AND pid IS NOT NULL ORDER BY random() LIMIT 1)});
		my ($done, $there, $pid) = $status == 0 ? split /\|/, $stdout : ('', '', '');
		$wrong++ if $there && $there ne "$jobs/$jobs";
		return ($killed, $wrong) if ($done // '') eq 't';
		if ($pid && $killed < $most)
		{
			$killed += kill 'KILL', $pid;
		}
		usleep(700_000); # between two kills; what is asked is asked until it is true
	}
	return ($killed, -1);
}

sql(qq{SELECT count(*) FROM my_worker.enqueue_many('fragile', array_fill('{}'::jsonb, '{$jobs}'), queue => 'live')});
my ($killed, $wrong) = kill_until("SELECT count(*) = $jobs FROM my_queue WHERE queue = 'dead'", 3);
is($wrong, 0, "all die into the dead-letter queue, while $killed processes are killed; each id is in one place all the time");
is(sql(q{SELECT count(*), count(DISTINCT id), min(origin), max(origin), max(attempts), count(unique_key) FROM my_queue WHERE queue = 'dead'}),
	"$jobs|$jobs|live|live|0|0", 'as they were, with their origin');
is(sql(q{SELECT count(*) FROM effects}), 0, 'and without effects');
is(sql(q{SELECT count(*) FROM my_worker.history}), 0, 'none is in the history');

sql(q{INSERT INTO mended VALUES ('yes'); SELECT my_worker.pause_queue('live')});
my $begin = time;
is(sql(q{SELECT my_worker.redrive('dead')}), $jobs, 'all are redriven');
my $took = time - $begin;
note(sprintf '%d jobs in %.2f s', $jobs, $took);
cmp_ok($took, '<', 10, 'soon');
sql(q{SELECT my_worker.resume_queue('live')});
($killed, $wrong) = kill_until(q{SELECT count(*) = 0 FROM my_queue}, 2);
is($wrong, 0, "all are done, while $killed processes are killed");
effects_are($node, $jobs, 'each exactly once');
is(sql(q{SELECT status, count(*), count(DISTINCT id), max(id), count(origin) FROM my_worker.history GROUP BY 1}), "completed|$jobs|$jobs|$jobs|0",
	'under the ids that they had');

# Deaths are not asked about, errors are. A death of the last attempt goes on as well.
sql(q{SELECT my_worker.create_queue('ruled', max_attempts => 2, backoff => '10 ms', retry_on => '{23}', fail_on => '{57,08,40}', dead_letter => 'dead')});
my $job = sql(q{SELECT my_worker.enqueue('work', '{"gate": "first"}', 'ruled')});
crash($node, job_pid($node, $job));
my $pid = job_pid($node, $job);
is(sql("SELECT attempts, errors->-1->>'sqlstate' FROM my_worker.jobs WHERE id = $job"), '1|57P02', 'a job whose process died is tried again');
crash($node, $pid);
wait_for($node, "SELECT queue FROM my_queue WHERE id = $job", 'dead');
is(sql("SELECT origin, attempts, errors->-1->>'sqlstate' FROM my_queue WHERE id = $job"), 'ruled|0|57P02', 'and after its last attempt goes on');
is(sql("SELECT my_worker.wait($job)"), 'failed', 'failed');
my $sent = sql(q{SELECT my_worker.send('ruled')});
my $session = $node->background_psql('postgres');
$session->query_safe(q{SELECT id FROM my_worker.receive('ruled')});
$session->quit;
wait_for($node, "SELECT attempts || ' ' || queue FROM my_queue WHERE id = $sent", '1 ruled');
is(sql("SELECT errors->-1->>'sqlstate' FROM my_queue WHERE id = $sent"), '08006', 'nor is a consumer that went');

# Roles with one snapshot a transaction, and roles that may not log in.
sql(q{SELECT my_worker.purge_queue('ruled'); SELECT my_worker.purge_queue('dead');
	CREATE ROLE strict LOGIN; ALTER ROLE strict SET default_transaction_isolation = 'repeatable read';
	SELECT my_worker.grant_usage('strict'); SELECT my_worker.reset_queue('ruled', 'retry_on', 'fail_on');});
my $strict = sql(q{SET ROLE strict; SELECT my_worker.enqueue('work', '{"fail": "no"}', 'ruled')});
wait_for($node, "SELECT queue FROM my_queue WHERE id = $strict", 'dead');
is(sql("SELECT jsonb_array_length(errors) FROM my_queue WHERE id = $strict"), 2, 'a job of a role with one snapshot a transaction goes on');
sql(q{ALTER ROLE strict NOLOGIN; SELECT my_worker.redrive('dead')});
wait_for($node, "SELECT count(*) FROM my_queue WHERE id = $strict AND errors->-1->>'sqlstate' = '28000' AND queue = 'dead'", 1);
is(sql("SELECT jsonb_array_length(errors), origin FROM my_queue WHERE id = $strict"), '3|ruled', 'so does one of a role that may not log in');

# Snoozing in such a role, and in a dynamic worker.
sql(q{ALTER ROLE strict LOGIN; CREATE TABLE naps (job bigint); GRANT ALL ON naps TO strict;
	CREATE FUNCTION naps(job bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO naps VALUES (job);
		IF (SELECT count(*) FROM naps AS n WHERE n.job = naps.job) < 3 THEN PERFORM my_worker.snooze('10 ms'); END IF;
	END $$;
	SELECT my_worker.create_queue('naps')});
my $naps = sql(q{SET ROLE strict; SELECT my_worker.enqueue('naps', queue => 'naps')});
is(sql("SELECT my_worker.wait($naps, '30 s')"), 'completed', 'a job of a role with one snapshot a transaction can snooze');
is(sql("SELECT attempts, (SELECT count(*) FROM naps) FROM my_worker.history WHERE id = $naps"), '1|3', 'uncharged');
sql(q{SELECT my_worker.pause_queue('naps')});
my $launched = sql(q{SELECT my_worker.enqueue('naps', queue => 'naps')});
$node->psql('postgres', "SELECT launch_dynamic_worker(CAST($launched AS bigint))");
wait_for($node, "SELECT count(*) FROM naps WHERE job = $launched", 1);
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'dynamic' AND pid IS NOT NULL}, 0);
is(sql("SELECT status, attempts, started_at IS NOT NULL FROM my_queue WHERE id = $launched"), 'pending|0|t', 'so can one in a dynamic worker');

$node->stop;
done_testing();
