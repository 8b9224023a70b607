# pg_rewind makes no copy. An old primary that went on alone after the promotion of its standby, and crashed in the middle of a
# job, is rewound: it follows, and runs nothing. Promoted in its turn it runs the jobs that are there, without adopt(),
# and charges none for the crash of its former life.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use File::Copy;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $old = new_node('old', -init => [ allows_streaming => 1 ], 'my_worker.naptime' => 1, 'wal_log_hints' => 'on',
	'wal_keep_size' => '512MB');
add_handlers($old);
$old->safe_psql('postgres', q{
	CREATE ROLE alice LOGIN;
	SELECT my_worker.grant_usage('alice');
	SELECT my_worker.schedule('tick', 'every 1 second', handler => 'work', payload => '{"label": "tick"}')});
$old->backup('b');
my $new = PostgreSQL::Test::Cluster->new('new');
$new->init_from_backup($old, 'b', has_streaming => 1);
$new->start;

sub enqueue { return $_[0]->safe_psql('postgres', "SET ROLE alice; SELECT my_worker.enqueue('work', '$_[1]')") }

sub effects { return $_[0]->safe_psql('postgres', "SELECT count(*), count(DISTINCT job) FROM effects WHERE label = '$_[1]'") }

enqueue($old, '{"label": "before"}') for 1 .. 5;
drained($old);
my $gated = enqueue($old, '{"label": "gated", "gate": "a"}');
job_pid($old, $gated);
my $later = $old->safe_psql('postgres', q{SET ROLE alice;
	SELECT my_worker.enqueue('work', '{"label": "later"}', run_at => 'infinity')});
$old->wait_for_catchup($new);
my $home = $old->safe_psql('postgres', 'SELECT my_worker_internal.home()');

# Both are primaries for a while; the old one runs jobs that will be lost, and dies with a job that runs.
$new->promote;
enqueue($old, '{"label": "lost"}') for 1 .. 5;
wait_for($old, q{SELECT count(*) FROM effects WHERE label = 'lost'}, '5');
ok(-s $old->data_dir . '/pg_stat_tmp/my_worker.marks', 'the old primary has notes of what runs');
$old->stop('immediate');
open_gate($new, 'a');
is($new->safe_psql('postgres', "SELECT my_worker.wait($gated, '30 s')"), 'completed', 'the promoted standby runs what the old primary ran');
enqueue($new, '{"label": "new"}') for 1 .. 5;
wait_for($new, q{SELECT count(*) FROM effects WHERE label = 'new'}, '5');
# A job with an attempt behind it, of which the old primary knows nothing.
my $retried = $new->safe_psql('postgres', q{SET ROLE alice;
	SELECT my_worker.enqueue('work', '{"label": "retried", "fail": "once"}', 'default', max_attempts => 2)});
wait_for($new, "SELECT attempts FROM my_queue WHERE id = $retried", '1');
$new->safe_psql('postgres', "UPDATE my_queue SET run_at = 'infinity', payload = payload - 'fail' WHERE id = $retried");
$new->safe_psql('postgres', 'CHECKPOINT');

# Its settings are those of the source afterwards: port and folder of the socket must stay.
my $kept = PostgreSQL::Test::Utils::tempdir() . '/postgresql.conf';
copy($old->data_dir . '/postgresql.conf', $kept) or die "no copy of the settings: $!";
$new->command_ok([ 'pg_rewind', '--no-sync', '-D', $old->data_dir, '--source-server', $new->connstr('postgres') ], 'pg_rewind');
copy($kept, $old->data_dir . '/postgresql.conf') or die "the settings do not come back: $!";
$old->enable_streaming($new);
$old->set_standby_mode;
$old->start;
$new->wait_for_catchup($old);
is($old->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'my_custom_worker'}), '0',
	'rewound and following, it has no process of ours');
is(effects($old, 'lost'), '0|0', 'what it did alone is gone');
is(effects($old, 'new'), '5|5', 'what the other one did is there');
is($old->safe_psql('postgres', "SELECT status, attempts FROM my_worker.jobs WHERE id = $retried"), 'pending|1', 'jobs are as they are there');

# Back again.
my $running = enqueue($new, '{"label": "gated", "gate": "b"}');
job_pid($new, $running);
$new->wait_for_catchup($old);
$new->stop('immediate');
$old->promote;
job_pid($old, $running);
pass('promoted again it runs what the other one ran');
open_gate($old, 'b');
is($old->safe_psql('postgres', "SELECT my_worker.wait($running, '30 s')"), 'completed', 'and that completes');
is($old->safe_psql('postgres', "SELECT attempts FROM my_worker.history WHERE id = $running"), '1', 'uncharged');
$old->safe_psql('postgres', "UPDATE my_queue SET run_at = now() WHERE id IN ($later, $retried)");
is($old->safe_psql('postgres', "SELECT my_worker.wait($_, '30 s')"), 'completed', "job $_ runs without adopt()") for $later, $retried;
is($old->safe_psql('postgres', "SELECT attempts FROM my_worker.history WHERE id = $retried"), '2', 'with the attempts that it had');
is($old->safe_psql('postgres', 'SELECT my_worker_internal.home()'), $home, 'the home is the same');
is($old->safe_psql('postgres', q{SELECT ok FROM my_worker.health() WHERE "check" = 'home'}), 't', 'health() knows of no copy');
wait_for($old, q{SELECT max(at) > clock_timestamp() - interval '3 s' FROM effects WHERE label = 'tick'});
pass('the schedule goes on');
is($old->safe_psql('postgres', 'SELECT count(*) - count(DISTINCT job) FROM effects'), '0', 'every effect is there once');
is($old->safe_psql('postgres', q{SELECT string_agg(format('%s %s', label, n), ', ' ORDER BY label) FROM
	(SELECT label, count(*) AS n FROM effects WHERE label <> 'tick' GROUP BY 1) AS e}), 'before 5, gated 2, later 1, new 5, retried 1',
	'and those of both');
is(log_has($_, qr/PANIC|terminated by signal|XX000/), 0, 'no crash, no internal error') for $old, $new;

$old->stop;
done_testing();
