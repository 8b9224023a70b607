# What the TAP tests of my_worker share: a server with the module preloaded, and waiting for facts.
#
#     use FindBin;
#     use lib $FindBin::RealBin;
#     use MyWorkerTest;
#     use Test::More;
#
#     my $node = new_node('main', 'my_worker.naptime' => 60);
#     $node->safe_psql('postgres', q{INSERT INTO my_queue (handler) VALUES ('work')});
#     drained($node);
#     done_testing();
#
# Tests never sleep: they wait for a fact with a deadline (wait_for and what stands on it), or for a
# line of the log ($node->wait_for_log). A wait that is given up ends the test file, with what was
# seen last and the state of jobs and workers.
#
# The deadline is PG_TEST_TIMEOUT_DEFAULT seconds (60 by tests/run) unless an argument says more.

package MyWorkerTest;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(new_node wait_for worker_pids drained query_error);

my $DEADLINE = $ENV{PG_TEST_TIMEOUT_DEFAULT} // 60;

# new_node(NAME, SETTING => VALUE, ...): a running server. Keys that start with a dash are options:
#
#   -preload   => 0         without shared_preload_libraries
#   -extension => 0         without CREATE EXTENSION in `postgres`
#   -start     => 0         initialised, not started (so no extension either)
#   -init      => [ ... ]   for PostgreSQL::Test::Cluster's init, e.g. [ allows_streaming => 1 ]
#
# Cluster.pm sets fsync = off and restart_after_crash = off; a test of crashes says
# `restart_after_crash => 'on'`, one of durability `fsync => 'on'`.
sub new_node
{
	my ($name, %conf) = @_;
	my %option = (-preload => 1, -extension => 1, -start => 1, -init => []);
	for my $key (grep { /^-/ } keys %conf)
	{
		BAIL_OUT("new_node: no option $key") unless exists $option{$key};
		$option{$key} = delete $conf{$key};
	}

	my %settings = (
		'max_worker_processes' => 16,
		'log_line_prefix' => '%m [%p] %b %e ',
		($option{-preload} ? ('shared_preload_libraries' => 'my_worker') : ()),
		%conf);

	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(extra => [ '--encoding=UTF8', '--no-locale' ], @{ $option{-init} });
	$node->append_conf('postgresql.conf',
		join '', map { "$_ = " . quote_setting($settings{$_}) . "\n" } sort keys %settings);
	return $node unless $option{-start};

	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION my_worker') if $option{-extension};
	return $node;
}

sub quote_setting
{
	my ($value) = @_;
	$value =~ s/'/''/g;
	return "'$value'";
}

# wait_for(NODE, SQL, EXPECTED = 't', TIMEOUT = the deadline, DATABASE = 'postgres'): returns when the
# query prints EXPECTED. A query that fails counts as "not yet": servers restart in tests.
sub wait_for
{
	my ($node, $sql, $expected, $timeout, $database) = @_;
	$expected //= 't';
	$database //= 'postgres';
	my $end = time + ($timeout // $DEADLINE);
	my ($stdout, $stderr);
	local $ENV{PGOPTIONS} = '-c log_statement=none';    # the log is for what happens, not for our looks
	while (1)
	{
		my $status = $node->psql($database, $sql, stdout => \$stdout, stderr => \$stderr,
			timeout => $timeout // $DEADLINE, timed_out => \my $timed_out);
		return 1 if defined $status && $status == 0 && $stdout eq $expected;
		last if time >= $end;
		usleep(50_000);
	}
	give_up($node, $database, "waiting for \"$expected\" from: $sql",
		"saw: $stdout", $stderr ? "stderr: $stderr" : ());
	return;
}

# Ends the test file with what helps to understand it.
sub give_up
{
	my ($node, $database, @facts) = @_;
	diag(@facts > 1 ? join "\n", @facts : @facts);
	for my $sql (
		q{SELECT pid, backend_type, application_name, state, wait_event, left(query, 60) FROM pg_stat_activity},
		q{SELECT * FROM my_worker.workers},
		q{SELECT id, queue, status, handler, run_at, attempts, left(last_error, 60) FROM my_queue ORDER BY id LIMIT 20})
	{
		my ($status, $stdout) = $node->psql($database, $sql);
		diag("$sql\n$stdout") if defined $stdout && $stdout ne '';
	}
	die "gave up $facts[0]\n";
}

# worker_pids(NODE, KIND): the pids of my_worker's processes, sorted; of one kind (`launcher`,
# `worker`, `dynamic`, ...) if one is given, else of launcher and pool.
sub worker_pids
{
	my ($node, $kind) = @_;
	my $sql = defined $kind
	  ? "SELECT pid FROM my_worker.workers WHERE kind = '$kind' AND pid IS NOT NULL ORDER BY pid"
	  : q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'my_custom_worker' ORDER BY pid};
	return split /\n/, $node->safe_psql('postgres', $sql);
}

# drained(NODE, TIMEOUT, DATABASE): waits until no job that is due is left. Jobs that wait for their
# time, also for a next attempt, do not count; jobs that nobody will run never drain.
sub drained
{
	my ($node, $timeout, $database) = @_;
	return wait_for($node, 'SELECT count(*) FROM my_queue WHERE run_at <= clock_timestamp()',
		'0', $timeout, $database);
}

# query_error(NODE, SQL, DATABASE = 'postgres'): runs a statement that must fail and returns
# "SQLSTATE: message", with detail and hint on further lines; '' if it did not fail.
sub query_error
{
	my ($node, $sql, $database) = @_;
	my ($status, undef, $stderr) =
	  $node->psql($database // 'postgres', "\\set VERBOSITY verbose\n$sql", on_error_stop => 1);
	return '' if $status == 0;
	$stderr =~ s/^psql:[^:]*:\d+: //mg;
	$stderr =~ s/^(?:ERROR|FATAL):\s+//m;
	$stderr =~ s/^LOCATION:.*\n?//mg;
	return $stderr;
}

1;
