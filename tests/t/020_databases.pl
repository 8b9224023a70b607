# Which databases are served, and how others, and the extension's coming and going, are dealt with.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('databases', -extension => 0, 'my_worker.naptime' => 3600,
	'my_worker.database' => 'postgres, "Odd, name", later, alsolater, copied, renamed');
$node->safe_psql('postgres', $_) for 'CREATE DATABASE "Odd, name"', 'CREATE DATABASE later', 'CREATE DATABASE unserved';

sub enqueue
{
	my ($database, $payload) = @_;
	return $node->safe_psql($database, "SELECT my_worker.enqueue('work', '" . ($payload // '{}') . "')");
}
sub finished { return $node->safe_psql($_[0], "SELECT my_worker.wait($_[1], '20 s')") }

# CREATE EXTENSION in a database that is served: its jobs run at once, long before the nap.
for my $database ('postgres', 'Odd, name')
{
	$node->safe_psql($database, 'CREATE EXTENSION my_worker');
	add_handlers($node, $database);
	is(finished($database, enqueue($database)), 'completed', "$database: jobs run");
}
my $begin = time;
$node->safe_psql('later', 'CREATE EXTENSION my_worker');
add_handlers($node, 'later');
is(finished('later', enqueue('later')), 'completed', 'later: jobs run after CREATE EXTENSION');
cmp_ok(time - $begin, '<', 5, 'at once');

# Jobs that the same transaction enqueues.
$node->safe_psql('later', 'DROP EXTENSION my_worker CASCADE');
my $id = $node->safe_psql('later', q{
	BEGIN; CREATE EXTENSION my_worker; SELECT my_worker.enqueue('work'); COMMIT;});
is(finished('later', $id), 'completed', 'those of the same transaction, too');

# A database that is created only now.
$node->safe_psql('postgres', 'CREATE DATABASE alsolater');
$node->safe_psql('alsolater', 'CREATE EXTENSION my_worker');
add_handlers($node, 'alsolater');
is(finished('alsolater', enqueue('alsolater')), 'completed', 'a database that was named before it existed');

# One that is not served.
my ($status, $stdout, $stderr) = $node->psql('unserved', 'CREATE EXTENSION my_worker');
is($status, 0, 'CREATE EXTENSION in a database that is not served works');
like($stderr, qr/WARNING: .*HINT: .*my_worker\.database/s, 'with a warning and a hint');
add_handlers($node, 'unserved');
for my $sql (q{SELECT my_worker.enqueue('work')}, q{INSERT INTO my_queue (handler) VALUES ('work')})
{
	($status, $stdout, $stderr) = $node->psql('unserved', $sql);
	is($status, 0, "not served: $sql");
	like($stderr, qr/WARNING: .*HINT: .*my_worker\.database/s, 'warns');
}
is(() = $stderr =~ /WARNING/g, 1, 'once');
is($node->safe_psql('unserved', 'SELECT count(*) FROM my_queue'), '2', 'the jobs wait');

# A copy that has the extension from its template, and one that gets a name that is served.
my $done = q{SELECT count(*) FROM my_worker.history WHERE status = 'completed'};
$node->safe_psql('postgres', $_) for 'CREATE DATABASE copied TEMPLATE unserved', 'CREATE DATABASE unnamed TEMPLATE unserved';
$node->safe_psql('copied', 'SELECT my_worker.adopt()');
wait_for($node, $done, '2', 20, 'copied');
$node->safe_psql('postgres', 'ALTER DATABASE unnamed RENAME TO renamed');
$node->safe_psql('renamed', 'SELECT my_worker.adopt()');
wait_for($node, $done, '2', 20, 'renamed');
pass('adopted copies and other names are served at once');
$node->safe_psql('postgres', $_) for 'DROP DATABASE copied', 'DROP DATABASE renamed';

# Databases of others are not held up, while jobs run and while nothing does.
my $long = enqueue('postgres', '{"gate": "a"}');
job_pid($node, $long);
$begin = time;
$node->safe_psql('postgres', $_)
  for 'CREATE DATABASE other', 'ALTER DATABASE other RENAME TO another', 'ALTER DATABASE another SET work_mem = 64',
  'CREATE DATABASE copy TEMPLATE another', 'DROP DATABASE another', 'DROP DATABASE copy';
cmp_ok(time - $begin, '<', 15, 'CREATE, ALTER and DROP DATABASE of others are not held up');
is($node->safe_psql('postgres', "SELECT status FROM my_worker.jobs WHERE id = $long"), 'processing', 'by a job that runs');
open_gate($node, 'a');
is(finished('postgres', $long), 'completed', 'nor is it by them');

# DROP EXTENSION while a job runs, and CREATE again.
my $start = log_end($node);
$long = enqueue('later', '{"gate": "b"}');
add_handlers($node, 'later') if $node->safe_psql('later', q{SELECT to_regclass('gates') IS NULL}) eq 't';
job_pid($node, $long, 'later');
$begin = time;
my $dropper = $node->background_psql('later');
$dropper->query_until(qr/started/, "\\echo started\nDROP EXTENSION my_worker CASCADE;\n\\echo dropped\n");
# It waits for the job, whose end is in our hands; neither then waits for what the other has.
wait_for($node, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE 'DROP EXTENSION%' AND wait_event_type = 'Lock'});
open_gate($node, 'b', 'later');
$dropper->quit;
is($node->safe_psql('later', q{SELECT count(*) FROM pg_extension WHERE extname = 'my_worker'}), '0',
	'DROP EXTENSION while a job runs ends');
cmp_ok(time - $begin, '<', 20, 'within the end of that job');
$node->safe_psql('later', 'CREATE EXTENSION my_worker');
is(finished('later', enqueue('later')), 'completed', 'CREATE EXTENSION again: jobs run at once');
# A command's transactions are its own, yet it is waited for all the same.
$long = $node->safe_psql('later', q{SELECT my_worker.run($$SELECT gate('c'); INSERT INTO effects (label) VALUES ('command')$$)});
job_pid($node, $long, 'later');
$dropper = $node->background_psql('later');
$dropper->query_until(qr/started/, "\\echo started\nDROP EXTENSION my_worker CASCADE;\n\\echo dropped\n");
wait_for($node, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE 'DROP EXTENSION%' AND wait_event_type = 'Lock'});
open_gate($node, 'c', 'later');
$dropper->quit;
is($node->safe_psql('later', q{SELECT count(*) FROM effects WHERE label = 'command'}), '1', 'DROP EXTENSION waits for a command');
$node->safe_psql('later', 'CREATE EXTENSION my_worker');
for (1 .. 5)
{
	$node->safe_psql('later', 'DROP EXTENSION my_worker CASCADE; CREATE EXTENSION my_worker;');
	is(finished('later', enqueue('later')), 'completed', "and again ($_)");
}
cmp_ok(log_has($node, qr/ (ERROR|FATAL|WARNING): /, $start), '<=', 5, 'without trouble in the log');
# While workers go from one job to the next, whose transactions lock our tables, too.
for (1 .. 10)
{
	$node->safe_psql('later', q{SELECT count(my_worker.enqueue('work')) FROM generate_series(1, 300)});
	wait_for($node, 'SELECT count(*) > 0 FROM my_worker.history', 't', undef, 'later');
	$node->safe_psql('later', 'DROP EXTENSION my_worker CASCADE; CREATE EXTENSION my_worker;');
}
is(log_has($node, qr/deadlock detected/, $start), 0, 'DROP EXTENSION and jobs never wait for each other');

