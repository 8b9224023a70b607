# The claim of a command is flushed to disk before the command does anything that others could notice, and not before. So
# one that has only read or computed may run again after a crash of the whole machine; any other runs at most once. What
# wait() has answered holds.
#
# The WAL writer is stopped here, so that nobody but the commands flushes. A crash of the machine is an immediate stop after which
# the file of marks is gone.
#
# Part of `make test-long`.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('quiet', 'my_worker.max_workers' => 1, 'my_worker.naptime' => 3600, 'restart_after_crash' => 'on',
	'autovacuum' => 'off', 'checkpoint_timeout' => '1h', 'my_worker.worker_idle_timeout' => 600);
add_handlers($node);
my $file = PostgreSQL::Test::Utils::tempdir() . '/outside';
$node->safe_psql('postgres', q{
	CREATE EXTENSION file_fdw;
	CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
	CREATE FOREIGN TABLE far (line text) SERVER files OPTIONS (filename '/dev/null');
	CREATE TABLE near (i integer);
	CREATE TABLE guarded (i integer);
	CREATE FUNCTION nothing() RETURNS integer LANGUAGE plpgsql AS $$ BEGIN RETURN count(*) FROM near; END $$;
	CREATE FUNCTION locks() RETURNS integer LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_lock(1); RETURN 1; END $$;
	CREATE FUNCTION locks_in_sql() RETURNS integer LANGUAGE sql AS $$ SELECT locks() $$;
	CREATE FUNCTION terminates(integer, bigint) RETURNS boolean LANGUAGE internal AS 'pg_terminate_backend' IMMUTABLE;
	CREATE FUNCTION no_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
	CREATE TRIGGER guard BEFORE INSERT ON guarded FOR EACH ROW EXECUTE FUNCTION no_change();
	CREATE DOMAIN checked AS integer CHECK (VALUE = locks());
	CREATE VIEW calls AS SELECT locks() AS i;
	CREATE PROCEDURE copies() LANGUAGE plpgsql AS $$ BEGIN COPY (SELECT 1) TO '/dev/null'; END $$;
	CREATE PROCEDURE reads() LANGUAGE plpgsql AS $$ BEGIN PERFORM nothing(); END $$});

my @stopped;

sub stop_wal_writer
{
	@stopped = split /\n/, $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'});
	kill 'STOP', @stopped;
	return;
}

sub run { my ($command) = @_; return $node->safe_psql('postgres', q{SELECT my_worker.run($sql$} . $command . q{$sql$)}) }

# Waits until the job stands at its gate.
sub at_gate
{
	my ($job) = @_;
	my $pid = job_pid($node, $job);
	wait_for($node, "SELECT wait_event FROM pg_stat_activity WHERE pid = $pid", 'PgSleep');
	return $pid;
}

# A claim is longer than that.
sub is_flushed { return $node->safe_psql('postgres', 'SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), pg_current_wal_flush_lsn()) < 200') }

sub crash_machine
{
	$node->stop('immediate');
	unlink $node->data_dir . '/pg_stat_tmp/my_worker.marks';
	$node->start;
	return;
}

# What flushes the claim. Each stands before a gate in the same text.
my %texts = (
	f => ['SELECT 1', 'SELECT count(*) FROM near', 'SELECT nothing()', 'CALL reads()', q{SET work_mem = '5MB'},
		'UPDATE near SET i = 1', 'BEGIN; SELECT 1; COMMIT', 'SELECT clock_timestamp(), random()'],
	t => ['SELECT pg_advisory_lock(1)', 'SELECT locks()', 'SELECT locks_in_sql()', 'SELECT * FROM calls', 'SELECT 1::checked', 'SELECT terminates(0, 0)',
		'SELECT * FROM far', 'INSERT INTO guarded VALUES (1)', 'CALL copies()', q{COPY (SELECT 1) TO PROGRAM 'cat > /dev/null'}, 'NOTIFY a', q{SELECT pg_notify('a', 'b')},
		'SELECT my_worker.current_job()', 'EXPLAIN ANALYZE SELECT 1', 'VALUES (1), (locks())', 'SELECT 1 ORDER BY locks()', 'SELECT sum(locks()) OVER ()',
		'DO $$ BEGIN END $$']);
