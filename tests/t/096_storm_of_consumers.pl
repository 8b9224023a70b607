# A storm: consumers of three roles take jobs while their sessions are terminated, their clients killed and the server
# crashes. Every job ends once, its effect is there once, nothing stays held, and only deaths are charged.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $JOBS = 1500;
my $node = new_node('storm', 'restart_after_crash' => 'on', 'my_worker.naptime' => 3600, 'max_connections' => 60,
	'log_min_messages' => 'log');
sub sql { return $node->safe_psql('postgres', join(' ', @_)) }
my @roles = qw(ann ben con);
sql(qq{CREATE ROLE $_ LOGIN; SELECT my_worker.grant_usage('$_')}) for @roles;
sql(q{SELECT my_worker.create_queue('s', backoff => '5 ms', backoff_max => '20 ms', max_attempts => 10000);
	CREATE TABLE effects (job bigint, owner text DEFAULT current_user, at timestamptz DEFAULT clock_timestamp());
	GRANT INSERT ON effects TO PUBLIC;
	SELECT my_worker.grant_consume('s', 'con')});
sql(q{CREATE PROCEDURE consume() LANGUAGE plpgsql AS $$
DECLARE
	ids bigint[];
	leases bigint[];
	n integer := 0;
BEGIN
	LOOP
		SELECT array_agg(id), array_agg(lease) INTO ids, leases FROM my_worker.receive('s', 3, wait => '1 s');
		COMMIT;
		EXIT WHEN ids IS NULL;
		FOR i IN 1 .. cardinality(ids) LOOP
			INSERT INTO effects (job) VALUES (ids[i]);
			PERFORM pg_sleep(0.015);
			IF my_worker.ack(ids[i], leases[i]) THEN
				COMMIT;
			ELSE
				ROLLBACK;
			END IF;
		END LOOP;
	END LOOP;
END $$});
for my $role (@roles)
{
	sql("SET ROLE $role; SELECT count(*) FROM my_worker.send_many('s', array_fill('{}'::jsonb, ARRAY[$JOBS]))");
}
my $total = $JOBS * @roles;

# Nine consumers, each begun anew when its session has ended, until there is nothing left.
my @children;
my $end = time + 90;
for my $n (0 .. 8)
{
	my $role = $roles[ $n % 3 ];
	my $child = fork;
	if (!$child)
	{
		while (time < $end)
		{
			my $left = eval { $node->psql('postgres', 'CALL consume()', extra_params => [ '-U', $role ], timeout => 60, timed_out => \my $late,
					stdout => \my $out, stderr => \my $err) };
			last if defined $left && $left == 0;
			usleep(20_000);
		}
		require POSIX;
		POSIX::_exit(0);
	}
	push @children, $child;
}

my ($terminated, $crashes, $round) = (0, 0, 0);
my $since = time;
while (time - $since < 15)
{
	usleep(200_000);
	$round++;
	my $query = q{SELECT pid FROM my_worker.workers WHERE kind = 'consumer' ORDER BY random() LIMIT 1};
	my ($status, $pid) = eval { $node->psql('postgres', $query) };
	next unless defined $status && $status == 0 && $pid;
	if ($round % 20 == 0)
	{
		eval { crash($node, $pid); 1 } and $crashes++;
	}
	elsif ($round % 3 == 0)
	{
		# The client, not the server's process.
		my ($ok, $port) = eval { $node->psql('postgres', "SELECT pg_terminate_backend($pid)") };
		$terminated++;
	}
}
waitpid($_, 0) for @children;

wait_for($node, q{SELECT count(*) FROM my_queue WHERE queue = 's'}, '0');
cmp_ok($crashes, '>=', 2, "the server crashed $crashes times");
cmp_ok($terminated, '>=', 5, "$terminated sessions were terminated");
is(sql(q{SELECT count(*) FROM my_worker.history WHERE queue = 's' AND status = 'completed'}), $total, 'every job has ended well');
is(sql('SELECT count(*), count(DISTINCT job) FROM effects'), "$total|$total", 'every effect is there once');
is(sql(q{SELECT count(*) FROM my_worker.history WHERE queue = 's' AND attempts <> 1 + coalesce(jsonb_array_length(errors), 0)}), '0',
	'each attempt but the last has its error');
is(sql(q{SELECT count(*) FROM my_worker.history, jsonb_array_elements(errors) AS e
	WHERE queue = 's' AND e->>'sqlstate' NOT IN ('57P01', '57P02', '08006')}), '0', 'only deaths were charged');
cmp_ok(sql(q{SELECT coalesce(sum(attempts - 1), 0) FROM my_worker.history WHERE queue = 's'}), '<=', 3 * ($terminated + $crashes),
	'and no more than the deaths had in their hands');
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'consumer'}, '0');
pass('nobody holds or waits any more');
is(sql(q{SELECT count(*) FROM effects AS e JOIN my_worker.history AS h ON h.id = e.job WHERE e.owner NOT IN (h.owner::text, 'con')}), '0',
	'nobody had a job that was not his');
done_testing();
