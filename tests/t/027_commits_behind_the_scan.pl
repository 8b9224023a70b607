# Jobs that become visible behind the place up to which a worker has read: long transactions that
# commit late, times and priorities that go back. No nap may be needed to find them: it is an hour.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('late', 'my_worker.naptime' => 3600, 'my_worker.max_workers' => 2,
	'my_worker.worker_idle_timeout' => 3600);
add_handlers($node);
$node->safe_psql('postgres', q{SELECT my_worker.create_queue('other', retention => '0')});

sub pass_by
{
	my ($queue, $jobs) = @_;
	$node->safe_psql('postgres',
		"INSERT INTO my_queue (queue, handler, priority) SELECT '$queue', 'work', i % 3 FROM generate_series(1, $jobs) AS i");
	drained($node);
	return;
}

# Twelve transactions are open while others pass, and commit in turn; more than a lane remembers.
my @sessions = map { $node->background_psql('postgres') } 1 .. 12;
my $n = 0;
for my $session (@sessions)
{
	$n++;
	$session->query_safe(qq{BEGIN; INSERT INTO my_queue (queue, handler, payload, priority, run_at)
		VALUES ('} . ($n % 2 ? 'default' : 'other') . qq{', 'work', '{"label": "late"}', } . ($n % 4) . qq{, now() - $n * interval '1 min')});
}
pass_by('default', 500);
pass_by('other', 500);
is($node->safe_psql('postgres', q{SELECT count(*) FROM effects WHERE label = 'late'}), '0', 'none is there yet');
for my $half ([ @sessions[ 0 .. 5 ] ], [ @sessions[ 6 .. 11 ] ])
{
	$_->query_safe('COMMIT') for @$half;
	pass_by('default', 10);
}
ok(wait_for($node, q{SELECT count(*) FROM effects WHERE label = 'late'}, '12', 20), 'each is found at its COMMIT');

# Jobs that wait for later are called for now, and before all others.
$node->safe_psql('postgres', q{INSERT INTO my_queue (handler, payload, run_at)
	SELECT 'work', '{"label": "called"}', now() + interval '1 day' FROM generate_series(1, 3)});
pass_by('default', 300);
$node->safe_psql('postgres', q{UPDATE my_queue SET run_at = '-infinity', priority = 1});
ok(wait_for($node, q{SELECT count(*) FROM effects WHERE label = 'called'}, '3', 20), 'jobs that are called for sooner');

# A row that somebody had locked holds up nothing, and is not passed for good.
$node->safe_psql('postgres', q{SELECT my_worker.pause_queue('default')});
$node->safe_psql('postgres', q{INSERT INTO my_queue (handler, payload) VALUES ('work', '{"label": "locked"}')});
my $holder = $sessions[0];
$holder->query_safe('BEGIN; SELECT id FROM my_queue FOR UPDATE');
$node->safe_psql('postgres', q{SELECT my_worker.resume_queue('default')});
$node->safe_psql('postgres', q{INSERT INTO my_queue (handler) SELECT 'work' FROM generate_series(1, 300)});
wait_for($node, 'SELECT count(*) FROM my_queue', '1', 20);
$holder->query_safe('COMMIT');
pass_by('default', 1);
ok(wait_for($node, q{SELECT count(*) FROM effects WHERE label = 'locked'}, '1', 20), 'a job that was locked');
$_->quit for @sessions;

# Many at once: each transaction takes its time between INSERT and COMMIT, with times and priorities
# of all kinds, savepoints that are rolled back, and an old snapshot that keeps the dead entries.
$node->safe_psql('postgres', 'TRUNCATE effects');
my $snapshot = $node->background_psql('postgres');
$snapshot->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
my $script = $node->basedir . '/late.sql';
open my $out, '>', $script or die "cannot write $script: $!";
print $out q{\set age random(0, 100)
\set nap random(0, 20)
\set priority random(0, 5)
BEGIN;
INSERT INTO my_queue (queue, handler, priority, run_at) VALUES ('default', 'work', :priority, now() - :age * interval '1 ms');
SAVEPOINT s;
INSERT INTO my_queue (queue, handler, priority, run_at) VALUES ('default', 'work', 0, '-infinity');
ROLLBACK TO s;
INSERT INTO my_queue (queue, handler, priority, run_at) VALUES ('other', 'work', 0, now() - :age * interval '1 s');
\sleep :nap ms
COMMIT;
};
close $out;
chmod 0644, $script;
$node->command_ok([ 'pgbench', '-n', '-c', '8', '-j', '2', '-t', '150', '-f', $script, '-h', $node->host,
		'-p', $node->port, 'postgres' ], 'many transactions that commit late');
ok(wait_for($node, 'SELECT count(*) FROM my_queue', '0', 60), 'no job is left behind');
effects_are($node, 2400, 'every effect once');
$snapshot->quit;

# Jobs without a handler, in a queue without one, are held for other consumers: a worker's looks go past them once,
# and they are found when that changes.
$node->safe_psql('postgres', q{TRUNCATE effects; SELECT my_worker.create_queue('held');
	INSERT INTO my_queue (queue, payload) SELECT 'held', '{"label": "held"}' FROM generate_series(1, 5000)});
my $left = q{SELECT count(*) FROM my_queue WHERE handler IS NOT NULL};
my $read = q{SELECT sum(idx_tup_read) FROM pg_stat_all_indexes WHERE indexrelname = '_jobs_claim_idx'};
sub run_one
{
	$node->safe_psql('postgres', q{INSERT INTO my_queue (queue, handler) VALUES ('held', 'work')});
	wait_for($node, $left, '0');
	wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'worker' AND state <> 'idle'}, '0');
	return;
}
run_one();
my $before = $node->safe_psql('postgres', $read);
run_one() for 1 .. 10;
cmp_ok($node->safe_psql('postgres', $read) - $before, '<', 20000, 'those that are held are not read at each look');
$node->safe_psql('postgres', q{UPDATE my_queue SET handler = 'work' WHERE id = (SELECT min(id) + 77 FROM my_queue)});
ok(wait_for($node, q{SELECT count(*) FROM effects WHERE label = 'held'}, '1', 20), 'one that got a handler is found');
$node->safe_psql('postgres', q{SELECT my_worker.alter_queue('held', handler => 'work')});
ok(wait_for($node, 'SELECT count(*) FROM my_queue', '0', 60), 'and all, when their queue got one');
is($node->safe_psql('postgres', q{SELECT count(*) FROM effects WHERE label = 'held'}), '5000', 'each of them once');

$node->stop;
done_testing();
