# Each due time once where the keeper dies in the middle of it, and where another server goes on:
# the job and the new next_run_at are one transaction. The clock is the tests' own.
#
# A gate in a trigger holds the keeper's transaction open: before it has advanced the schedule, or
# after. Then it is killed, which takes the server down, or a standby is promoted beside it.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('main', 'my_worker.naptime' => 3600, 'my_worker.log_jobs' => 'none',
	'restart_after_crash' => 'on', -init => [ allows_streaming => 1 ]);

sub sql { return $node->safe_psql('postgres', $_[0]); }

# Due half an hour from now, so that no due time comes by itself.
sql(q{
	CREATE TABLE ran (job bigint);
	CREATE FUNCTION work(id bigint, payload jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO ran VALUES (id)';
	CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_catalog.pg_advisory_xact_lock_shared(4830);
		RETURN NULL;
	END $$;
	CREATE TRIGGER gate AFTER INSERT ON my_worker._jobs FOR EACH ROW EXECUTE FUNCTION gate();
	SELECT my_worker.schedule('hourly', format('%s * * * *', (extract(minute FROM now())::int + 30) % 60),
		handler := 'work', timezone := 'UTC', catchup := 'all')});

my $hours = 0;
my $stuck = q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4830 AND NOT granted};

sub an_hour_later
{
	my ($server) = @_;
	$hours++;
	$server->append_conf('postgresql.conf', "my_worker.clock_offset = '${hours}h'");
	$server->safe_psql('postgres', 'SELECT pg_reload_conf()');
	return;
}

sub fired
{
	my ($server) = @_;
	wait_for($server, qq{SELECT next_run_at > now() + interval '$hours h' FROM my_worker.schedules});
	drained($server);
	return;
}

# How many runs there were, and of how many jobs.
sub runs { return $_[0]->safe_psql('postgres', 'SELECT count(*), count(DISTINCT job) FROM ran'); }

an_hour_later($node);
fired($node);
is(runs($node), '1|1', 'an hour later it runs');

for my $when ('inserted', 'advanced')
{
	sql(q{CREATE OR REPLACE TRIGGER gate AFTER UPDATE OF last_due ON my_worker._schedules FOR EACH ROW EXECUTE FUNCTION gate();
		DROP TRIGGER gate ON my_worker._jobs}) if $when eq 'advanced';
	my $before = sql('SELECT count(*) FROM ran');
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query_safe('SELECT pg_advisory_lock(4830)');
	an_hour_later($node);
	wait_for($node, $stuck, '1');
	my ($keeper) = worker_pids($node, 'keeper');
	is(sql('SELECT count(*) FROM my_queue'), '0', "$when, not committed: nobody sees the job");
	crash($node, $keeper);
	eval { $session->quit };
	fired($node);
	is(runs($node), join('|', ($before + 1) x 2), "$when, then killed: the due time runs once");
}

# A standby takes over while the primary is in the middle of a due time: it has not committed, so
# the new primary fires it; what had been fired is not fired again.
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
my $session = $node->background_psql('postgres', on_error_stop => 0);
my $before = sql('SELECT count(*) FROM ran');
an_hour_later($node);
fired($node);
is(runs($node), join('|', ($before + 1) x 2), 'the primary fires an hour');
$session->query_safe('SELECT pg_advisory_lock(4830)');
an_hour_later($node);
wait_for($node, $stuck, '1');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
$standby->append_conf('postgresql.conf', "my_worker.clock_offset = '${hours}h'");
$standby->reload;
is($standby->safe_psql('postgres', q{SELECT count(*) FROM my_worker.schedules WHERE next_run_at IS NOT NULL}), '1',
	'a standby shows schedules and fires none');
$node->stop('immediate');
eval { $session->quit };
$standby->promote;
fired($standby);
is(runs($standby), join('|', ($before + 2) x 2), 'promoted, it fires the hour that the primary did not end, and no other');
an_hour_later($standby);
fired($standby);
is(runs($standby), join('|', ($before + 3) x 2), 'and goes on');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM my_worker.history WHERE handler LIKE 'public.work(%'}),
	$before + 3, 'with one job for each');

# DROP EXTENSION in the middle of a due time waits for its end; then nobody fires any more.
$session = $standby->background_psql('postgres', on_error_stop => 0);
$session->query_safe('SELECT pg_advisory_lock(4830)');
an_hour_later($standby);
wait_for($standby, $stuck, '1');
my $drop = $standby->background_psql('postgres', on_error_stop => 0);
$drop->query_until(qr/begin/, "\\echo begin\nDROP EXTENSION my_worker;\n");
wait_for($standby, q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DROP EXTENSION%' AND wait_event_type = 'Lock'}, '1');
$session->query_safe('SELECT pg_advisory_unlock(4830)');
wait_for($standby, q{SELECT count(*) FROM pg_extension WHERE extname = 'my_worker'}, '0');
pass('DROP EXTENSION while a schedule fires ends');
$drop->quit;
$session->quit;
$standby->safe_psql('postgres', q{
	CREATE EXTENSION my_worker;
	TRUNCATE ran;
	SELECT my_worker.schedule('again', 'every 1 second', handler := 'work')});
wait_for($standby, 'SELECT count(*) > 0 FROM ran');
pass('and created again it fires');
unlike(PostgreSQL::Test::Utils::slurp_file($standby->logfile), qr/PANIC|terminated by signal|XX000/, 'no trouble in the log');

$standby->stop;
done_testing();
