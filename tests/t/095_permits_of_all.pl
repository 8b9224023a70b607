# The concurrency of a queue binds workers, dynamic workers, perform() and consumers together: a queue with jobs for
# both has never more out than it may, and whoever is refused goes on as soon as another one is done.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('permits', 'my_worker.naptime' => 3600, 'my_worker.max_workers' => 4);
sub sql { return $node->safe_psql('postgres', join(' ', @_)) }
sql(q{CREATE FUNCTION nothing() RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
	CREATE FUNCTION waits() RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock_shared(1); END';
	SELECT my_worker.create_queue('one', concurrency => 1)});

# A consumer has the permit, by its session or by time; it ends it in each way.
for my $lease ('NULL', q{'1 h'})
{
	for my $end ('ack(%s)', 'nack(%s)', 'release(%s, delay => \'1 h\')', 'DISCARD', 'ROLLBACK', 'quit',
		'cancel', 'late')
	{
		next if $lease ne 'NULL' && $end =~ /DISCARD|quit/;
		# A session's lease does not run out.
		next if $lease eq 'NULL' && $end eq 'late';
		my $length = $end eq 'late' ? q{'3 s'} : $lease;
		sql(q{SELECT my_worker.purge_queue('one')});
		sql(q{SELECT my_worker.send('one')});
		my $consumer = $node->background_psql('postgres');
		$consumer->query_safe('BEGIN') if $end eq 'ROLLBACK';
		my ($id, $token) = split /\|/, $consumer->query_safe("SELECT id, lease FROM my_worker.receive('one', lease => $length)");
		my $job = sql(q{SELECT my_worker.enqueue('nothing', queue => 'one')});
		my $what = "$end, lease $lease";
		# A transaction that is open shows its lease, too.
		is(sql(qq{SELECT my_worker.wait($job, '0.3 s') IS NULL}), 't', "$what: a worker waits for the consumer");
		my (undef, undef, $stderr) = $node->psql('postgres', qq{SELECT my_worker.perform($job)});
		like($stderr, qr/concurrency of queue "one" is used up/, 'so does perform()');
		if    ($end =~ /%s/)       { $consumer->query_safe('SELECT my_worker.' . sprintf($end, "$id, $token")) }
		elsif ($end eq 'DISCARD')  { $consumer->query_safe('DISCARD ALL') }
		elsif ($end eq 'ROLLBACK') { $consumer->query_safe('ROLLBACK') }
		elsif ($end eq 'cancel')   { sql("SELECT my_worker.cancel($id)") }
		# By another session, or by time, while this one stays.
		$consumer->quit if $end !~ /cancel|late/;
		is(sql(qq{SELECT my_worker.wait($job, '30 s')}), 'completed', 'it goes on when that is done');
		$consumer->quit if $end =~ /cancel|late/;
	}
}

# A worker has the permit.
sql(q{SELECT my_worker.purge_queue('one')});
my $gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(1)');
my $job = sql(q{SELECT my_worker.enqueue('waits', queue => 'one')});
wait_for($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, '1');
my $sent = sql(q{SELECT my_worker.send('one')});
is(sql(qq{SELECT count(*) FROM my_worker.receive('one', lease => $_)}), '0', "a consumer waits for the worker, lease $_") for 'NULL', q{'1 h'};
my $consumer = $node->background_psql('postgres');
$consumer->{stdin} .= "SELECT 'took', id FROM my_worker.receive('one', wait => '30 s');\n";
$consumer->{run}->pump_nb;
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'consumer' AND state = 'idle'}, '1');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(sql(qq{SELECT my_worker.wait($job, '30 s')}), 'completed', 'the worker is done');
$consumer->{run}->pump until $consumer->{stdout} =~ /took\|\d+/;
like($consumer->{stdout}, qr/took\|$sent$/m, 'the consumer goes on');
$consumer->quit;
$gate->quit;

# Two of three permits are a consumer's: one worker goes on with the rest, one job at a time.
sql(q{SELECT my_worker.purge_queue('one')});
sql(q{SELECT my_worker.alter_queue('one', concurrency => 3)});
sql(q{SELECT count(*) FROM my_worker.send_many('one', array_fill('{}'::jsonb, ARRAY[2]))});
$consumer = $node->background_psql('postgres');
is($consumer->query_safe(q{SELECT count(*) FROM my_worker.receive('one', 1)}), '1', 'one by the session');
is($consumer->query_safe(q{SELECT count(*) FROM my_worker.receive('one', 1, lease => '1 h')}), '1', 'one by time');
$gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(1)');
my @jobs = map { sql(q{SELECT my_worker.enqueue('waits', queue => 'one')}) } 1 .. 4;
wait_for($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, '1');
is(sql(qq{SELECT my_worker.wait($jobs[3], '0.5 s') IS NULL}), 't', 'nothing else begins');
is(sql(q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}), '1', 'one job runs');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(sql(qq{SELECT my_worker.wait($_, '30 s')}), 'completed', 'each is done') for @jobs;
$gate->quit;
$consumer->quit;

$node->stop;
done_testing();
