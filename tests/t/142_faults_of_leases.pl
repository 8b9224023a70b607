# A fault at each step of a consumer: when it receives, ends, gives back or extends a lease, when its transaction ends and
# when its session does. The next consumer gets the job, ends it once, and was charged as docs/consumers.md says.
#
# Part of `make test-long`.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use MyWorkerFaults;
use Test::More;

my $node = faulty_node('faults_leases', 'my_worker.naptime' => 3600);

sql(q{
	SELECT my_worker.create_queue('q', backoff => '1 ms', max_attempts => 100);
	SELECT my_worker.create_queue('narrow', backoff => '1 ms', concurrency => 1, fifo => true, max_attempts => 100);
	SELECT my_worker.create_queue('plain');
	CREATE FUNCTION taken(queue text, length interval, OUT id bigint, OUT lease bigint) LANGUAGE sql AS $$
	SELECT id, lease FROM my_worker.receive(queue, lease => length) $$;
	-- As a consumer does: its work and the end in one transaction.
	CREATE FUNCTION done(job bigint, lease bigint) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects (job) VALUES (job);
		IF NOT my_worker.ack(job, lease) THEN RAISE EXCEPTION 'the lease is lost'; END IF;
		RETURN true;
	END $$});

# What a session does that meets the point; the lease is of the session, or stands in the row.
my $take = q{SELECT id, lease FROM taken('%s', %s) \gset};
my %leads;
for my $how (['', 'NULL'], ['timed_', q{'1 h'}])
{
	my ($name, $length) = @$how;
	for my $queue ('q', 'narrow')
	{
		my $received = sprintf $take, $queue, $length;
		my $of = $name . ($queue eq 'q' ? '' : 'narrow_');
		$leads{"${of}take"} = $received;
		$leads{"${of}ack"} = "$received\nSELECT done(:id, :lease)";
		$leads{"${of}nack"} = "$received\nSELECT my_worker.nack(:id, :lease)";
		$leads{"${of}release"} = "$received\nSELECT my_worker.release(:id, :lease)";
		$leads{"${of}extend"} = "$received\nSELECT my_worker.extend(:id, :lease, '1 h')";
	}
}

# "2" is short for: the next consumer completes the job in its second attempt.
my $table = q{
	lease_published  take            error=1 full=1 panic=1 fatal=2 crash=2 wait=2
	lease_published  narrow_take     error=1 panic=1 fatal=2 crash=2
	lease_published  timed_take      error=1 panic=1 fatal=2 crash=1
	lease_seen       take            error=1 panic=1 fatal=2 crash=2 wait=2
	lease_seen       narrow_take     error=1 panic=1 fatal=2 crash=2
	lease_seen       timed_narrow_take  error=1 panic=1 fatal=2 crash=1
	lease_given      take            error=1 panic=1 fatal=2 crash=2 wait=2
	lease_given      narrow_take     error=1 panic=1 fatal=2 crash=2
	lease_given      timed_take      error=1 panic=1 fatal=2 crash=1
	lease_given      timed_narrow_take  error=1 panic=1 fatal=2 crash=1
	lease_begun      ack             error=2 panic=2 fatal=2 crash=2 wait=done
	lease_begun      narrow_nack     error=2 panic=2 fatal=2 crash=2 wait=2
	lease_locked     ack             error=2 panic=2 fatal=2 crash=2 wait=done
	lease_locked     narrow_ack      error=2 panic=2 fatal=2 crash=2 wait=done
	lease_locked     timed_ack       error=held panic=held fatal=held crash=held wait=done
	lease_ended      ack             error=2 full=2 panic=2 fatal=2 crash=2 wait=done
	lease_ended      narrow_ack      error=2 panic=2 fatal=2 crash=2 wait=done
	lease_ended      timed_ack       error=held panic=held fatal=held crash=held wait=done
	lease_ended      timed_narrow_ack   error=held panic=held fatal=held crash=held wait=done
	lease_ended      nack            error=2 panic=2 fatal=2 crash=2 wait=2
	lease_released   release         error=2 panic=2 fatal=2 crash=2 wait=1
	lease_released   timed_narrow_release  error=held panic=held fatal=held crash=held wait=1
	lease_extended   timed_extend    error=held panic=held fatal=held crash=held wait=held
	lease_told       take            panic=2 crash=2 wait=2
	lease_told       narrow_take     panic=2 crash=2 wait=2
	lease_lost       take            crash=2 wait=2
	lease_lost       narrow_take     crash=2
};

