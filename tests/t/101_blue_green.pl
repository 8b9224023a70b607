# Moving to another server by logical replication, as docs/operations.md says: the first copy of FOR ALL TABLES works with
# the extension on both sides, the new side runs nothing before it adopts, and every effect is there once.
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

my $old = new_node('old', -init => [ allows_streaming => 'logical' ], 'my_worker.naptime' => 1, 'max_worker_processes' => 24);
add_handlers($old);
$old->safe_psql('postgres', q{
	ALTER TABLE effects REPLICA IDENTITY FULL;
	CREATE ROLE alice LOGIN;
	SELECT my_worker.grant_usage('alice');
	SELECT my_worker.create_queue('mail', handler => 'work', max_attempts => 7);
	SELECT my_worker.create_queue('dropped');
	SELECT my_worker.alter_queue('default', max_attempts => 9);
	SELECT my_worker.schedule('tick', 'every 1 second', handler => 'work', payload => '{"label": "tick"}', queue => 'mail');
	CREATE PROCEDURE load(n integer) LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. n LOOP
			PERFORM my_worker.enqueue('work', '{"label": "load"}', 'mail',
				run_at => CASE WHEN j % 10 = 0 THEN now() + interval '30 s' END) FROM generate_series(1, 20) AS j;
			COMMIT;
			PERFORM pg_sleep(0.1);
		END LOOP;
	END $$;
	CREATE PUBLICATION everything FOR ALL TABLES});
# The numbers of queues differ from those of a new server.
my $dir = PostgreSQL::Test::Utils::tempdir();
$old->command_ok([ 'pg_dump', '--schema-only', '-f', "$dir/schema.sql", '-d', $old->connstr('postgres') ], 'the schema is dumped');

my $new = new_node('new', -extension => 0, 'my_worker.naptime' => 1, 'max_worker_processes' => 24);
$new->safe_psql('postgres', 'CREATE ROLE alice LOGIN');
$new->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/schema.sql", '-d', $new->connstr('postgres') ], 'and restored');
# It has queues of its own, with numbers that the other side's queues have, too.
$new->safe_psql('postgres', q{SELECT my_worker.create_queue('mail', max_attempts => 2); SELECT my_worker.create_queue('extra'); DROP PUBLICATION everything});

my $conninfo = $old->connstr . ' dbname=postgres';
my $load = IPC::Run::start([ 'psql', '-X', '-q', '-d', $old->connstr('postgres'), '-c', 'CALL load(60)' ]);
wait_for($old, q{SELECT count(*) > 50 FROM effects});
$new->safe_psql('postgres', "CREATE SUBSCRIPTION moving CONNECTION '$conninfo' PUBLICATION everything");
wait_for($new, q{SELECT count(*) > 5 AND bool_and(srsubstate IN ('r', 's')) FROM pg_subscription_rel});
pass('the first copy ends with the extension on both sides');
wait_for($new, q{SELECT count(*) > 0 FROM my_queue});
wait_for($new, q{SELECT detail ~ 'copy' FROM my_worker.health() WHERE "check" = 'home' AND NOT ok});
is($new->safe_psql('postgres', q{SELECT max_attempts FROM my_worker.queues WHERE name IN ('default', 'mail', 'extra') ORDER BY name}), "9\n5\n7", 'it has the publisher\'s queues, and its own');
# Queues are altered and dropped on the way.
$old->safe_psql('postgres', q{SELECT my_worker.alter_queue('mail', max_attempts => 8); SELECT my_worker.drop_queue('dropped')});
wait_for($new, q{SELECT count(*) = 0 FROM my_worker.queues WHERE name = 'dropped' OR name = 'mail' AND max_attempts <> 8});

# The switch: nothing more is enqueued here, and nothing more starts.
$load->finish;
$old->safe_psql('postgres', q{ALTER SYSTEM SET my_worker.enabled = off; SELECT pg_reload_conf()});
wait_for($old, q{SELECT current_setting('my_worker.enabled') = 'off' AND NOT EXISTS (SELECT FROM my_worker.workers WHERE state = 'running' AND kind <> 'launcher')});
wait_for($old, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'my_custom_worker' AND backend_xid IS NOT NULL});
my $lsn = $old->safe_psql('postgres', 'SELECT pg_current_wal_lsn()');
wait_for($old, "SELECT replay_lsn >= '$lsn' FROM pg_stat_replication WHERE application_name = 'moving'");
is($new->safe_psql('postgres', 'SELECT count(*) FROM my_worker.history'), $old->safe_psql('postgres', 'SELECT count(*) FROM my_worker.history'), 'the new side has what has ended on the old one, and no more');
my $waiting = $old->safe_psql('postgres', 'SELECT count(*) FROM my_queue');
cmp_ok($waiting, '>', 0, 'jobs wait for their time');
$new->safe_psql('postgres', q{ALTER SUBSCRIPTION moving DISABLE; ALTER SUBSCRIPTION moving SET (slot_name = NONE); DROP SUBSCRIPTION moving});
like($new->safe_psql('postgres', 'SELECT my_worker.adopt()'), qr/home of $waiting more jobs and 1 more/, 'adopt() says what came');
my $id = $new->safe_psql('postgres', q{SELECT my_worker.enqueue('work', '{"label": "new"}')});
is($new->safe_psql('postgres', "SELECT my_worker.wait($id, '30 s')"), 'completed', 'new jobs run');
cmp_ok($id, '>', $old->safe_psql('postgres', 'SELECT max(id) FROM my_worker.jobs'), 'the ids go on');
wait_for($new, q{SELECT count(*) FROM effects WHERE label = 'load'}, 1200);
is($new->safe_psql('postgres', q{SELECT count(DISTINCT job) FROM effects WHERE label = 'load'}), 1200, 'every effect is there once');
is($new->safe_psql('postgres', q{SELECT count(*) - count(DISTINCT job) FROM effects}), 0, 'also of the schedule');
is($old->safe_psql('postgres', q{SELECT count(*) FROM effects WHERE label = 'load'}) + $old->safe_psql('postgres', q{SELECT count(*) FROM my_queue WHERE payload->>'label' = 'load'}),
	1200, 'the old side has run the others');
wait_for($new, q{SELECT max(at) > clock_timestamp() - interval '3 s' FROM effects WHERE label = 'tick'});
pass('the schedule goes on');
is(log_has($_, qr/PANIC|terminated by signal|XX000/), 0, 'no crash, no internal error') for $old, $new;

done_testing();
