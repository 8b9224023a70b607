# next_runs() against an independent cron library: the answers of tests/cron/golden.txt, which
# tests/cron/golden.py made. The unit tests compare the logic with the same file over zones of their
# own; here the server's zone data and the SQL function take part, so that all of it is compared.
#
# Then the library itself is asked, about 200 other expressions in each run (MY_WORKER_CRON_SEED=n
# asks about the same ones again). That needs croniter: Python's own, or by pip from PyPI if that
# can be reached; else this half is skipped.

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

SKIP:
{
	my $cron = "$FindBin::RealBin/../cron/golden.py";
	my $packages = "$PostgreSQL::Test::Utils::tmp_check/croniter";
	my $seed = $ENV{MY_WORKER_CRON_SEED} // int(rand 1_000_000);
	local $ENV{PYTHONDONTWRITEBYTECODE} = 1;
	if (system('python3 -c "import croniter" 2>/dev/null') != 0)
	{
		system("timeout 60 python3 -m pip install -q --disable-pip-version-check --retries 0 --timeout 10"
				. " --target '$packages' croniter tzdata >/dev/null 2>&1");
		$ENV{PYTHONPATH} = $packages;
	}
	skip 'croniter is not installed, and pip cannot fetch it', 3
	  if system('python3 -c "import croniter" 2>/dev/null') != 0;

	my $asked = "$PostgreSQL::Test::Utils::tmp_check/asked.csv";
	my $answered = "$PostgreSQL::Test::Utils::tmp_check/answered.csv";
	is(system("python3 '$cron' ask 200 $seed > '$asked'"), 0, "croniter answers (MY_WORKER_CRON_SEED=$seed)");
	$node->safe_psql('postgres', q{CREATE TABLE asked (n serial, expression text, zone text, begin bigint, theirs bigint)});
	$node->safe_psql('postgres', "\\copy asked (expression, zone, begin, theirs) FROM '$asked' (FORMAT csv, DELIMITER '|')");
	$node->safe_psql('postgres', "\\copy (SELECT expression, zone, begin, theirs, (SELECT extract(epoch FROM t)::bigint - begin "
			. "FROM my_worker.next_runs(expression, 1, zone, to_timestamp(begin)) AS t) FROM asked ORDER BY n) "
			. "TO '$answered' (FORMAT csv, DELIMITER '|')");
	my $verdict = `python3 '$cron' judge < '$answered'`;
	like($verdict, qr/^agreed: \d+$/, 'and so do we, but for the documented differences');
	my ($agreed) = $verdict =~ /agreed: (\d+)/;
	cmp_ok($agreed, '>', 3900, "$agreed of 4000 answers are equal");
}

$node->stop;
done_testing();