for my $line (grep { /\S/ } split /\n/, $table)
{
	my ($point, $lead, @ends) = split ' ', $line;
	next if $ENV{FAULT} && $point !~ /$ENV{FAULT}/;
	my $queue = $lead =~ /narrow/ ? 'narrow' : 'q';
	for my $end (@ends)
	{
		my ($action, $expected) = split /=/, $end;
		my $name = "$action at $point ($lead)";
		my $job = sql("SELECT my_worker.send('$queue', group_key => 'k')");
		my $arm = arm($point, $action);
		my $session;
		if ($action eq 'wait')
		{
			$session = start_sql("$arm;\n$leads{$lead}");
			# Its end is where it waits.
			$session->{stdin} .= "\\q\n", $session->{run}->pump_nb if $point eq 'lease_lost';
			ok(eval { waits($point) }, "$name happens");
			go_on($point);
			$session->query_until(qr/gone/, "\\echo gone\n") if $point ne 'lease_lost';
			eval { $session->quit };
		}
		else
		{
			try_sql("$arm;\n$leads{$lead}");
			ok(eval { wait_happened($point) }, "$name happens");
		}
		goes_on($job, $queue, $expected, $name);
	}
}

# goes_on(JOB, QUEUE, EXPECTED, NAME): `done` already, or the next consumer ends it in that attempt; `held`: the lease that
# stands in the row lasts.
sub goes_on
{
	my ($job, $queue, $expected, $name) = @_;
	if ($expected eq 'held')
	{
		is(sql("SELECT status FROM my_worker.jobs WHERE id = $job"), 'processing', "$name: the lease in the row lasts");
		is(sql("SELECT done(id, lease) FROM my_worker._jobs WHERE id = $job"), 't', "$name: and still ends the job");
		$expected = 'done';
	}
	if ($expected ne 'done')
	{
		my $got = answer(qq{SELECT id, lease, attempt FROM my_worker.receive('$queue', wait => '5 s') \\gset
			SELECT done(:id, :lease); SELECT :id, :attempt});
		is($got, "t\n$job|$expected", "$name: the next consumer has it, in attempt $expected");
	}
	is(sql("SELECT status, (SELECT count(*) FROM effects WHERE effects.job = id) FROM my_worker.jobs WHERE id = $job"), 'completed|1',
		"$name: done once");
	# Nothing of it is left for those that come.
	sql("SELECT my_worker.cancel(id) FROM my_queue");
	return;
}

# A session that goes on after the error: its lease is as it was, and another session may end it.
for my $point (qw(lease_begun lease_locked lease_ended lease_released))
{
	next if $ENV{FAULT} && $point !~ /$ENV{FAULT}/;
	my $job = sql("SELECT my_worker.send('q')");
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	my ($id, $lease) = split /\|/, $session->query("SELECT * FROM taken('q', NULL)");
	sql(arm($point, 'error'));
	my $call = $point eq 'lease_released' ? 'my_worker.release' : $point eq 'lease_ended' ? 'done' : 'my_worker.nack';
	$session->query("SELECT $call($id, $lease)");
	ok(eval { wait_happened($point) }, "error at $point in a session that stays");
	is(eval { sql("SELECT done($job, $lease)") } // $@, 't', 'its lease is as it was');
	$session->quit;
	is(sql("SELECT status, attempts, (SELECT count(*) FROM effects WHERE effects.job = id) FROM my_worker.jobs WHERE id = $job"), 'completed|1|1', 'and the job done once');
	sql('SELECT my_worker.cancel(id) FROM my_queue');
}

all_tried($table, qr/^lease/);
all_sound('true');
$node->stop;
done_testing();
