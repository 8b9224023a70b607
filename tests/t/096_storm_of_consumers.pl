# A storm: twenty consumers of three roles take ten thousand jobs while their sessions are terminated, their clients killed
# and the server crashes. Every job ends once, its effect is there once, no job is out twice at a time, nothing stays
# held, and only deaths are charged.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $JOBS = 3334;
my $CONSUMERS = 20;
my $node = new_node('storm', 'restart_after_crash' => 'on', 'my_worker.naptime' => 3600, 'max_connections' => 60,
	'log_min_messages' => 'log', 'client_connection_check_interval' => '50 ms');
sub sql { return $node->safe_psql('postgres', join(' ', @_)) }
my @roles = qw(ann ben con);
sql(qq{CREATE ROLE $_ LOGIN; SELECT my_worker.grant_usage('$_')}) for @roles;
sql(q{SELECT my_worker.create_queue('s', backoff => '5 ms', backoff_max => '20 ms', max_attempts => 10000);
	CREATE TABLE effects (job bigint, owner text DEFAULT current_user, at timestamptz DEFAULT clock_timestamp());
	CREATE TABLE marks (job bigint, lease bigint, at timestamptz DEFAULT clock_timestamp());
	GRANT INSERT ON effects, marks TO PUBLIC;
	SELECT my_worker.grant_consume('s', 'con')});
sql(q{CREATE PROCEDURE consume() LANGUAGE plpgsql AS $$
DECLARE
	ids bigint[];
	leases bigint[];
BEGIN
	LOOP
		SELECT array_agg(id), array_agg(lease) INTO ids, leases FROM my_worker.receive('s', 3, wait => '1 s');
		COMMIT;
		EXIT WHEN ids IS NULL;
		-- From here to the last mark of a lease this consumer has the job.
		INSERT INTO marks (job, lease) SELECT * FROM unnest(ids, leases);
		COMMIT;
		FOR i IN 1 .. cardinality(ids) LOOP
			PERFORM pg_sleep(0.025);
			INSERT INTO marks (job, lease) VALUES (ids[i], leases[i]);
			COMMIT;
			INSERT INTO effects (job) VALUES (ids[i]);
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

# Each is begun anew when its session has ended, until there is nothing left.
my @children;
my $end = time + 90;
for my $n (1 .. $CONSUMERS)
{
	my $role = $roles[ $n % 3 ];
	my $child = fork;
	if (!$child)
	{
		while (time < $end)
		{
			# The client's name in the server is its process.
			my $connection = $node->connstr('postgres') . " user=$role";
			last if system('bash', '-c', 'PGAPPNAME=$$ PGCONNECT_TIMEOUT=10 exec psql -XAtq -v ON_ERROR_STOP=1 -d "$0" -c "CALL consume()" >/dev/null 2>&1',
				$connection) == 0;
			usleep(20_000);
		}
		require POSIX;
		POSIX::_exit(0);
	}
	push @children, $child;
}

my ($terminated, $killed, $crashes, $round) = (0, 0, 0, 0);
my $since = time;
my $next_crash = $since + 4;
while (time - $since < 18)
{
	usleep(200_000); # between two blows
	$round++;
	my $query = q{SELECT pid, a.application_name FROM my_worker.workers JOIN pg_stat_activity AS a USING (pid)
		WHERE kind = 'consumer' AND a.application_name ~ '^[0-9]+$' ORDER BY random() LIMIT 1};
	my ($status, $found) = eval { $node->psql('postgres', $query) };
	next unless defined $status && $status == 0 && $found;
	my ($pid, $client) = split /\|/, $found;
	if (time >= $next_crash)
	{
		$next_crash = time + 4;
		eval { crash($node, $pid); 1 } and $crashes++;
	}
	elsif ($round % 3 == 0)
	{
		eval { $node->psql('postgres', "SELECT pg_terminate_backend($pid)") };
		$terminated++;
	}
	elsif ($round % 3 == 1)
	{
		$killed += kill 'KILL', $client;
	}
}
waitpid($_, 0) for @children;
my $over = time;
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'consumer'}, '0');
cmp_ok(time - $over, '<', 2, 'nobody holds or waits any more when the last has gone');

wait_for($node, q{SELECT count(*) FROM my_queue WHERE queue = 's'}, '0');
cmp_ok($crashes, '>=', 2, "the server crashed $crashes times");
cmp_ok($terminated, '>=', 5, "$terminated sessions were terminated");
cmp_ok($killed, '>=', 5, "$killed clients were killed");
is(log_has($node, qr/is charged an attempt/, 0) > 0, 1, 'the log says what is charged');
is(log_has($node, qr/(command|handler [^)]*)\) is charged an attempt/, 0), 0, 'and calls no job of a consumer a command');
cmp_ok(sql(q{SELECT count(*) FROM my_worker.history, jsonb_array_elements(errors) AS e
	WHERE queue = 's' AND e->>'sqlstate' = '08006'}), '>', 0, 'a killed client has disconnected');
is(sql(q{SELECT count(*) FROM my_worker.history WHERE queue = 's' AND status = 'completed'}), $total, 'every job has ended well');
is(sql('SELECT count(*), count(DISTINCT job) FROM effects'), "$total|$total", 'every effect is there once');
is(sql(q{SELECT count(*) FROM my_worker.history WHERE queue = 's' AND attempts <> 1 + coalesce(jsonb_array_length(errors), 0)}), '0',
	'each attempt but the last has its error');
is(sql(q{SELECT count(*) FROM my_worker.history, jsonb_array_elements(errors) AS e
	WHERE queue = 's' AND e->>'sqlstate' NOT IN ('57P01', '57P02', '08006')}), '0', 'only deaths were charged');
cmp_ok(sql(q{SELECT coalesce(sum(attempts - 1), 0) FROM my_worker.history WHERE queue = 's'}), '<=', 3 * ($terminated + $killed + $crashes),
	'and no more than the deaths had in their hands');
# Each lease of a job has a stretch of marks of its own.
is(sql(q{SELECT count(*) FROM (SELECT job, lease, lag(lease) OVER w AS before, min(at) OVER (PARTITION BY job, lease) = at AS is_first
	FROM marks WINDOW w AS (PARTITION BY job ORDER BY at)) AS m WHERE before IS NOT NULL AND before <> lease AND NOT is_first}), '0',
	'no job was out twice at a time');
cmp_ok(sql('SELECT count(*) FROM (SELECT FROM marks GROUP BY job HAVING count(DISTINCT lease) > 1) AS j'), '>', 10, 'though many were out more than once');
is(sql(q{SELECT count(*) FROM effects AS e JOIN my_worker.history AS h ON h.id = e.job WHERE e.owner NOT IN (h.owner::text, 'con')}), '0',
	'nobody had a job that was not his');
done_testing();
