# A copy of a database runs nothing before adopt(): restored dumps of every kind, templates. Renames, standbys and
# pg_upgrade make no copy.
#
# Part of `make test-long`.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $JOBS = 1000;
my $SCHEDULES = 50;

my $node = new_node('main', -extension => 0, 'my_worker.database' => '*', 'my_worker.naptime' => 1);
my $dir = PostgreSQL::Test::Utils::tempdir();
$node->safe_psql('postgres', "CREATE ROLE $_ LOGIN") for qw(alice bob carol);

# A database with waiting jobs and due schedules of three roles, and a table that is large enough to be loaded late.
$node->safe_psql('postgres', 'CREATE DATABASE source');
$node->safe_psql('source', 'CREATE EXTENSION my_worker');
add_handlers($node, 'source');
$node->safe_psql('source', qq{
	CREATE TABLE large AS SELECT i, repeat('x', 50) AS filler FROM generate_series(1, 200000) AS i;
	CREATE FUNCTION count_large(id bigint, p jsonb) RETURNS bigint LANGUAGE sql AS
		\$\$ INSERT INTO effects (job, label) VALUES (id, p->>'label'); SELECT count(*) FROM large \$\$;
	GRANT SELECT ON large TO PUBLIC;
	SELECT my_worker.create_queue('mail', handler => 'count_large', max_attempts => 3);
	SELECT my_worker.pause_queue('mail');
	SELECT my_worker.grant_usage(r) FROM unnest('{alice, bob, carol}'::regrole[]) AS r;});
for my $role (qw(alice bob carol))
{
	$node->safe_psql('source', qq{
		SET ROLE $role;
		INSERT INTO my_queue (queue, payload) SELECT 'mail', jsonb_build_object('label', 'mail') FROM generate_series(1, $JOBS / 4);
		SELECT count(my_worker.schedule(format('s%s', i), 'every 1 second', handler => 'count_large', queue => 'mail'))
			FROM generate_series(1, 16) AS i;});
}
$node->safe_psql('source', qq{
	INSERT INTO my_queue (queue, payload) SELECT 'mail', jsonb_build_object('label', 'mail') FROM generate_series(1, $JOBS - 3 * ($JOBS / 4));
	SELECT count(my_worker.schedule(format('s%s', i), 'every 1 second', handler => 'count_large', queue => 'mail'))
		FROM generate_series(1, $SCHEDULES - 48) AS i;});
wait_for($node, "SELECT count(*) = $SCHEDULES FROM my_worker.schedules WHERE last_job_id IS NOT NULL", 't', undef, 'source');
$node->append_conf('postgresql.conf', 'my_worker.enabled = off');
$node->reload;
wait_for($node, 'SHOW my_worker.enabled', 'off');
# In the dump they are not paused.
$node->safe_psql('source', q{SELECT my_worker.resume_queue('mail'); SELECT count(*) FROM my_queue});
my $jobs = $node->safe_psql('source', 'SELECT count(*) FROM my_queue');
$node->command_ok([ 'pg_dump', '-f', "$dir/plain.sql", '-d', $node->connstr('source') ], 'plain dump');
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dir/custom", '-d', $node->connstr('source') ], 'custom dump');
$node->command_ok([ 'pg_dump', '-Fd', '-f', "$dir/directory", '-d', $node->connstr('source') ], 'directory dump');
# The original's jobs are none of these tests: they stay where they are.
$node->safe_psql('source', q{SELECT my_worker.pause_queue('mail'); UPDATE my_worker._schedules SET active = false});
$node->append_conf('postgresql.conf', 'my_worker.enabled = on');
$node->reload;

