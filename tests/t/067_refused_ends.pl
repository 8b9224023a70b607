# The history, or my_queue itself, may refuse what is written of a job's end: by an index, a check, a
# trigger of its owner. That costs the job alone, which ends somewhere visible; the other jobs of its role
# run, and no process dies of it.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('refused', 'my_worker.naptime' => 1);
add_handlers($node);
$node->safe_psql('postgres', q{
	CREATE FUNCTION long(n int) RETURNS text LANGUAGE sql AS
		$$ SELECT string_agg(md5(i::text), '') FROM generate_series(1, n) AS i $$;
	SELECT my_worker.create_queue('q', max_attempts => 2, backoff => '0')});
my $launcher = join ' ', worker_pids($node, 'launcher');

# Neighbours stand around the bad one, in the same batch. $bad enqueues it and answers its id.
sub one_bad
{
	my ($name, $ddl, $undo, $bad, $neighbours) = @_;
	my $log = log_end($node);
	$node->safe_psql('postgres', q{TRUNCATE effects; SELECT my_worker.purge_queue('q')});
	$node->safe_psql('postgres', $ddl);
	$neighbours //= q{SELECT count(my_worker.enqueue('work', format('{"label": "%s"}', i)::jsonb, 'q')) FROM generate_series(1, 20) AS i};
	my $job = (split /\n/, $node->safe_psql('postgres', "BEGIN; $neighbours; $bad; $neighbours; COMMIT"))[1];
	is($node->safe_psql('postgres', "SELECT my_worker.wait($job, '30 s')"), 'failed', "$name: the job has failed");
	is($node->safe_psql('postgres', "SELECT status, last_error <> '' FROM my_worker.jobs WHERE id = $job"), 'failed|t',
		"$name: my_worker.jobs shows it, and why");
	wait_for($node, q{SELECT count(*) FROM my_queue WHERE status <> 'failed'}, '0');
	is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT job) FROM effects WHERE job <> $job"), '40|40',
		"$name: its neighbours ran once");
	is($node->safe_psql('postgres', "SELECT count(*) FROM effects WHERE job = $job"), '0', "$name: its work is rolled back");
	# Beyond ten a second they are named together.
	ok(wait_log($node, qr/job $job (?:gave up|was set aside)|given up: (?:\d+, )*$job\b/, $log), "$name: the log names it");
	is(log_has($node, qr/exited with exit code 1/, $log), 0, "$name: no process has died");
	$node->safe_psql('postgres', $undo);
	return $job;
}

sub is_aside
{
	my ($job, $name) = @_;
	return is($node->safe_psql('postgres', "SELECT count(*) FROM my_queue WHERE id = $job AND status = 'failed'"), '1', $name);
}

my $noted = q{SELECT my_worker.enqueue('work', jsonb_build_object('note', long(1000)), 'q')};
my $aside = one_bad('an index that is too small', q{CREATE INDEX note ON my_worker.history ((payload->>'note'))}, 'DROP INDEX my_worker.note', $noted);
is_aside($aside, 'it is set aside');
like($node->safe_psql('postgres', "SELECT last_error FROM my_queue WHERE id = $aside"), qr/end of the job could not be written: index row/,
	'with the reason');

# What is set aside is for nobody, until somebody takes it back.
is($node->safe_psql('postgres', "SELECT my_worker.cancel($aside)"), 'f', 'cancel() of it is false');
like($node->safe_psql('postgres', "SELECT my_worker.why($aside)"), qr/^finished: failed/, 'why() tells');
like(query_error($node, "SELECT launch_dynamic_worker($aside)"), qr/^55000/, 'it cannot be launched');
like(query_error($node, "INSERT INTO my_queue (handler, status) VALUES ('work', 'failed')"), qr/^23514/, 'nobody enqueues such a job');
like(query_error($node, q{BEGIN; SELECT my_worker.pause_queue('q'); INSERT INTO my_queue (queue, handler) VALUES ('q', 'work');
	UPDATE my_queue SET status = 'failed' WHERE status = 'pending'; COMMIT}), qr/^23514/, 'nor makes one so');
is($node->safe_psql('postgres', "SELECT my_worker.retry($aside)"), 't', 'retry() sends it back');
is($node->safe_psql('postgres', "SELECT my_worker.wait($aside, '30 s')"), 'completed', 'and now it can end');

$aside = one_bad('a check', q{ALTER TABLE my_worker.history ADD CONSTRAINT small CHECK (length(payload::text) < 1000)},
	'ALTER TABLE my_worker.history DROP CONSTRAINT small', $noted);
is_aside($aside, 'it is set aside');
is($node->safe_psql('postgres', q{SELECT my_worker.purge_queue('q') > 0}), 't', 'a purge takes it away');
is($node->safe_psql('postgres', "SELECT count(*) FROM my_worker.jobs WHERE id = $aside"), '0', 'for good');

one_bad('our own check, changed', q{ALTER TABLE my_worker.history DROP CONSTRAINT history_status_check,
	ADD CONSTRAINT history_status_check CHECK (status <> 'completed' OR payload->>'note' IS NULL)},
	q{ALTER TABLE my_worker.history DROP CONSTRAINT history_status_check,
	ADD CONSTRAINT history_status_check CHECK (status IN ('completed', 'failed', 'cancelled'))}, $noted);
is($node->safe_psql('postgres', q{SELECT count(*) FROM my_worker.history WHERE status = 'failed'}), '1', 'a failure that may be written is in the history');

one_bad('a trigger', q{
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN IF NEW.payload ? 'note' THEN RAISE 'not this one'; END IF; RETURN NEW; END $$;
	CREATE TRIGGER refuse BEFORE INSERT ON my_worker.history FOR EACH ROW EXECUTE FUNCTION refuse()},
	'DROP TRIGGER refuse ON my_worker.history', $noted);
