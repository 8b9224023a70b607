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
# Tests wait for a fact with a deadline (wait_for and what stands on it), or for a line of the log
# ($node->wait_for_log). They sleep only to measure what does not happen meanwhile, or between two blows, and say so. A wait that is given up ends the test file, with what was
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

our @EXPORT = qw(new_node wait_for wait_until worker_pids drained query_error
  add_handlers open_gate job_pid log_end log_has wait_log crash is_alive wait_gone effects_are noted_jobs);

my $DEADLINE = $ENV{PG_TEST_TIMEOUT_DEFAULT} // 60;

# new_node(NAME, SETTING => VALUE, ...): a running server. Keys that start with a dash are options:
#
#   -preload   => 0         without shared_preload_libraries
#   -extension => 0         without CREATE EXTENSION in `postgres`
#   -start     => 0         initialised, not started (so no extension either)
#   -init      => [ ... ]   for PostgreSQL::Test::Cluster's init, e.g. [ allows_streaming => 1 ]
#   -install   => DIR       the programs of another server, in DIR/bin
#
# Cluster.pm sets fsync = off and restart_after_crash = off; a test of crashes says
# `restart_after_crash => 'on'`, one of durability `fsync => 'on'`.
sub new_node
{
	my ($name, %conf) = @_;
	my %option = (-preload => 1, -extension => 1, -start => 1, -init => [], -install => undef);
	for my $key (grep { /^-/ } keys %conf)
	{
		BAIL_OUT("new_node: no option $key") unless exists $option{$key};
		$option{$key} = delete $conf{$key};
	}

	my %settings = (
		'max_worker_processes' => 16,
		'log_statement' => 'none',
		'log_line_prefix' => '%m [%p] %b %e ',
		($option{-preload} ? ('shared_preload_libraries' => 'my_worker') : ()),
		%conf);

	my @install = $option{-install} ? (install_path => $option{-install}) : ();
	my $node = PostgreSQL::Test::Cluster->new($name, @install);
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
	while (1)
	{
		# A server that crashes meanwhile may break the pipe of the query: ask again.
		my $status = eval {
			$node->psql($database, $sql, stdout => \$stdout, stderr => \$stderr,
				timeout => $timeout // $DEADLINE, timed_out => \my $timed_out);
		};
		return 1 if defined $status && $status == 0 && $stdout eq $expected;
		last if time >= $end;
		usleep(50_000);
	}
	give_up($node, $database, "waiting for \"$expected\" from: $sql",
		"saw: $stdout", $stderr ? "stderr: $stderr" : ());
	return;
}

# wait_until(FACT, WHAT): for what no query tells; returns when the sub answers true.
sub wait_until
{
	my ($fact, $what) = @_;
	my $end = time + $DEADLINE;
	until ($fact->())
	{
		die "waited in vain for $what\n" if time >= $end;
		usleep(20_000);
	}
	return 1;
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

# add_handlers(NODE, DATABASE = 'postgres'): what most tests enqueue. `work(bigint, jsonb)` leaves a row
# in `effects`, then does what its payload says: {"gate": name} waits until open_gate(NODE, name),
# {"sleep": seconds}, {"fail": "message"}. A gate is a row, so it outlives a crash; other handlers wait
# at one by gate(name).
sub add_handlers
{
	my ($node, $database) = @_;
	$node->safe_psql($database // 'postgres', q{
		CREATE TABLE effects (job bigint, label text, pid int DEFAULT pg_backend_pid(),
			role text DEFAULT current_user, at timestamptz DEFAULT clock_timestamp());
		CREATE TABLE gates (name text PRIMARY KEY);
		CREATE FUNCTION gate(which text) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			WHILE NOT EXISTS (SELECT FROM gates WHERE name = which) LOOP
				PERFORM pg_sleep(0.01);
			END LOOP;
		END $$;
		CREATE FUNCTION work(id bigint, p jsonb) RETURNS text LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO effects (job, label) VALUES (id, p->>'label');
			PERFORM gate(p->>'gate') WHERE p ? 'gate';
			IF p ? 'sleep' THEN
				PERFORM pg_sleep((p->>'sleep')::float8);
			END IF;
			IF p ? 'fail' THEN
				RAISE EXCEPTION '%', p->>'fail';
			END IF;
			RETURN p->>'label';
		END $$;
		GRANT SELECT, INSERT ON effects TO PUBLIC;
		GRANT SELECT ON gates TO PUBLIC;
		GRANT EXECUTE ON FUNCTION work TO PUBLIC;});
	return;
}

# open_gate(NODE, NAME, DATABASE = 'postgres'): lets jobs with {"gate": NAME} go on.
sub open_gate
{
	my ($node, $name, $database) = @_;
	$node->safe_psql($database // 'postgres', "INSERT INTO gates VALUES ('$name')");
	return;
}

# job_pid(NODE, JOB, DATABASE = 'postgres'): waits until the job runs, and returns its process.
sub job_pid
{
	my ($node, $job, $database) = @_;
	my $sql = "SELECT pid FROM my_worker.jobs WHERE id = $job AND status = 'processing'";
	wait_for($node, "SELECT count(*) = 1 FROM ($sql) AS j WHERE pid IS NOT NULL", 't', undef, $database);
	return $node->safe_psql($database // 'postgres', $sql);
}

# noted_jobs(NODE): the jobs of the notes that outlive a crash (src/pg/marks.rs).
sub noted_jobs
{
	my ($node) = @_;
	my $notes = slurp_file($node->data_dir . '/pg_stat_tmp/my_worker.marks');
	# 24 bytes for each slot, then 8 for each, and the same for 256 notes that are kept: a note begins with its job.
	my $slots = length($notes) / 32 - 256;
	my @places = ((map { 24 * $_ } 0 .. $slots - 1), (map { 32 * $slots + 24 * $_ } 0 .. 255));
	return grep { $_ } map { unpack 'q<', substr($notes, $_, 8) } @places;
}

# effects_are(NODE, COUNT, NAME): as many effects as that, of as many jobs: each exactly once.
sub effects_are
{
	my ($node, $count, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT job) FROM effects'),
		"$count|$count", $name);
}

# log_end(NODE): where the log ends now; log_has(NODE, REGEX, START): how often it matches after START.
sub log_end
{
	my ($node) = @_;
	return -s $node->logfile;
}

sub log_has
{
	my ($node, $regex, $start) = @_;
	my $text = slurp_file($node->logfile, $start // 0);
	return scalar(() = $text =~ /$regex/g);
}

# wait_log(NODE, REGEX, START = 0, COUNT = 1): waits until the log matches so often.
sub wait_log
{
	my ($node, $regex, $start, $count) = @_;
	my $end = time + $DEADLINE;
	while (time < $end)
	{
		return 1 if log_has($node, $regex, $start) >= ($count // 1);
		usleep(20_000);
	}
	give_up($node, 'postgres', "waiting for the log to match $regex");
	return;
}

# crash(NODE, PID): kills a server process the hard way; returns when the server is up again.
sub crash
{
	my ($node, $pid) = @_;
	my $start = log_end($node);
	kill 'KILL', $pid or die "no process $pid to kill\n";
	wait_log($node, qr/all server processes terminated; reinitializing/, $start);
	wait_log($node, qr/database system is ready to accept connections/, $start);
	wait_for($node, 'SELECT true');
	return;
}

sub is_alive
{
	my ($pid) = @_;
	open my $stat, '<', "/proc/$pid/stat" or return 0;
	return <$stat> !~ /\) [ZX] /;
}

# wait_gone(PID, ...): waits until none of the processes is left; returns how many seconds it took.
sub wait_gone
{
	my @pids = @_;
	my $begin = time;
	while (my @left = grep { is_alive($_) } @pids)
	{
		die "still there after $DEADLINE s: @left\n" if time - $begin > $DEADLINE;
		usleep(20_000);
	}
	return time - $begin;
}

1;
