# A clock that was ten years ahead and came back: schedule() again, or pause and resume, revive what fired
# meanwhile; a clock that was set back a little fires nothing twice.
#
# Part of `make test-long`.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('clock', 'my_worker.naptime' => 1, 'my_worker.log_jobs' => 'none');
add_handlers($node);

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub clock
{
	my ($offset) = @_;
	sql("ALTER SYSTEM SET my_worker.clock_offset = '$offset'");
	$node->reload;
	wait_for($node, qq{SELECT current_setting('my_worker.clock_offset') = '$offset'});
	return;
}

my %rules = (every => 'every 1 second', cron => '* * * * *', month => 'every 1 month', long => 'every 1 hour');
my $define = join '; ', map { "SELECT my_worker.schedule('$_', '$rules{$_}', handler := 'work', overlap := 'allow')" } sort keys %rules;
sql($define);
sql(q{SELECT my_worker.schedule('resumed', 'every 1 second', handler := 'work', overlap := 'allow'),
	my_worker.schedule('paused', 'every 1 second', handler := 'work', overlap := 'allow'),
	my_worker.schedule('other', 'every 1 hour', handler := 'work', overlap := 'allow')});
wait_for($node, q{SELECT count(*) FROM my_worker.schedules WHERE last_job_id IS NOT NULL AND schedule = 'every 1 second'}, '3');

# Defined again in time, a schedule keeps what it has.
my $before = sql(q{SELECT name, next_run_at FROM my_worker.schedules WHERE name IN ('month', 'long', 'cron') ORDER BY 1});
sql($define);
is(sql(q{SELECT name, next_run_at FROM my_worker.schedules WHERE name IN ('month', 'long', 'cron') ORDER BY 1}), $before,
	'a schedule that is defined again is not moved');

clock('3650d');
wait_for($node, q{SELECT count(*) FROM my_worker._schedules WHERE last_due > now() + interval '9 years'}, '7');
sql(q{SELECT my_worker.schedule('begun_ahead', 'every 1 second', handler := 'work', overlap := 'allow')});
clock('0');
my $ahead = q{SELECT count(*) FROM my_worker._schedules WHERE next_run_at > now() + interval '9 years'};
is(sql($ahead), '8', 'with the clock back, all of them wait for ten years');

sql($define);
sql(q{SELECT my_worker.schedule('begun_ahead', 'every 1 second', handler := 'work', overlap := 'allow'),
	my_worker.schedule('other', 'every 2 seconds', handler := 'work', overlap := 'allow'),
	my_worker.resume_schedule('resumed'), my_worker.pause_schedule('paused'), my_worker.resume_schedule('paused')});
is(sql($ahead), '0', 'defined again, or paused and resumed, none does');
is(sql(q{SELECT name FROM my_worker.schedules WHERE next_run_at > now() + interval '32 days'}), '', 'each by its own rule');
my $last = sql(q{SELECT max(id) FROM my_worker.history});
for my $name (qw(every begun_ahead other resumed paused))
{
	wait_for($node, "SELECT last_job_id > $last + 1 FROM my_worker.schedules WHERE name = '$name'");
	pass("$name is due again");
}

# Set back by half a minute: what has been fired is not fired again.
sql(q{SELECT my_worker.unschedule(name) FROM my_worker.schedules WHERE name <> 'every'});
clock('30s');
wait_for($node, q{SELECT last_due > now() + interval '29 s' FROM my_worker._schedules WHERE name = 'every'});
clock('0');
my $next = sql(q{SELECT next_run_at FROM my_worker.schedules WHERE name = 'every'});
sql($define);
sql(q{SELECT my_worker.resume_schedule('every')});
is(sql(q{SELECT next_run_at FROM my_worker.schedules WHERE name = 'every'}), $next,
	'after a small step back a schedule waits for the clock, also defined again');

# Errors that pass: tried again after ten seconds, and a few lines of log.
sql(q{CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
	SELECT count(my_worker.schedule('d' || i, 'every 1 second', handler := 'work')) FROM generate_series(1, 50) AS i;
	CREATE TRIGGER no_space BEFORE UPDATE ON my_worker._schedules FOR EACH ROW WHEN (new.name LIKE 'd%') EXECUTE FUNCTION no_space()});
my $start = log_end($node);
$next = sql(q{SELECT next_run_at FROM my_worker._schedules WHERE name = 'd1'});
wait_log($node, qr/is put off: /, $start);
wait_for($node, qq{SELECT clock_timestamp() > '$next'::timestamptz + interval '25 s'});
my $lines = log_has($node, qr/\n/, $start);
note("25 seconds without space: $lines lines of log");
cmp_ok($lines, '<=', 4, 'fifty schedules that find no space say so once');
sql(q{DROP TRIGGER no_space ON my_worker._schedules});
wait_for($node, q{SELECT count(*) FROM my_worker.schedules WHERE name LIKE 'd%' AND last_job_id IS NOT NULL}, '50', 15);
pass('with space again all of them go on within ten seconds or so');

$node->stop;
done_testing();
