# A cancel that comes while a failed attempt is being settled: too late for a signal, and the job is
# about to be tried again. It waits for that and cancels the job then.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('late_cancel', 'my_worker.naptime' => 3600);
add_handlers($node);
# So that no other attempt comes before the cancel on a machine that is slow.
$node->safe_psql('postgres', q{SELECT my_worker.alter_queue('default', backoff => '1 h')});

# Whoever writes down another attempt waits for us.
$node->safe_psql('postgres', q{
	CREATE FUNCTION held() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN PERFORM pg_catalog.pg_advisory_xact_lock(77); RETURN NEW; END $$;
	CREATE TRIGGER zz_held BEFORE UPDATE ON my_worker._jobs FOR EACH ROW
		WHEN (NEW.attempts > OLD.attempts) EXECUTE FUNCTION held()});
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(77)');
my $job = $node->safe_psql('postgres', q{SELECT my_worker.enqueue('work', '{"fail": "no"}')});
ok(wait_for($node, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 77 AND NOT granted}),
	'the attempt has failed and is being settled');

my $canceller = $node->background_psql('postgres');
$canceller->query_until(qr/begun/, "\\echo begun\nSET application_name = 'canceller';\nSELECT my_worker.cancel($job) AS told \\gset\n");
ok(wait_for($node, q{SELECT count(*) = 1 FROM pg_stat_activity
	WHERE application_name = 'canceller' AND (query LIKE '%cancel(%' OR state = 'idle')}), 'somebody cancels it');
$holder->query_safe('SELECT pg_advisory_unlock(77)');
is($canceller->query_safe(q{SELECT :'told'}), 't', 'and is told so');
is($node->safe_psql('postgres', "SELECT my_worker.wait($job, '20 s')"), 'cancelled', 'the job is cancelled');
is($node->safe_psql('postgres', "SELECT attempts FROM my_worker.history WHERE id = $job"), '1', 'after one attempt');
$_->quit for $holder, $canceller;

$node->stop;
done_testing();
