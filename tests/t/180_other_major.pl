# pg_upgrade to another major version, by `make test-upgrade`: jobs, their past, queues and schedules are there
# afterwards, nothing runs meanwhile, the database is no copy, and work goes on without adopt().
# 024_dump does the same within one version.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'no server of another major version: "make test-upgrade" brings one' unless $ENV{NEWER_INSTALL};

my @common = ('my_worker.naptime' => 1, 'my_worker.log_jobs' => 'none', -extension => 0, 'my_worker.database' => '*');
my $old = new_node('old', @common);
my $new = new_node('new', @common, -install => $ENV{NEWER_INSTALL}, -start => 0, -init => [ extra => [ '--encoding=UTF8', '--no-locale',
	# From 18 on pages have checksums unless told otherwise, and both sides must agree.
	`$ENV{NEWER_INSTALL}/bin/initdb --version` =~ /\) (\d+)/ && $1 >= 18 ? '--no-data-checksums' : () ] ]);

# Two databases: the OID of one is given by hand, since pg_upgrade keeps it, and by it tells a copy from the original.
$old->safe_psql('postgres', "CREATE ROLE $_ LOGIN") for qw(alice bob);
$old->safe_psql('postgres', 'CREATE DATABASE app');
for my $db (qw(postgres app))
{
	$old->safe_psql($db, 'CREATE EXTENSION my_worker');
	add_handlers($old, $db);
	$old->safe_psql($db, q{
		SELECT my_worker.grant_usage(r) FROM unnest('{alice, bob}'::regrole[]) AS r;
		CREATE TYPE mood AS ENUM ('glad', 'sad');
		SELECT my_worker.create_queue('mail', handler => 'work', concurrency => 3, max_attempts => 7, retention => '30 days');
		SELECT my_worker.create_queue('dead');
		SELECT my_worker.create_queue('strict', handler => 'work', dead_letter => 'dead', max_attempts => 1, fifo => true);
		SELECT my_worker.create_queue('served', max_attempts => 3);
		SELECT my_worker.grant_consume('served', 'bob');
		SELECT my_worker.create_queue('held', handler => 'work');
		SELECT my_worker.pause_queue('held')});
	$old->safe_psql($db, q{
		SET ROLE alice;
		SELECT count(my_worker.enqueue('work', '{"label": "done"}', 'mail')) FROM generate_series(1, 3);
		SELECT my_worker.enqueue('work', '{"fail": "on purpose"}', 'strict', group_key => 'k');
		SELECT my_worker.enqueue('work', '{"fail": "on purpose"}', 'default', max_attempts => 1);
		SELECT my_worker.schedule('tick', 'every 1 second', handler => 'work', payload => '{"label": "tick"}');
		SELECT my_worker.schedule('paused', '0 3 * * *', 'SELECT 1', timezone => 'Europe/Berlin');
		SELECT my_worker.pause_schedule('paused');
		SELECT my_worker.schedule('nightly', '0 3 L * 5', 'VACUUM', overlap => 'queue', catchup => 'all')});
	wait_for($old, q{SELECT count(*) > 1 FROM effects WHERE label = 'tick'}, 't', undef, $db);
	wait_for($old, q{SELECT count(*) FROM my_queue WHERE queue IN ('mail', 'strict')}, '0', undef, $db);
	wait_for($old, q{SELECT count(*) FROM my_worker.jobs WHERE status = 'failed'}, '1', undef, $db);
	$old->safe_psql($db, q{
		SET ROLE alice;
		SELECT my_worker.enqueue('work', '{"label": "held"}', 'held', unique_key => 'u', group_key => 'g');
		SELECT my_worker.enqueue('work', '{"label": "behind it"}', after => ARRAY[(SELECT max(id) FROM my_queue)]);
		SELECT my_worker.enqueue('work', '{"label": "due later"}', run_at => now() + interval '1 day', timeout => '1 minute',
			expires_at => now() + interval '2 days');
		SELECT count(my_worker.send('served', to_jsonb(i), headers => '{"h": 1}')) FROM generate_series(1, 3) AS i});
	# One of them is leased for a time, and the lease goes on on the other side.
	$old->safe_psql($db, q{SET ROLE bob; SELECT id FROM my_worker.receive('served', lease => '1 day')});
}
# A job that is due, and must not be run before the upgraded server is started.
$old->safe_psql('postgres', q{ALTER SYSTEM SET my_worker.enabled = off; SELECT pg_reload_conf()});
wait_for($old, q{SELECT current_setting('my_worker.enabled') = 'off'
	AND NOT EXISTS (SELECT FROM my_worker.workers WHERE job_id IS NOT NULL)});
$old->safe_psql($_, q{SET ROLE alice; SELECT my_worker.enqueue('work', '{"label": "due"}')}) for qw(postgres app);
$old->safe_psql('postgres', q{ALTER SYSTEM RESET my_worker.enabled});

