# Coming from pg_cron, with the real one in the same server: what import_pg_cron() makes of its jobs, whose they are, and that
# they run here and no longer there.
#
# What a text of pg_cron means is written down here once more, in Perl, after Vixie's rules, and compared day by day.
#
# Part of `make test-long`.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use Time::Local qw(timegm);

my ($libraries) = run_command([ 'pg_config', '--pkglibdir' ]);
plan skip_all => 'this server came without pg_cron' unless -e "$libraries/pg_cron.so";

# ---- what pg_cron does, in GMT --------------------------------------------------------------------

my %NUMBER = (
	do { my $n = 1; map { $_ => $n++ } qw(jan feb mar apr may jun jul aug sep oct nov dec) },
	do { my $n = 0; map { $_ => $n++ } qw(sun mon tue wed thu fri sat) });

# The values of a field, as a set.
sub values_of
{
	my ($field, $low, $high) = @_;
	my %set;
	for my $item (split /,/, $field)
	{
		my ($range, $step) = split m{/}, $item;
		my ($from, $to) = $range eq '*' ? ($low, $high) : map { $NUMBER{ lc $_ } // $_ } split /-/, $range;
		$to //= $from;
		for (my $value = $from; $value <= $to; $value += $step // 1) { $set{$value} = 1 }
	}
	return \%set;
}

my %NAMED = ('@hourly' => '0 * * * *', '@daily' => '0 0 * * *', '@midnight' => '0 0 * * *', '@weekly' => '0 0 * * 0',
	'@monthly' => '0 0 1 * *');

# The next ten times of a text after a moment, in seconds since 1970.
sub next_ten
{
	my ($text, $after) = @_;
	my ($minute, $hour, $day, $month, $weekday) = split ' ', $NAMED{$text} // $text;
	my $both = $day =~ /^\*/ || $weekday =~ /^\*/;
	my @minutes = sort { $a <=> $b } keys %{ values_of($minute, 0, 59) };
	my @hours = sort { $a <=> $b } keys %{ values_of($hour, 0, 23) };
	my ($days, $months, $weekdays) = (values_of($day eq '$' ? '99' : $day, 1, 31), values_of($month, 1, 12), values_of($weekday, 0, 7));
	$weekdays->{0} = 1 if $weekdays->{7};
	my @found;
	for (my $midnight = $after - $after % 86400; @found < 10; $midnight += 86400)
	{
		my (undef, undef, undef, $mday, $mon, undef, $wday) = gmtime $midnight;
		my $is_last = (gmtime($midnight + 86400))[3] == 1;
		my $by_day = $days->{$mday} || $day eq '$' && $is_last;
		my $by_weekday = $weekdays->{$wday};
		next unless $months->{ $mon + 1 } && ($both ? $by_day && $by_weekday : $by_day || $by_weekday);
		for my $h (@hours)
		{
			push @found, grep { $_ > $after } map { $midnight + $h * 3600 + $_ * 60 } @minutes;
		}
	}
	return join ' ', @found[ 0 .. 9 ];
}

is(next_ten('0 0 13 * 5', timegm(0, 0, 0, 1, 1, 2026)),
	join(' ', map { timegm(0, 0, 0, $_->[1], $_->[0] - 1, 2026) }
		[ 2, 6 ], [ 2, 13 ], [ 2, 20 ], [ 2, 27 ], [ 3, 6 ], [ 3, 13 ], [ 3, 20 ], [ 3, 27 ], [ 4, 3 ], [ 4, 10 ]),
	'the 13th and each Friday, by a calendar');

# ---- jobs of three users -------------------------------------------------------------------------

my $node = new_node('main', 'shared_preload_libraries' => 'pg_cron, my_worker', 'my_worker.database' => 'postgres, other',
	'cron.use_background_workers' => 'on', 'my_worker.log_jobs' => 'none', 'my_worker.naptime' => 60, 'max_worker_processes' => 40);

sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(q{
	CREATE EXTENSION pg_cron;
	CREATE FUNCTION runner() RETURNS text LANGUAGE sql AS 'SELECT backend_type FROM pg_stat_activity WHERE pid = pg_backend_pid()';
	CREATE TABLE ran (label text, role text DEFAULT current_user, session text DEFAULT session_user, by text DEFAULT public.runner(),
		at timestamptz DEFAULT clock_timestamp());
	GRANT SELECT, INSERT ON ran TO PUBLIC;
	CREATE ROLE ann LOGIN;
	CREATE ROLE "ben's" LOGIN;
	CREATE ROLE nobody_now NOLOGIN;
	GRANT USAGE ON SCHEMA cron TO ann, "ben's";
	SELECT my_worker.grant_usage('ann');
	CREATE DATABASE other;});
my $me = sql('SELECT current_user');

# What becomes of each: a text of ours, or why not. Those of pg_cron's README stand first.
my @jobs = (
	[ 'ann', 'ten', '10 seconds', 'every 10 seconds' ],
	[ 'ann', 'thirty', '30 seconds', 'every 30 seconds' ],
	[ 'ann', 'process-updates', '5 seconds', 'every 5 seconds' ],
	[ 'ann', 'minutely', '* * * * *', '* * * * *' ],
	[ 'ann', 'five', '*/5 * * * *', '*/5 * * * *' ],
	[ 'ann', 'hourly', '0 * * * *', '0 * * * *' ],
	[ 'ann', 'daily', '0 0 * * *', '0 0 * * *' ],
	[ 'ann', 'weekdays', '0 0 * * 1-5', '0 0 * * 1-5' ],
	[ 'ann', undef, '0 1 * * 0', '0 1 * * 0' ],
	[ 'ann', 'june', '0 13 2 6 *', '0 13 2 6 *' ],
	[ "ben's", 'saturday', '30 3 * * 6', '30 3 * * 6' ],
	[ "ben's", 'nightly-vacuum', '0 10 * * *', '0 10 * * *' ],
	[ "ben's", 'process-payroll', '0 12 $ * *', '0 12 L * *' ],
	[ "ben's", 'delete-job-run-details', '0 12 * * *', '0 12 * * *' ],
	[ "ben's", 'fast', '1 second', 'every 1 seconds' ],
	[ "ben's", 'friday', '0 0 13 * 5', '0 0 13 * 5' ],
	[ "ben's", 'names', '15 6 1,15 Jan-Mar MON', '15 6 1,15 Jan-Mar MON' ],
	[ "ben's", 'steps', '10-50/10 */6 2-30/7 * *', '10-50/10 */6 2-30/7 * *' ],
	[ "ben's", 'sunday', '0 5 * * 7', '0 5 * * 7' ],
	[ "ben's", 'last or monday', '0 5 $ * 1', '0 5 L * 1' ],
	[ $me, undef, '@hourly', '@hourly' ],
	[ $me, 'd', '@daily', '@daily' ],
	[ $me, 'w', '@weekly', '@weekly' ],
	[ $me, 'm', '@monthly', '@monthly' ],
	[ $me, 'third day', '0 0 */3 * *', '0 0 */3 * *' ],
	[ $me, 'behind it', '7 7 * * * and more', '7 7 * * *' ],
	[ $me, 'any day', '7 7 1-31 * 2', '7 7 * * *' ],
	[ $me, 'both', '0 0 */2 * 1', undef, 'a day must match both the day of month and the day of week, which no schedule here says' ],
	[ $me, 'y', '@yearly', undef, 'releases of pg_cron differ: since 1.6 they never run it, before that on 1 January; schedule it as "0 0 1 1 *"' ],
	[ $me, 'start', '@reboot', undef, 'it runs when the server starts, which no schedule here does' ],
	[ $me, 'never', '0 0 30 2 *', undef, 'it is never due' ],
	[ $me, 'night', '0 22-6 * * *', undef, 'releases of pg_cron differ about a range that runs backwards' ]);

for my $job (@jobs)
{
	my ($role, $name, $text) = @$job;
	my $label = $name // $text;
	# This pg_cron may be older than seconds and "$", and refuse them.
	my $taken = $text =~ /second|\$/ ? '1 1 1 1 1' : $text;
	$job->[5] = $node->safe_psql('postgres', join ' ', qq{SET ROLE "$role";}, q{SELECT cron.schedule(},
		(defined $name ? "\$x\$$name\$x\$, " : ''), qq{'$taken', \$x\$INSERT INTO public.ran (label) VALUES ('$label')\$x\$)});
	sql(qq{UPDATE cron.job SET schedule = '$text' WHERE jobid = $job->[5]}) if $taken ne $text;
}
cmp_ok(scalar @jobs, '>=', 30, scalar(@jobs) . ' jobs');

# Others: elsewhere, of roles that cannot run them, switched off; and schedules that are there already.
my $elsewhere = sql(q{SELECT cron.schedule_in_database('elsewhere', '* * * * *', 'SELECT 1', 'other')});
my $remote = sql(q{SELECT cron.schedule('remote', '* * * * *', 'SELECT 1')});
my $off = sql(q{SELECT cron.schedule('off', '* * * * *', 'SELECT ''off''')});
my $gone = sql(q{SELECT cron.schedule('gone', '* * * * *', 'SELECT 1')});
my $barred = sql(q{SELECT cron.schedule('barred', '* * * * *', 'SELECT 1')});
my $taken = sql(q{SELECT cron.schedule('taken', '* * * * *', 'SELECT 1')});
sql(qq{UPDATE cron.job SET active = false WHERE jobid = $off;
	UPDATE cron.job SET username = 'gone' WHERE jobid = $gone;
	UPDATE cron.job SET username = 'nobody_now' WHERE jobid = $barred;
	SELECT my_worker.schedule('taken', '\@yearly', 'SELECT ''mine''')});
# pg_cron connects by background workers here, so that its host does not matter.
is(sql(qq{SELECT outcome FROM my_worker.import_pg_cron() WHERE source_id = $remote}), 'would be imported', 'a job of this server');
sql(qq{DELETE FROM cron.job WHERE jobid = $remote});

# ---- whose ---------------------------------------------------------------------------------------

is($node->safe_psql('postgres', q{SET ROLE ann; SELECT count(*), count(*) FILTER (WHERE outcome = 'would be imported') FROM my_worker.import_pg_cron()}),
	'10|10', 'a user sees those of her own');
like(query_error($node, q{SET ROLE ann; SELECT * FROM my_worker.import_pg_cron(false)}), qr/^42501: permission denied to switch off jobs of pg_cron/,
	'and needs the right to switch them off');
like(query_error($node, q{SET ROLE "ben's"; SELECT * FROM my_worker.import_pg_cron()}), qr/^42501/, 'a role without usage is refused');
like(query_error($node, q{SELECT * FROM my_worker.import_pg_cron(NULL)}), qr/^22004/, 'NULL is refused');
sql(q{CREATE ROLE reader LOGIN BYPASSRLS; GRANT USAGE ON SCHEMA cron TO reader; SELECT my_worker.grant_usage('reader'); GRANT UPDATE (active) ON cron.job TO reader});
is($node->safe_psql('postgres', q{SET ROLE reader; SELECT DISTINCT outcome, detail FROM my_worker.import_pg_cron(false) WHERE detail ~ 'ben'}),
	q{not imported|you do not have the rights of role "ben's"}, 'a role that sees all rows gets nothing made for others');
like(query_error($node, q{SET ROLE reader;
	SELECT my_worker_internal.import_pg_cron_job(1, 'x', '* * * * *', 'SELECT 1', '', current_setting('port')::int, 'postgres', 'ann', true, true)}),
	qr/^$/, 'nor by the function behind it');
is(sql(q{SELECT my_worker_internal.import_pg_cron_job(1, repeat('x', 64), '* * * * *', 'SELECT 1', '', current_setting('port')::int, 'postgres',
	current_user, true, true)}), '{' . 'x' x 64 . ',"not imported","schedule name must not be longer than 63 bytes"}', 'a name that is too long');
is(sql(q{SELECT count(*) FROM my_worker.schedules WHERE name <> 'taken'}), '0', 'so far there are no schedules');

# A trigger of somebody with a right to it would run as the superuser.
sql(q{GRANT TRIGGER ON cron.job TO ann; GRANT CREATE ON SCHEMA public TO ann; SET ROLE ann;
	CREATE FUNCTION trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'runs as %', current_user; END $$;
	CREATE TRIGGER trap BEFORE UPDATE ON cron.job FOR EACH ROW EXECUTE FUNCTION trap()});
like(query_error($node, 'SELECT * FROM my_worker.import_pg_cron(false)'), qr/^42501: cron\.job has a trigger of a role that is no superuser/, 'a trigger of a user');
sql(q{DROP TRIGGER trap ON cron.job; REVOKE TRIGGER ON cron.job FROM ann});

# A look-alike is nothing to a superuser.
$node->safe_psql('other', q{
	CREATE EXTENSION my_worker;
	CREATE SCHEMA cron AUTHORIZATION ann;
	SET ROLE ann;
	CREATE TABLE cron.job (jobid bigint, schedule text, command text, nodename text, nodeport int, database text, username text, active bool);
	INSERT INTO cron.job VALUES (1, '* * * * *', 'ALTER ROLE ann SUPERUSER', 'localhost', 5432, 'other', 'postgres', true);});
like(query_error($node, 'SELECT * FROM my_worker.import_pg_cron()', 'other'), qr/^42P01: this database has no table cron\.job of extension pg_cron/,
	'a table that is not the extension\'s');

# ---- dry run, then the import --------------------------------------------------------------------

my $before = sql(q{SELECT jobid, active FROM cron.job ORDER BY jobid});
my $dry = sql(q{SELECT source_id, outcome, detail FROM my_worker.import_pg_cron() ORDER BY 1});
is(sql(q{SELECT jobid, active FROM cron.job ORDER BY jobid}), $before, 'a dry run changes nothing there');
is(sql(q{SELECT count(*) FROM my_worker.schedules}), '1', 'and nothing here');
my $answer = sql(q{BEGIN; SELECT count(*) FROM my_worker.import_pg_cron(false); ROLLBACK});
is(sql(q{SELECT jobid, active FROM cron.job ORDER BY jobid}), $before, 'a rollback leaves all as it was');

my $start = time;
$answer = sql(q{SELECT source_id, name, outcome, detail FROM my_worker.import_pg_cron(dry_run => false)});
note(sprintf '%d jobs in %.0f ms', scalar @jobs, (time - $start) * 1000);
my %said = map { my ($id, @rest) = split /\|/, $_, 4; $id => \@rest } split /\n/, $answer;
(my $imported = $dry) =~ s/would be imported/imported/g;
is(join("\n", map { join '|', $_, @{ $said{$_} }[ 1, 2 ] } sort { $a <=> $b } keys %said), $imported, 'it does what the dry run said');

my $now = sql(q{SELECT extract(epoch FROM now())::bigint});
for my $job (@jobs)
{
	my ($role, $name, $text, $ours, $why, $id) = @$job;
	if (defined $why)
	{
		is("@{ $said{$id} }[1, 2]", "not imported $why", "$text is listed");
		is(sql("SELECT active FROM cron.job WHERE jobid = $id"), 't', 'and goes on there');
		next;
	}
	my $called = $name // "pg_cron job $id";
	my $overlap = $text =~ /second/ ? 'skip' : 'queue';
	is(sql(qq{SELECT owner, schedule, timezone, command, active, overlap, catchup, queue, max_attempts FROM my_worker.schedules WHERE name = \$x\$$called\$x\$}),
		join('|', ($role =~ /'/ ? qq{"$role"} : $role), $ours, 'GMT', "INSERT INTO public.ran (label) VALUES ('" . ($name // $text) . "')", 't', $overlap,
			'none', 'default', 1), "$text of $role");
	my $expected = $text =~ /(\d+) second/ ? join(' ', map { $now + $_ * $1 } 1 .. 10) : next_ten($ours =~ /^7 7/ ? $ours : $text, $now);
	is(sql(qq{SELECT string_agg(extract(epoch FROM t)::bigint::text, ' ' ORDER BY t) FROM my_worker.schedules AS s,
			my_worker.next_runs(s.schedule, 10, s.timezone, to_timestamp($now)) AS t WHERE s.name = \$x\$$called\$x\$}),
		$expected, "$text: the next ten times are those of pg_cron");
	is(sql("SELECT active FROM cron.job WHERE jobid = $id"), 'f', "$text is off in pg_cron");
}
is("@{ $said{$elsewhere} }[1, 2]", 'not imported it runs in database "other"', 'a job of another database');
is("@{ $said{$off} }[1, 2]", qq{imported "* * * * *", "GMT" for role "$me", paused}, 'one that is switched off is paused here');
is(sql(q{SELECT active, next_run_at, disabled_reason FROM my_worker.schedules WHERE name = 'off'}), 'f||', 'and stays so');
is("@{ $said{$gone} }[1, 2]", 'not imported role "gone" does not exist', 'a job of nobody');
is("@{ $said{$barred} }[1, 2]", 'not imported role "nobody_now" is not permitted to log in', 'a job of a role without login');
is("@{ $said{$taken} }[1, 2]", qq{not imported role "$me" has another schedule of that name}, 'no schedule is replaced');
is(sql(q{SELECT command FROM my_worker.schedules WHERE name = 'taken'}), q{SELECT 'mine'}, 'it is as it was');

# ---- again ---------------------------------------------------------------------------------------

my $schedules = sql(q{SELECT count(*) FROM my_worker.schedules});
my $again = sql(q{SELECT source_id, outcome, detail FROM my_worker.import_pg_cron(false) ORDER BY 1});
is(join("\n", map { my $line = $_; $line =~ s/\|imported\|.*/|imported before|/; $line } split /\n/, $imported), $again, 'a second run leaves out what was imported');
is(sql(q{SELECT count(*) FROM my_worker.schedules}), $schedules, 'and makes nothing');
sql(qq{UPDATE cron.job SET active = true WHERE jobid = $jobs[0][5]});
is(sql(qq{SELECT outcome, detail FROM my_worker.import_pg_cron() WHERE source_id = $jobs[0][5]}), 'imported before|both run it: it is active in pg_cron again',
	'it says where both run one');
sql(qq{UPDATE cron.job SET active = false WHERE jobid = $jobs[0][5]});

# By the function of pg_cron, for a user who may execute that.
sql(q{GRANT EXECUTE ON FUNCTION cron.alter_job TO ann});
my $own = sql(q{SET ROLE ann; SELECT cron.schedule('own', '* * * * *', 'SELECT 1')});
is($node->safe_psql('postgres', qq{SET ROLE ann; SELECT outcome FROM my_worker.import_pg_cron(false) WHERE source_id = $own}), 'imported', 'a user imports her own');
is(sql(qq{SELECT active FROM cron.job WHERE jobid = $own}), 'f', 'and switches it off by alter_job()');
is(sql(q{SELECT owner FROM my_worker.schedules WHERE name = 'own'}), 'ann', 'it is hers');
# A look-alike beside it, which would be called by named arguments, is not.
sql(q{GRANT CREATE ON SCHEMA cron TO "ben's"; SET ROLE "ben's"; CREATE FUNCTION cron.alter_job(bigint, active boolean) RETURNS void LANGUAGE plpgsql AS
	$$ BEGIN RAISE EXCEPTION 'called as %', current_user; END $$});
my $second = sql(q{SET ROLE ann; SELECT cron.schedule('second', '* * * * *', 'SELECT 1')});
is($node->safe_psql('postgres', qq{SET ROLE ann; SELECT outcome FROM my_worker.import_pg_cron(false) WHERE source_id = $second}), 'imported',
	'a function of another signature is not taken for it');

# ---- they run here, and not there ----------------------------------------------------------------

# pg_cron itself cannot live with a job of nobody.
sql(qq{DELETE FROM cron.job WHERE jobid IN ($gone, $barred)});
my $since = sql('SELECT clock_timestamp()');
wait_for($node, qq{SELECT count(*) >= 3 FROM ran WHERE label = 'fast' AND at > '$since'});
# Newer releases know seconds, and have run it before.
is(sql(qq{SELECT DISTINCT role, session, by FROM ran WHERE label = 'fast' AND at > '$since'}), q{ben's|ben's|my_custom_worker}, 'each second, as its user, by a worker');
wait_for($node, q{SELECT count(*) >= 1 FROM ran WHERE label = 'minutely' AND by = 'my_custom_worker'}, 't', 90);
pass('each minute');
wait_for($node, qq{SELECT count(*) >= 1 FROM cron.job_run_details WHERE jobid = $elsewhere AND status = 'succeeded' AND start_time > '$since'}, 't', 150);
pass('pg_cron runs what was left to it');
my $moved = join ',', $own, map { $_->[5] } grep { defined $_->[3] } @jobs;
is(sql(qq{SELECT count(*) FROM cron.job_run_details WHERE jobid IN ($moved) AND start_time > '$since'}), '0', 'and nothing of what was imported');
is(sql(qq{SELECT count(*) FROM ran WHERE by <> 'my_custom_worker' AND at > '$since' AND label <> 'start'}), '0', 'each run was one of ours');

# ---- in another time zone, as newer releases have it ---------------------------------------------

sql(q{SELECT my_worker.unschedule(name, owner) FROM my_worker.schedules; UPDATE cron.job SET active = true;
	UPDATE cron.job SET schedule = '30 2 * * *' WHERE jobname = 'daily'});
$node->stop;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'my_worker'\ncron.timezone = 'America/New_York'\ncron.match_dom_and_dow = on");
$node->start;
my $zoned = sub { return sql("SELECT outcome, detail FROM my_worker.import_pg_cron() WHERE name = '$_[0]'") };
is($zoned->('nightly-vacuum'), q{would be imported|"0 10 * * *", "America/New_York" for role "ben's"}, 'the zone of pg_cron');
like($zoned->('daily'), qr/^not imported\|pg_cron leaves out times that the clock jumps over and repeats those that come twice, as on \d{4}-\d\d-\d\d;/,
	'what the nights of change would make another');
is($zoned->('minutely'), q{would be imported|"* * * * *", "America/New_York" for role "ann"}, 'but not what goes on through them');
like($zoned->('friday'), qr/^not imported\|a day must match both/, 'a setting of pg_cron');
$node->append_conf('postgresql.conf', "cron.enable_superuser_jobs = off\ncron.launch_active_jobs = off\ncron.host = 'db.example.com'\n");
$node->restart;
is($zoned->('m'), 'not imported|pg_cron runs no jobs of superusers: "cron.enable_superuser_jobs" is off', 'jobs of superusers that do not run');
is($zoned->('minutely'), q{would be imported|"* * * * *", "America/New_York" for role "ann", paused}, 'pg_cron itself is switched off');
sql(q{UPDATE pg_trigger SET tgenabled = 'D' WHERE tgrelid = 'cron.job'::regclass; UPDATE cron.job SET nodename = 'elsewhere' WHERE jobname = 'minutely';
	ALTER SYSTEM SET cron.use_background_workers = off});
$node->restart;
is($zoned->('minutely'), 'not imported|it runs on the server at "elsewhere", port ' . $node->port, 'a job of another server');

done_testing();
