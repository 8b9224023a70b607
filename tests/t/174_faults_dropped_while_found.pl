# A handler is dropped when it has been found and not yet been made ready to be called: the attempt fails as any without
# a handler does, and not with the server's internal error.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use MyWorkerFaults;
use Test::More;

my $node = faulty_node('faults_dropped');
my $passing = q{CREATE FUNCTION passing(bigint, jsonb) RETURNS void LANGUAGE sql AS ''};
sql(q{SELECT my_worker.create_queue('q', max_attempts => 1)});

sql("$passing;", arm('found', 'wait'));
my $job = sql(q{SELECT my_worker.enqueue('passing', queue => 'q')});
waits('found');
sql('DROP FUNCTION passing');
go_on('found');
until_sql("SELECT status FROM my_worker.jobs WHERE id = $job", 'failed');
is(sql("SELECT errors->0->>'sqlstate' FROM my_worker.history WHERE id = $job"), '42883', 'a worker says that there is no such handler');

sql("$passing; SELECT my_worker.pause_queue('q');", arm('found', 'wait'));
$job = sql(q{SELECT my_worker.enqueue('passing', queue => 'q')});
my $session = start_sql("\\set VERBOSITY sqlstate\nSELECT my_worker.perform($job)");
waits('found');
sql('DROP FUNCTION passing');
go_on('found');
$session->query(q{SELECT 1});
like($session->{stderr}, qr/ERROR:\s+42883/, 'so does perform()');
$session->quit;

$node->stop;
done_testing();