my %queries = (
	jobs => 'SELECT to_jsonb(j) FROM my_worker._jobs AS j ORDER BY id',
	history => 'SELECT to_jsonb(h) FROM my_worker.history AS h ORDER BY id, finished_at',
	queues => 'SELECT to_jsonb(q) FROM my_worker.queues AS q ORDER BY name',
	schedules => 'SELECT to_jsonb(s) FROM my_worker._schedules AS s ORDER BY id',
	dependencies => 'SELECT to_jsonb(d) FROM my_worker._dependencies AS d ORDER BY 1::text',
	rights => q{SELECT has_function_privilege('alice', p.oid, 'EXECUTE'), has_function_privilege('bob', p.oid, 'EXECUTE'), p.oid::regprocedure::text
		FROM pg_proc AS p WHERE pronamespace IN ('my_worker'::regnamespace, 'public'::regnamespace) ORDER BY p.oid::regprocedure::text COLLATE "C"});
my $home = 'SELECT my_worker_internal.home()';
my %before;
for my $db (qw(postgres app))
{
	$before{$db}{$_} = $old->safe_psql($db, $queries{$_}) for keys %queries;
	$before{$db}{home} = $old->safe_psql($db, $home);
}
$old->stop;

my ($from, $to) = map { `$_/postgres --version` =~ /\) (\d+)/ } $old->config_data('--bindir'), "$ENV{NEWER_INSTALL}/bin";
isnt($from, $to, "from $from to $to");
chdir PostgreSQL::Test::Utils::tempdir();
$new->command_ok([ 'pg_upgrade', '--no-sync', '-d', $old->data_dir, '-D', $new->data_dir, '-b', $old->config_data('--bindir'),
	'-B', "$ENV{NEWER_INSTALL}/bin", '-s', $new->host, '-p', $old->port, '-P', $new->port ], 'pg_upgrade');
$new->append_conf('postgresql.conf', 'my_worker.enabled = off');
$new->start;
for my $db (qw(postgres app))
{
	is($new->safe_psql($db, $queries{$_}), $before{$db}{$_}, "$db: $_ are the same") for sort keys %queries;
}

# Enqueued before the keeper has had its first look at where it is.
$new->safe_psql($_, q{SET ROLE alice; SELECT my_worker.enqueue('work', '{"label": "due"}')}) for qw(postgres app);
$new->append_conf('postgresql.conf', 'my_worker.enabled = on');
$new->reload;
my $sql = sub { $new->safe_psql('app', $_[0]) };
for my $db (qw(postgres app))
{
	wait_for($new, q{SELECT count(*) FROM effects WHERE label = 'due'}, '2', undef, $db);
	is($new->safe_psql($db, $home), $before{$db}{home}, "$db: the home is the same");
	is($new->safe_psql($db, q{SELECT ok FROM my_worker.health() WHERE "check" = 'home'}), 't', "$db: what was due runs, and it is no copy");
	wait_for($new, q{SELECT max(at) > clock_timestamp() - interval '3 s' FROM effects WHERE label = 'tick'}, 't', undef, $db);
}
is($sql->(q{SELECT count(*) - count(DISTINCT job) FROM effects}), '0', 'nothing has run twice');
is($sql->(q{SELECT count(*) FROM my_worker.schedules WHERE NOT active OR disabled_reason IS NOT NULL}), '1', 'no schedule is disabled but the paused one');
is($sql->(q{SET ROLE alice; SELECT my_worker.enqueue('work', '{}', 'held', unique_key => 'u') = (SELECT id FROM my_queue WHERE unique_key = 'u')}), 't',
	'a unique key is still taken');
is($sql->(q{SET ROLE bob; SELECT count(*) FROM my_worker.receive('served', 10)}), '2', 'what is leased stays so, the others can be received');
$sql->(q{SELECT my_worker.resume_queue('held')});
wait_for($new, q{SELECT string_agg(label, ', ' ORDER BY at) FROM effects WHERE label IN ('held', 'behind it')}, 'held, behind it', undef, 'app');
pass('what was paused runs, and what waited for it after that');
my $failed = $sql->(q{SELECT min(id) FROM my_worker.jobs WHERE status = 'failed' AND queue = 'default'});
is($sql->("SELECT my_worker.retry($failed)"), 't', 'a job that failed before is retried');
my $last = $sql->('SELECT max(id) FROM my_worker.jobs');
my $next = $sql->(q{SET ROLE bob; SELECT my_worker.enqueue('work', '{"label": "new"}')});
cmp_ok($next, '>', $last - 1, 'the ids go on');
is($sql->("SELECT my_worker.wait($next, '30 s')"), 'completed', 'new jobs run');
$new->restart;
$next = $sql->(q{SET ROLE bob; SELECT my_worker.enqueue('work', '{"label": "restarted"}')});
is($sql->("SELECT my_worker.wait($next, '30 s')"), 'completed', 'also after a restart');
is(log_has($new, qr/PANIC|terminated by signal|XX000/), 0, 'no crash, no internal error');

$new->stop;
done_testing();
