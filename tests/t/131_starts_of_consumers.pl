# A job that a consumer receives starts, as its `started_at` says, when the queue's limit and its key allow it: never before
# the end of the job whose place it takes.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('main');
sub sql { return $node->safe_psql('postgres', join(' ', @_)) }

my $jobs = 3000;
sql(q{SELECT my_worker.create_queue('one', concurrency => 1), my_worker.create_queue('key', fifo => true);},
	qq{SELECT my_worker.send('one') FROM generate_series(1, $jobs);
	   SELECT my_worker.send('key', group_key => 'k') FROM generate_series(1, $jobs)});

# Four sessions that take what they can get, by both kinds of lease.
my @sessions = map
{
	my $session = $node->background_psql('postgres');
	$session->query_until(qr/begun/, "\\echo begun\n" . qq{DO \$\$
		DECLARE j record; seen text;
		BEGIN
			WHILE EXISTS (SELECT FROM my_queue) LOOP
				FOREACH seen IN ARRAY '{one,key}'::text[] LOOP
					FOR j IN SELECT * FROM my_worker.receive(seen, lease => $_) LOOP
						COMMIT;
						PERFORM my_worker.ack(j.id, j.lease);
					END LOOP;
					COMMIT;
				END LOOP;
			END LOOP;
		END \$\$;\n});
	$session;
} 'NULL', 'NULL', q{'10 s'}, q{'10 s'};
wait_for($node, 'SELECT count(*) FROM my_queue', '0');
$_->quit for @sessions;

for my $queue ('one', 'key')
{
	is(sql(qq{SELECT count(*) FROM my_worker.history WHERE queue = '$queue'}), $jobs, "$queue: all have ended");
	is(sql(qq{SELECT count(*) FROM (SELECT started_at < lag(finished_at) OVER (ORDER BY started_at) AS early
		FROM my_worker.history WHERE queue = '$queue') AS h WHERE early}), '0', "$queue: none starts before the end of the one before it");
}

$node->stop;
done_testing();
