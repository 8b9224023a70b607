# my_worker.max_waiting_per_role: a role's jobs in the queue of a database, however they come.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('most', 'my_worker.naptime' => 3600, 'my_worker.enabled' => 'off');
add_handlers($node);
$node->safe_psql('postgres', "CREATE ROLE $_ LOGIN; SELECT my_worker.grant_usage('$_')") for qw(alice bob);
$node->safe_psql('postgres', q{SET ROLE alice; SELECT count(my_worker.enqueue('work')) FROM generate_series(1, 30)});
pass('no limit by default');
$node->safe_psql('postgres', q{
	SELECT my_worker.purge_queue('default');
	ALTER SYSTEM SET my_worker.max_waiting_per_role = 10; SELECT pg_reload_conf()});
wait_for($node, 'SHOW my_worker.max_waiting_per_role', '10');

sub as_alice
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', "SET ROLE alice; $sql");
}

sub waiting
{
	my ($role) = @_;
	return $node->safe_psql('postgres', sprintf q{SELECT count(*) FROM my_queue WHERE owner = '%s'::regrole}, $role // 'alice');
}

sub one_goes { return as_alice('SELECT my_worker.cancel(max(id)) FROM my_queue') }
sub all_go { return as_alice('SELECT my_worker.cancel(id) FROM my_queue') }

my $refused = qr/^53400: role "alice" has as many jobs in the queue as it may have: 10.*HINT: .*my_worker\.max_waiting_per_role/s;
my @ways = (
	[ 'enqueue()', q{SELECT my_worker.enqueue('work')} ],
	[ 'enqueue() of a later job', q{SELECT my_worker.enqueue('work', run_at := now() + '1 day')} ],
	[ 'enqueue_many()', q{SELECT my_worker.enqueue_many('work', ARRAY['{}', '{}']::jsonb[])} ],
	[ 'run()', q{SELECT my_worker.run('SELECT 1')} ],
	[ 'INSERT', q{INSERT INTO my_queue (handler) VALUES ('work')} ],
	[ 'COPY', "COPY my_queue (handler) FROM STDIN;\nwork\n\\.\n" ]);

# ---- exactly so many ----

as_alice(q{SELECT count(my_worker.enqueue('work')) FROM generate_series(1, 10)});
is(waiting(), 10, 'as many as the limit');
like(query_error($node, "SET ROLE alice;\n$_->[1]"), $refused, "one more by $_->[0]") for @ways;
is(waiting(), 10, 'none came');
$node->safe_psql('postgres', q{SET ROLE bob; SELECT my_worker.enqueue('work')});
is(waiting('bob'), 1, 'another role is not concerned');
one_goes();
for my $way (grep { $_->[0] ne 'enqueue_many()' } @ways)
{
	as_alice("\n$way->[1]");
	is(waiting(), 10, "one has gone: one comes by $way->[0]");
	one_goes();
}
like(query_error($node, "SET ROLE alice; $ways[2][1]"), $refused, 'two are too many');
is(waiting(), 9, 'and neither comes');

# ---- within one statement and one transaction, with savepoints ----

all_go();
like(query_error($node, q{SET ROLE alice; INSERT INTO my_queue (handler) SELECT 'work' FROM generate_series(1, 11)}), $refused,
	'eleven rows of one INSERT');
like(query_error($node, q{SET ROLE alice; SELECT my_worker.enqueue('work') FROM generate_series(1, 11)}), $refused, 'eleven calls');
like(query_error($node, "SET ROLE alice;\nCOPY my_queue (handler) FROM STDIN;\n" . "work\n" x 11 . "\\.\n"), $refused, 'eleven lines of COPY');
like(query_error($node, q{SET ROLE alice; SELECT my_worker.enqueue_many('work', array_fill('{}'::jsonb, ARRAY[11]))}), $refused,
	'eleven payloads');
is(waiting(), 0, 'none of them came');
as_alice(q{
	BEGIN;
	SELECT my_worker.enqueue('work') FROM generate_series(1, 5);
	SAVEPOINT a;
	SELECT my_worker.enqueue('work') FROM generate_series(1, 5);
	ROLLBACK TO a;
	SELECT my_worker.enqueue('work') FROM generate_series(1, 3);
	SAVEPOINT b;
	SELECT my_worker.enqueue('work') FROM generate_series(1, 2);
	RELEASE b;
	COMMIT;});
is(waiting(), 10, 'what was rolled back does not count');
all_go();
# An exception block for each row, in the statement that inserts.
$node->safe_psql('postgres', q{
	CREATE FUNCTION caught() RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		BEGIN PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN RETURN 'work'; END;
	END $$;});
like(query_error($node, q{SET ROLE alice; INSERT INTO my_queue (handler) SELECT caught() FROM generate_series(1, 11)}), $refused,
	'subtransactions within the statement hide nothing');
is($node->safe_psql('postgres', q{SET ROLE alice; DO $$
	DECLARE came int := 0;
	BEGIN
		FOR i IN 1 .. 15 LOOP
			BEGIN
				PERFORM my_worker.enqueue('work');
				came := came + 1;
			EXCEPTION WHEN configuration_limit_exceeded THEN NULL;
			END;
		END LOOP;
		IF came <> 10 THEN RAISE EXCEPTION '% came', came; END IF;
	END $$; SELECT 'ten'}), 'ten', 'a loop that catches the error gets ten in');
is(waiting(), 10, 'and they stay');

# A unique key that a job has adds none, also where there is no room.
all_go();
is(as_alice(q{SELECT count(DISTINCT my_worker.enqueue('work', unique_key := 'k')) FROM generate_series(1, 15)}), 1,
	'fifteen times the same key is one job');
as_alice(q{SELECT count(my_worker.enqueue('work')) FROM generate_series(1, 9)});
is(as_alice(q{SELECT count(my_worker.enqueue('work', unique_key := 'k'))}), 1, 'its id is the answer at the limit, too');
like(query_error($node, q{SET ROLE alice; SELECT my_worker.enqueue('work', unique_key := 'other')}), $refused, 'another key is refused');

# ---- superusers, restores, retries ----

$node->safe_psql('postgres', q{SELECT count(my_worker.enqueue('work')) FROM generate_series(1, 10)});
like(query_error($node, q{SELECT my_worker.enqueue('work')}), qr/^53400: /, 'a superuser is bound, too');
$node->safe_psql('postgres', q{
	SELECT set_config('search_path', '', false); SET check_function_bodies = false;
	INSERT INTO public.my_queue (handler, owner) SELECT 'public.work', 'alice'::regrole FROM generate_series(1, 3)});
is(waiting(), 13, 'a dump is taken back as it is');
$node->safe_psql('postgres', 'SELECT my_worker.adopt()');
my $cancelled = as_alice('SELECT min(id) FROM my_queue');
as_alice("SELECT my_worker.cancel($cancelled)");
like(query_error($node, "SET ROLE alice; SELECT my_worker.retry($cancelled)"), $refused, 'retry() brings a job back only if there is room');

# ---- jobs that run make room ----

$node->safe_psql('postgres', 'ALTER SYSTEM SET my_worker.enabled = on; SELECT pg_reload_conf()');
wait_for($node, 'SELECT count(*) FROM my_queue', '0');
is(as_alice("SELECT my_worker.retry($cancelled)"), 't', 'when jobs have run there is');
$node->safe_psql('postgres', q{SET ROLE alice; SELECT count(my_worker.enqueue('work')) FROM generate_series(1, 9)});
pass('and for others');
# Attempts that fail add nothing.
my $failing = as_alice(q{SELECT my_worker.enqueue('work', '{"fail": "x"}', max_attempts := 3)});
wait_for($node, "SELECT attempts > 0 FROM my_worker.jobs WHERE id = $failing");
pass('a failed attempt is put back');
is(log_has($node, qr/PANIC|terminated by signal|XX000/), 0, 'no crash, no internal error');

$node->stop;
done_testing();
