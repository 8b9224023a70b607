# Queues with a rate: starts are spaced, after a rest `burst` at once, and no window has more than it may. The
# worker that waits for the next start sleeps.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use POSIX ();
use Test::More;
use Time::HiRes qw(time sleep);

my $node = new_node('rates', 'my_worker.naptime' => 3600, 'my_worker.max_workers' => 4);
sub sql { return $node->safe_psql('postgres', join(' ', @_)) }
add_handlers($node);
sql(q{
	CREATE FUNCTION nothing() RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
	-- The most starts of a queue within any half-open window.
	CREATE FUNCTION most(name text, period interval) RETURNS bigint LANGUAGE sql AS $$
		SELECT max(n) FROM (SELECT count(*) OVER (ORDER BY started_at
			RANGE BETWEEN CURRENT ROW AND (period - interval '1 us') FOLLOWING)
			FROM my_worker.history WHERE queue = name) AS w (n) $$});

sub ticks
{
	my $sum = 0;
	for my $pid (@_)
	{
		my @fields = split / /, slurp_file("/proc/$pid/stat") =~ s/.*\) //sr;
		$sum += $fields[11] + $fields[12];
	}
	return $sum;
}

# 10 per second, by one of several workers that could.
sql(q{SELECT my_worker.create_queue('ten', handler => 'nothing', rate => 10, rate_period => '1 s')});
sql(q{SELECT my_worker.enqueue('nothing') FROM generate_series(1, 4)});
drained($node);
my $begin = time;
sql(q{INSERT INTO my_queue (queue) SELECT 'ten' FROM generate_series(1, 1000)});
wait_for($node, q{SELECT count(*) > 0 FROM my_worker.history WHERE queue = 'ten'});
my @workers = worker_pids($node, 'worker');
my $keeper = join ' ', worker_pids($node, 'keeper');
my ($worked, $kept) = (ticks(@workers), ticks($keeper));
my $from = time;
sleep 8; # in which little is to happen
my $elapsed = time - $from;
my $share = (ticks(@workers) - $worked) / POSIX::sysconf(POSIX::_SC_CLK_TCK()) / $elapsed;
cmp_ok($share, '<', 0.01, 'its workers hardly work meanwhile');
cmp_ok(ticks($keeper) - $kept, '<=', 1, 'and the keeper sleeps');
my ($mean, $count) = split /\|/, sql(q{SELECT (count(*) - 1) / extract(epoch FROM max(started_at) - min(started_at)), count(*)
	FROM my_worker.history WHERE queue = 'ten'});
cmp_ok($mean, '>=', 9.5, "the mean is $mean");
cmp_ok($mean, '<=', 10, 'and not more than the rate');
is(sql(q{SELECT most('ten', '1 s')}), '10', 'no window has more than ten');
cmp_ok(sql(q{SELECT extract(epoch FROM min(d)) FROM (SELECT started_at - lag(started_at) OVER (ORDER BY started_at)
	FROM my_worker.history WHERE queue = 'ten') AS t (d)}), '>=', 0.1, 'starts are spaced');
like(sql(q{SELECT my_worker.why(max(id)) FROM my_queue WHERE queue = 'ten'}),
	qr/^queue "ten" is limited to 10 per 1 s: next start at \d{4}-/, 'why() says it');
is(sql(q{SELECT limited FROM my_worker.queue_stats WHERE queue = 'ten'}), 't', 'so does queue_stats');
is(sql(q{SELECT limited FROM my_worker.queue_stats WHERE queue = 'default'}), 'f', 'of that queue alone');

# Other queues go on beside it.
my $quick = sql(q{SELECT my_worker.enqueue('nothing')});
is(sql(qq{SELECT my_worker.wait($quick, '5 s')}), 'completed', 'another queue is not held up');

# Other settings hold at once: slower, faster, none.
sql(q{SELECT my_worker.alter_queue('ten', rate => 1, rate_period => '1 h')});
my $before = sql(q{SELECT count(*) FROM my_worker.history WHERE queue = 'ten'});
sleep 1; # in which nothing more is to start
cmp_ok(sql(q{SELECT count(*) FROM my_worker.history WHERE queue = 'ten'}) - $before, '<=', 1, 'a slower rate holds at once');
sql(q{SELECT my_worker.alter_queue('ten', rate => 100, rate_period => '1 s')});
wait_for($node, qq{SELECT count(*) >= $before + 50 FROM my_worker.history WHERE queue = 'ten'}, 't', 5);
pass('so does a faster one');
sql(q{SELECT my_worker.alter_queue('ten', rate => 1, rate_period => '1 h')});
sql(q{SELECT my_worker.reset_queue('ten', 'rate', 'rate_period')});
wait_for($node, q{SELECT count(*) FROM my_queue WHERE queue = 'ten'}, '0', 10);
pass('and none');

