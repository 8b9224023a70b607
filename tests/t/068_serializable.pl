# Roles whose transactions are serializable, or keep one snapshot: a conflict is charged to the job whose
# statement met it, with its backoff, and to no neighbour; what else others do to the queue is none.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('serializable', 'my_worker.naptime' => 1);
add_handlers($node);
$node->safe_psql('postgres', q{
	CREATE TABLE accounts (id int PRIMARY KEY, amount int); INSERT INTO accounts VALUES (1, 0), (2, 0);
	GRANT ALL ON accounts TO PUBLIC;
	-- Its first run meets a conflict with a change that is committed meanwhile.
	CREATE FUNCTION conflict(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM amount FROM accounts;
		PERFORM pg_advisory_xact_lock_shared(7);
		UPDATE accounts SET amount = amount + 1 WHERE accounts.id = 1;
	END $$;
	SELECT my_worker.create_queue('q', max_attempts => 3, backoff => '0')});

for my $level ('repeatable read', 'serializable')
{
	my $role = $level =~ s/ /_/r;
	my $log = log_end($node);
	$node->safe_psql('postgres', qq{CREATE ROLE $role LOGIN; ALTER ROLE $role SET default_transaction_isolation = '$level';
		SELECT my_worker.grant_usage('$role'); GRANT USAGE ON SCHEMA public TO $role; TRUNCATE effects});
	my $holder = $node->background_psql('postgres');
	$holder->query_safe('SELECT pg_advisory_lock(7)');
	my ($first, $second) = map { $node->safe_psql('postgres', qq{SET SESSION AUTHORIZATION $role;
		SELECT my_worker.enqueue('conflict', '{}', 'q')}) } 1 .. 2;
	job_pid($node, $_) for $first, $second;
	my @neighbours = split /\n/, $node->safe_psql('postgres', qq{SET SESSION AUTHORIZATION $role;
		SELECT my_worker.enqueue('work', '{}', 'q') FROM generate_series(1, 30)});
	$node->safe_psql('postgres', 'UPDATE accounts SET amount = 0 WHERE id = 1');
	$holder->quit;
	drained($node);
	is($node->safe_psql('postgres', "SELECT string_agg(status, ' ') FROM my_worker.history WHERE id IN ($first, $second)"), 'completed completed',
		"$level: jobs with a conflict end well");
	is($node->safe_psql('postgres', "SELECT min(attempts) > 1, max(errors->0->>'sqlstate') FROM my_worker.history WHERE id IN ($first, $second)"), 't|40001',
		'in another attempt, since the conflict was charged');
	is($node->safe_psql('postgres', 'SELECT amount FROM accounts WHERE id = 1'), '2', 'each once');
	is($node->safe_psql('postgres', "SELECT count(*), max(attempts) FROM my_worker.history WHERE owner = '$role'::regrole AND handler = 'public.work(bigint, jsonb)'"), '30|1',
		'its neighbours are not charged');
	is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT job) FROM effects'), '30|30', 'and ran once');

	# What always fails, in a doomed transaction, fails for good; a batch handler's and a launched job do, too.
	$node->safe_psql('postgres', qq{CREATE OR REPLACE FUNCTION lost(bigint[], jsonb[]) RETURNS void LANGUAGE plpgsql AS \$\$
		BEGIN RAISE serialization_failure; END \$\$});
	my $lost = $node->safe_psql('postgres', qq{SET SESSION AUTHORIZATION $role; SELECT my_worker.enqueue('lost', '{}', 'q')});
	is($node->safe_psql('postgres', "SELECT my_worker.wait($lost, '30 s')"), 'failed', 'a job that always fails has an end');
	is($node->safe_psql('postgres', "SELECT attempts, jsonb_array_length(errors) FROM my_worker.history WHERE id = $lost"), '3|3', 'after all its attempts');
	my $launched = $node->safe_psql('postgres', qq{SET SESSION AUTHORIZATION $role;
		SELECT my_worker.enqueue('work', '{"fail": "no"}', 'q', run_at => 'infinity', max_attempts => 1)});
	$node->safe_psql('postgres', qq{SET SESSION AUTHORIZATION $role; SELECT launch_dynamic_worker($launched)});
	is($node->safe_psql('postgres', "SELECT my_worker.wait($launched, '30 s')"), 'failed', 'a launched one, too');

	# Cancelled in the middle, it ends as cancelled.
	my $cancelled = $node->safe_psql('postgres', qq{SET SESSION AUTHORIZATION $role; SELECT my_worker.enqueue('work', '{"gate": "never"}', 'q')});
	job_pid($node, $cancelled);
	is($node->safe_psql('postgres', "SELECT my_worker.cancel($cancelled)"), 't', 'one that runs can be cancelled');
	is($node->safe_psql('postgres', "SELECT my_worker.wait($cancelled, '30 s')"), 'cancelled', 'and is');

	# Several workers at one queue, which all of them read and change.
	$node->safe_psql('postgres', qq{SET SESSION AUTHORIZATION $role; SELECT count(my_worker.enqueue('work', '{"sleep": 0.005}', 'q')) FROM generate_series(1, 200)});
	$node->safe_psql('postgres', qq{SET SESSION AUTHORIZATION $role; SELECT count(my_worker.run('SELECT 1', 'q')) FROM generate_series(1, 40)});
	drained($node);
	is($node->safe_psql('postgres', "SELECT count(*) FROM my_worker.history WHERE owner = '$role'::regrole AND status = 'completed' AND attempts > 1 AND handler IS DISTINCT FROM 'public.conflict(bigint, jsonb)'"),
		'0', 'the queue itself is no conflict');
	is(log_has($node, qr/exited with exit code 1/, $log), 0, 'no worker has died');
}

# Whoever has read the queue, in a transaction that is still open, makes the end of a job a conflict: it is
# charged to the job, and its worker goes on.
my $log = log_end($node);
$node->safe_psql('postgres', q{
	CREATE FUNCTION reads(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM amount FROM accounts;
		PERFORM pg_advisory_xact_lock_shared(8);
	END $$});
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(8)');
my @reads;
for my $launched (0, 1)
{
	push @reads, $node->safe_psql('postgres', q{SET SESSION AUTHORIZATION serializable;
		SELECT my_worker.enqueue('reads', '{}', 'q', run_at => } . ($launched ? q{'infinity')} : 'now())'));
	$node->safe_psql('postgres', "SET SESSION AUTHORIZATION serializable; SELECT launch_dynamic_worker($reads[-1])") if $launched;
	job_pid($node, $reads[-1]);
}
my $reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN ISOLATION LEVEL SERIALIZABLE');
$reader->query_safe('SELECT count(*) FROM my_queue');
$node->safe_psql('postgres', 'BEGIN ISOLATION LEVEL SERIALIZABLE; UPDATE accounts SET amount = amount + 1; COMMIT');
$holder->quit;
drained($node);
$reader->query_safe('COMMIT');
$reader->quit;
is($node->safe_psql('postgres', "SELECT status, attempts, errors->0->>'sqlstate' FROM my_worker.history WHERE id = $_"), 'completed|2|40001',
	'a conflict at the very end is charged') for @reads;
is(log_has($node, qr/ERROR:|exited with exit code 1/, $log), 0, 'and no worker has died of it');

$node->stop;
done_testing();
