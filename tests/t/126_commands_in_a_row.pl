# Commands one after the other: a worker claims the next one in the transaction that writes the end of the one before. They
# run in order, one that fails fails alone, a job with a handler among them has its turn, a pause is heeded, and each waits
# for the log once. Workers are terminated and killed with -9 meanwhile: no command runs twice, and of those that have
# completed each has its effect.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('in_a_row', 'my_worker.max_workers' => 1, 'my_worker.naptime' => 1, 'restart_after_crash' => 'on');
add_handlers($node);
$node->safe_psql('postgres', q{
	CREATE TABLE done (n bigint GENERATED ALWAYS AS IDENTITY, i integer);
	CREATE FUNCTION note(id bigint, p jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO done (i) VALUES ((p->>'i')::integer) $$;
	CREATE FUNCTION run_all(first integer, last integer) RETURNS void LANGUAGE sql AS $$
		INSERT INTO my_queue (command, max_attempts)
			SELECT format('INSERT INTO done (i) VALUES (%s)', i), 1 FROM generate_series(first, last) AS i $$;
	CREATE VIEW ends AS SELECT status, count(*) FROM my_worker.history GROUP BY status;
	SELECT my_worker.create_queue('other');
	SELECT my_worker.pause_queue('default')});

sub start
{
	$node->safe_psql('postgres', q{SELECT my_worker.resume_queue('default')});
	wait_for($node, q{SELECT count(*) FROM my_queue}, '0');
	return;
}

# In order, also around a job with a handler; one in ten fails.
$node->safe_psql('postgres', q{
	INSERT INTO my_queue (handler, command, payload, max_attempts)
		SELECT CASE WHEN i % 25 = 7 THEN 'note' END,
			CASE WHEN i % 25 <> 7 THEN format('INSERT INTO done (i) VALUES (%s)', CASE WHEN i % 10 = 3 THEN '1/0' ELSE i::text END) END,
			jsonb_build_object('i', i), 1
		FROM generate_series(1, 100) AS i});
start();
is($node->safe_psql('postgres', q{SELECT string_agg(i::text, ' ' ORDER BY n) FROM done}),
	join(' ', grep { $_ % 10 != 3 } 1 .. 100), 'all but those that fail, in order');
is($node->safe_psql('postgres', q{SELECT * FROM ends ORDER BY status}), "completed|90\nfailed|10", 'those failed alone');
is($node->safe_psql('postgres', q{SELECT count(DISTINCT errors->-1->>'sqlstate') || ' ' || min(errors->-1->>'sqlstate') FROM my_worker.history WHERE status = 'failed'}),
	'1 22012', 'with their own error');

# What one command says of its progress, and leaves in its session, is not the next one's.
$node->safe_psql('postgres', q{SELECT my_worker.pause_queue('default');
	CREATE TABLE seen (work_mem text, progress real, name text);
	INSERT INTO my_queue (command, max_attempts) VALUES
		('SET work_mem = ''77MB''; SET application_name = ''mine''; SELECT my_worker.progress(50, ''half'')', 1),
		('INSERT INTO seen SELECT current_setting(''work_mem''), progress, current_setting(''application_name'') FROM my_worker.jobs WHERE pid = pg_backend_pid()', 1)});
my $work_mem = $node->safe_psql('postgres', 'SHOW work_mem');
start();
is($node->safe_psql('postgres', 'SELECT * FROM seen'), "$work_mem||", 'the next one begins anew');

# Those that write wait for the log once themselves and once for their end and the claim of the next; those that only read wait together.
my $idle = q{SELECT string_agg(DISTINCT state, ' ') FROM my_worker.workers WHERE kind = 'worker'};
for my $case ([ q{INSERT INTO done (i) VALUES (0)}, 400, 900 ], [ 'SELECT 1', 0, 500 ])
{
	my ($command, $least, $most) = @$case;
	$node->safe_psql('postgres', qq{SELECT my_worker.pause_queue('default');
		INSERT INTO my_queue (command) SELECT '$command' FROM generate_series(1, 400)});
	wait_for($node, $idle, 'idle');
	my $writes = $node->safe_psql('postgres', 'CHECKPOINT; SELECT wal_write FROM pg_stat_wal');
	start();
	# An idle worker has said what it has written.
	wait_for($node, $idle, 'idle');
	my $count = $node->safe_psql('postgres', qq{SELECT wal_write - $writes FROM pg_stat_wal});
	ok($count >= $least && $count < $most, "400 times $command wrote the log out $count times");
}

# A pause.
$node->safe_psql('postgres', q{SELECT my_worker.pause_queue('default'); TRUNCATE done, my_worker.history; SELECT run_all(1, 3000);
	SELECT my_worker.resume_queue('default')});
wait_for($node, 'SELECT count(*) > 50 FROM done', 't');
$node->safe_psql('postgres', q{SELECT my_worker.pause_queue('default')});
wait_for($node, q{SELECT count(*) FROM my_worker.jobs WHERE status = 'processing'}, '0');
my $done = $node->safe_psql('postgres', 'SELECT count(*) FROM done');
cmp_ok($done, '<', 3000, "paused after $done");
# The same worker looks for others meanwhile.
my $other = $node->safe_psql('postgres', q{SELECT my_worker.run('SELECT 1', 'other')});
is($node->safe_psql('postgres', "SELECT my_worker.wait($other, '30 s')"), 'completed', 'a command of another queue runs');
is($node->safe_psql('postgres', 'SELECT count(*) FROM done'), $done, 'and none of this one');
$node->safe_psql('postgres', "DELETE FROM my_worker.history WHERE id = $other");

# Kills, with two workers.
$node->safe_psql('postgres', q{ALTER SYSTEM SET my_worker.max_workers = 2; SELECT pg_reload_conf(); SELECT my_worker.resume_queue('default')});
my $kills = 0;
for my $round (1 .. 6)
{
	wait_for($node, q{SELECT count(*) > 0 FROM my_worker.workers WHERE kind = 'worker' AND job_id IS NOT NULL OR NOT EXISTS (SELECT FROM my_queue)}, 't');
	my $pid = $node->safe_psql('postgres', q{SELECT pid FROM my_worker.workers WHERE kind = 'worker' AND job_id IS NOT NULL LIMIT 1});
	last if $pid eq '';
	$kills++;
	if ($round % 3 == 0) { crash($node, $pid) }
	else { $node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)") }
}
wait_for($node, q{SELECT count(*) FROM my_queue}, '0');
cmp_ok($kills, '>=', 1, "$kills kills");
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT id) FROM my_worker.history'), '3000|3000', 'each has ended, once');
is($node->safe_psql('postgres', 'SELECT count(*) - count(DISTINCT i) FROM done'), '0', 'none has run twice');
is($node->safe_psql('postgres', q{SELECT count(*) FROM my_worker.history AS h WHERE status = 'completed'
	AND NOT EXISTS (SELECT FROM done WHERE h.command = format('INSERT INTO done (i) VALUES (%s)', i))}), '0', 'what has completed has been done');
# Two may have been at work in a crash.
cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM my_worker.history WHERE status <> 'completed'}), '<=', 2 * $kills,
	'no others have failed than those that ran');

$node->stop;
done_testing();