# Another schema.
$node->safe_psql('later', q{
	DROP EXTENSION my_worker CASCADE; CREATE SCHEMA "Elsewhere"; CREATE EXTENSION my_worker SCHEMA "Elsewhere";});
is(finished('later', enqueue('later')), 'completed', 'in another schema');
is($node->safe_psql('later', q{SELECT items_processed > 0 FROM "Elsewhere".get_worker_stats()}), 't', 'the tutorial\'s objects are there');

# Every database that has it.
$node->safe_psql('postgres', q{ALTER SYSTEM SET my_worker.database = '*'});
$node->restart;
wait_for($node, q{SELECT count(*) FROM my_worker.history WHERE status = 'completed'}, '2', undef, 'unserved');
pass('*: what waited in an unserved database runs');
is(finished('Odd, name', enqueue('Odd, name')), 'completed', '*: so do the others');
$node->safe_psql('postgres', 'CREATE DATABASE fresh');
$begin = time;
$node->safe_psql('fresh', 'CREATE EXTENSION my_worker');
add_handlers($node, 'fresh');
is(finished('fresh', enqueue('fresh')), 'completed', '*: a new database');
cmp_ok(time - $begin, '<', 5, 'at once');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE datname IN ('template0', 'template1') AND backend_type = 'my_custom_worker'}),
	'0', 'templates are not served');
is(log_has($node, qr/PANIC|terminated by signal|XX000/), 0, 'no crash, no internal error');

$node->stop;
done_testing();
