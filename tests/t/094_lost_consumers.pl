# Consumers that go, in every way: the session's leases end at once, an attempt is charged where the session is to
# blame, and a lease that was lost ends nothing any more.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('consumers', 'restart_after_crash' => 'on', 'my_worker.naptime' => 3600, 'max_prepared_transactions' => 5);
sub sql { return $node->safe_psql('postgres', join(' ', @_)) }
sql(q{SELECT my_worker.create_queue('q', backoff => '10 ms', max_attempts => 100)});

sub job { my ($job) = @_; return sql("SELECT status, attempts, coalesce(errors->-1->>'sqlstate', '') FROM my_worker.jobs WHERE id = $job") }
sub becomes
{
	my ($job, $state, $what) = @_;
	wait_for($node, "SELECT status || '|' || attempts || '|' || coalesce(errors->-1->>'sqlstate', '') FROM my_worker.jobs WHERE id = $job", $state);
	is(job($job), $state, $what);
	return;
}

# A session that has received so many jobs, and what it received.
sub consumer
{
	my ($how, $begin) = @_;
	my $session = $node->background_psql('postgres');
	$session->query_safe('BEGIN') if $begin;
	my ($job, $lease, $pid) = split /\|/, $session->query_safe("SELECT id, lease, pg_backend_pid() FROM my_worker.receive('q' $how)");
	return ($session, $job, $lease, $pid);
}

# The client goes.
my $job = sql(q{SELECT my_worker.send('q')});
my ($session, $got, $lease) = consumer('');
is($got, $job, 'a session receives the job');
is(job($job), 'processing|0|', 'and has it');
$session->quit;
becomes($job, 'pending|1|08006', 'a session that ends gives its job back, charged');
is(sql("SELECT my_worker.ack($job, $lease)"), 'f', 'its lease ends nothing any more');

# Within the transaction that received, too.
($session, $got, $lease) = consumer('', 1);
$session->quit;
becomes($job, 'pending|2|08006', 'so does one whose transaction is open');

# Terminated; with a lease that another session ends meanwhile.
($session, $got, $lease, my $pid) = consumer('');
sql("SELECT pg_terminate_backend($pid)");
becomes($job, 'pending|3|57P01', 'one that is terminated, too');
eval { $session->quit };
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'consumer'}, '0');

# Its process is killed: the server restarts, and others are not charged.
my $other = sql(q{SELECT my_worker.send('q')});
($session, $got, $lease, $pid) = consumer('');
my ($bystander, $theirs, $their_lease) = consumer('');
isnt($theirs, $got, 'two sessions hold two jobs');
my ($timed, $timed_job, $timed_lease) = (undef, sql(q{SELECT my_worker.send('q', kind => 'timed')}));
$timed_lease = sql(q{SELECT lease FROM my_worker.receive('q', kinds => '{timed}', lease => '1 h')});
crash($node, $pid);
eval { $session->quit };
eval { $bystander->query('SELECT 1') };
like($bystander->{stderr}, qr/terminating connection because of crash of another server process/, 'a bystander\'s client is told');
eval { $bystander->quit };
becomes($got, $got == $job ? 'pending|4|57P02' : 'pending|1|57P02', 'the job of the session that was killed is charged');
is((split /\|/, job($theirs))[1], $theirs == $job ? 3 : 0, "a bystander's is not");
is((split /\|/, job($theirs))[0], 'pending', 'and waits again');
is(sql("SELECT my_worker.ack($theirs, $their_lease)"), 'f', 'its lease is gone with the memory');
is((split /\|/, job($timed_job))[0], 'processing', 'a lease in a row lasts');
is(sql("SELECT my_worker.ack($timed_job, $timed_lease)"), 't', 'and ends the job');

# A shutdown charges nothing, fast or at once.
for my $mode ('fast', 'immediate')
{
	my ($before) = (split /\|/, job($job))[1];
	($session, $got, $lease) = consumer(", 10");
	$node->stop($mode);
	$node->start;
	eval { $session->quit };
	wait_for($node, "SELECT status FROM my_worker.jobs WHERE id = $job", 'pending');
	is((split /\|/, job($job))[1], $before, "a $mode shutdown charges nothing");
}

# A crash forgets no charge that the keeper had not come to.
sql(q{SELECT my_worker.cancel(id) FROM my_queue});
$job = sql(q{SELECT my_worker.send('q')});
my $locker = $node->background_psql('postgres');
($session, $got, $lease) = consumer('');
$locker->query_safe("BEGIN; SELECT FROM my_queue WHERE id = $job FOR UPDATE");
$session->quit;
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'consumer'}, '0');
crash($node, $locker->query_safe('SELECT pg_backend_pid()'));
eval { $locker->quit };
becomes($job, 'pending|1|08006', 'what was lost before a crash is charged after it');

