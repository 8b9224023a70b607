# A newcomer types what README.md, docs/ten-minutes.md and docs/operations.md say, in order, on a fresh server that has the
# module's files and nothing else: every ```sql block by psql, every ```sh block by bash. Afterwards jobs
# run, and what ten-minutes shows as an answer was answered. The server lets people in as a stock Debian does: by its socket, as the role of their own name.
#
# Stand-ins for what a test cannot have: sudo runs what follows; make and apt-get do nothing, since the files are
# there (tests/setup.sh and tests/deb run these blocks); systemctl starts what is named; a Python environment has the
# drivers that `make deps` brings, and what it runs goes on behind the page. Paths in /etc, /run and /tmp, and the exporter's
# port, are exchanged.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use File::Path qw(make_path);
use MyWorkerDocs;
use MyWorkerTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = "$FindBin::RealBin/../..";
plan skip_all => 'README.md is not at hand' unless -e "$root/README.md";

# Blocks of a page in order; neighbours of one kind become one, as a session goes on. With the answers behind them.
sub blocks
{
	my @found;
	for my $piece (pieces($_[0]))
	{
		if ($piece->{kind} =~ /^(?:sql|sh)$/)
		{
			if (@found && $found[-1][0] eq $piece->{kind}) { $found[-1][1] .= $piece->{text} }
			else { push @found, [ $piece->{kind}, $piece->{text} ] }
		}
		elsif (@found && is_answer($piece)) { push @{ $found[-1] }, $piece->{text} }
	}
	return @found;
}

my $node = PostgreSQL::Test::Cluster->new('fresh');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', "max_worker_processes = 16\nshared_preload_libraries = 'pg_prewarm'\npg_prewarm.autoprewarm = off\n")
  if -e $node->config_data('--pkglibdir') . '/pg_prewarm.so';
my $user = getpwuid($>);
unlink $node->data_dir . '/pg_hba.conf';
$node->append_conf('pg_hba.conf', "local all all peer map=debian\n");
$node->append_conf('pg_ident.conf', "debian $user $user\ndebian $user prometheus\n");
$node->start;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $port = PostgreSQL::Test::Cluster::get_free_port();
my $drivers = -d "$root/clients/drivers/psycopg" ? "$root/clients/python:$root/clients/drivers" : '';
my ($python) = grep { -x } map { "$_/python3" } split /:/, $ENV{PATH};
my $exporter = $ENV{POSTGRES_EXPORTER} // '/usr/bin/prometheus-postgres-exporter';
make_path("$dir/bin", "$dir/etc/default");
stand_in('sudo', 'exec "$@"');
stand_in('make', ':');
stand_in('apt-get', ':');
stand_in('systemctl', "[ \"\$2\" = postgresql ] && { touch '$dir/restart'; exit; }",
	"set -a; . '$dir/etc/default/prometheus-postgres-exporter'; set +a",
	"'$exporter' \$ARGS --web.listen-address=127.0.0.1:$port --disable-default-metrics --disable-settings-metrics >'$dir/exporter.log' 2>&1 &",
	"echo \$! >'$dir/exporter.pid'");

stand_in('python3', "mkdir -p '$dir/jobs/bin'", "printf '#!/bin/sh\\n:\\n' >'$dir/jobs/bin/pip'",
	"printf '#!/bin/sh\\nexport PYTHONPATH=%s PYTHONDONTWRITEBYTECODE=1\\n%s \"\$\@\" >%s 2>&1 &\\necho \$! >%s\\n' '$drivers' '"
	  . ($python // '') . "' '$dir/consumer.log' '$dir/consumer.pid' >'$dir/jobs/bin/python'", "chmod 755 '$dir'/jobs/bin/*");

sub stand_in
{
	my ($name, @lines) = @_;
	append_to_file("$dir/bin/$name", join "\n", '#!/bin/sh', @lines, '');
	chmod 0755, "$dir/bin/$name";
	return;
}

my $first_failure = <<'SQL';
DO $$
BEGIN
	FOR n IN 1 .. 600 LOOP
		EXIT WHEN EXISTS (SELECT FROM my_queue WHERE queue = 'invoices' AND attempts = 1);
		PERFORM pg_sleep(0.1);
	END LOOP;
END
$$;
SQL

# Runs one block; returns what it printed, both streams.
sub type_in
{
	my ($kind, $text, $database) = @_;
	my $file = "$dir/block";
	unlink $file;
	my $host = $node->host;
	if ($kind eq 'sh')
	{
		$text =~ s{/etc/}{$dir/etc/}g;
		$text =~ s{/run/postgresql}{$host}g;
		$text =~ s{/tmp/jobs}{$dir/jobs}g;
		$text =~ s{localhost:9187}{127.0.0.1:$port};
	}
	# The reader's two seconds: until the first attempt has failed, however busy the machine is.
	$text =~ s/^SELECT pg_sleep\(2\);$/SELECT pg_sleep(2);\n$first_failure/m;
	append_to_file($file, $text);
	local $ENV{PATH} = "$dir/bin:$ENV{PATH}";
	local @ENV{qw(PGHOST PGPORT)} = ($host, $node->port);
	my @command = $kind eq 'sh' ? "cd '$root' && bash -e -o pipefail '$file'"
	  : "psql -X -P footer=off -v ON_ERROR_STOP=1 -d '$database' -f '$file'";
	my $output = `$command[0] 2>&1`;
	my $status = $?;
	if (unlink "$dir/restart") { $node->restart }
	return ($status, $output);
}

my $database = 'postgres';
my $restarts = 0;
for my $page (qw(README.md docs/ten-minutes.md docs/operations.md))
{
	my @blocks = blocks(slurp_file("$root/$page"));
	cmp_ok(scalar @blocks, '>', 2, "$page has blocks that are typed");
	for my $block (@blocks)
	{
		my ($kind, $text, @answers) = @$block;
		my ($first) = $text =~ /^(.*)/;
		if ($text =~ /^python3/m && !($python && $drivers))
		{
			note("$page: no Python with psycopg, the rest of the page is left out");
			last;
		}
	  SKIP:
		{
			skip 'no exporter, or no curl', 2
			  if $text =~ /exporter\.yaml/ && !(-x $exporter && grep { -x "$_/curl" } split /:/, $ENV{PATH});
			$restarts++ if $text =~ /restart postgresql/;
			my ($status, $output) = type_in($kind, $text, $database);
			is($status, 0, "$page: $first") or diag($output);
			unlike($output, qr/WARNING|FATAL/, 'without a warning') or diag($output);
			ok(agrees($_, $output), "$page shows what is answered: " . s/\n.*//sr) or diag($output) for @answers;
			like($output, qr/^my_worker_health_ok\{.*check="served".*\} 1$/m, 'the exporter shows our metrics')
			  if $text =~ /exporter\.yaml/;
		}
		$database = $1 if $text =~ /^\\connect (\w+)/m;
	}
}
is($restarts, 1, 'one restart is enough');
is($database, 'mydb', 'the extension is in the database that was named');
is($node->safe_psql('mydb', q{SELECT string_agg("check", ', ') FROM my_worker.health() WHERE NOT ok AND "check" <> 'failures'}),
	'', 'afterwards all is well');
my $preloaded = $node->safe_psql('mydb', 'SHOW shared_preload_libraries');
like($preloaded, qr/^(pg_prewarm, )?my_worker$/, 'other modules are kept');
for my $program (grep { -e "$dir/$_.pid" } qw(exporter consumer))
{
	chomp(my $pid = slurp_file("$dir/$program.pid"));
	kill 'TERM', $pid;
}
$node->stop;
done_testing();