one_bad('a deferred trigger', q{
	CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON my_worker.history DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION refuse()}, 'DROP TRIGGER refuse ON my_worker.history', $noted);
one_bad('a cast', q{CREATE INDEX numbers ON my_worker.history (((payload->>'note')::int))}, 'DROP INDEX my_worker.numbers', $noted);
one_bad('a deferrable unique key', q{ALTER TABLE my_worker.history ADD COLUMN lower_id int GENERATED ALWAYS AS (length(payload->>'note')) STORED,
	ADD CONSTRAINT one_each UNIQUE (lower_id) DEFERRABLE INITIALLY DEFERRED;
	INSERT INTO my_worker.history (id, queue, status, payload, priority, run_at, created_at, attempts, owner, finished_at)
		VALUES (0, 'q', 'failed', jsonb_build_object('note', long(1000)), 0, now(), now(), 1, 'postgres', now())},
	'ALTER TABLE my_worker.history DROP COLUMN lower_id', $noted);
one_bad('an index of my_worker._jobs on errors', q{
	CREATE INDEX errors ON my_worker._jobs (last_error);
	CREATE FUNCTION wordy(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE '%', long(300); END $$},
	q{DROP INDEX my_worker.errors}, q{SELECT my_worker.enqueue('wordy', '{}', 'q')});

one_bad('a trigger of my_worker._jobs', q{
	CREATE FUNCTION unchanged() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'unchanged'; END $$;
	CREATE TRIGGER unchanged BEFORE UPDATE ON my_worker._jobs FOR EACH ROW EXECUTE FUNCTION unchanged()},
	q{DROP TRIGGER unchanged ON my_worker._jobs}, q{SELECT my_worker.enqueue('work', '{"fail": "no"}', 'q')});

# Commands have done their work when their end is refused.
my $log = log_end($node);
$node->safe_psql('postgres', q{CREATE TABLE done (what text);
	CREATE UNIQUE INDEX one_command ON my_worker.history (command) WHERE status <> 'failed'});
my @commands = map { $node->safe_psql('postgres', q{SELECT my_worker.run('INSERT INTO done VALUES (1)', 'q', max_attempts => 3)}) } 1 .. 2;
$node->safe_psql('postgres', "SELECT my_worker.wait($_, '30 s')") for @commands;
is($node->safe_psql('postgres', 'SELECT count(*) FROM done'), '2', 'a command whose end is refused is not run again');
is($node->safe_psql('postgres', q{SELECT string_agg(status, ' ' ORDER BY status) FROM my_worker.jobs WHERE command IS NOT NULL}), 'completed failed',
	'and has failed');
$node->safe_psql('postgres', q{DROP INDEX my_worker.one_command; SELECT my_worker.purge_queue('q');
	CREATE UNIQUE INDEX one_command ON my_worker.history (command)});
my ($first, $command) = map { $node->safe_psql('postgres', q{SELECT my_worker.run('INSERT INTO done VALUES (1)', 'q')}) } 1 .. 2;
is($node->safe_psql('postgres', "SELECT my_worker.wait($command, '30 s')"), 'failed', 'also where no end of it can be written');
is_aside($command, 'it is set aside');
is(log_has($node, qr/exited with exit code 1/, $log), 0, 'no process has died');
$node->safe_psql('postgres', 'DROP INDEX my_worker.one_command');

# Whoever cancelled a job was told so, and it does not run again.
$node->safe_psql('postgres', q{CREATE INDEX note ON my_worker.history ((payload->>'note'))});
my $cancelled = $node->safe_psql('postgres', q{SELECT my_worker.enqueue('work', jsonb_build_object('note', long(1000), 'gate', 'never'), 'q')});
job_pid($node, $cancelled);
is($node->safe_psql('postgres', "SELECT my_worker.cancel($cancelled)"), 't', 'a running job is cancelled whose end will be refused');
is($node->safe_psql('postgres', "SELECT my_worker.wait($cancelled, '30 s')"), 'failed', 'it is set aside');
is_aside($cancelled, 'and stays so');

# drop_queue(force) takes such jobs along.
is($node->safe_psql('postgres', q{SELECT my_worker.drop_queue('q', true)}), '', 'its queue can be dropped by force');
is($node->safe_psql('postgres', "SELECT count(*) FROM my_queue"), '0', 'with them');
is(join(' ', worker_pids($node, 'launcher')), $launcher, 'the launcher has lived all along');

# A trigger that keeps no row, for it puts it elsewhere: the job has ended all the same, and who asks is told.
$node->safe_psql('postgres', q{
	CREATE FUNCTION leaves_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
	CREATE TRIGGER leaves_out BEFORE INSERT ON my_worker.history FOR EACH ROW WHEN (NEW.queue = 'elsewhere') EXECUTE FUNCTION leaves_out();
	SELECT my_worker.create_queue('elsewhere', max_attempts => 1)});
my $later = $node->safe_psql('postgres', q{SELECT my_worker.enqueue('work', queue => 'elsewhere', run_at => 'infinity')});
is($node->safe_psql('postgres', "SELECT my_worker.cancel($later)"), 't', 'a cancel of a job of which no row is kept is true');
my $fails = $node->safe_psql('postgres', q{SELECT my_worker.enqueue('work', '{"fail": "no"}', 'elsewhere')});
ok(wait_log($node, qr/job $fails gave up after 1 attempt: |given up: (?:\d+, )*$fails\b/), 'one that failed is named in the log');
wait_for($node, q{SELECT failed || ' ' || cancelled FROM my_worker.queue_stats WHERE queue = 'elsewhere'}, '1 1');

$node->stop;
done_testing();