# An end in an open transaction: meanwhile nothing expires, neither by time nor with the session that held the job.
sql(q{SELECT my_worker.cancel(id) FROM my_queue});
for my $how (", lease => '1 s'", '')
{
	$job = sql($how ? q{SELECT my_worker.send('q')} : q{SELECT my_worker.send('q', timeout => '0.5 s')});
	($session, $got, $lease) = consumer($how);
	is($session->query_safe("BEGIN; SELECT my_worker.ack($job, $lease); SELECT pg_sleep(1.5) IS NULL; COMMIT"), "t\nf", 'a slow end of a lease' . ($how || ' with a time-out'));
	is(job($job), 'completed|1|', 'ends it');
	$session->quit;
}
for my $end ('COMMIT', 'ROLLBACK')
{
	$job = sql(q{SELECT my_worker.send('q')});
	($session, $got, $lease) = consumer('');
	my $ender = $node->background_psql('postgres');
	is($ender->query_safe("BEGIN; SELECT my_worker.ack($job, $lease)"), 't', 'another session ends the lease');
	$session->quit;
	wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'consumer'}, '0');
	$ender->query_safe($end);
	becomes($job, $end eq 'COMMIT' ? 'completed|1|' : 'pending|1|08006', "then its holder goes, and then comes $end");
	$ender->quit;
}

# What the statistics say: waited until it was received, ran until it was acknowledged.
sql(q{SELECT my_worker.cancel(id) FROM my_queue; SELECT my_worker.reset_stats(); SELECT my_worker.create_queue('stats', backoff => '1 ms')});
sql(q{SELECT my_worker.send('stats', run_at => now() - interval '2 s')});
sql(q{DO $$DECLARE r record; BEGIN
	SELECT * INTO r FROM my_worker.receive('stats'); COMMIT; PERFORM pg_sleep(0.2); PERFORM my_worker.nack(r.id, r.lease); COMMIT;
	SELECT * INTO r FROM my_worker.receive('stats', wait => '5 s'); COMMIT; PERFORM pg_sleep(0.2); PERFORM my_worker.ack(r.id, r.lease);
END$$});
is(sql(q{SELECT completed, failed, retried, cancelled, pending, processing, run_mean BETWEEN 200 AND 1500, wait_mean BETWEEN 900 AND 2500
	FROM my_worker.queue_stats WHERE queue = 'stats'}), '1|0|1|0|0|0|t|t', 'the statistics have the times of both attempts');

# A backlog is an alarm where no consumer lives, and none while one does.
sql(q{SELECT my_worker.send('stats', run_at => now() - interval '2 h')});
my $alarm = q{SELECT count(*) FROM my_worker.health() WHERE NOT ok AND detail LIKE '%stats%'};
is(sql($alarm), '1', 'a backlog for consumers is an alarm') or diag(sql('SELECT * FROM my_worker.health()'));
my $living = $node->background_psql('postgres');
$living->query_safe(q{SELECT count(*) FROM my_worker.receive('stats')});
sql(q{SELECT my_worker.send('stats', run_at => now() - interval '2 h')});
is(sql($alarm), '0', 'but not while a consumer lives');
$living->quit;
sql(q{SELECT my_worker.cancel(id) FROM my_queue});

# While jobs are disabled nothing comes; then who waits is told.
sub setting { sql("ALTER SYSTEM SET my_worker.enabled = $_[0]"); sql('SELECT pg_reload_conf()'); wait_for($node, 'SHOW my_worker.enabled', $_[0]); return }
$job = sql(q{SELECT my_worker.send('q')});
setting('off');
is(sql(q{SELECT count(*) FROM my_worker.receive('q')}), '0', 'while jobs are disabled nothing comes');
my $patient = $node->background_psql('postgres');
$patient->{stdin} .= "SELECT 'took', id FROM my_worker.receive('q', wait => '5 s');\n";
$patient->{run}->pump_nb;
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'consumer' AND state = 'idle'}, '1');
setting('on');
$patient->{run}->pump until $patient->{stdout} =~ /took\|(\d+)/;
is($1, $job, 'then who waits is told');
$patient->quit;
sql(q{SELECT my_worker.cancel(id) FROM my_queue});

