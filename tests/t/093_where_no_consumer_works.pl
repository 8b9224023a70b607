# Where the functions of consumers do not work, each says so at once: on a standby, in a database that is not served,
# in a copy, without preload, and when all leases are out. A lease for a time outlives a promotion, one of a session does not.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $primary = new_node('primary', -init => [ allows_streaming => 1 ], 'my_worker.naptime' => 3600, 'my_worker.max_leases' => 100,
	'my_worker.database' => 'postgres,unserved_copy');
sub sql { return $primary->safe_psql('postgres', join(' ', @_)) }
my @ends = map { "SELECT my_worker.$_" } 'ack(1, 1)', q{ack_many('{1}', '{1}')}, 'nack(1, 1)', 'release(1, 1)', q{extend(1, 1, '1 s')},
  'progress(1, 1, 1)';
my @takes = (q{SELECT my_worker.receive('q')}, q{SELECT my_worker.receive('q', lease => '1 min')}, q{SELECT my_worker.receive('q', wait => '5 s')});
sub refused
{
	my ($node, $expected, $name, @calls) = @_;
	my $begin = time;
	my @wrong = grep { query_error($node, $_, ref $name ? $name->[1] : 'postgres') !~ $expected } @calls;
	is("@wrong", '', (ref $name ? $name->[0] : $name) . ': ' . scalar(@calls) . ' calls');
	cmp_ok(time - $begin, '<', 5, 'at once');
	return;
}

sql(q{SELECT my_worker.create_queue('q', backoff => '10 ms', retention => '0', max_attempts => 100)});

# All leases are out.
sql(q{SELECT count(*) FROM my_worker.send_many('q', array_fill('{}'::jsonb, ARRAY[120]))});
my $first = $primary->background_psql('postgres');
my $second = $primary->background_psql('postgres');
is($first->query_safe(q{SELECT count(*) FROM my_worker.receive('q', 90)}), '90', '90 of 100 leases');
my ($job, $lease) = split /\|/, $second->query_safe(q{SELECT id, lease FROM my_worker.receive('q')});
is($second->query_safe(q{SELECT count(*) FROM my_worker.receive('q', 20)}), '9', 'what there is room for is received');
for my $call (@takes)
{
	like(query_error($primary, $call), qr/^53400: too many jobs are held by consumers' sessions\nHINT: .*"my_worker\.max_leases"/, "then it fails: $call");
}
is(query_error($primary, q{SELECT my_worker.send('q')}), '', 'sending does not');
is($second->query_safe("SELECT my_worker.ack($job, $lease)"), 't', 'one is acknowledged');
is(sql(q{SELECT count(*) FROM my_worker.receive('q', 5, lease => '1 h')}), '1', 'and there is room for one');
is(sql(q{SELECT count(*) FROM my_worker.receive('q', 5, lease => '1 h')}), '1', 'for one more when its row has the lease');
is($second->query_safe(q{BEGIN; SELECT count(*) FROM my_worker.receive('q', 5); ROLLBACK; SELECT count(*) FROM my_worker.receive('q', 5)}), "1\n1",
	'a ROLLBACK makes room, too');
like(query_error($primary, $takes[0]), qr/^53400: /, 'and then there is none');
$first->quit;
wait_for($primary, q{SELECT count(*) FROM my_queue WHERE attempts = 1}, '90');
is(sql(q{SELECT count(*) FROM my_worker.receive('q', 1000)}), '90', 'a session that ends makes room');
$second->quit;
wait_for($primary, q{SELECT count(*) FROM my_worker.jobs WHERE status = 'processing'}, '2');
sql(q{SELECT my_worker.purge_queue('q')});

# A database that is not served.
sql('CREATE DATABASE elsewhere');
$primary->safe_psql('elsewhere', q{CREATE EXTENSION my_worker; SELECT my_worker.create_queue('q')});
refused($primary, qr/^55000: .*not served.*\nHINT: /, [ 'a database that is not served', 'elsewhere' ], @takes, @ends);

# A standby. It takes over in the middle: leases of sessions are gone, those of rows go on.
$primary->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'b', has_streaming => 1);
$standby->append_conf('postgresql.conf', 'my_worker.naptime = 3600');
$standby->start;
sql(q{SELECT count(*) FROM my_worker.send_many('q', array_fill('{}'::jsonb, ARRAY[4]))});
my ($held, $its_lease) = split /\|/, sql(q{SELECT id, lease FROM my_worker.receive('q', lease => '1 h')});
my ($short, $short_lease) = split /\|/, sql(q{SELECT id, lease FROM my_worker.receive('q', lease => '3 s')});
my $session = $primary->background_psql('postgres');
my ($of_session, $session_lease) = split /\|/, $session->query_safe(q{SELECT id, lease FROM my_worker.receive('q')});
my $acked = sql(q{SELECT id FROM my_worker.receive('q', lease => '1 h') WHERE my_worker.ack(id, lease)});
$primary->wait_for_catchup($standby);
refused($standby, qr/^25006: cannot execute my_worker\.\w+\(\) during recovery|^25006: /, 'a standby', @takes, @ends, q{SELECT my_worker.send('q')},
	q{SELECT my_worker.grant_consume('q', 'pg_monitor')});
is($standby->safe_psql('postgres', "SELECT status, lease_until IS NOT NULL FROM my_worker.jobs WHERE id = $held"), 'processing|t', 'it shows the leases of rows');
$primary->stop('immediate');
eval { $session->quit };
$standby->promote;
wait_for($standby, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'launcher'}, '1');
wait_for($standby, "SELECT attempts FROM my_queue WHERE id = $short", '1');
is($standby->safe_psql('postgres', "SELECT my_worker.ack($short, $short_lease)"), 'f', 'one that has ended meanwhile is fenced');
is($standby->safe_psql('postgres', "SELECT my_worker.ack($of_session, $session_lease)"), 'f', 'so is one of a session of the old primary');
is($standby->safe_psql('postgres', "SELECT status, attempts FROM my_worker.jobs WHERE id = $of_session"), 'pending|0', 'whose job waits, uncharged');
is($standby->safe_psql('postgres', "SELECT my_worker.extend($held, $its_lease, '1 h'), my_worker.ack($held, $its_lease), my_worker.ack($held, $its_lease)"),
	't|t|f', 'one that is valid is extended and ends its job, once');
is($standby->safe_psql('postgres', "SELECT count(*) FROM my_queue WHERE id IN ($acked, $held)"), '0', 'what was acknowledged stays so');
is($standby->safe_psql('postgres', q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM my_worker.receive('q', 10, wait => '5 s')}), "$short $of_session",
	'the others are received');
$standby->stop;

# A copy, and a server without preload.
$primary->start;
$primary->psql('postgres', "$_") for q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'postgres' AND pid <> pg_backend_pid() AND backend_type <> 'client backend'};
wait_for($primary, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'launcher'}, '1');
my (undef, undef, $stderr) = $primary->psql('template1', 'CREATE DATABASE unserved_copy TEMPLATE postgres');
is($stderr, '', 'a copy by a template');
wait_for($primary, q{SELECT my_worker_internal.why_copy() IS NOT NULL}, 't', undef, 'unserved_copy');
refused($primary, qr/^55000: .*\nHINT: .*adopt/s, [ 'a copy', 'unserved_copy' ], @takes);
$primary->stop;
$primary->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$primary->start;
refused($primary, qr/^55000: my_worker must be loaded via "shared_preload_libraries"\nHINT: /, 'without preload', @takes, @ends);
is(sql(q{SELECT my_worker.send('q') > 0}), 't', 'where sending works');

done_testing();
