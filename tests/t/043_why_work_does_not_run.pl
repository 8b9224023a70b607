# What the server says of work that does not run, and of the processes that should: why(), and the titles that
# `ps` shows. The reasons that one server can show to one session are in tests/sql/why.sql; a standby's in
# 023_standby.pl, a server's without a free slot in 021_too_few_worker_slots.pl.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_node('why', 'my_worker.naptime' => 3600, 'my_worker.max_workers' => 1, 'my_worker.worker_idle_timeout' => 3600);
add_handlers($node);
$node->safe_psql('postgres', q{CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN;
	SELECT my_worker.grant_usage('alice'), my_worker.grant_usage('bob')});

sub one { return $node->safe_psql('postgres', $_[0]); }
sub why { return one("SELECT my_worker.why($_[0])"); }
# The last line of what a session prints.
sub last_line { return (split /\n/, one($_[0]))[-1]; }

# What `ps` shows of a process, without the cluster's name.
sub title
{
	my ($pid) = @_;
	my $title = slurp_file("/proc/$pid/cmdline") =~ s/\0+\z//r;
	return $title =~ s/^postgres: (?:\w+: )?//r =~ s/\s+\z//r;
}

sub title_becomes
{
	my ($pid, $want, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $end = time + 30;
	usleep(20_000) while title($pid) ne $want && time < $end;
	return is(title($pid), $want, $name);
}

# ---- no worker is free ----

my $busy = one(q{SET ROLE alice; SELECT my_worker.enqueue('work', '{"gate": "a"}')});
my $worker = job_pid($node, $busy);
my $same = one(q{SET ROLE alice; SELECT my_worker.enqueue('work')});
like(why($busy), qr/^running since \S+ \S+ in process $worker$/, 'one runs');
is(why($same), 'no worker is free: 1 of 1 are busy (my_worker.max_workers)', 'no worker is free');
my $beyond = one(q{SET ROLE bob; SELECT my_worker.enqueue('work', '{"gate": "a"}')});
job_pid($node, $beyond);
my $other = one(q{SELECT my_worker.enqueue('work')});
is(why($_), 'no worker is free: 1 of 1 are busy, and the one beyond them that is for roles without a worker (my_worker.max_workers)',
	'nor is the place for roles without a worker') for $same, $other;

# ---- titles ----

SKIP:
{
	skip 'there is no /proc', 10 unless -r "/proc/$worker/cmdline";
	my ($launcher) = worker_pids($node, 'launcher');
	my ($keeper) = worker_pids($node, 'keeper');
	title_becomes($launcher, 'my_worker launcher 1 of 1 workers and one beyond', 'the launcher counts');
	title_becomes($keeper, 'my_worker keeper postgres idle', 'the keeper names its database');
	title_becomes($worker, 'my_worker worker alice postgres running default', 'a worker names its role and queue');
	my $session = $node->background_psql('postgres');
	my ($dynamic) = $session->query_safe("BEGIN; SET LOCAL client_min_messages = warning; SELECT launch_dynamic_worker($other)") =~ /(\d+)/;
	title_becomes($dynamic, "dynamic_worker_$other waiting for commit", 'a dynamic worker waits');
	$session->query_safe('ROLLBACK');
	$session->quit;
	wait_gone($dynamic);
	my $gated = one(q{SET ROLE alice; SELECT my_worker.enqueue('work', '{"gate": "b"}')});
	$dynamic = one("SELECT launch_dynamic_worker($gated)");
	title_becomes($dynamic, "dynamic_worker_$gated alice postgres running default", 'and runs');
	open_gate($node, 'a');
	open_gate($node, 'b');
	is(one("SELECT my_worker.wait($_, '30 s')"), 'completed', 'a job ends') for $busy, $same, $gated, $other, $beyond;
	wait_for($node, q{SELECT every(state = 'idle') FROM my_worker.workers WHERE kind = 'worker'});
	my ($idle) = worker_pids($node, 'worker');
	my $role = one("SELECT role FROM my_worker.workers WHERE pid = $idle");
	title_becomes($idle, "my_worker worker $role postgres idle", 'an idle one says so');
}

# ---- a command that was claimed ----

my $command = one(q{SELECT my_worker.run($$SELECT gate('never')$$)});
wait_for($node, "SELECT status FROM my_queue WHERE id = $command", 'processing');
like(why($command), qr/^running since .* in process \d+$/, 'a command runs');
is(one("SELECT my_worker.cancel($command)"), 't', 'cancelled');
is(one("SELECT my_worker.wait($command, '30 s')"), 'cancelled', 'and ended');
like(why($command), qr/^finished: cancelled at /, 'which why() says');
is(last_line(q{BEGIN; ALTER TABLE my_worker._jobs DISABLE TRIGGER USER;
	INSERT INTO my_queue (id, command, status) VALUES (900001, 'SELECT 1', 'processing'); SELECT my_worker.why(900001); ROLLBACK}),
	'the command was claimed by a process that is gone: the keeper will settle it', 'claimed, and nobody runs it');

# ---- owners ----

is(last_line(q{BEGIN; ALTER TABLE my_worker._jobs DISABLE TRIGGER USER;
	INSERT INTO my_queue (id, handler, owner) VALUES (900002, 'public.work', 987654::oid::regrole); SELECT my_worker.why(900002); ROLLBACK}),
	'its owner was dropped', 'the owner is gone');
is(last_line(q{BEGIN; ALTER ROLE alice NOLOGIN; SET LOCAL ROLE alice;
	CREATE TEMP TABLE t AS SELECT my_worker.enqueue('work') AS id; SELECT my_worker.why(id) FROM t; ROLLBACK}),
	'role "alice" is not permitted to log in', 'the owner may not log in');
is(last_line(q{BEGIN; REVOKE CONNECT ON DATABASE postgres FROM PUBLIC; SET LOCAL ROLE alice;
	CREATE TEMP TABLE t AS SELECT my_worker.enqueue('work') AS id; SELECT my_worker.why(id) FROM t; ROLLBACK}),
	'role "alice" is not permitted to connect to the database', 'the owner may not connect');

# ---- the server ----

one('CREATE DATABASE elsewhere');
my (undef, $out) = $node->psql('elsewhere', q{CREATE EXTENSION my_worker; INSERT INTO my_queue DEFAULT VALUES;
	SELECT my_worker.why(id) FROM my_queue});
is((split /\n/, $out)[-1], 'this database is not served: my_worker.database does not name it', 'a database that is not served');
one('ALTER SYSTEM SET my_worker.enabled = off');
$node->reload;
wait_for($node, 'SHOW my_worker.enabled', 'off');
my $held = one(q{SELECT my_worker.enqueue('work')});
is(why($held), 'workers are disabled: my_worker.enabled is off', 'disabled');
one('ALTER SYSTEM SET my_worker.superuser_jobs = off');
one('ALTER SYSTEM SET my_worker.enabled = on');
$node->restart;
is(last_line(q{BEGIN; CREATE TEMP TABLE t AS SELECT my_worker.enqueue('work') AS id; SELECT my_worker.why(id) FROM t; ROLLBACK}),
	'role "' . one('SELECT current_user') . '" is a superuser, and my_worker.superuser_jobs is off', 'superusers\' jobs are off');
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->restart;
is(last_line(q{INSERT INTO my_queue (queue) VALUES ('default'); SELECT my_worker.why(max(id)) FROM my_queue}),
	'my_worker was not loaded when the server started: add it to shared_preload_libraries and restart', 'not loaded');
$node->stop;
done_testing();
