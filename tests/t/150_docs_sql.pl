# Every block of SQL in the docs runs as it stands, from the top of its page to the end, in a database of its own. What a
# block needs beside the page, such as a handler that its reader has, stands in the page as a comment (MyWorkerDocs.pm).
#
# A block of text right behind a block of SQL that looks like an answer of psql must be what that block has answered.
#
# Some pages change the server itself, or have blocks for the shell: 083_install_as_written and 154_recipes run these. The README of an
# example that is a program is run by the program, examples/NAME/check.

use strict;
use warnings;

use File::Find;
use FindBin;
use lib $FindBin::RealBin;
use MyWorkerDocs;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = "$FindBin::RealBin/../..";
plan skip_all => 'the docs are not at hand' unless -d "$root/docs";

my %elsewhere = map { $_ => 1 } map { slurp_file($_) =~ /([\w\/-]+\.md)\b/g }
  grep { -e } map { "$FindBin::RealBin/$_.pl" } qw(083_install_as_written 154_recipes);

# The pages that have SQL.
my @pages;
find({ no_chdir => 1, wanted => sub {
	$File::Find::prune = 1, return if -d && m{/(?:node_modules|drivers|tmp_check|target)$};
	push @pages, $_ =~ s{^\Q$root\E/}{}r if /\.md$/ && -f && grep { $_->{kind} eq 'sql' } pieces(slurp_file($_));
} }, map { "$root/$_" } grep { -e "$root/$_" } qw(README.md docs examples clients monitoring bench web));

my $node = new_node('docs', -start => 0, 'my_worker.database' => '*', 'max_worker_processes' => 24);
my $has_cron = has('pg_cron');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_cron, my_worker'\ncron.database_name = 'page'\n") if $has_cron;
$node->start;

# Whether an extension is installed.
sub has
{
	my ($extension) = @_;
	return $extension eq '' || -e $node->config_data('--sharedir') . "/extension/$extension.control";
}

# Whether a page stands beside a program that runs it.
sub has_check
{
	my $check = "$root/" . $_[0] =~ s{[^/]*$}{check}r;
	return -x $check && slurp_file($check) =~ /README\.md/;
}

my $file = PostgreSQL::Test::Utils::tempdir() . '/page.sql';
my $count = 0;
for my $page (grep { !$elsewhere{$_} && !has_check($_) } sort @pages)
{
	my @pieces = grep { has($_->{needs}) } pieces(slurp_file("$root/$page"));
	my $script = "\\pset footer off\nSET client_min_messages = warning;\nCREATE EXTENSION my_worker;\nRESET client_min_messages;\n";
	for my $i (0 .. $#pieces)
	{
		$script .= "\\echo ::: $i\n$pieces[$i]{text}" if $pieces[$i]{kind} =~ /^(?:sql|test)$/;
	}
	unlink $file;
	append_to_file($file, $script);
	$node->safe_psql('postgres', 'CREATE DATABASE page');
	my ($status, $last, %answer) = run_page();
	$count += grep { $_->{kind} eq 'sql' } @pieces;
	is($status, 0, "$page runs")
	  or diag($last eq '' ? $answer{''} : "the block at line $pieces[$last]{line}:\n$answer{$last}");
	my $sql;
	for my $i ($status == 0 ? 0 .. $#pieces : ())
	{
		$sql = $i if $pieces[$i]{kind} eq 'sql';
		next unless defined $sql && is_answer($pieces[$i]);
		ok(agrees($pieces[$i]{text}, $answer{$sql}), "$page shows at line $pieces[$i]{line} what is answered")
		  or diag("answered was:\n$answer{$sql}");
	}
	$node->safe_psql('postgres', 'DROP DATABASE page WITH (FORCE)');
	$node->safe_psql('postgres', qq{DROP ROLE "$_"})
	  for split /\n/, $node->safe_psql('postgres', q{SELECT rolname FROM pg_roles WHERE oid >= 16384});
}
cmp_ok($count, '>', 60, 'the docs have blocks that run');
$node->stop;
done_testing();

# Runs the file; returns psql's status, the number of the last block that began, and what each has answered.
sub run_page
{
	my $said = '';
	IPC::Run::run([ 'timeout', '120', 'psql', '-Xq', '-h', $node->host, '-p', $node->port, '-d', 'page', '-v', 'ON_ERROR_STOP=1', '-f', $file ],
		'<', \undef, '>&', \$said);
	my $status = $?;
	my ($now, %answer) = ('');
	for (split /^/, $said)
	{
		if (/^::: (\d+)$/) { $now = $1; $answer{$now} = '' }
		else { $answer{$now} .= $_ }
	}
	return ($status, $now, %answer);
}
