# What cannot be taken back from a session does not reach the next job: the seed of random(), connections of
# dblink and postgres_fdw, the state of other libraries. A process in which such a library came ends after
# the job; others live on.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('sessions', 'my_worker.naptime' => 1, 'my_worker.max_workers' => 1);
for my $extension (qw(dblink isn postgres_fdw pg_trgm))
{
	next if $node->safe_psql('postgres', "SELECT count(*) FROM pg_available_extensions WHERE name = '$extension'");
	plan skip_all => "this server came without $extension";
}
add_handlers($node);
my $where = sprintf 'host=%s port=%s dbname=postgres', $node->host, $node->port;
$node->safe_psql('postgres', qq{
	CREATE EXTENSION dblink; CREATE EXTENSION isn; CREATE EXTENSION postgres_fdw;
	CREATE TABLE seen (job bigint, what text);
	CREATE FUNCTION seeded(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS \$\$
	BEGIN INSERT INTO seen VALUES (id, random()::text); PERFORM setseed(0.5); END \$\$;
	CREATE FUNCTION connected(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS \$\$
	BEGIN
		INSERT INTO seen VALUES (id, coalesce(array_to_string(dblink_get_connections(), ','), 'none'));
		PERFORM dblink_connect('c1', '$where');
		IF p ? 'fail' THEN RAISE 'no'; END IF;
	END \$\$;
	CREATE FUNCTION weak(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS \$\$
	BEGIN INSERT INTO seen VALUES (id, isn_weak()::text); PERFORM isn_weak(true); END \$\$});

# The values that 20 jobs of a kind saw, some in one batch.
sub seen_by
{
	my ($sql) = @_;
	$node->safe_psql('postgres', "TRUNCATE seen; SELECT count($sql) FROM generate_series(1, 20) AS i");
	drained($node);
	return $node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT what), min(what) FROM seen');
}

like(seen_by(q{my_worker.enqueue('seeded')}), qr/^20\|20\|/, 'each job has random numbers of its own');
my @first = split /\|/, seen_by(q{my_worker.run('INSERT INTO seen SELECT i, random()::text FROM generate_series(1, 1) AS i; SELECT setseed(0.5)')});
is("$first[0] $first[1]", '20 20', 'each command, too');
my $pid = (worker_pids($node, 'worker'))[0];
is(seen_by(q{my_worker.enqueue('connected', max_attempts => 1)}), '20|1|none', 'no job finds a connection of one before it');
isnt((worker_pids($node, 'worker'))[0], $pid, 'since its process has ended');
is(seen_by(q{my_worker.run(format('INSERT INTO seen SELECT %s, coalesce(array_to_string(dblink_get_connections(), '',''), ''none'');
	SELECT dblink_connect(''c1'', ''} . $where . q{'')', i))}), '20|1|none', 'nor does a command');
$node->safe_psql('postgres', q{SELECT my_worker.enqueue('connected', '{"fail": true}', max_attempts => 1)});
drained($node);
is(seen_by(q{my_worker.enqueue('connected')}), '20|1|none', 'nor after one that failed');
is(seen_by(q{my_worker.enqueue('weak')}), '20|1|false', 'nor another library\'s setting');

# Two in one transaction of a worker.
$node->safe_psql('postgres', q{TRUNCATE seen; BEGIN; SELECT my_worker.enqueue('work', '{}') FROM generate_series(1, 50);
	SELECT my_worker.enqueue('connected'), my_worker.enqueue('connected'); COMMIT});
drained($node);
is($node->safe_psql('postgres', 'SELECT string_agg(what, \' \') FROM seen'), 'none none', 'also in one batch');

# What keeps nothing costs nothing: one process for all of them.
drained($node);
$node->safe_psql('postgres', q{SELECT count(my_worker.enqueue('work', '{}')) FROM generate_series(1, 10)});
drained($node);
my $since = $node->safe_psql('postgres', q{SELECT pid FROM my_worker.workers WHERE kind = 'worker'});
$node->safe_psql('postgres', q{CREATE EXTENSION pg_trgm; CREATE FUNCTION alike() RETURNS real LANGUAGE sql AS $$ SELECT similarity('a', 'b') $$;
	SELECT count(my_worker.enqueue('alike')) FROM generate_series(1, 100)});
drained($node);
is($node->safe_psql('postgres', q{SELECT pid FROM my_worker.workers WHERE kind = 'worker'}), $since, 'a library without a state ends no process');
is(log_has($node, qr/my_custom_worker.*(FATAL|ERROR)/), 0, 'and none ended by an error');

$node->stop;
done_testing();
