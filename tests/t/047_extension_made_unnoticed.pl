# What nobody may overlook: an extension that comes while a keeper finds that there is none, or by COMMIT
# PREPARED; and jobs of more roles than there are lanes (256), also when databases have gone whose lanes had
# work.
#
# Part of `make test-long`.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_node('overlooked', 'my_worker.naptime' => 3600, 'my_worker.database' => '*',
	'my_worker.max_workers' => 1, 'my_worker.log_jobs' => 'none', 'max_prepared_transactions' => 2);
add_handlers($node);

sub sql { return $node->safe_psql($_[1] // 'postgres', $_[0]) }
sub is_done
{
	my ($job, $name, $database) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(sql("SELECT my_worker.wait($job, '20 s')", $database), 'completed', $name);
}
sub keepers_of
{
	return "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'my_worker keeper' AND datname = '$_[0]'";
}

# A keeper has read the version of the extension, and waits for its table, when another version comes. As
# for a library that does not know it, there is nothing to serve until then.
sql('CREATE DATABASE race');
sql('CREATE EXTENSION my_worker', 'race');
add_handlers($node, 'race');
my $known = $node->background_psql('race');
$known->query_safe(q{SELECT my_worker.create_queue('first')});
sql(q{UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'my_worker'}, 'race');
$known->query_safe(q{INSERT INTO my_worker.queues (name) VALUES ('second')});
wait_for($node, keepers_of('race'), '0');
my $holder = $node->background_psql('race');
$known->query_safe(q{BEGIN; INSERT INTO my_worker.queues (name) VALUES ('third')});
$holder->query_safe('BEGIN; LOCK TABLE my_worker._jobs');
$known->query_safe('COMMIT');
wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'my_worker keeper'
	AND datname = 'race' AND wait_event_type = 'Lock'}, '1');
$holder->query_safe(q{UPDATE pg_extension SET extversion = (SELECT default_version FROM pg_available_extensions WHERE name = extname)
	WHERE extname = 'my_worker';
	SELECT my_worker.create_queue('fourth'); COMMIT;});
is_done(sql(q{SELECT my_worker.enqueue('work')}, 'race'), 'an extension that comes while its keeper looks is seen', 'race');
$_->quit for $known, $holder;

# CREATE EXTENSION by COMMIT PREPARED, which tells nobody, in a database whose keeper has left.
$holder = $node->background_psql('race');
$holder->query_safe(q{BEGIN; SELECT my_worker.create_queue('look'); DROP EXTENSION my_worker CASCADE; COMMIT});
$holder->quit;
wait_for($node, keepers_of('race'), '0');
sql(q{BEGIN; CREATE EXTENSION my_worker; PREPARE TRANSACTION 'extension'}, 'race');
sql(q{COMMIT PREPARED 'extension'}, 'race');
my $job = sql(q{SELECT my_worker.enqueue('work')}, 'race');
sql(q{ALTER SYSTEM SET my_worker.naptime = 1});
$node->reload;
is_done($job, 'an extension that nobody has announced is seen by its jobs', 'race');
sql(q{ALTER SYSTEM RESET my_worker.naptime});
$node->reload;

# Lanes with work of a database that loses the extension, or goes.
sql(q{DO $$ BEGIN
	FOR n IN 1 .. 300 LOOP
		EXECUTE format('CREATE ROLE r%s LOGIN; SELECT my_worker.grant_usage(''r%s'')', n, n);
	END LOOP; END $$});
my $enqueue_all = q{DO $$ BEGIN
	FOR n IN 1 .. 300 LOOP
		EXECUTE format('SET LOCAL ROLE r%s', n);
		PERFORM my_worker.enqueue('work');
		RESET ROLE;
	END LOOP; END $$};
for my $way ('DROP EXTENSION', 'DROP DATABASE')
{
	sql('CREATE DATABASE many');
	sql('CREATE EXTENSION my_worker; SELECT my_worker.grant_usage(oid) FROM pg_roles WHERE rolname ~ \'^r\d+$\'', 'many');
	add_handlers($node, 'many');
	wait_for($node, keepers_of('many'), '1');
	my $gate = sql(qq{SELECT my_worker.enqueue('work', '{"gate": "$way"}')});
	job_pid($node, $gate);
	sql($enqueue_all, 'many');
	# A look that is under way may meet DROP EXTENSION in a deadlock. The keeper has seen what was enqueued.
	wait_for($node, q{SELECT state, wait_event FROM pg_stat_activity WHERE application_name = 'my_worker keeper' AND datname = 'many'}, 'idle|Extension');
	# The change of a queue has the keeper look.
	sql(q{BEGIN; SELECT my_worker.create_queue('look'); DROP EXTENSION my_worker CASCADE; COMMIT}, 'many')
	  if $way eq 'DROP EXTENSION';
	sql('DROP DATABASE many') if $way eq 'DROP DATABASE';
	wait_for($node, keepers_of('many'), '0');
	$job = sql(q{SET ROLE r7; SELECT my_worker.enqueue('work')});
	open_gate($node, $way);
	is_done($gate, "$way: a job of another database");
	is_done($job, "$way: one of a role that had none");
	sql('DROP DATABASE IF EXISTS many');
}

# More roles with due jobs than lanes: the keeper sleeps, and all of them run.
sql(q{TRUNCATE effects});
my $gate = sql(q{SELECT my_worker.enqueue('work', '{"gate": "all"}')});
job_pid($node, $gate);
sql($enqueue_all);
sql(q{SELECT my_worker.create_queue('look')});
my ($keeper) = sql(q{SELECT pid FROM my_worker.workers WHERE kind = 'keeper' AND database = 'postgres'});
sub ticks
{
	my ($fields) = slurp_file("/proc/$keeper/stat") =~ /\) (.*)/s;
	my @fields = split / /, $fields;
	return $fields[11] + $fields[12];
}
my $before = ticks();
usleep(2_000_000); # in which little is to happen
cmp_ok(ticks() - $before, '<', 40, 'with more roles than lanes the keeper sleeps');
sql(q{ALTER SYSTEM SET my_worker.max_workers = 8});
$node->reload;
open_gate($node, 'all');
is_done($gate, 'the job before them');
drained($node);
is(sql(q{SELECT count(DISTINCT role) FROM effects WHERE role ~ '^r\d+$'}), '300', 'all of them run, without a nap');
is(log_has($node, qr/PANIC|terminated by signal|XX000/), 0, 'no trouble in the log');

$node->stop;
done_testing();