# A burst after a rest.
sql(q{SELECT my_worker.create_queue('burst', handler => 'nothing', rate => 10, rate_period => '1 s', burst => 5)});
sql(q{INSERT INTO my_queue (queue) SELECT 'burst' FROM generate_series(1, 40)});
drained($node);
my $at_once = q{SELECT count(*) FROM my_worker.history AS h, (SELECT min(started_at) AS first FROM my_worker.history WHERE queue = 'burst') AS f
	WHERE queue = 'burst' AND started_at < first + interval '90 ms'};
is(sql($at_once), '5', 'five at once');
is(sql(q{SELECT most('burst', '1 s')}), '14', 'and 14 within a second');

# A batch handler gets what may start.
sql(q{
	CREATE FUNCTION together(ids bigint[], payloads jsonb[]) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
	SELECT my_worker.create_queue('calls', handler => 'together', rate => 20, rate_period => '1 s', burst => 8)});
sql(q{INSERT INTO my_queue (queue) SELECT 'calls' FROM generate_series(1, 40)});
drained($node);
is(sql(q{SELECT max(n) FROM (SELECT count(*) FROM my_worker.history WHERE queue = 'calls' GROUP BY started_at) AS c (n)}),
	'8', 'a call gets as many as may start');
cmp_ok(sql(q{SELECT most('calls', '1 s')}), '<=', 27, 'each counts');

# Long jobs: others take the starts that come meanwhile.
sql(q{SELECT my_worker.create_queue('long', handler => 'work', rate => 5, rate_period => '1 s')});
sql(q{SELECT my_worker.enqueue('work', '{"sleep": 0.7}', queue => 'long') FROM generate_series(1, 12)});
drained($node);
cmp_ok(sql(q{SELECT 11 / extract(epoch FROM max(started_at) - min(started_at)) FROM my_worker.history WHERE queue = 'long'}),
	'>=', 4.5, 'long jobs start in time');
is(sql(q{SELECT most('long', '1 s')}), '5', 'and not faster');

# Attempts count, commands do, and so does a dynamic worker, which waits for its turn.
sql(q{SELECT my_worker.create_queue('tries', rate => 4, rate_period => '1 s', max_attempts => 3, backoff => '0')});
$begin = time;
sql(q{SELECT my_worker.enqueue('work', '{"fail": "no"}', queue => 'tries')});
sql(q{SELECT my_worker.run('SELECT 1', queue => 'tries')});
my $launched = sql(q{SELECT my_worker.enqueue('nothing', queue => 'tries', priority => 99)});
sql(qq{SELECT launch_dynamic_worker($launched)});
drained($node);
cmp_ok(time - $begin, '>=', 0.99, 'five starts take four times the spacing');
is(sql(q{SELECT string_agg(status, ' ' ORDER BY status) FROM my_worker.history WHERE queue = 'tries'}),
	'completed completed failed', 'all have ended');

# Jobs that come while their queue is limited wake nobody.
sql(q{SELECT my_worker.create_queue('closed', handler => 'nothing', rate => 1, rate_period => '20 s')});
sql(q{SELECT my_worker.enqueue('nothing', queue => 'closed') FROM generate_series(1, 2)});
wait_for($node, q{SELECT count(*) FROM my_queue WHERE queue = 'closed'}, '1');
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'worker' AND state <> 'idle'}, '0');
sub switches
{
	my $sum = 0;
	$sum += slurp_file("/proc/$_/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m ? $1 : 0 for worker_pids($node);
	return $sum;
}
my $switches = switches();
sql(join ';', (q{SELECT my_worker.enqueue('nothing', queue => 'closed')}) x 300);
cmp_ok(switches() - $switches, '<', 60, 'jobs of a limited queue wake nobody');
sql(q{SELECT my_worker.alter_queue('closed', rate => 1000, rate_period => '1 s', burst => 10)});
wait_for($node, q{SELECT count(*) FROM my_queue WHERE queue = 'closed'}, '0', 10);
pass('and run as soon as they may');

# A worker that leaves meanwhile is followed by another in time.
$node->append_conf('postgresql.conf', 'my_worker.worker_idle_timeout = 0');
$node->reload;
sql(q{SELECT my_worker.create_queue('rare', handler => 'nothing', rate => 1, rate_period => '6 s')});
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'worker'}, '0');
sql(q{INSERT INTO my_queue (queue) SELECT 'rare' FROM generate_series(1, 2)});
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'worker'}, '0');
is(sql(q{SELECT count(*) FROM my_queue WHERE queue = 'rare'}), '1', 'nobody stays for a start that is far');
sql(q{SELECT my_worker.enqueue('nothing', queue => 'rare', priority => 1)});
is(sql(q{SELECT count(*) FROM my_worker.workers WHERE kind = 'worker'}), '0', 'nor comes for a job that must wait');
wait_for($node, q{SELECT count(*) FROM my_queue WHERE queue = 'rare'}, '1');
my ($late) = sql(q{SELECT extract(epoch FROM max(started_at) - min(started_at)) FROM my_worker.history WHERE queue = 'rare'});
cmp_ok($late, '>=', 6, 'it starts not before its time');
cmp_ok($late, '<', 6.5, 'nor long after');

sql(q{SELECT my_worker.purge_queue('rare')});

$node->stop;
done_testing();