my %restores = (
	plain => sub { $node->run_log([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/plain.sql", '-d', $node->connstr($_[0]) ]) },
	one_transaction => sub { $node->run_log([ 'pg_restore', '-1', '-d', $node->connstr($_[0]), "$dir/custom" ]) },
	custom => sub { $node->run_log([ 'pg_restore', '-d', $node->connstr($_[0]), "$dir/custom" ]) },
	parallel => sub { $node->run_log([ 'pg_restore', '-j', '4', '-d', $node->connstr($_[0]), "$dir/directory" ]) },
	in_parts => sub {
		my ($db) = @_;
		$node->run_log([ 'pg_restore', '--section=pre-data', '-d', $node->connstr($db), "$dir/custom" ]);
		$node->run_log([ 'pg_restore', '--data-only', '-d', $node->connstr($db), "$dir/custom" ]);
		$node->run_log([ 'pg_restore', '--section=post-data', '-d', $node->connstr($db), "$dir/custom" ]);
	});

for my $kind (split ' ', $ENV{KINDS} // join ' ', sort keys %restores)
{
	$node->safe_psql('postgres', "CREATE DATABASE $kind");
	$restores{$kind}->($kind);
	is_asleep($kind);
	like($node->safe_psql($kind, 'SELECT my_worker.adopt()'), qr/home of $jobs more jobs and $SCHEDULES more schedules/, "$kind: adopt() says what came");
	$node->safe_psql($kind, 'UPDATE my_worker._schedules SET active = false');
	drained($node, 300, $kind);
	is($node->safe_psql($kind, q{SELECT count(*), count(DISTINCT job) FROM effects WHERE label = 'mail'}), "$JOBS|$JOBS", "$kind: each job has run once");
	is($node->safe_psql($kind, q{SELECT count(*) FROM my_worker.history WHERE status <> 'completed' OR result <> '200000'}), '0', "$kind: over the whole table");
	is($node->safe_psql($kind, q{SELECT ok FROM my_worker.health() WHERE "check" = 'home'}), 't', "$kind: it is a copy no more");
	$node->safe_psql('postgres', "DROP DATABASE $kind");
}

# Nothing has run, failed, been disabled or charged in a database that is a copy.
sub is_asleep
{
	my ($db) = @_;
	wait_for($node, q{SELECT detail ~ 'this database is a copy' FROM my_worker.health() WHERE "check" = 'home' AND NOT ok}, 't', undef, $db);
	# Nothing is to happen meanwhile, though schedules are due each second, and the keeper looks after each nap.
	sleep 2.2;
	is($node->safe_psql($db, q{SELECT count(*) FROM my_worker.workers WHERE database = current_database() AND kind = 'worker'}), '0', "$db: no worker");
	is($node->safe_psql($db, 'SELECT count(*) FROM effects'), '0', "$db: nothing has run");
	is($node->safe_psql($db, q{SELECT count(*) FROM my_queue WHERE attempts > 0 OR last_error IS NOT NULL OR status <> 'pending'}), '0', "$db: nothing is charged");
	is($node->safe_psql($db, 'SELECT count(*) FROM my_queue'), $jobs, "$db: all jobs are there");
	is($node->safe_psql($db, 'SELECT count(*) FROM my_worker.history'), '0', "$db: nothing has ended");
	is($node->safe_psql($db, q{SELECT count(*) FROM my_worker.schedules WHERE active AND disabled_reason IS NULL}), $SCHEDULES, "$db: no schedule is disabled");
	like(query_error($node, 'SELECT launch_dynamic_worker(min(id)) FROM my_queue', $db), qr/^55000: .*copy.*adopt/s, "$db: nothing is launched");
	like(query_error($node, 'SELECT my_worker.perform(min(id)) FROM my_queue', $db), qr/^55000: .*copy.*adopt/s, "$db: nor performed");
	return;
}


# A dump taken back where it was made is a copy as well: its jobs may have run since.
$node->safe_psql('postgres', 'CREATE DATABASE back');
$node->safe_psql('back', 'CREATE EXTENSION my_worker');
add_handlers($node, 'back');
$node->safe_psql('back', q{INSERT INTO my_queue (handler, payload, run_at) VALUES ('work', '{"label": "mail"}', 'infinity')});
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dir/back", '-d', $node->connstr('back') ], 'a dump');
$node->safe_psql('back', q{UPDATE my_queue SET run_at = now()});
drained($node, undef, 'back');
$node->safe_psql('back', q{SELECT my_worker.enqueue('work', '{"label": "own"}', run_at => 'infinity')});
$node->command_ok([ 'pg_restore', '-a', '-t', '_jobs', '-d', $node->connstr('back'), "$dir/back" ], 'a table of it taken back');
wait_for($node, q{SELECT NOT ok FROM my_worker.health() WHERE "check" = 'home'}, 't', undef, 'back');
$node->safe_psql('back', q{UPDATE my_queue SET run_at = now()});
my (undef, undef, $warning) = $node->psql('back', q{SELECT my_worker.enqueue('work', '{"label": "own"}')});
like($warning, qr/WARNING:  .*it is a copy.*HINT:.*adopt/s, 'enqueueing works, and warns');
sleep 1.2; # in which nothing is to run, though the keeper looks
is($node->safe_psql('back', q{SELECT count(*) FROM effects WHERE label = 'own'}), '0', 'no job of its own runs either');
$node->safe_psql('back', 'SET ROLE alice; SELECT 1');
like(query_error($node, 'SET ROLE alice; SELECT my_worker.adopt()', 'back'), qr/^42501/, 'a stranger does not adopt');

# my_worker.run_copies
$node->append_conf('postgresql.conf', 'my_worker.run_copies = on');
$node->reload;
drained($node, undef, 'back');
is($node->safe_psql('back', q{SELECT label, count(*) FROM effects GROUP BY 1 ORDER BY 1}), "mail|2\nown|2", 'run_copies runs what is there');
$node->append_conf('postgresql.conf', 'my_worker.run_copies = off');
$node->reload;
wait_for($node, 'SHOW my_worker.run_copies', 'off');

# Templates, while both are served.
$node->safe_psql('postgres', 'CREATE DATABASE original');
$node->safe_psql('original', 'CREATE EXTENSION my_worker');
add_handlers($node, 'original');
$node->safe_psql('original', q{
	INSERT INTO my_queue (handler, payload, run_at) SELECT 'work', '{"label": "due"}', now() + interval '3 s' FROM generate_series(1, 5);
	SELECT my_worker.schedule('tick', 'every 1 second', handler => 'work', payload => '{"label": "tick"}')});
$node->safe_psql('postgres', 'CREATE DATABASE y TEMPLATE original');
wait_for($node, q{SELECT count(*) FROM effects WHERE label = 'due'}, '5', undef, 'original');
wait_for($node, q{SELECT detail ~ 'copy' FROM my_worker.health() WHERE "check" = 'home' AND NOT ok}, 't', undef, 'y');
is($node->safe_psql('y', q{SELECT count(*) FROM effects WHERE label = 'due'}), '0', 'a database made of a template runs nothing');
$node->safe_psql('y', q{SELECT my_worker.enqueue('work', '{"label": "new"}')});
like($node->safe_psql('y', 'SELECT my_worker.adopt()'), qr/6 more jobs and 1 more schedules|[67] more jobs and 1/, 'adopt() says what came');
drained($node, undef, 'y');
is($node->safe_psql('y', q{SELECT count(*) FROM effects WHERE label IN ('due', 'new')}), '6', 'what came has run, and what was enqueued before');
isnt($node->safe_psql('y', 'SELECT my_worker_internal.home()'), $node->safe_psql('original', 'SELECT my_worker_internal.home()'), 'it has a home of its own');
is($node->safe_psql('y', q{SELECT my_worker.wait(my_worker.run('SELECT 1'), '1 ms') IS NULL}), 't', 'x') if 0;

# A template without jobs makes databases that are at home at once; here jobs come before anybody could look.
$node->safe_psql('template1', 'CREATE EXTENSION my_worker; CREATE TABLE effects (label text)');
$node->safe_psql('postgres', "CREATE DATABASE z$_") for 1 .. 3;
$node->safe_psql("z$_", q{SELECT my_worker.run('INSERT INTO effects VALUES (''first'')')}) for 1 .. 3;
wait_for($node, q{SELECT count(*) FROM effects}, '1', undef, "z$_") for 1 .. 3;
is($node->safe_psql("z1", q{SELECT ok FROM my_worker.health() WHERE "check" = 'home'}), 't', 'health() says that all is well');
is($node->safe_psql('z1', q{SELECT count(DISTINCT h) FROM (SELECT home FROM my_worker._jobs UNION SELECT my_worker_internal.home()) AS h}), '1', 'it has one home');
$node->safe_psql('z1', q{SELECT my_worker.run('INSERT INTO effects VALUES (''second'')')});
wait_for($node, q{SELECT count(*) FROM effects}, '2', undef, 'z1');

# Renames are no copies.
$node->safe_psql('postgres', 'ALTER DATABASE z1 RENAME TO renamed');
$node->safe_psql('renamed', q{SELECT my_worker.run('INSERT INTO effects VALUES (''third'')')});
wait_for($node, q{SELECT count(*) FROM effects}, '3', undef, 'renamed');
is(log_has($node, qr/PANIC|terminated by signal|XX000/), 0, 'no crash, no internal error');

done_testing();
