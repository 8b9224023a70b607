# No role holds all workers: while long jobs of one role have all regular places, another role's due job
# starts at once. And a cap on the workers of one role, in all databases.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('roles', 'my_worker.naptime' => 3600, 'my_worker.database' => 'postgres, other',
	'max_worker_processes' => 20);
my @roles = qw(alice bob carol);
$node->safe_psql('postgres', "CREATE ROLE $_ LOGIN; SELECT my_worker.grant_usage('$_')") for @roles;
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION my_worker');
$node->safe_psql('other', "SELECT my_worker.grant_usage('$_')") for @roles;
add_handlers($node, $_) for qw(postgres other);

sub enqueue
{
	my ($role, $payload, $database) = @_;
	return $node->safe_psql($database // 'postgres', "SET ROLE $role; SELECT my_worker.enqueue('work', '$payload')");
}

sub running
{
	my ($role) = @_;
	return $node->safe_psql('postgres', "SELECT count(*) FROM my_worker.workers WHERE kind = 'worker' AND role = '$role' AND job_id IS NOT NULL");
}

# Enqueues a job of a role, and says how long it takes to start.
sub starts_soon
{
	my ($role, $payload, $database, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $begin = time;
	my $job = enqueue($role, $payload, $database);
	wait_for($node, "SELECT status <> 'pending' FROM my_worker.jobs WHERE id = $job", 't', 10, $database);
	my $took = time - $begin;
	cmp_ok($took, '<', 5, sprintf('%s (%.2f s)', $name, $took));
	return $job;
}

# ---- long jobs of one role: handlers, commands, in one database and in two ----

for my $case (
	[ 'handlers', q{SELECT count(my_worker.enqueue('work', '{"gate": "long"}')) FROM generate_series(1, %d)} ],
	[ 'commands', q{SELECT count(my_worker.run('DO $c$BEGIN LOOP EXIT WHEN EXISTS (SELECT FROM public.gates); PERFORM pg_sleep(0.05); END LOOP; END$c$')) FROM generate_series(1, %d)} ])
{
	my ($kind, $sql) = @$case;
	$node->safe_psql('postgres', 'SET ROLE alice; ' . sprintf $sql, 6);
	wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE role = 'alice' AND job_id IS NOT NULL}, '4');
	starts_soon('bob', '{}', 'postgres', "four long $kind of one role: another role's job starts");
	starts_soon('carol', '{}', 'postgres', 'then that of a third role');
	starts_soon('bob', '{}', 'other', 'also in another database');
	is(running('alice'), 4, 'the first role has its four workers');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM my_worker.jobs WHERE owner = 'alice'::regrole AND status = 'pending'}), '2',
		'and no more');
	open_gate($node, 'long');
	drained($node);
	$node->safe_psql('postgres', 'DELETE FROM gates');
}

# ---- all places and the one beyond are taken: it is said ----

enqueue('alice', '{"gate": "a"}') for 1 .. 4;
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE role = 'alice' AND job_id IS NOT NULL}, '4');
my $same = enqueue('alice', '{}');
is($node->safe_psql('postgres', "SELECT my_worker.why($same)"), 'no worker is free: 4 of 4 are busy (my_worker.max_workers)',
	'why() of a job whose role has workers');
starts_soon('bob', '{"gate": "b"}', 'postgres', 'another role has the place beyond');
my $third = enqueue('carol', '{}');
is($node->safe_psql('postgres', "SELECT my_worker.why($third)"),
	'no worker is free: 4 of 4 are busy, and the one beyond them that is for roles without a worker (my_worker.max_workers)',
	'why() says when that is taken, too');
like($node->safe_psql('postgres', q{SELECT detail FROM my_worker.health() WHERE "check" = 'slots'}),
	qr/^4 of 4 workers, \d+ slots free; the one beyond them is in use, too$/, 'and so does health()');
open_gate($node, 'b');
is($node->safe_psql('postgres', "SELECT my_worker.wait($third, '5 s')"), 'completed', 'when it is free again, the next role has it');
open_gate($node, 'a');
drained($node);

# ---- a cap for each role ----

$node->safe_psql('postgres', 'ALTER SYSTEM SET my_worker.max_workers_per_role = 2; SELECT pg_reload_conf(); DELETE FROM gates');
wait_for($node, 'SHOW my_worker.max_workers_per_role', '2');
wait_for($node, q{SELECT count(*) <= 2 FROM my_worker.workers WHERE kind = 'worker' AND role = 'alice'});
enqueue('alice', '{"gate": "c"}') for 1 .. 3;
enqueue('alice', '{"gate": "c"}', 'other');
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE role = 'alice' AND job_id IS NOT NULL}, '2');
my $capped = enqueue('alice', '{}');
starts_soon('bob', '{}', 'postgres', 'a role at its cap leaves room');
is($node->safe_psql('postgres', q{SELECT count(*) FROM my_worker.workers WHERE kind = 'worker' AND role = 'alice'}), '2',
	'two workers of the role, of all databases');
is($node->safe_psql('postgres', "SELECT my_worker.why($capped)"),
	'its role has as many workers as it may have: 2 of 2 (my_worker.max_workers_per_role)', 'why() names the cap');
like($node->safe_psql('postgres', q{SELECT detail FROM my_worker.health() WHERE "check" = 'slots'}),
	qr/; 1 roles have max_workers_per_role$/, 'and so does health()');
open_gate($node, 'c', $_) for qw(postgres other);
drained($node, undef, $_) for qw(postgres other);

# The cap is lowered while both are busy: one of them leaves after its job.
$node->safe_psql('postgres', 'DELETE FROM gates');
enqueue('alice', '{"gate": "d"}') for 1 .. 2;
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE role = 'alice' AND job_id IS NOT NULL}, '2');
$node->safe_psql('postgres', 'ALTER SYSTEM SET my_worker.max_workers_per_role = 1; SELECT pg_reload_conf()');
open_gate($node, 'd');
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'worker' AND role = 'alice'}, '1');
pass('a lowered cap is kept');
is($node->safe_psql('postgres', q{SELECT count(*) FROM my_worker.history WHERE status <> 'completed' OR attempts > 1}), '0',
	'no job was charged for it');
is(log_has($node, qr/PANIC|terminated by signal|XX000/), 0, 'no crash, no internal error');

$node->stop;
done_testing();
