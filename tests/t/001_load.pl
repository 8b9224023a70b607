# The library in a server that preloads it and in one that does not.
#
# Without preload the extension can be installed and used for what needs no worker; what needs
# shared memory says how to get it. With preload the launcher is up and the status readable.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $bare = new_node('bare', -preload => 0);

is($bare->safe_psql('postgres', q{SELECT count(*) FROM pg_extension WHERE extname = 'my_worker'}),
	'1', 'CREATE EXTENSION works without preload');

my $error = query_error($bare, 'SELECT * FROM get_worker_stats()');
like($error, qr/^55000: my_worker must be loaded via "shared_preload_libraries"$/m,
	'get_worker_stats() without preload says what to do');
like($error, qr/^HINT: /m, 'and gives a hint');

is($bare->safe_psql('postgres', 'SELECT 1'), '1', 'the server is none the worse');
$bare->stop;

my $node = new_node('preloaded');

like($node->safe_psql('postgres', 'SELECT items_processed FROM get_worker_stats()'), qr/^\d+$/,
	'get_worker_stats() with preload returns a row');

wait_for($node, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'my_custom_worker'});
pass('the launcher is up');

my $log_start = -s $node->logfile;
$node->restart;
wait_for($node, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'my_custom_worker'});
pass('and again after a restart');
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile, $log_start),
	qr/PANIC|terminated by signal|XX000/, 'the restart left no trouble in the log');

$node->stop;
done_testing();
