# A dump restored by a role that is no superuser, and one restored where its roles are not: our tables are refused with the
# reason, the rest comes, and nothing runs, neither then nor before adopt().

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $JOBS = 1000;
my $node = new_node('main', -extension => 0, 'my_worker.database' => '*', 'my_worker.naptime' => 1, 'my_worker.log_jobs' => 'none');
my $dir = PostgreSQL::Test::Utils::tempdir();
$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE DATABASE source OWNER app');
$node->safe_psql('source', 'CREATE EXTENSION my_worker');
add_handlers($node, 'source');
$node->safe_psql('source', qq{
	ALTER SCHEMA public OWNER TO app;
	SELECT my_worker.grant_usage(r) FROM unnest('{app, alice, bob}'::regrole[]) AS r;
	SELECT my_worker.create_queue('mail', handler => 'work');
	SELECT my_worker.pause_queue('mail');
	CREATE TABLE orders AS SELECT i FROM generate_series(1, 100) AS i;
	ALTER TABLE orders OWNER TO app});
$node->safe_psql('source', qq{
	SET ROLE $_;
	INSERT INTO my_queue (queue, payload) SELECT 'mail', '{"label": "mail"}' FROM generate_series(1, $JOBS / 4);
	SELECT my_worker.schedule('tick', 'every 1 second', handler => 'work', queue => 'mail')}) for qw(app alice bob);
$node->safe_psql('source', qq{INSERT INTO my_queue (queue, payload) SELECT 'mail', '{"label": "mail"}' FROM generate_series(1, $JOBS / 4)});
wait_for($node, 'SELECT count(*) FROM my_worker.schedules WHERE last_job_id IS NOT NULL', '3', undef, 'source');
$node->append_conf('postgresql.conf', 'my_worker.enabled = off');
$node->reload;
wait_for($node, 'SHOW my_worker.enabled', 'off');
# In the dump it is not paused; the original does nothing meanwhile.
$node->safe_psql('source', q{SELECT my_worker.resume_queue('mail')});
my $jobs = $node->safe_psql('source', 'SELECT count(*) FROM my_queue');
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dir/dump", '-d', $node->connstr('source') ], 'a dump');
$node->command_ok([ 'pg_dump', '-f', "$dir/dump.sql", '-d', $node->connstr('source') ], 'a plain one');
$node->safe_psql('source', q{SELECT my_worker.pause_queue('mail'); UPDATE my_worker._schedules SET active = false});
$node->append_conf('postgresql.conf', 'my_worker.enabled = on');
$node->reload;

sub restore
{
	my ($db, @command) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $db OWNER app") if $node->safe_psql('postgres', "SELECT count(*) FROM pg_database WHERE datname = '$db'") eq '0';
	my ($stderr, $stdout);
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	IPC::Run::run([ @command, '-d', $db ], '>', \$stdout, '2>', \$stderr);
	return $stderr;
}

sub nothing_has_run
{
	my ($db) = @_;
	# Schedules are due each second, and the keeper looks after each nap: what does not happen meanwhile.
	my $begin = $node->safe_psql($db, 'SELECT clock_timestamp()');
	wait_for($node, "SELECT clock_timestamp() > '$begin'::timestamptz + interval '2.2 s'", 't', undef, $db);
	is($node->safe_psql($db, 'SELECT count(*) FROM effects'), '0', "$db: nothing has run");
	is($node->safe_psql($db, q{SELECT count(*) FROM my_queue WHERE attempts > 0 OR last_error IS NOT NULL OR status <> 'pending'}), '0', "$db: nothing is charged");
	is($node->safe_psql($db, 'SELECT count(*) FROM my_worker.history'), '0', "$db: nothing has ended");
	is($node->safe_psql($db, q{SELECT count(*) FROM my_worker.schedules WHERE NOT active OR disabled_reason IS NOT NULL}), '0', "$db: no schedule is disabled");
	return;
}

# The owner of the database, who is no superuser: with the extension there already, and without.
for my $kind ([ 'by_owner', 'custom', 1 ], [ 'by_owner_plain', 'plain', 1 ], [ 'without_extension', 'custom', 0 ])
{
	my ($db, $format, $is_there) = @$kind;
	$node->safe_psql('postgres', "CREATE DATABASE $db OWNER app");
	$node->safe_psql($db, 'CREATE EXTENSION my_worker') if $is_there;
	my $stderr = restore($db, $format eq 'plain' ? ('psql', '-X', '-q', '-U', 'app', '-f', "$dir/dump.sql") : ('pg_restore', '-U', 'app', "$dir/dump"));
	if ($is_there)
	{
		like($stderr, qr/(permission denied|must be owner|row-level security)/, "$db: our tables are refused");
		is($node->safe_psql($db, 'SELECT count(*) FROM my_queue'), '0', "$db: no job came");
		nothing_has_run($db);
		is($node->safe_psql($db, q{SELECT ok FROM my_worker.health() WHERE "check" = 'home'}), 't', "$db: so it is no copy");
	}
	else
	{
		like($stderr, qr/permission denied to create extension "my_worker"/, "$db: the extension is refused");
	}
	is($node->safe_psql($db, 'SELECT count(*) FROM orders'), '100', "$db: the role's own tables are there");
	$node->safe_psql('postgres', "DROP DATABASE $db");
}

# A role is not there: the table that names it is refused, with its name. Once the role is there, its rows can be taken again.
$node->safe_psql('source', q{REASSIGN OWNED BY bob TO app; DROP OWNED BY bob});
$node->safe_psql('postgres', 'DROP ROLE bob');
my $stderr = restore('roleless', 'pg_restore', "$dir/dump");
like($stderr, qr/role "bob" does not exist/, 'a role that is not there is named');
is($node->safe_psql('roleless', 'SELECT count(*) FROM my_queue'), '0', 'the jobs are not there, also those of others');
nothing_has_run('roleless');
$node->safe_psql('postgres', 'CREATE ROLE bob LOGIN');
$stderr = restore('roleless', 'pg_restore', '-a', '-n', 'my_worker', '-t', '_jobs', '-t', '_schedules', "$dir/dump");
is($stderr, '', 'with the role they can be taken again');
is($node->safe_psql('roleless', 'SELECT count(*) FROM my_queue'), $jobs, 'all of them');
wait_for($node, q{SELECT NOT ok FROM my_worker.health() WHERE "check" = 'home'}, 't', undef, 'roleless');
nothing_has_run('roleless');
like($node->safe_psql('roleless', 'SELECT my_worker.adopt()'), qr/home of $jobs more jobs and 3 more schedules/, 'adopt() says what came');
$node->safe_psql('roleless', 'UPDATE my_worker._schedules SET active = false; SELECT my_worker.grant_usage(r) FROM unnest(\'{alice, bob, app}\'::regrole[]) AS r; GRANT INSERT ON effects TO PUBLIC');
drained($node, undef, 'roleless');
is($node->safe_psql('roleless', q{SELECT count(*), count(DISTINCT job), count(DISTINCT role) FROM effects WHERE label = 'mail'}), "$JOBS|$JOBS|4", 'each job has run once, as its owner');
is(log_has($node, qr/PANIC|terminated by signal|XX000/), 0, 'no crash, no internal error');

$node->stop;
done_testing();
