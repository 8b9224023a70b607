# The server's clock jumps ahead, and is set back while the keeper ends jobs that have expired by it: one that has not,
# by the right clock, ends when it does.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;

# The torture's library moves the clock of all processes of the server.
my $dir = PostgreSQL::Test::Utils::tempdir;
my ($file, $library) = ("$dir/nature", "$dir/nature.so");
plan skip_all => 'no compiler'
  if system('cc', '-O2', '-shared', '-fPIC', "$FindBin::RealBin/../torture/nature.c", '-o', $library, '-ldl') != 0;

sub clock_is_off
{
	my ($seconds) = @_;
	open(my $nature, -e $file ? '+<' : '+>', $file) || die "$file: $!";
	syswrite($nature, pack('qq', $seconds * 1_000_000, 0)) == 16 || die "$file: $!";
	close $nature;
}

clock_is_off(0);
my $node = new_node('clock_set_back', 'my_worker.naptime' => 1, -start => 0);
{
	local %ENV = (%ENV, LD_PRELOAD => $library, NATURE => $file);
	$node->start;
}
$node->safe_psql('postgres', 'CREATE EXTENSION my_worker');
add_handlers($node);

sub sql { return $node->safe_psql('postgres', $_[0]) }

# The first of the jobs to end has the keeper wait until the clock is right again; pg_sleep() would go by the wrong one.
sql(q{
	CREATE FUNCTION wait_for_clock() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.payload ? 'first' THEN
			PERFORM pg_advisory_xact_lock(190);
			WHILE clock_timestamp() > (NEW.payload->>'right')::timestamptz LOOP
			END LOOP;
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER wait_for_clock BEFORE INSERT ON my_worker.history FOR EACH ROW EXECUTE FUNCTION wait_for_clock();
	SELECT my_worker.create_queue('held');
	SELECT my_worker.pause_queue('held')});

# Both expire in some seconds by the right clock, and at once by the wrong one.
sql(q{
	SELECT my_worker.enqueue('work', jsonb_build_object('first', true, 'right', clock_timestamp() + '1 min'), 'held',
		expires_at := clock_timestamp() + '5 s');
	SELECT my_worker.enqueue('work', '{}', 'held', expires_at := clock_timestamp() + '5 s')});
clock_is_off(3600);
wait_for($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 190}, '1');
clock_is_off(0);
wait_for($node, q{SELECT count(*) FROM my_queue WHERE queue = 'held'}, '0');
is(sql(q{SELECT string_agg(status, ',') FROM my_worker.history WHERE queue = 'held'}), 'cancelled,cancelled',
	'a job that had not expired yet when the clock was right again expires later');

$node->stop;
done_testing();
