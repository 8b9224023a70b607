# More queues in a minute, and more handlers, than there is room for: no job is lost to the minutes, handlers give way and that
# shows. Readers meanwhile see each job once. A database that goes takes what is its own along.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('many', 'my_worker.max_workers' => 4, 'my_worker.naptime' => 1, 'my_worker.database' => '*', 'max_worker_processes' => 24);
sub sql { return $node->safe_psql('postgres', join(' ', @_)) }
sub in { my ($database, $sql) = @_; return $node->safe_psql($database, $sql) }

my ($queues, $each) = (2100, 2);
sql("CREATE FUNCTION quick() RETURNS void LANGUAGE sql AS '';
	SELECT count(my_worker.create_queue('q' || n, retention => '0')) FROM generate_series(1, $queues) AS n");
sql(q{ALTER SYSTEM SET my_worker.enabled = off; SELECT pg_reload_conf()});
wait_for($node, 'SHOW my_worker.enabled', 'off');
sql("INSERT INTO my_queue (queue, handler) SELECT 'q' || n, 'quick' FROM generate_series(1, $queues) AS n, generate_series(1, $each)");

# Readers look all the time, in a session that stays.
my $reader = $node->background_psql('postgres');
$reader->query_safe(q{CREATE TEMPORARY TABLE seen (n bigint, at timestamptz);
	CREATE PROCEDURE pg_temp.look(jobs bigint) LANGUAGE plpgsql AS $$
	DECLARE n bigint; the_end timestamptz := clock_timestamp() + '3 s';
	BEGIN
		LOOP
			SELECT coalesce(sum(completed), 0) INTO n FROM my_worker.queue_minutes;
			INSERT INTO seen VALUES (n, clock_timestamp());
			COMMIT;
			EXIT WHEN n >= jobs OR clock_timestamp() > the_end;
			PERFORM pg_sleep(0.02);
		END LOOP;
	END $$});
sql(q{ALTER SYSTEM SET my_worker.enabled = on; SELECT pg_reload_conf()});
my $give_up = time + 240;
do
{
	$reader->query_safe('CALL pg_temp.look(' . $queues * $each . ')');
} until ($reader->query_safe('SELECT max(n) FROM seen') >= $queues * $each || time > $give_up);
drained($node);
is($reader->query_safe('SELECT max(n), bool_and(grows) FROM (SELECT n, n >= lag(n, 1, 0::bigint) OVER (ORDER BY at) AS grows FROM seen) AS s'),
	$queues * $each . '|t', 'a reader sees each job, and never fewer than before');
$reader->quit;
is(sql(q{SELECT count(DISTINCT queue), min(n), max(n) FROM (SELECT queue, sum(completed) AS n FROM my_worker.queue_minutes GROUP BY queue) AS q}),
	"$queues|$each|$each", 'each queue has all of its jobs');
is(sql(q{SELECT gave_way FROM my_worker.stats_reach WHERE statistics = 'queue_minutes'}), '0', 'nothing gave way');
is(sql(q{SELECT calls FROM my_worker.handler_stats}), $queues * $each, 'they called one handler');

# Handlers.
sql(q{SELECT my_worker.create_queue('handlers', retention => '0');
	DO $$BEGIN FOR n IN 1 .. 600 LOOP EXECUTE format('CREATE FUNCTION h%s() RETURNS void LANGUAGE sql AS ''''', n); END LOOP; END$$});
sql(q{INSERT INTO my_queue (queue, handler) SELECT 'handlers', 'h' || n FROM generate_series(1, 600) AS n});
drained($node);
wait_for($node, q{SELECT sum(completed) FROM my_worker.queue_minutes WHERE queue = 'handlers'}, '600');
is(sql(q{SELECT count(*), min(calls) FROM my_worker.handler_stats}), '512|1', 'so many handlers have room');
is(sql(q{SELECT gave_way FROM my_worker.stats_reach WHERE statistics = 'handler_stats'}), '89', 'the others gave way');
is(sql(q{SELECT count(*) FROM my_worker.handler_stats WHERE handler IN ('public.h600()', 'public.h599()', 'public.h1()', 'public.quick()')}), '2',
	'those that were called longest ago');

# Another database, and the extension in it, come and go.
sub fill
{
	in('other', q{CREATE EXTENSION my_worker; CREATE FUNCTION other_handler() RETURNS void LANGUAGE sql AS ''});
	my $job = in('other', q{SELECT my_worker.enqueue('other_handler')});
	is(in('other', "SELECT my_worker.wait($job, '30 s')"), 'completed', 'a job of another database runs');
	wait_for($node, q{SELECT (SELECT sum(completed) FROM my_worker.queue_minutes), (SELECT sum(calls) FROM my_worker.handler_stats)}, '1|1', undef, 'other');
	return;
}
sql('CREATE DATABASE other');
fill();
is(sql(q{SELECT count(*) FROM my_worker.handler_stats WHERE handler LIKE '%other%'}), '0', 'and shows there alone');
in('other', q{DROP EXTENSION my_worker CASCADE; CREATE EXTENSION my_worker});
is(in('other', q{SELECT (SELECT count(*) FROM my_worker.queue_minutes), (SELECT count(*) FROM my_worker.handler_stats)}), '0|0',
	'an extension that is made anew has nothing of the one before');
in('other', q{DROP EXTENSION my_worker CASCADE; DROP FUNCTION other_handler});
fill();
# It has one of 512 places, which is free when it is gone: then another handler makes none give way.
my $gave_way = q{SELECT gave_way FROM my_worker.stats_reach WHERE statistics = 'handler_stats'};
sql('DROP DATABASE other');
my ($n, $free) = (0, 0);
while (!$free && $n++ < 100)
{
	# The launcher forgets the database in a while; each call of a new handler takes a place.
	my $was = sql($gave_way);
	my $job = sql("DO \$\$BEGIN CREATE FUNCTION new$n() RETURNS void LANGUAGE sql AS ''; END\$\$;", "SELECT my_worker.enqueue('new$n')");
	sql("SELECT my_worker.wait($job, '30 s')");
	wait_for($node, "SELECT count(*) FROM my_worker.handler_stats WHERE handler = 'public.new$n()'", '1');
	$free = sql($gave_way) eq $was;
}
ok($free, "the place of a database that was dropped is free (after $n handlers)");
is(log_has($node, qr/PANIC|TRAP/, 0), 0, 'nothing panicked');

$node->stop;
done_testing();
