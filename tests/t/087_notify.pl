# NOTIFY in jobs: jobs share transactions, and of equal notifications of one transaction the server
# delivers one. With payloads that differ, as the documentation says, each job's arrives.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('main');
$node->safe_psql('postgres', q{
	CREATE FUNCTION tell(id bigint, p jsonb) RETURNS void LANGUAGE sql AS
	    $$SELECT pg_notify('equal', ''), pg_notify('own', id::text)$$});
my $output = $node->safe_psql('postgres', q{
	LISTEN equal; LISTEN own;
	SELECT my_worker.enqueue_many('tell', array_agg('{}'::jsonb)) FROM generate_series(1, 300) \g /dev/null
	SELECT my_worker.wait(max(id), '30 s') FROM my_worker.jobs \g /dev/null
	DO $$ BEGIN WHILE EXISTS (SELECT FROM my_queue) LOOP PERFORM pg_sleep(0.01); END LOOP; END $$;
	SELECT 'seen'});
my $equal = () = $output =~ /notification "equal"/g;
my %own = map { $_ => 1 } $output =~ /notification "own" with payload "(\d+)"/g;
is(scalar keys %own, 300, 'of payloads that differ none is missing');
cmp_ok($equal, '>=', 1, 'equal ones arrive');
cmp_ok($equal, '<', 300, 'and are folded by transactions');
$node->stop;
done_testing();
