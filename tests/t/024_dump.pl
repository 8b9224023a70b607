# pg_dump and restore carry jobs, history, queues and the sequences; nothing is lost, changed or run
# twice on the way. pg_upgrade, to a new cluster of the same version, runs nothing meanwhile, and
# makes no copy.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $old = new_node('old', 'my_worker.naptime' => 3600);
add_handlers($old);
$old->safe_psql('postgres', q{
	CREATE ROLE alice LOGIN;
	SELECT my_worker.grant_usage('alice');
	SELECT my_worker.create_queue('mail', handler => 'work', concurrency => 3, max_attempts => 7);
	SELECT my_worker.alter_queue('default', max_attempts => 9);
	SELECT my_worker.create_queue('held');
	SELECT my_worker.pause_queue('held');});
$old->safe_psql('postgres', q{SET ROLE alice; SELECT my_worker.enqueue('work', '{"label": "done"}') FROM generate_series(1, 3)});
drained($old);
my $failed = $old->safe_psql('postgres', q{SELECT my_worker.enqueue('work', '{"fail": "x"}', max_attempts => 1)});
$old->safe_psql('postgres', "SELECT my_worker.wait($failed, '20 s')");
$old->safe_psql('postgres', q{
	SET ROLE alice;
	SELECT my_worker.enqueue('work', '{"label": "held"}', 'held', unique_key => 'u', priority => i) FROM generate_series(1, 1) AS i;
	SELECT my_worker.enqueue('work', '{"label": "behind it"}', after := ARRAY[(SELECT max(id) FROM my_queue)]);
	SELECT my_worker.enqueue('work', '{"label": "due later"}', run_at => now() + interval '1 day', timeout => '1 minute');});

my %queries = (
	jobs => q{SELECT id, queue, status, handler, payload, priority, run_at, created_at, attempts, max_attempts, timeout, unique_key, owner, after, after_failed FROM my_queue ORDER BY id},
	history => q{SELECT id, queue, status, handler, payload, attempts, owner, last_error, finished_at, result, errors FROM my_worker.history ORDER BY id},
	queues => q{SELECT name, handler, concurrency, max_attempts, paused, retention FROM my_worker.queues ORDER BY name});
my %before = map { $_ => $old->safe_psql('postgres', $queries{$_}) } keys %queries;
my $last = $old->safe_psql('postgres', q{SELECT max(id) FROM my_worker.jobs});

my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
$old->command_ok([ 'pg_dump', '-f', $dump, '-d', $old->connstr('postgres') ], 'pg_dump');
my $globals = PostgreSQL::Test::Utils::tempdir() . '/globals.sql';
$old->command_ok([ 'pg_dumpall', '--globals-only', '--no-role-passwords', '-f', $globals, '-d', $old->connstr('postgres') ], 'pg_dumpall -g');

my $new = new_node('new', -extension => 0, 'my_worker.naptime' => 3600);
$new->psql('postgres', slurp_file($globals));
my ($status, $stdout, $stderr) = $new->psql('postgres', slurp_file($dump), on_error_stop => 1);
is($stderr, '', 'the dump is restored without a word');
is($new->safe_psql('postgres', $queries{$_}), $before{$_}, "$_ are the same") for sort keys %queries;
my $next = $new->safe_psql('postgres', q{SELECT my_worker.enqueue('work', '{"label": "new"}')});
cmp_ok($next, '>', $last, 'the ids go on');
is($new->safe_psql('postgres', q{SELECT my_worker.adopt()}), 'this database is the home of 3 more jobs and 0 more schedules', 'the copy becomes the home of its jobs');
is($new->safe_psql('postgres', "SELECT my_worker.wait($next, '20 s')"), 'completed', 'jobs run');
$new->safe_psql('postgres', q{SELECT my_worker.create_queue('another')});
is($new->safe_psql('postgres', q{SELECT count(*) = count(DISTINCT id) FROM my_worker.queues}), 't', 'so do the queues\'');
$new->safe_psql('postgres', q{SELECT my_worker.resume_queue('held')});
wait_for($new, q{SELECT count(*) FROM effects WHERE label = 'held' AND role = 'alice'}, '1');
pass('what was paused runs after resume_queue(), as its owner');
wait_for($new, q{SELECT string_agg(label, ', ' ORDER BY at) FROM effects WHERE label IN ('held', 'behind it')}, 'held, behind it');
pass('what was blocked runs after that');
is($new->safe_psql('postgres', "SELECT my_worker.retry($failed)"), 't', 'a failed job of before can be retried');
is($new->safe_psql('postgres', q{SELECT count(*) FROM effects WHERE label = 'done'}), '3', 'nothing ran twice');
is($new->safe_psql('postgres', q{SET ROLE alice; SELECT count(*) > 0 FROM my_worker.jobs}), 't', 'grants are there');

$new->safe_psql('postgres', 'CREATE DATABASE copy');
$new->stop;

SKIP:
{
	skip 'pg_upgrade is not installed', 1 unless -x $old->config_data('--bindir') . '/pg_upgrade';
	# A job that is due, and must not be run before the upgraded server is started.
	$old->safe_psql('postgres', q{ALTER SYSTEM SET my_worker.enabled = off; SELECT pg_reload_conf()});
	wait_for($old, 'SHOW my_worker.enabled', 'off');
	$old->safe_psql('postgres', q{SELECT my_worker.enqueue('work', '{"label": "due"}')});
	$old->safe_psql('postgres', q{ALTER SYSTEM RESET my_worker.enabled});
	%before = map { $_ => $old->safe_psql('postgres', $queries{$_}) } keys %queries;
	my $home = $old->safe_psql('postgres', 'SELECT my_worker_internal.home()');
	$old->stop;
	my $upgraded = new_node('upgraded', -start => 0);
	my $bin = $old->config_data('--bindir');
	chdir PostgreSQL::Test::Utils::tempdir();
	$upgraded->command_ok([ 'pg_upgrade', '--no-sync', '-d', $old->data_dir, '-D', $upgraded->data_dir,
		'-b', $bin, '-B', $bin, '-s', $upgraded->host, '-p', $old->port, '-P', $upgraded->port ], 'pg_upgrade');
	$upgraded->append_conf('postgresql.conf', 'my_worker.enabled = off');
	$upgraded->start;
	is($upgraded->safe_psql('postgres', $queries{$_}), $before{$_}, "$_ are the same") for sort keys %queries;
	$upgraded->append_conf('postgresql.conf', 'my_worker.enabled = on');
	$upgraded->reload;
	wait_for($upgraded, q{SELECT count(*) FROM effects WHERE label = 'due'}, '1');
	pass('and the due job runs now');
	is($upgraded->safe_psql('postgres', 'SELECT my_worker_internal.home()'), $home, 'the home is the same');
	is($upgraded->safe_psql('postgres', q{SELECT ok FROM my_worker.health() WHERE "check" = 'home'}), 't', 'health() knows of no copy');
	$upgraded->restart;
	$upgraded->safe_psql('postgres', q{SELECT my_worker.enqueue('work', '{"label": "after"}')});
	wait_for($upgraded, q{SELECT count(*) FROM effects WHERE label = 'after'}, '1');
	is(log_has($upgraded, qr/PANIC|terminated by signal|XX000/), 0, 'no crash, no internal error');
	$upgraded->stop;
}

done_testing();
