# What a newcomer runs into: a database made after the server started, a role that may not log in.
#
# CREATE EXTENSION makes a served database's jobs run at once, not after a nap. A job of a role that
# may not log in fails, and nothing is tried for that role after it.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('main', 'my_worker.database' => 'postgres, "Later"', 'my_worker.naptime' => 3600);

$node->safe_psql('postgres', 'CREATE DATABASE "Later"');
$node->safe_psql('Later', 'CREATE EXTENSION my_worker');
$node->safe_psql('Later', q{CREATE FUNCTION work() RETURNS integer LANGUAGE sql AS 'SELECT 7'});
my $job = $node->safe_psql('Later', q{SELECT my_worker.enqueue('work')});
is($node->safe_psql('Later', "SELECT my_worker.wait($job, '30 s')"),
	'completed', 'a database that came later is served at once');

$node->safe_psql('postgres', q{
	CREATE FUNCTION work() RETURNS integer LANGUAGE sql AS 'SELECT 7';
	CREATE ROLE nobody_logs_in NOLOGIN;
	SELECT my_worker.grant_usage('nobody_logs_in')});
$job = $node->safe_psql('postgres', q{SET ROLE nobody_logs_in; SELECT my_worker.enqueue('work')});
is($node->safe_psql('postgres', "SELECT my_worker.wait($job, '30 s')"),
	'failed', 'a job of a role that may not log in fails');
like($node->safe_psql('postgres', "SELECT last_error FROM my_worker.history WHERE id = $job"),
	qr/is not permitted to log in/, 'and says why');

# Each failed start doubles the delay to the next, from 50 ms: several would come in two seconds.
# That nothing comes is no fact to wait for, so the time is spent on other jobs.
my $log_start = -s $node->logfile;
$node->safe_psql('postgres', q{CREATE FUNCTION doze() RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(2)'});
$job = $node->safe_psql('postgres', q{SELECT my_worker.enqueue('doze')});
is($node->safe_psql('postgres', "SELECT my_worker.wait($job, '30 s')"), 'completed', 'others run');
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile, $log_start),
	qr/is not permitted to log in/, 'nobody tries to log in as that role any more');

like(query_error($node, q{SELECT my_worker.create_queue('default')}), qr/^42710: /,
	'the queue that always exists is not created again');

$node->stop;
done_testing();