# Unless the server was built without XML.
push @{ $texts{t} }, q{SELECT schema_to_xml('public', true, true, '')} if $node->psql('postgres', q{SELECT '<a/>'::xml}) == 0;
my $n = 0;
stop_wal_writer();
for my $flushed ('f', 't')
{
	for my $text (@{ $texts{$flushed} })
	{
		my $gate = 'text' . ++$n;
		my $job = run("$text; SELECT gate('$gate')");
		at_gate($job);
		is(is_flushed(), $flushed, ($flushed eq 't' ? 'flushed before: ' : 'not flushed for: ') . $text);
		open_gate($node, $gate);
		is($node->safe_psql('postgres', "SELECT my_worker.wait($job, '60 s')"), 'completed', 'completed');
	}
}
kill 'CONT', @stopped;

# The machine crashes in the middle of one that reaches out.
stop_wal_writer();
$node->safe_psql('postgres', q{SELECT my_worker.pause_queue('default')});
my @before = map { run('SELECT 1') } 1 .. 3;
my $outside = run(qq{COPY (SELECT 1) TO PROGRAM 'cat >> $file; echo \$\$ > $file.pid; exec sleep 600'});
$node->safe_psql('postgres', q{SELECT my_worker.resume_queue('default')});
wait_for($node, "SELECT length(pg_read_file('$file.pid')) > 1", 't');
crash_machine();
kill 'KILL', slurp_file("$file.pid") + 0;
my $of = sub { my $ids = join ',', @_; return "SELECT string_agg(DISTINCT status, ',') FROM my_worker.history WHERE id IN ($ids)" };
wait_for($node, 'SELECT count(*) FROM my_queue', '0');
is($node->safe_psql('postgres', $of->($outside)), 'failed', 'what reached out before a crash of the machine has failed');
is(slurp_file($file), "1\n", 'and was done once');
is($node->safe_psql('postgres', $of->(@before)), 'completed', 'what came before it has completed');

# The machine crashes in the middle of one that reads, behind others and one that writes.
sub start_reading
{
	my ($gate) = @_;
	stop_wal_writer();
	$node->safe_psql('postgres', q{TRUNCATE my_worker.history; SELECT my_worker.pause_queue('default')});
	my @jobs = (run('INSERT INTO near VALUES (7)'), (map { run('SELECT nothing()') } 1 .. 3), run("SELECT gate('$gate')"));
	$node->safe_psql('postgres', q{SELECT my_worker.resume_queue('default')});
	at_gate($jobs[-1]);
	is(is_flushed(), 'f', 'the disk does not know that it runs');
	return @jobs;
}
my @jobs = start_reading('reads');
crash_machine();
is($node->safe_psql('postgres', $of->($jobs[0])), 'completed', 'the end of what has written outlives a crash of the machine');
at_gate($jobs[-1]);
open_gate($node, 'reads');
wait_for($node, 'SELECT count(*) FROM my_queue', '0');
# The disk had the end of the first one, and where it was the same transaction, the claim of the next: for the disk that one was running.
my $failed = $node->safe_psql('postgres', "SELECT count(*) FILTER (WHERE status <> 'completed'), count(*) FILTER (WHERE status <> 'completed' AND id <> $jobs[1]) FROM my_worker.history WHERE id >= $jobs[0]");
like($failed, qr/^[01]\|0$/, 'what has only read runs again, but for one that ran as far as the disk knew');
is($node->safe_psql('postgres', 'SELECT count(*) FROM near WHERE i = 7'), '1', 'and what has written does not');

# What wait() has answered is on disk.
@jobs = start_reading('answered');
is($node->safe_psql('postgres', "SELECT my_worker.wait($jobs[3], '60 s')"), 'completed', 'one before it has completed');
my $ended = "SELECT finished_at FROM my_worker.history WHERE id = $jobs[3]";
my $known = $node->safe_psql('postgres', $ended);
crash_machine();
is($node->safe_psql('postgres', $ended), $known, 'what wait() has answered holds after a crash of the machine');
open_gate($node, 'answered');
wait_for($node, 'SELECT count(*) FROM my_queue', '0');

# Where the process itself dies, the mark outlives it, and the job is charged.
stop_wal_writer();
my $dies = run(q{SELECT gate('dies')});
crash($node, at_gate($dies));
is($node->safe_psql('postgres', "SELECT my_worker.wait($dies, '60 s')"), 'failed', 'one whose process dies is charged, also without its claim');
like($node->safe_psql('postgres', "SELECT last_error FROM my_worker.history WHERE id = $dies"), qr/worker process died/, 'for that');

$node->stop;
done_testing();
