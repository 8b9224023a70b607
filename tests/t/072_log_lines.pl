# What the log says: a start, jobs that have failed for good, a line each up to ten a second; and what it
# does not say: what commands run, and that an orderly stop ended our processes.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('lines', 'my_worker.naptime' => 1, 'my_worker.max_workers' => 3, 'my_worker.database' => 'postgres, other',
	'log_min_error_statement' => 'log');
add_handlers($node);
like(slurp_file($node->logfile), qr/LOG:  my_worker \S+ serves databases "postgres", "other" with up to 3 workers\n/, 'a start says what is served');

# One job, of whatever kind, each has its line.
my $log = log_end($node);
$node->safe_psql('postgres', q{
	CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'late' USING ERRCODE = 'XX123'; END $$;
	CREATE TABLE parent (i int);
	CREATE CONSTRAINT TRIGGER late AFTER INSERT ON parent DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();
	CREATE ROLE app LOGIN; SELECT my_worker.grant_usage('app');
	SELECT my_worker.create_queue('q', max_attempts => 1);
	CREATE FUNCTION breaks() RETURNS void LANGUAGE sql AS $$ INSERT INTO parent VALUES (1) $$});
my %jobs = (
	P0001 => q{my_worker.enqueue('work', '{"fail": "a secret"}', 'q')},
	22012 => q{my_worker.run('SELECT 1/0 AS secret', 'q')},
	XX123 => q{my_worker.enqueue('breaks', queue => 'q')},
	28000 => q{my_worker.enqueue('work', queue => 'q')});
for my $code (sort keys %jobs)
{
	my $role = $code eq '28000' ? 'app' : 'postgres';
	my $job = $node->safe_psql('postgres', ($role eq 'app' ? q{BEGIN; ALTER ROLE app NOLOGIN; } : 'BEGIN; ')
		. "SET LOCAL SESSION AUTHORIZATION $role; SELECT $jobs{$code}; COMMIT");
	is($node->safe_psql('postgres', "SELECT my_worker.wait($job, '30 s')"), 'failed', "a job fails with $code");
	ok(wait_log($node, qr/job $job gave up after 1 attempt: database "postgres", queue "q", owner "$role", SQLSTATE $code\n/, $log), 'and the log says so');
}
is(log_has($node, qr/secret/, $log), 0, 'without its message');
$node->safe_psql('postgres', $_) for 'ALTER SYSTEM SET my_worker.log_messages = on', 'SELECT pg_reload_conf()';
wait_for($node, 'SHOW my_worker.log_messages', 'on');
my $told = $node->safe_psql('postgres', q{SELECT my_worker.run($$DO 'BEGIN RAISE ''a word''; END'$$, 'q', max_attempts => 1)});
ok(wait_log($node, qr/job $told gave up after 1 attempt: .*, SQLSTATE P0001: a word\n/, $log), 'unless a setting says so');

# A flood: each job is named, ten a second alone.
$log = log_end($node);
my @flood = split /\n/, $node->safe_psql('postgres', q{SELECT my_worker.enqueue('work', '{"fail": "no"}', 'q') FROM generate_series(1, 300)});
drained($node);
my $text = '';
my %named;
wait_for($node, 'SELECT true');
for (1 .. 600)
{
	# Whole lines: the last one may be in the middle of being written.
	$text = slurp_file($node->logfile, $log) =~ s/[^\n]*\z//r;
	$named{$1} = 1 while $text =~ /job (\d+) gave up after/g;
	while ($text =~ /\d+ more jobs? ha(?:ve|s) given up: ([\d, ]+)/g) { $named{$_} = 1 for split /, /, $1 }
	last if keys %named >= 300;
	select undef, undef, undef, 0.1;
}
is_deeply([ sort { $a <=> $b } keys %named ], [ sort { $a <=> $b } @flood ], 'all of a flood are named');
my %second;
$second{$1}++ while $text =~ /^\S+ (\d\d:\d\d:\d\d)\S* .* job \d+ gave up after/mg;
cmp_ok((sort { $b <=> $a } values %second)[0], '<=', 11, 'at most ten a second have their own line');

# A stop while jobs run: nothing of them is said.
$log = log_end($node);
$node->safe_psql('postgres', q{
	SELECT my_worker.run($$SELECT 'another secret', gate('never')$$);
	SELECT my_worker.enqueue('work', '{"gate": "never"}');
	SELECT my_worker.run($$DO 'BEGIN RAISE LOG ''hello''; PERFORM gate(''secret never''); END'$$)});
wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}, '3');
$node->stop('fast');
is(log_has($node, qr/secret/, $log), 0, 'a command is not in the log');
is(log_has($node, qr/LOG:  hello/, $log), 1, 'what it says itself is');
is(log_has($node, qr/my_custom_worker.*FATAL/, $log), 0, 'no process of ours ends with a FATAL');
is(log_has($node, qr/job \d+ \(queue "default"\) was cut off/, $log), 3, 'a job that was cut off has a line');

done_testing();
