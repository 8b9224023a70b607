# A storm: 300 jobs of three roles while a random process of the pool is killed with -9 every second
# for eight seconds. Every effect exactly once, my_queue empty at the end, under a minute.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_node('storm', 'restart_after_crash' => 'on', 'my_worker.naptime' => 2,
	'log_min_messages' => 'log');
add_handlers($node);
$node->safe_psql('postgres', q{
	SELECT my_worker.alter_queue('default', backoff => '0.2 s', max_attempts => 20);
	CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE carol LOGIN;
	SELECT my_worker.grant_usage(r::regrole) FROM unnest('{alice,bob,carol}'::text[]) AS r;});

my $begin = time;
$node->safe_psql('postgres', "SET ROLE $_; " . q{
	SELECT count(my_worker.enqueue('work', '{"sleep": 0.1}')) FROM generate_series(1, 100)})
	for qw(alice bob carol);
my $start = log_end($node);

my $kills = 0;
for my $second (1 .. 8)
{
	# The kills are spread over the time that the jobs take.
	my $next = $begin + $second;
	usleep(1_000_000 * ($next - time)) if $next > time;
	my ($status, $stdout) = $node->psql('postgres',
		q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'my_custom_worker' ORDER BY random() LIMIT 1});
	# The server may just be restarting from the last one.
	$kills += kill 'KILL', $stdout if $status == 0 && $stdout =~ /^\d+$/;
}
wait_for($node, 'SELECT count(*) FROM my_queue', '0');
my $took = time - $begin;

cmp_ok($kills, '>=', 4, "$kills processes were killed");
cmp_ok(log_has($node, qr/all server processes terminated; reinitializing/, $start), '>=', 1, 'the server was restarted');
effects_are($node, 300, 'every effect exactly once');
is($node->safe_psql('postgres', q{SELECT string_agg(role || ' ' || n, ',' ORDER BY role) FROM
	(SELECT role, count(*) AS n FROM effects GROUP BY 1) AS r}), 'alice 100,bob 100,carol 100', 'each as its owner');
is($node->safe_psql('postgres', q{SELECT status, count(*) FROM my_worker.history GROUP BY 1}), 'completed|300',
	'all completed');
cmp_ok($node->safe_psql('postgres', q{SELECT sum(attempts - 1) FROM my_worker.history}), '<=', $kills,
	'no more attempts were charged than processes were killed');
cmp_ok($took, '<', 60, "under a minute ($took s)");
is(log_has($node, qr/PANIC|signal 11|XX000/, $start), 0, 'no other trouble');

$node->stop;
done_testing();
