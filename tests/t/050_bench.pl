# The benchmark's scripts run: every scenario, at a size that means nothing, against the server of the
# tests. What it measures is not looked at, only that each figure is there and the tables are made.
#
# Peers from registries are left out: a test asks no network for anything. pg_cron is one of them.
#
# Part of `make test-long`.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = abs_path("$FindBin::RealBin/../..");
my $results = PostgreSQL::Test::Utils::tempdir();
my ($postgres) = grep { -x "$_/postgres" } split /:/, $ENV{PATH};

# The server of the tests lies first on PATH; the module is in it.
local %ENV = (
	%ENV,
	SERVER => $postgres,
	RESULTS => $results,
	PEERS => '',
	CONF => 'fsync = off',
	SCALE => '0.001',
	REPEAT => 1,
	SCENARIO => 'drain flow peers snapshot backlog enqueue latency mixed idle');
delete $ENV{KEEP};
my ($output, $errors);
my $ok = IPC::Run::run([ 'bash', "$top/bench/run" ], '>', \$output, '2>', \$errors);
my @complaints = grep { !/^(   .*: [\d.]+ |[|#=]|Rep|\s*$)/ } split /\n/, $errors;
ok($ok, 'the benchmark runs to its end') or diag(join "\n", @complaints);
ok(!grep(/No figure/, @complaints), 'no figure is missing');

for my $scenario (qw(drain flow snapshot backlog enqueue latency mixed idle))
{
	my $table = slurp_file("$results/$scenario.md");
	my $plot = slurp_file("$results/$scenario.svg");
	my @figures = split /\n/, slurp_file("$results/$scenario.csv");
	my @cases = $plot =~ /text-anchor="end"/g;
	my %named = map { (split /,/, $_, 4)[3] => 1 } @figures[1 .. $#figures];
	cmp_ok(scalar(keys %named), '>', 2, "$scenario: cases were measured");
	is(scalar(@cases), scalar(keys %named), "$scenario: each case has its bar");
	like($table, qr/^\| ratio \|/m, "$scenario: ratios are in the table");
}
like(slurp_file("$results/latency.md"), qr/^- Left out: psycopg, no peer was asked for\.$/m,
	'a listener that was not asked for is named');
ok(!-e "$results/schedules.md", 'what was not asked for is not measured');

# A ratio pairs neighbours of one repetition, and a figure that is missing shifts nothing.
my $csv = "$results/made.csv";
append_to_file($csv, join '', map { "$_\n" } 'round,unit,value,case',
	'1,jobs/s,100,"ours, here"', '1,jobs/s,50,"theirs"', '1,jobs/s,400,"ours, here"',
	'2,jobs/s,100,"ours, here"', '3,jobs/s,300,"ours, here"', '3,jobs/s,100,"theirs"');
append_to_file("$results/made.targets", "ours, here\ttheirs\t>= 2\n");
my $table = run_table('made');
like($table, qr{^\| ours, here / theirs \| 2\.50 \| 2 to 3 \| >= 2 \| yes \|$}m, 'ratios of neighbours');
like($table, qr{^\| ours, here \| 200 \| 100 to 400 \| jobs/s \|$}m, 'the median and the spread of a case');

sub run_table
{
	my ($name) = @_;
	my $table;
	IPC::Run::run([ 'awk', '-F,', '-v', "targets=$results/$name.targets", '-v', "title=$name",
			'-f', "$top/bench/figures.awk", '-f', "$top/bench/table.awk", "$results/$name.csv" ],
		'>', \$table);
	return $table;
}

done_testing();
