# The reference and the catalogs say the same: docs/sql-api.md has each function with its arguments and its result, and
# an example of its call; each table and view with its columns, as their comments say; and nothing that is not there.
# docs/settings.md has each setting.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = "$FindBin::RealBin/../..";
plan skip_all => 'the docs are not at hand' unless -d "$root/docs";

my $node = new_node('reference');
my $dir = PostgreSQL::Test::Utils::tempdir();
my $page = slurp_file("$root/docs/sql-api.md");
my ($answers, $stderr);
IPC::Run::run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-h', $node->host, '-p', $node->port, '-d', 'postgres', '-f',
	"$root/scripts/reference.sql" ], '>', \$answers, '2>', \$stderr) or BAIL_OUT($stderr);
append_to_file("$dir/answers", $answers);

# The tables.
my $merged = `"$root/scripts/reference" --merge "$dir/answers" "$root/docs/sql-api.md"`;
is_deeply([ split /\n/, $page ], [ split /\n/, $merged ], 'docs/sql-api.md has the columns and comments of the catalogs')
  or diag('"make reference" writes them anew');
my %relation = map { $_ => 1 } $answers =~ /^columns of (\S+) /mg;
my %told = map { $_ => 1 } $page =~ /^<!-- columns of (\S+) -->/mg;
is_deeply([ sort keys %told ], [ sort keys %relation ], 'docs/sql-api.md has each table and view');

# The functions.
sub tidy
{
	my ($text) = @_;
	$text =~ s/\s+/ /g;
	$text =~ s/\( /(/g;
	# The catalogs write intervals in their own way.
	$text =~ s/interval = '0'/interval = '00:00:00'/g;
	$text =~ s/interval = '(\d+) s'/sprintf "interval = '00:00:%02d'", $1/ge;
	$text =~ s/interval = '(\d+) min'/sprintf "interval = '00:%02d:00'", $1/ge;
	$text =~ s/interval = '(\d+) h'/sprintf "interval = '%02d:00:00'", $1/ge;
	return $text;
}

my %in_catalogs = map { $_ => 1 } $answers =~ /^signatures (.*)$/mg;
my %in_docs;
while ($page =~ /^```text\n(.*?)^```$/msg)
{
	my $text = tidy($1);
	$in_docs{$1} = 1 while $text =~ /((?:my_worker\.)?\w+\((?:[^()]|\([^()]*\))*\) returns (?:\([^()]*\)|setof \w+|[\w\[\]]+))/g;
}
is_deeply([ sort keys %in_docs ], [ sort keys %in_catalogs ], 'docs/sql-api.md declares each function as it is');

my $examples = join '', $page =~ /^```sql\n(.*?)^```$/msg;
for my $name (sort map { /^((?:my_worker\.)?\w+)/ } keys %in_catalogs)
{
	like($examples, qr/(?<![\w.])\Q$name\E\(/, "there is an example of $name()");
}

# The settings: names and what becomes of a misspelt one. `make verify` compares the rest.
my %setting = map { $_ => 1 } split /\n/, $node->safe_psql('postgres', q{SELECT name FROM pg_settings WHERE name LIKE 'my\_worker.%'});
my $settings = slurp_file("$root/docs/settings.md");
is_deeply([ sort $settings =~ /^\| `(my_worker\.\w+)`/mg ], [ sort keys %setting ], 'docs/settings.md has each setting');
for my $file (glob "$root/docs/*.md $root/README.md")
{
	my $text = slurp_file($file);
	my @wrong = grep { !$setting{$_} && $text =~ /\Q$_\E['"]? = / } $text =~ /\b(my_worker\.\w+)/g;
	is("@wrong", '', $file =~ s{.*/}{}r . ' names no setting that is not there');
}

# What health() checks, and what to do about each.
my ($monitoring) = slurp_file("$root/docs/operations.md") =~ /^\| check \|.*?\n\n/ms ? $& : '';
is_deeply([ sort $monitoring =~ /^\| `(\w+)` \|/mg ],
	[ sort split /\n/, $node->safe_psql('postgres', 'SELECT "check" FROM my_worker.health()') ], 'docs/operations.md has each check of health()');

$node->stop;
done_testing();
