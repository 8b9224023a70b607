# A role that may change all sequences, as GRANT ALL and pg_write_all_data allow it, sets those of ours
# back or to their end: the keeper sets them right, and jobs get ids again.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('main', 'my_worker.naptime' => 1);
add_handlers($node);
$node->safe_psql('postgres', q{CREATE ROLE mallory LOGIN IN ROLE pg_write_all_data;
	GRANT USAGE ON SCHEMA my_worker TO mallory; CREATE ROLE alice LOGIN; SELECT my_worker.grant_usage('alice')});
my $enqueue = q{INSERT INTO my_queue (handler, run_at) VALUES ('work', 'infinity')};
sub as_mallory { return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'mallory' ]) }
sub as_alice { return $node->psql('postgres', $_[0], extra_params => [ '-U', 'alice' ]) }

as_alice("$enqueue, ('work', 'infinity'), ('work', 'infinity')");
for my $to ('1', '1, false', '2', '9223372036854775807', '4611686018427387904')
{
	as_mallory("SELECT setval('my_worker._jobs_id_seq', $to)");
	as_alice($enqueue) for 1 .. 3;
	# The keeper looks where a transaction of the server has changed something.
	$node->safe_psql('postgres', 'SELECT pg_current_xact_id()');
	wait_for($node, q{SELECT last_value >= (SELECT max(id) FROM my_worker._jobs) AND last_value < 1000 FROM my_worker._jobs_id_seq});
	is(as_alice($enqueue), 0, "ids are given again after setval(.., $to)");
}
as_mallory(q{SELECT setval('my_worker._schedules_id_seq', 1, false)});
my ($status) = as_alice(q{SELECT my_worker.schedule('a', '@yearly', 'SELECT 1')});
is($status, 0, 'a sequence that no row has met is as good as before');
as_mallory(q{SELECT setval('my_worker._schedules_id_seq', 1, false)});
$node->safe_psql('postgres', 'SELECT pg_current_xact_id()');
wait_for($node, q{SELECT is_called FROM my_worker._schedules_id_seq});
is(as_alice(q{SELECT my_worker.schedule('b', '@yearly', 'SELECT 1')}), 0, 'schedules get ids, too');
# At their ends, too; and rows with the greatest ids do not keep them there.
my %row = (queues => q{INSERT INTO my_worker.queues (id, name) VALUES (2147483647, 'odd')},
	_schedules => q{INSERT INTO my_worker._schedules (id, name, schedule, timezone, command) VALUES (9223372036854775807, 'odd', '@yearly', 'UTC', 'SELECT 1')});
my $n = 0;
for my $to ([ queues => 2147483647 ], [ queues => 2147483000 ], [ _schedules => 9223372036854775807 ], [ _schedules => 4611686018427387904 ])
{
	my ($table, $end) = @$to;
	for my $row ('SELECT 1', $row{$table})
	{
		$node->psql('postgres', $row);
		as_mallory("SELECT setval('my_worker.${table}_id_seq', $end)");
		$node->safe_psql('postgres', 'SELECT pg_current_xact_id()');
		wait_for($node, "SELECT last_value < 1000 FROM my_worker.${table}_id_seq");
		$n++;
		my $make = $table eq 'queues' ? "my_worker.create_queue('new$n')" : "my_worker.schedule('new$n', '\@yearly', 'SELECT 1')";
		is(query_error($node, "SELECT $make"), '', "ids of $table are given again after setval(.., $end)");
	}
}
my $begin = log_end($node);
for (1 .. 5)
{
	$node->safe_psql('postgres', 'SELECT pg_current_xact_id()');
	my $job = $node->safe_psql('postgres', q{SELECT my_worker.enqueue('work', run_at := clock_timestamp() + interval '10 ms')});
	$node->safe_psql('postgres', "SELECT my_worker.wait($job, '30 s')");
}
is(log_has($node, qr/stood at/, $begin), 0, 'and the log says so once');
cmp_ok(log_has($node, qr/WARNING:  sequence "my_worker\._jobs_id_seq" stood at/), '>=', 4, 'and the log says so');

done_testing();
