# next_runs() against an independent cron library: the answers of tests/cron/golden.txt, which
# tests/cron/golden.py made. The unit tests compare the logic with the same file over zones of their
# own; here the server's zone data and the SQL function take part, so that all of it is compared.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my @ZONES = ('UTC', 'Europe/Berlin', 'America/New_York');

my $node = new_node('main');

my ($instants, @rows);
open my $golden, '<', "$FindBin::RealBin/../cron/golden.txt" or die "golden.txt: $!\n";
while (defined(my $line = readline $golden))
{
	chomp $line;
	next if $line =~ /^#/;
	if ($line =~ /^@ (.*)/) { $instants = $1; next; }
	my ($expression) = $line =~ /^= (.*)/ or die "unexpected line: $line\n";
	for my $zone (@ZONES)
	{
		chomp(my $answers = readline $golden);
		$answers =~ tr/!//d;
		push @rows, join '|', $expression, $zone, $answers;
	}
}
close $golden;

my $file = "$PostgreSQL::Test::Utils::tmp_check/golden.csv";
open my $out, '>', $file or die "$file: $!\n";
print $out "$_\n" for @rows;
close $out;
chmod 0644, $file;

$node->safe_psql('postgres', q{CREATE TABLE golden (expression text, zone text, answers text)});
$node->safe_psql('postgres', "\\copy golden FROM '$file' (FORMAT csv, DELIMITER '|')");
cmp_ok($node->safe_psql('postgres', 'SELECT count(DISTINCT expression) FROM golden'), '>=', 200,
	'at least 200 expressions');
cmp_ok(scalar(split ' ', $instants), '>=', 20, 'from 20 instants each');

my $compared = $node->safe_psql('postgres', qq{
	CREATE TABLE compared AS
	SELECT expression, zone, at, nullif(answer, '-')::int AS expected,
	       (SELECT extract(epoch FROM t - at)::bigint
	          FROM my_worker.next_runs(expression, 1, zone, at) AS t) AS answered
	  FROM golden,
	       unnest(string_to_array('$instants', ' '), string_to_array(answers, ' ')) AS u(instant, answer),
	       to_timestamp(instant::float8) AS at;
	SELECT count(*) FROM compared});
cmp_ok($compared, '>=', 200 * 20, "$compared answers compared");
is($node->safe_psql('postgres', q{
	SELECT expression, zone, at, expected, answered FROM compared
	 WHERE expected IS DISTINCT FROM answered ORDER BY 1, 2, 3 LIMIT 20}),
	'', 'and all of them equal');

$node->stop;
done_testing();
