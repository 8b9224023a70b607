# Every block of SQL in the docs runs as it stands, from the top of its page to the end, in a database of its own. What a
# block needs beside the page (a handler that its reader has, a role) stands in the page as a comment, which readers do
# not see:
#
#     <!-- test
#     CREATE FUNCTION send_mail(p jsonb) ...
#     -->
#
# What needs another extension says so in the line before it, and is left out where that is not installed:
#
#     <!-- needs pg_cron -->
#
# A block of text right behind a block of SQL that looks like an answer of psql must be what that block has answered;
# a line of three dots stands for lines that are left out. README.md and docs/operations.md change the server itself:
# 083_install_as_written runs these.

use strict;
use warnings;

use File::Find;
use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = "$FindBin::RealBin/../..";
plan skip_all => 'the docs are not at hand' unless -d "$root/docs";

my %elsewhere = map { $_ => 1 } qw(README.md docs/operations.md);

# The pages that have SQL.
my @pages;
find({ no_chdir => 1, wanted => sub {
	$File::Find::prune = 1, return if -d && m{/(?:node_modules|drivers|tmp_check|\.git|target)$};
	push @pages, $_ =~ s{^\Q$root\E/}{}r if /\.md$/ && -f && slurp_file($_) =~ /^```sql/m;
} }, map { "$root/$_" } grep { -e "$root/$_" } qw(README.md docs examples clients monitoring bench));
@pages = sort @pages;

my $node;

# A page as pieces: [ kind, text, line ], where kind is sql, test or text.
sub pieces
{
	my ($page) = @_;
	my (@found, $kind, $text, $begin);
	my ($line, $needs) = (0, '');
	for (split /^/, $page)
	{
		$line++;
		if (!defined $kind)
		{
			$needs = $1 if /^<!-- needs (\w+) -->$/;
			($kind, $text, $begin) = (/^```(\w+)/ ? $1 : 'test', '', $line) if /^```\w|^<!-- test$/;
		}
		elsif (/^```$|^-->$/)
		{
			push @found, [ $kind, $text, $begin ] if $kind =~ /^(?:sql|test|text)$/ && has($needs);
			($kind, $needs) = (undef, '');
		}
		else { $text .= $_ }
	}
	return @found;
}

# Whether an extension is installed.
sub has
{
	my ($extension) = @_;
	return $extension eq '' || -e $node->config_data('--sharedir') . "/extension/$extension.control";
}

$node = new_node('docs', -start => 0, 'my_worker.database' => '*', 'max_worker_processes' => 24);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_cron, my_worker'\ncron.database_name = 'page'\n") if has('pg_cron');
$node->start;
my $file = PostgreSQL::Test::Utils::tempdir() . '/page.sql';
my $count = 0;

for my $page (grep { !$elsewhere{$_} } @pages)
{
	next if @ARGV && !grep { index($page, $_) >= 0 } @ARGV;
	my @pieces = pieces(slurp_file("$root/$page"));
	my $script = "\\pset footer off\nSET client_min_messages = warning;\nCREATE EXTENSION my_worker;\nRESET client_min_messages;\n";
	for my $i (0 .. $#pieces)
	{
		next if $pieces[$i][0] eq 'text';
		$script .= "\\echo ::: $i\n$pieces[$i][1]";
	}
	unlink $file;
	append_to_file($file, $script);
	$node->safe_psql('postgres', 'CREATE DATABASE page');
	my ($host, $port) = ($node->host, $node->port);
	my $said = '';
	my @command = ('timeout', '120', 'psql', '-Xq', '-h', $host, '-p', $port, '-d', 'page', '-v', 'ON_ERROR_STOP=1', '-f', $file);
	IPC::Run::run(\@command, '<', \undef, '>&', \$said);
	my $status = $?;
	my %answer;
	my $now = '';
	for (split /^/, $said)
	{
		if (/^::: (\d+)$/) { $now = $1; $answer{$now} = '' }
		elsif ($now ne '') { $answer{$now} .= s/[ \t]+$//r }
	}
	$count += grep { $_->[0] eq 'sql' } @pieces;
	my $last = $now eq '' ? '' : "the block at line $pieces[$now][2]:\n";
	is($status, 0, "$page runs") or diag($last, $now eq '' ? $said : $answer{$now});
	for my $i ($status == 0 ? 1 .. $#pieces : ())
	{
		my ($kind, $text, $line) = @{ $pieces[$i] };
		next unless $kind eq 'text' && $text =~ /^-+(?:\+-+)*$/m;
		my $j = $i - 1;
		$j-- while $j > 0 && $pieces[$j][0] ne 'sql';
		ok(agrees($text, $answer{$j}), "$page shows at line $line what is answered") or diag("answered was:\n$answer{$j}");
	}
	$node->safe_psql('postgres', 'DROP DATABASE page WITH (FORCE)');
	$node->safe_psql('postgres', qq{DROP ROLE "$_"})
	  for split /\n/, $node->safe_psql('postgres', q{SELECT rolname FROM pg_roles WHERE oid >= 16384});
}

# Whether what is shown, up to white space at the ends of lines, is a part of what was answered.
sub agrees
{
	my ($shown, $answer) = @_;
	my $pattern = join "\n", map { $_ eq '...' ? '(?s:.*)' : quotemeta } map { s/[ \t]+$//r } split /\n/, $shown;
	$pattern =~ s/\n\(\?s:\.\*\)/(?s:.*)/g;
	return $answer =~ /^$pattern$/m;
}

cmp_ok($count, '>', 20, 'the docs have blocks that run') unless @ARGV;
$node->stop;
done_testing();
