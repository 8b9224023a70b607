# After a crash nobody knows what ran before the launcher has read the marks. A call with unique_mode 'rerun' then takes it that the
# job runs, and adds one that waits until it has ended. A further call cannot know whether that one runs: it waits for
# the launcher, and then replaces it.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_node('main', 'restart_after_crash' => 'on');
sub sql { return $node->safe_psql('postgres', join(' ', @_)) }
add_handlers($node);
my $rerun = q{SELECT my_worker.enqueue('work', unique_key => 'k', unique_mode => 'rerun', run_at => now() + interval '1 hour')};
sql($rerun);

# The pid of the launcher that a crash brings, stopped before it has done anything; undef if it was faster.
sub stopped_launcher
{
	my $start = log_end($node);
	my $postmaster = (split /\n/, PostgreSQL::Test::Utils::slurp_file($node->data_dir . '/postmaster.pid'))[0];
	my ($before) = worker_pids($node, 'launcher');
	kill 'KILL', $before;
	wait_gone($before);
	my $end = time + 30;
	my $found;
	until ($found || time > $end)
	{
		for my $pid (split ' ', PostgreSQL::Test::Utils::slurp_file("/proc/$postmaster/task/$postmaster/children"))
		{
			open my $file, '<', "/proc/$pid/cmdline" or next;
			my $title = <$file> // '';
			next unless $title =~ /my_worker launcher/;
			kill 'STOP', $pid;
			$found = $pid;
		}
	}
	die "no launcher came\n" unless $found;
	wait_log($node, qr/database system is ready to accept connections/, $start);
	# It may have been stopped with a lock that others need: then once more.
	my ($answer, $hangs) = ('', 0);
	until ($answer eq 't' || $hangs || time > $end)
	{
		$node->psql('postgres', 'SELECT true', stdout => \$answer, timeout => 5, timed_out => \$hangs);
		$answer //= '';
	}
	if ($hangs)
	{
		kill 'CONT', $found;
		wait_for($node, 'SELECT true');
		return;
	}
	return $found if sql(q{SELECT status FROM get_worker_stats()}) eq 'launcher not running';
	kill 'CONT', $found;
	return;
}

SKIP:
{
	my $launcher;
	for (1 .. 20) { last if $launcher = stopped_launcher() }
	skip 'the launcher was faster each time', 3 unless $launcher;

	my $second = sql($rerun);
	is(sql("SELECT status FROM my_queue WHERE id = $second"), 'blocked', 'the first call adds a job');
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query_until(qr/begun/, "\\echo begun\n$rerun;\n\\echo done\n");
	wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%rerun%' AND wait_event_type = 'Extension'}, '1');
	pass('the second call waits');
	kill 'CONT', $launcher;
	like($session->query_until(qr/done/, "\n"), qr/^$second$/m, 'and then replaces that job');
	$session->quit;
}
is(sql('SELECT count(*) FROM my_queue'), '2', 'there are two jobs');

$node->stop;
done_testing();
