# Whoever ends a job, its end is told once it is committed, and only then: those who wait are woken, the
# counters count it once, and the log has its line.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('told', 'my_worker.naptime' => 1, 'my_worker.log_jobs' => 'all', 'max_prepared_transactions' => 2);
add_handlers($node);

sub sql { return $node->safe_psql('postgres', $_[0]) }

# A job of a paused queue, and a session that waits for it. Once it sleeps, $end is run, which ends the
# job. Answers how long the session slept after that, in milliseconds, and what wait() said.
sub woken_after
{
	my ($name, $end) = @_;
	sql(qq{SELECT my_worker.create_queue('$name'); SELECT my_worker.pause_queue('$name')});
	my $job = sql(qq{SELECT my_worker.enqueue('work', queue => '$name')});
	my $waiter = $node->background_psql('postgres');
	$waiter->query_until(qr/begun/, "\\echo begun\nSET application_name = 'waiter_$name';\n"
		. "SELECT my_worker.wait($job, '30 s') AS status, clock_timestamp() AS woken \\gset\n");
	wait_for($node, qq{SELECT count(*) = 1 FROM pg_stat_activity
		WHERE application_name = 'waiter_$name' AND wait_event LIKE '%JobWait' OR application_name = 'waiter_$name' AND wait_event = 'Extension'});
	my $ended = (split /\n/, sql("$end; SELECT clock_timestamp()" =~ s/JOB/$job/r))[-1];
	my $said = $waiter->query_safe(qq{SELECT extract(epoch FROM :'woken'::timestamptz - '$ended') * 1000, :'status'});
	$waiter->quit;
	return split /\|/, $said;
}

# One that nobody wakes looks once a second; the end comes early in that second.
my %ends = (
	cancel => 'SELECT my_worker.cancel(JOB)',
	savepoint => 'BEGIN; SAVEPOINT a; SELECT my_worker.cancel(JOB); RELEASE a; COMMIT',
	purge => q{SELECT my_worker.purge_queue('purge')},
	drop => q{SELECT my_worker.drop_queue('drop', true)});
my $late = 0;
for my $round (1 .. 2)
{
	for my $name (sort keys %ends)
	{
		my $end = $ends{$name} =~ s/'(purge|drop)'/'$1$round'/r;
		my ($slept, $said) = woken_after("$name$round", $end);
		note("$name: $slept ms, $said");
		$late++ if $slept > 400;
	}
}
cmp_ok($late, '<=', 2, 'whoever waits for a job is woken when another session ends it');

# What is rolled back has not ended, and nobody is told.
my $kept = sql(q{SELECT my_worker.create_queue('kept'); SELECT my_worker.pause_queue('kept');
	SELECT my_worker.enqueue('work', queue => 'kept')}) =~ s/.*\n//sr;
sql("BEGIN; SAVEPOINT a; SELECT my_worker.cancel($kept); ROLLBACK TO a; COMMIT");
is(sql("SELECT my_worker.wait($kept, '10 ms') IS NULL"), 't', 'what was rolled back to a savepoint still waits');
is(sql(q{SELECT cancelled FROM my_worker.queue_stats WHERE queue = 'kept'}), '0', 'and is not counted');

# Jobs whose end the history refuses are set aside and count as failed; deleting them counts nothing more.
for my $trigger (0, 1)
{
	my $queue = "aside$trigger";
	sql(qq{SELECT my_worker.create_queue('$queue', max_attempts => 1);
		CREATE FUNCTION refuse$trigger() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN RAISE 'refused'; END \$\$;
		CREATE TRIGGER refuse BEFORE INSERT ON my_worker.history FOR EACH ROW
			WHEN (NEW.queue = '$queue') EXECUTE FUNCTION refuse$trigger();
		SELECT my_worker.enqueue('work', '{"fail": "no"}', '$queue') FROM generate_series(1, 3)});
	wait_for($node, qq{SELECT count(*) FROM my_queue WHERE queue = '$queue' AND status = 'failed'}, '3');
	sql(qq{SELECT my_worker.pause_queue('$queue'); SELECT my_worker.enqueue('work', queue => '$queue') FROM generate_series(1, 2)});
	# A table that tells of deletes is purged by a statement.
	sql(q{CREATE FUNCTION hear() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';
		CREATE TRIGGER hear AFTER DELETE ON my_worker._jobs FOR EACH ROW EXECUTE FUNCTION hear()}) if $trigger;
	is(sql(qq{SELECT my_worker.purge_queue('$queue')}), '5', 'jobs that wait and jobs that were set aside are purged');
	is(sql(qq{SELECT failed, cancelled FROM my_worker.queue_stats WHERE queue = '$queue'}), '3|2',
		'each of them is counted once' . ($trigger ? ', also by a statement' : ''));
	sql('DROP TRIGGER refuse ON my_worker.history');
}
sql('DROP TRIGGER hear ON my_worker._jobs');

# The keeper sets aside what only a hand can have written: that is a failure, and named as one.
my $log = log_end($node);
my ($odd) = split /\n/, sql(q{SET session_replication_role = replica;
	INSERT INTO my_queue (queue, handler, status) VALUES ('kept', 'public.work(bigint, jsonb)', 'nonsense') RETURNING id});
my $asker = sql(q{SELECT my_worker.pause_queue('kept'), my_worker.resume_queue('kept')});
wait_for($node, "SELECT status FROM my_queue WHERE id = $odd", 'failed');
ok(wait_log($node, qr/job $odd gave up after 1 attempt: database "postgres", queue "kept", owner ".*", SQLSTATE 23514|given up: (?:\d+, )*$odd\b/, $log),
	'a job that the keeper sets aside has given up');
is(sql(q{SELECT failed FROM my_worker.queue_stats WHERE queue = 'kept'}), '1', 'and is counted');

# Where a batch is rolled back, none of its jobs has ended: the log says so once for each that has.
sql(q{CREATE FUNCTION long(n int) RETURNS text LANGUAGE sql AS
	$$ SELECT string_agg(md5(i::text), '') FROM generate_series(1, n) AS i $$;
	CREATE INDEX note ON my_worker.history ((payload->>'note'));
	SELECT my_worker.create_queue('q', max_attempts => 1, retention => '1 day')});
$log = log_end($node);
my @jobs = split /\n/, sql(q{BEGIN;
	SELECT my_worker.enqueue('work', '{}', 'q') FROM generate_series(1, 40);
	SELECT my_worker.enqueue('work', jsonb_build_object('note', long(1000)), 'q');
	SELECT my_worker.enqueue('work', '{}', 'q') FROM generate_series(1, 40); COMMIT});
my $bad = $jobs[40];
is(sql("SELECT my_worker.wait($bad, '30 s')"), 'failed', 'one job of many has an end that is refused');
wait_for($node, q{SELECT count(*) FROM my_queue WHERE queue = 'q' AND status <> 'failed'}, '0');
for my $job (@jobs)
{
	wait_log($node, qr/job $job \(queue "q".*\) completed after/, $log) if $job != $bad;
}
my @twice = grep { $_ != $bad && log_has($node, qr/job $_ \(queue "q".*\) completed after/, $log) != 1 } @jobs;
is("@twice", '', 'the others have one line each that says that they are done');
is(log_has($node, qr/job $bad \(queue "q".*\) completed after/, $log), 0, 'and it has none');
is(sql(q{SELECT completed, failed FROM my_worker.queue_stats WHERE queue = 'q'}), '80|1', 'each is counted once');

$node->stop;
done_testing();
