# What nobody may overlook: an extension that comes while a keeper finds that there is none, or by COMMIT
# PREPARED.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('overlooked', 'my_worker.naptime' => 3600, 'my_worker.database' => '*',
	'my_worker.log_jobs' => 'none', 'max_prepared_transactions' => 2);
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
$known->query_safe(q{SELECT my_worker.create_queue('second')});
wait_for($node, keepers_of('race'), '0');
my $holder = $node->background_psql('race');
$known->query_safe(q{BEGIN; SELECT my_worker.create_queue('third')});
$holder->query_safe('BEGIN; LOCK TABLE my_queue');
$known->query_safe('COMMIT');
wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'my_worker keeper'
	AND datname = 'race' AND wait_event_type = 'Lock'}, '1');
$holder->query_safe(q{UPDATE pg_extension SET extversion = '1.0' WHERE extname = 'my_worker';
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
is_done($job, 'an extension that nobody has announced is seen after some naps', 'race');
sql(q{ALTER SYSTEM RESET my_worker.naptime});
$node->reload;

is(log_has($node, qr/PANIC|terminated by signal|XX000/), 0, 'no trouble in the log');

$node->stop;
done_testing();
