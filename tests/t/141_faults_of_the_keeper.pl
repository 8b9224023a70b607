# A fault in each duty of the keeper, and in the transaction in which it deals with a job: the duty rests, or the keeper
# comes back; the others go on, and the job ends as it would have.
#
# Part of `make test-long`.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use MyWorkerFaults;
use Test::More;

my $node = faulty_node('faults_keeper', 'my_worker.max_workers' => 2, 'my_worker.naptime' => 3600);

sql(q{
	CREATE FUNCTION tick(id bigint, p jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO effects (job) VALUES (id) $$;
	SELECT my_worker.create_queue(name, backoff => '1 ms', max_attempts => 4) FROM unnest('{plain,command,held,leased}'::text[]) AS name;
	CREATE ROLE barred LOGIN;
	SELECT my_worker.grant_usage('barred')});
sql(q{SELECT my_worker.pause_queue('held')});

my %leads = (
	later => q{SELECT my_worker.enqueue('work', queue => 'plain', run_at => clock_timestamp() + interval '0.1 s')},
	anew => q{SELECT pg_terminate_backend(pid) FROM my_worker.workers WHERE kind = 'keeper';
		SELECT my_worker.enqueue('work', queue => 'plain', run_at => clock_timestamp() + interval '0.1 s')},
	after => q{BEGIN; SELECT my_worker.enqueue('work', queue => 'plain') AS first \gset
		SELECT my_worker.enqueue('work', queue => 'plain', after => ARRAY[:first]); COMMIT},
	stopped => q{SELECT fault('marked fatal 3'); SELECT my_worker.enqueue('work', queue => 'plain')},
	orphan => q{SELECT fault('command_committed fatal'); SELECT my_worker.run('INSERT INTO effects (job) VALUES (my_worker.current_job())', queue => 'command', max_attempts => 4)},
	left => q{SELECT my_worker.send('leased'); SELECT id FROM my_worker.receive('leased')},
	barred => q{ALTER ROLE barred LOGIN; SET ROLE barred; SELECT my_worker.enqueue('work', queue => 'plain', run_at => clock_timestamp() + interval '0.1 s') AS job \gset
		RESET ROLE; ALTER ROLE barred NOLOGIN; SELECT :job},
	late => q{SELECT my_worker.enqueue('work', queue => 'held', expires_at => clock_timestamp() + interval '0.1 s')},
	again => q{SELECT my_worker.enqueue('work', '{"sleep": 0.3}', 'plain', unique_key => 'again') AS first \gset
		SELECT pg_sleep(0.05) IS NULL;
		SELECT my_worker.enqueue('work', queue => 'plain', unique_key => 'again', unique_mode => 'rerun') AS job \gset
		SELECT pg_terminate_backend(pid) FROM my_worker.workers WHERE kind = 'keeper'; SELECT :job},
);

# That a job's process was terminated three times stands in shared memory: a crash forgets it, and the job is not charged.
my $table = q{
	look        later    error=1 panic=1 fatal=1 crash=1 wait=1
	find        later    error=1 panic=1 crash=1 wait=1
	fire        anew     error=1 panic=1 fatal=1 crash=1 wait=1
	release     anew     error=1 panic=1 crash=1 wait=1
	prune       anew     error=1 panic=1 crash=1 wait=1
	sweep       anew     error=1 panic=1 crash=1 wait=1
	unblock     after    error=1 panic=1 crash=1 wait=1
	unblocked   after    error=1 full=1 panic=1 fatal=1 crash=1 wait=1
	charge      stopped  error=2 panic=2 fatal=2 crash=1 wait=2
	rerun       again    error=1 panic=1 crash=1
	settle      orphan   error=1 panic=1 crash=1 wait=1
	reclaim     left     error=pending|1|0 panic=pending|1|0 fatal=pending|1|0 crash=pending|1|0 wait=pending|1|0
	end         barred   error=failed|1|0 panic=failed|1|0 crash=failed|1|0 wait=failed|1|0
	expire      late     error=cancelled|0|0 panic=cancelled|0|0 crash=cancelled|0|0 wait=cancelled|0|0
	dealt       left     error=failed|1|0 full=pending|1|0 panic=pending|1|0 fatal=pending|1|0 crash=pending|1|0
	dealt_done  left     panic=pending|1|0 fatal=pending|1|0 crash=pending|1|0
	dealt       stopped  panic=2 fatal=2 crash=1
	dealt_done  stopped  panic=2 fatal=2 crash=2
};

# While the keeper waits, workers need it for nothing that a COMMIT announces.
my %meanwhile = (anew => sub {
	my $job = sql($leads{plain} // q{SELECT my_worker.enqueue('work', queue => 'plain')});
	is(sql("SELECT my_worker.wait($job, '20 s')"), 'completed', 'workers go on while the keeper waits');
});

each_fault($table, \&lead_to, %meanwhile);

sub lead_to
{
	my ($point, $action, $lead) = @_;
	sql(q{SELECT my_worker.cancel(id) FROM my_queue});
	my ($job) = sql(arm($point, $action) . "; $leads{$lead}") =~ /(\d+)\s*$/;
	return $job;
}

# Schedules: each due time has one job, whatever happens while it is fired.
for my $fault ('fire error', 'fire crash', 'fired full', 'fired panic', 'fired crash', 'fired wait')
{
	my ($point, $action) = split ' ', $fault;
	next if $ENV{FAULT} && $point !~ /$ENV{FAULT}/;
	sql(q{DELETE FROM my_worker.history; SELECT my_worker.schedule('s', 'every 1 second', handler => 'tick', queue => 'plain', overlap => 'allow', catchup => 'all');}, arm($point, $action));
	waits($point), go_on($point) if $action eq 'wait';
	wait_happened($point);
	ok(eval { until_sql(q{SELECT runs >= 1 AND runs = (SELECT count(*) FROM my_worker.history WHERE handler LIKE '%tick%') FROM my_worker.schedules}) },
		"$action at $point: the schedule goes on");
	sql(q{SELECT my_worker.unschedule('s')});
	until_sql(q{SELECT count(*) = 0 FROM my_queue WHERE queue = 'plain'});
	is(sql(q{SELECT count(*) - count(DISTINCT run_at) FROM my_worker.history WHERE handler LIKE '%tick%'}), '0', 'and each due time has one job');
}
# Runs that wait for each other go on, though each ends before the keeper watches it.
if (!$ENV{FAULT} || 'unwatched' =~ /$ENV{FAULT}/)
{
	sql(q{DELETE FROM my_worker.history; SELECT my_worker.pause_queue('plain');
		SELECT my_worker.schedule('s', 'every 1 second', handler => 'tick', queue => 'plain', overlap => 'queue')});
	until_sql(q{SELECT count(*) >= 6 FROM my_queue WHERE queue = 'plain'});
	sql(q{SELECT my_worker.pause_schedule('s');}, arm('unwatched', 'nap', 20));
	sql(q{SELECT my_worker.resume_queue('plain')});
	ok(eval { until_sql(q{SELECT count(*) = 0 FROM my_queue WHERE queue = 'plain'}) }, 'nap at unwatched: runs that wait for each other go on');
	sql(q{SELECT my_worker.unschedule('s')}, q{; SELECT fault('clear unwatched')});
}
unless ($ENV{FAULT})
{
	sql(q{SELECT my_worker.schedule('s', 'every 1 second', handler => 'tick', queue => 'plain');}, arm('fired', 'error'));
	until_sql(q{SELECT NOT active FROM my_worker.schedules});
	is(sql(q{SELECT disabled_reason, runs FROM my_worker.schedules}), 'fault at fired|0', 'a schedule that cannot be fired is disabled, and says why');
	sql(q{SELECT my_worker.unschedule('s'); SELECT my_worker.cancel(id) FROM my_queue});
}

all_tried($table, qr/^(?:look|unblock|find|fire|reclaim|release|charge|sweep|rerun|settle|end|expire|prune|dealt|unwatched)(?!d$)/);
all_sound(q{status <> 'failed'});
$node->stop;
done_testing();