# A queue that gets a handler while consumers have its jobs: the server runs those that nobody has, and the others when they
# come back.
sql(q{CREATE TABLE ran (job bigint); CREATE FUNCTION note(id bigint, p jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO ran VALUES (id)';
	CREATE FUNCTION note_all(ids bigint[], p jsonb[]) RETURNS void LANGUAGE sql AS 'INSERT INTO ran SELECT unnest(ids)'});
for my $handler ('note', 'note_all')
{
	sql("SELECT my_worker.create_queue('$handler', backoff => '1 ms')");
	my @jobs = split /\n/, sql("SELECT my_worker.send_many('$handler', array_fill('{}'::jsonb, ARRAY[6]))");
	my $one = $node->background_psql('postgres');
	my @leases = split /\n/, $one->query_safe("SELECT lease FROM my_worker.receive('$handler', 3)");
	sql("TRUNCATE ran; SELECT my_worker.alter_queue('$handler', handler => '$handler')");
	wait_for($node, 'SELECT count(*) FROM ran', '3');
	my $fresh = sql("SELECT my_worker.enqueue('$handler', queue => '$handler')");
	is(sql("SELECT my_worker.wait($fresh, '20 s')"), 'completed', "$handler: the server runs the jobs of the queue");
	is(sql("SELECT string_agg(job::text, ' ' ORDER BY job) FROM ran"), "$jobs[3] $jobs[4] $jobs[5] $fresh", 'but those that a consumer has');
	is(sql("SELECT my_worker.ack($jobs[0], $leases[0])"), 't', 'it ends one');
	is(sql("SELECT count(*) FROM my_worker.receive('$handler', 5)"), '0', 'and receives no more');
	$one->quit;
	is(sql("SELECT my_worker.wait($_, '20 s')"), 'completed', 'what it loses the server runs') for @jobs[ 1, 2 ];
	is(sql('SELECT count(*), count(DISTINCT job) FROM ran'), '6|6', 'each once');
}

# The wait has its bound, and ends at once by a cancel and by a shutdown.
my ($took) = sql(q{SELECT count(*), extract(epoch FROM clock_timestamp() - now()) FROM my_worker.receive('q', wait => '1 min')}) =~ /^0\|(.*)/;
cmp_ok($took, '>=', 5, 'a call that waits for long returns not before 5 s');
cmp_ok($took, '<', 8, 'and not much later');
my $begin = time;
like(query_error($node, q{SET statement_timeout = '300 ms'; SELECT my_worker.receive('q', wait => '1 min')}), qr/^57014/, 'a cancel ends the wait');
cmp_ok(time - $begin, '<', 3, 'at once');
$patient = $node->background_psql('postgres');
# Again and again, since a call returns after some seconds, and on a slow machine nobody has seen it by then.
$patient->{stdin} .= "SELECT my_worker.receive('q', wait => '1 min');\n" x 20;
$patient->{run}->pump_nb;
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'consumer' AND state = 'idle'}, '1');
$begin = time;
$node->stop('fast');
cmp_ok(time - $begin, '<', 3, 'so does a shutdown');
eval { $patient->quit };
$node->start;

# Waiting: a COMMIT wakes the session, a due time and a backoff do, and a client that goes ends the wait.
sql(q{SELECT my_worker.cancel(id) FROM my_queue});
my $waiter = $node->background_psql('postgres');
my $idle = sql('SELECT pg_current_wal_lsn()');
$waiter->{stdin} .= "SELECT 'took', id, clock_timestamp() - created_at < '2 s' FROM my_worker.receive('q', wait => '5 s');\n";
$waiter->{run}->pump_nb;
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'consumer' AND state = 'idle'}, '1');
is(sql(q{SELECT backend_xid IS NULL FROM pg_stat_activity WHERE wait_event_type IN ('Extension') AND query LIKE '%receive%' AND pid <> pg_backend_pid()}),
	't', 'and has no transaction id');
$job = sql(q{SELECT my_worker.send('q')});
$waiter->{run}->pump until $waiter->{stdout} =~ /took\|\d+/;
like($waiter->{stdout}, qr/took\|$job\|t/, 'it has the job');
my $later = sql(q{SELECT my_worker.send('q', run_at => clock_timestamp() + interval '0.5 s')});
is(sql(q{SELECT count(*) || ' ' || (max(clock_timestamp() - run_at) < '0.5 s') FROM my_worker.receive('q', wait => '5 s')}), '1 true',
	'a due time wakes at the moment');
$waiter->quit;

# The keeper holds a job that was lost for a moment; so does this session. drop_queue(force) has that moment.
sql(q{SELECT my_worker.create_queue('away')});
$job = sql(q{SELECT my_worker.send('away')});
my $holder = $node->background_psql('postgres');
$holder->query_safe(qq{BEGIN; SELECT FROM my_queue WHERE id = $job FOR UPDATE});
$holder->{stdin} .= "SELECT pg_sleep(0.2);\nCOMMIT;\n";
$holder->{run}->pump_nb;
wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}, '1');
my ($rc, undef, $stderr) = $node->psql('postgres', q{SELECT my_worker.drop_queue('away', force => true)});
is($stderr, '', 'a queue is dropped though somebody held a job of it for a moment');
$holder->quit;
sql(q{SELECT my_worker.create_queue('busy')});
$job = sql(q{SELECT my_worker.send('busy')});
($session) = $node->background_psql('postgres');
$session->query_safe(q{SELECT FROM my_worker.receive('busy')});
(undef, undef, $stderr) = $node->psql('postgres', q{SELECT my_worker.drop_queue('busy', force => true)});
like($stderr, qr/queue "busy" still has jobs.*running jobs must end first/s, 'but not from under a consumer that has one');
$session->quit;

done_testing();
