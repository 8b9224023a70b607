# wait() on a standby: it returns when the job's end has arrived from the primary server, and says so
# where nothing arrives, since the replay is paused.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = new_node('primary', -init => [ allows_streaming => 1 ]);
add_handlers($primary);
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

my $job = $primary->safe_psql('postgres', q{SELECT my_worker.enqueue('work', '{"gate": "g"}')});
job_pid($primary, $job);
wait_for($standby, "SELECT count(*) FROM my_queue WHERE id = $job", '1');
is($standby->safe_psql('postgres', "SELECT my_worker.wait($job, '10 ms') IS NULL"), 't', 'a job that runs there is waited for');
is($standby->safe_psql('postgres', 'SELECT my_worker.wait(1)'), 'completed', 'one that has ended is known') if $job > 1;

my ($out, $err) = ('', '');
my $waiting = IPC::Run::start([ 'psql', '-XAtq', '-d', $standby->connstr('postgres'), '-c', "SELECT my_worker.wait($job, '30 s')" ],
	'>', \$out, '2>', \$err);
open_gate($primary, 'g');
$waiting->finish;
is($out, "completed\n", 'its end arrives') or diag($err);

my $later = $primary->safe_psql('postgres', q{SELECT my_worker.enqueue('work', run_at => 'infinity')});
wait_for($standby, "SELECT count(*) FROM my_queue WHERE id = $later", '1');
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
like(query_error($standby, "SELECT my_worker.wait($later)"),
	qr/^55000: cannot wait for job $later: the replay of WAL is paused on this standby\nHINT: /, 'a paused standby says so');
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
like(query_error($standby, 'SELECT my_worker.wait(999999999)'), qr/^22023: job 999999999 does not exist/, 'an id that was never given');
$standby->stop;
$primary->stop;
done_testing();
