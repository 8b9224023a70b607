# What the tests of injected faults share: a server whose module was built with the feature `faults`, and one fault at a
# time.
#
# A fault is "POINT ACTION": src/pg/fault/armed.rs lists both. A test arms it, does what leads to the point, and looks
# what became of the job. What docs/safety.md promises holds after each.

package MyWorkerFaults;

use strict;
use warnings;

use Exporter 'import';
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(faulty_node sql try_sql answer start_sql until_sql arm wait_happened waits go_on each_fault all_tried all_sound);

my ($node, %tried);
# The checkpointer from before a crash; 0: no crash is armed.
my $before_crash = 0;

# faulty_node(NAME, SETTING => VALUE, ...): a running server with handlers that leave an effect.
sub faulty_node
{
	my ($name, %conf) = @_;
	plan skip_all => 'the module was not built with faults (tests/run does it)' unless $ENV{FAULTS_INSTALL};
	$node = new_node($name, -install => $ENV{FAULTS_INSTALL}, 'restart_after_crash' => 'on',
		'my_worker.naptime' => 1, 'shared_buffers' => '16MB', 'log_min_messages' => 'fatal', %conf);
	add_handlers($node);
	sql(q{CREATE FUNCTION fault(text) RETURNS text AS '$libdir/my_worker', 'mw_fault' LANGUAGE C STRICT});
	return $node;
}

# sql(SQL, ...): the answer, also of a server that comes back from a crash meanwhile. What is asked so may be asked twice.
sub sql
{
	my $sql = join ' ', @_;
	my ($status, $out, $err);
	for (my $end = time + 30; ; usleep(20_000))
	{
		# Writing to a psql that found no server fails, too.
		eval { ($status, $out, $err) = $node->psql('postgres', $sql, timeout => 30, timed_out => \my $late); 1 } or $status = 2;
		last if $status != 2 || time >= $end;
	}
	die "$sql: $err\n" if $status != 0;
	return $out;
}

# try_sql(SQL): what a session is told for which a fault is armed: its answer, or the error. The server may go down.
sub try_sql
{
	my ($out, $err) = ('', '');
	eval { $node->psql('postgres', join(' ', @_), stdout => \$out, stderr => \$err, timeout => 30, timed_out => \my $late) };
	return $err =~ /(?:ERROR|FATAL):\s+(.*)/ ? $1 : $err =~ /server closed|connection/ ? 'lost' : $out;
}

# answer(SQL): the same, once the server that restarts takes connections.
sub answer
{
	my $out;
	for (1 .. 300)
	{
		$out = try_sql(@_);
		last if $out !~ /in recovery mode|not yet accepting connections|starting up/;
		usleep(200_000);
	}
	return $out;
}

# start_sql(SQL): the same in a session that goes on meanwhile; `quit` ends it.
sub start_sql
{
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query_until(qr/begun/, join(' ', '\\echo begun', "\n", @_, ";\n"));
	return $session;
}

# until_sql(SQL, EXPECTED = 't'): waits until the query answers so. The server may restart meanwhile.
sub until_sql { return wait_for($node, $_[0], $_[1] // 't', $ENV{PG_TEST_TIMEOUT_DEFAULT} // 60) }

# arm(POINT, ACTION, TIMES = 1): what is enqueued next meets it.
sub arm
{
	my ($point, $action, $times) = @_;
	$times //= 1;
	$tried{$point}{$action} = 1;
	# With a crash all processes but the postmaster are new.
	$before_crash = $action eq 'crash' ? sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'}) : 0;
	return "SELECT fault('$point $action $times')";
}

# wait_happened(POINT, TIMES = 1): the fault has happened. A server that it took down is up again.
sub wait_happened
{
	my ($point, $times) = @_;
	$times //= 1;
	return until_sql("SELECT fault('happened $point') = '$times'
		AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'checkpointer' AND pid = $before_crash)");
}

sub waits { return until_sql("SELECT fault('waiting $_[0]') <> '0'") }
sub go_on { return sql("SELECT fault('clear $_[0]')") }

# each_fault(TABLE, LEAD_TO): goes through a table of lines "POINT LEAD ACTION=END ...". LEAD_TO(POINT, ACTION, LEAD) arms
# the fault, does what leads to the point, and answers the job. END is its status, attempts and effects, as in "pending|1|0";
# "2" is short for "completed|2|1". FAULT=marked in the environment has some points tried alone.
sub each_fault
{
	my ($table, $lead_to, %meanwhile) = @_;
	for my $line (split /\n/, $table)
	{
		my ($point, $lead, @ends) = split ' ', $line;
		next unless defined $point && $point !~ /^#/ && (!$ENV{FAULT} || $point =~ /$ENV{FAULT}/);
		for my $end (@ends)
		{
			my ($action, $expected) = $end =~ /^(\w+)=(.*)/;
			$expected = "completed|$expected|1" if $expected =~ /^\d+$/;
			my $name = "$action at $point ($lead)";
			my $job = $lead_to->($point, $action, $lead);
			my $met = eval {
				waits($point) if $action eq 'wait';
				$meanwhile{$lead}->() if $action eq 'wait' && $meanwhile{$lead};
				go_on($point) if $action eq 'wait';
				wait_happened($point);
			};
			fail("$name happens"), go_on($point) unless $met;
			ends_as($job, $expected, $name);
		}
	}
	return;
}

sub ends_as
{
	my ($job, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 2;
	my $state = "SELECT status || '|' || attempts || '|' || (SELECT count(*) FROM effects WHERE effects.job = id) FROM my_worker.jobs WHERE id = $job";
	my $ended = eval { until_sql($state, $expected) };
	is($ended ? $expected : sql("SELECT ($state) || ' ' || coalesce(errors::text, '') FROM my_worker.jobs WHERE id = $job"), $expected, $name);
	return;
}

# all_sound(LEFT): what holds after all of them. LEFT is a condition on jobs that may not be left.
sub all_sound
{
	my ($left) = @_;
	# Processes that are between two jobs hold nothing: no lock, no permit, no key, no lease.
	ok(eval { until_sql(q{SELECT count(*) = 0 FROM my_worker.workers WHERE job_id IS NOT NULL OR kind = 'consumer'}) }, 'no process has a job');
	is(sql(q{SELECT count(*) FROM (SELECT FROM effects WHERE job IS NOT NULL GROUP BY job HAVING count(*) > 1) AS e}), '0',
		'no effect is there twice');
	is(sql("SELECT count(*) FROM my_queue WHERE $left"), '0', 'nothing is left in the queues');
	ok(eval { until_sql(q{SELECT count(*) = 0 FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
		WHERE a.backend_type = 'my_custom_worker' AND l.locktype <> 'virtualxid'}) }, 'no process of ours holds a lock');
	# What was noted of jobs for a crash does not outlast them: a restart charges nobody.
	sql(q{SELECT my_worker.pause_queue('plain')});
	my $job = sql(q{SELECT my_worker.enqueue('work', queue => 'plain')});
	$node->restart;
	sql(q{SELECT my_worker.resume_queue('plain')});
	ends_as($job, 'completed|1|1', 'work goes on after a restart');
	return;
}

# all_tried(TABLE, POINTS): no point of that name is left out.
sub all_tried
{
	my ($table, $points) = @_;
	my @left = grep { /$points/ && !$tried{$_} } split / /, sql(q{SELECT fault('points')});
	is("@left", '', 'no point was left out') unless $ENV{FAULT};
	return;
}

1;
