# docs/errors.md has each SQLSTATE that the sources raise, and docs/log.md each line that they log; and neither has a
# message that the sources do not know. No server: the sources are read.

use strict;
use warnings;

use File::Find;
use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = "$FindBin::RealBin/../..";
plan skip_all => 'the docs or the sources are not at hand' unless -d "$root/docs" && -d "$root/src" && -d "$root/sql/parts";

# The sources, without tests; strings that go on in the next line are one.
my %source;
find({ no_chdir => 1, wanted => sub {
	return unless /\.(?:rs|sql|c)$/ && !m{/(?:tests|histories|key_histories|world|key_world|testing|golden)\.rs$};
	my $text = slurp_file($_);
	$text =~ s/#\[cfg\(test\)\]\s*mod \w+ \{.*//s;
	$text =~ s{^\s*//.*$}{}mg;
	$text =~ s/\\\n\s*//g;
	$text =~ s/\\"/"/g;
	$text =~ s/''/'/g if /\.sql$/;
	$source{ s{^\Q$root\E/}{}r } = $text;
} }, "$root/src", "$root/sql/parts");
my $all = join "\n", @source{ sort keys %source };

# What the server itself says, and we explain.
my @servers_own = (
	'canceling statement due to', 'current transaction is aborted', 'permission denied for', 'cannot execute',
	'in a read-only transaction', 'during recovery', 'invalid value for parameter', 'duplicate key value');

# The fixed words of a message: what stands between names, numbers and places of more.
sub fixed_words
{
	my ($message) = @_;
	return grep { length > 3 } map { s/^[\s:,]+|[\s:,]+$//gr }
	  split /"[^"]*"|\S*\d\S*|\.\.\.|\b[A-Z][A-Z_]+\b|'[^']*'|\([^)]*\)|(?<=: )\w+$/, $message;
}

# Whether the sources have these words. A message may be put together of up to three parts.
sub is_known
{
	my ($text) = @_;
	return 1 if grep { index($text, $_) >= 0 || index($_, $text) >= 0 } @servers_own;
	my @words = split / /, $text;
	for (1 .. 3)
	{
		my $n = @words;
		$n-- until $n == 0 || index($all, join ' ', @words[ 0 .. $n - 1 ]) >= 0;
		splice @words, 0, $n;
		return 1 unless @words;
	}
	return 0;
}

# ---- SQLSTATEs ----------------------------------------------------------------------------------

my $errors = slurp_file("$root/docs/errors.md");
my %code = ($source{'src/pg/error.rs'} =~ /pub const (\w+): SqlState = SqlState::new\(b"(\w{5})"\)/g, GIVE_UP => 'MW001');
my %raised;
for my $file (grep { $_ ne 'src/pg/error.rs' } keys %source)
{
	my $text = $source{$file};
	$text =~ s/^use .*?;//msg;
	# Not where it is only compared with what somebody else has raised.
	$text =~ s/(?:[!=]= |matches!\([^;]*?)(?:$_)\b//g for join '|', keys %code;
	for my $name (keys %code) { $raised{ $code{$name} } = 1 if $text =~ /\b$name\b/ }
}
# PL/pgSQL names what it raises.
my %condition = (undefined_table => '42P01', insufficient_privilege => '42501', null_value_not_allowed => '22004',
	object_not_in_prerequisite_state => '55000', object_in_use => '55006', undefined_object => '42704', datatype_mismatch => '42804',
	feature_not_supported => '0A000');
while ($all =~ /\bRAISE ([a-z_]+)\s+USING/g)
{
	ok($condition{$1}, "the test knows the condition $1") or next;
	$raised{ $condition{$1} } = 1;
}
# Compared with, or passed on; success is none. Nobody sees these as ours.
delete @raised{qw(00000 55P03 53100 58030 53200 54000 22P02 40P01 3F000 42601 42602)};
$raised{XX000} = 1;    # PgError::internal()

my %told = map { $_ => 1 } $errors =~ /^### (\w{5})$/mg;
is_deeply([ sort keys %told ], [ sort keys %raised ], 'docs/errors.md has each SQLSTATE that is raised');
my ($index) = $errors =~ /^\| SQLSTATE \|.*?\n\n/ms ? $& : '';
is_deeply([ sort map { uc } $index =~ /\]\(#(\w{5})\)/g ], [ sort map { uc } keys %told ], 'its list has each of them');

# ---- messages -----------------------------------------------------------------------------------

# Of a page: what stands in backticks in the first column, or at the head of a paragraph.
sub messages
{
	my ($page) = @_;
	my @found;
	for (split /\n/, $page)
	{
		my ($cell) = /^\| (`[^|]*) \|/ ? $1 : /^(`.*)/ ? $1 : next;
		push @found, grep { / / } $cell =~ /`([^`]+)`/g;
	}
	return @found;
}

for my $page (qw(errors log))
{
	for my $message (messages(slurp_file("$root/docs/$page.md")))
	{
		my @unknown = grep { !is_known($_) } fixed_words($message);
		is("@unknown", '', "docs/$page.md: $message");
	}
}

# ---- the log ------------------------------------------------------------------------------------

# Each function that reports has its message in it, or in the functions beside it that call it. Hints and details begin
# with a capital.
my $log = slurp_file("$root/docs/log.md");
my $told = join "\n", messages($log);
my %beside = map { $_ => 1 } qw(src/absent.rs src/queue/report.rs src/queue/served.rs src/logic/repeats.rs src/queue/home.rs);
for my $file (sort keys %source)
{
	next unless $file =~ /\.rs$/ && ($beside{$file} || $source{$file} =~ /\blog::report/);
	my @functions = $beside{$file} ? $source{$file}
	  : grep { /\blog::report/ } split /^(?=[ \t]*(?:pub(?:\([^)]*\))? )?(?:unsafe )?fn )/m, $source{$file};
	for my $function (@functions)
	{
		while ($function =~ /b?"([a-z{][^"\n]*(?:"[^"\n ]*"[^"\n]*)*)"/g)
		{
			my $literal = $1;
			# That of an ERROR, or a detail that is put together.
			next if substr($function, 0, $-[0]) =~ /PgError::new\(\s*\w+,\s*(?:format!\(\s*)?$|refuse\(\s*force,\s*$/ || $literal =~ /^cannot /;
			next unless $literal =~ /\w+ \w+/ && $literal !~ /[;=]|::/;
			my ($longest) = sort { length $b <=> length $a } map { s/^\W+|\W+$//gr } split /\{[^}]*\}|"/, $literal;
			next if length $longest < 8;
			ok(index($log, $longest) >= 0, "docs/log.md has what $file logs: $longest");
		}
	}
}

done_testing();
