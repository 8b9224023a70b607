# Three thousand schedules of one role, due each second, keep nobody waiting: another role's schedule and
# its delayed jobs are in time. Nor do its runs that wait for earlier ones.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('turns', 'my_worker.naptime' => 5, 'my_worker.log_jobs' => 'none', 'fsync' => 'off');
add_handlers($node);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(q{
	CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN;
	SELECT my_worker.grant_usage('alice'), my_worker.grant_usage('bob');
	SELECT my_worker.create_queue('paused'); SELECT my_worker.pause_queue('paused')});

sub latest
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	sql(q{TRUNCATE my_worker.history});
	sql(q{SET ROLE bob;
		SELECT my_worker.schedule('tick', 'every 1 second', handler := 'work', overlap := 'allow');
		SELECT count(my_worker.enqueue('work', run_at := clock_timestamp() + i * interval '400 ms', priority := i))
			FROM generate_series(1, 15) AS i});
	wait_for($node, q{SELECT count(*) FROM my_worker.history WHERE owner = 'bob'::regrole AND priority > 0}, '15');
	wait_for($node, q{SELECT count(*) >= 6 FROM my_worker.history WHERE owner = 'bob'::regrole AND priority = 0});
	sql(q{SET ROLE bob; SELECT my_worker.unschedule('tick')});
	my $figures = sql(q{SELECT round(1000 * max(extract(epoch FROM started_at - run_at))),
		round(1000 * avg(extract(epoch FROM started_at - run_at))) FROM my_worker.history WHERE owner = 'bob'::regrole});
	my ($most, $mean) = split /\|/, $figures;
	note("$name: $most ms late at most, $mean ms on average");
	cmp_ok($most, '<', 1000, "$name: another role's jobs are in time");
	return;
}

sql(q{SET ROLE alice; SELECT count(my_worker.schedule('s' || i, 'every 1 second', handler := 'work', queue := 'paused',
	overlap := 'allow')) FROM generate_series(1, 3000) AS i});
latest('3,000 schedules each second');

# All of them late at once, as after a time without a server, and then with runs that wait.
sql(q{UPDATE my_worker._schedules SET next_run_at = now() - interval '1 day', catchup = 'all' WHERE owner = 'alice'::regrole});
latest('3,000 schedules that catch up');
sql(q{UPDATE my_worker._schedules SET overlap = 'queue', catchup = 'one' WHERE owner = 'alice'::regrole});
wait_for($node, q{SELECT count(*) > 100 FROM my_worker.schedules WHERE held > 0}, 't', 120);
sql(q{SELECT count(my_worker.pause_schedule(name, 'alice')) FROM my_worker._schedules WHERE owner = 'alice'::regrole});
latest('runs that wait for earlier ones');

is(log_has($node, qr/PANIC|terminated by signal|XX000|ERROR/), 0, 'no trouble in the log');
$node->stop;
done_testing();
