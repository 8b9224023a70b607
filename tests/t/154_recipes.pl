# Each recipe of docs/recipes.md, as a reader would copy it: its ```sql blocks, in order, in one session of psql. A ```text block
# right behind one is an answer that must be among what was printed; any other is a picture. Blocks that begin with
# "-- through the pooler" go through a pgbouncer that has the page's ```ini; a ```python block runs beside those that follow.

use strict;
use warnings;

use File::Basename qw(dirname);
use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = "$FindBin::RealBin/../..";
plan skip_all => 'docs/recipes.md is not at hand' unless -e "$root/docs/recipes.md";
my $page = slurp_file("$root/docs/recipes.md");

my $node = new_node('main');
my ($pooler, $pooler_port, $python);
my $pooler_dir = dirname($node->host) . "/pooler.$$";
END { local $?; for ($pooler, $python) { $_->kill_kill if $_ } }

# The recipes: a title, and its blocks.
my (undef, @sections) = split /^## /m, $page;
cmp_ok(scalar @sections, '>=', 14, 'recipes');
my $blocks = 0;
for my $section (@sections)
{
	my ($title) = $section =~ /^(.*)$/m;
	my ($session, $seen, $after_sql) = ('', '', 0);
	my @answers;
	SKIP:
	{
		while ($section =~ /^```(\w+)\n(.*?)^```\n(\s*(?=```text))?/msg)
		{
			my ($kind, $text, $answered) = ($1, $2, defined $3);
			if ($kind eq 'sql')
			{
				$blocks++;
				if ($text =~ /^-- through the pooler/)
				{
					$seen .= run_psql($title, $session, $node->host, $node->port);
					$session = '';
					skip 'pgbouncer is not there: "make deps" gets it', 1 unless $pooler;
					$seen .= run_psql($title, $text, $pooler_dir, $pooler_port);
				}
				else { $session .= $text }
			}
			elsif ($kind eq 'text') { push @answers, $text if $after_sql }
			elsif ($kind eq 'ini') { start_pooler($text) }
			elsif ($kind eq 'python')
			{
				$seen .= run_psql($title, $session, $node->host, $node->port);
				$session = '';
				run_python($title, $text);
			}
			else { fail("$title: nobody runs a block of $kind") }
			$after_sql = ($kind eq 'sql' || $kind eq 'text' && $after_sql) && $answered;
		}
		$seen .= run_psql($title, $session, $node->host, $node->port);
		for my $answer (@answers)
		{
			my $at = index(tidy("\n$seen"), tidy("\n$answer"));
			ok($at >= 0, "$title: the answer that is shown") or diag("shown:\n$answer\nseen:\n$seen");
		}
	}
}
is($blocks, () = $page =~ /^```sql$/mg, 'all blocks were run');
$node->stop;
done_testing();

# Runs a script as a reader would; returns what it printed.
sub run_psql
{
	my ($title, $script, $host, $port) = @_;
	return '' if $script eq '';
	my ($stdout, $stderr) = ('', '');
	my $timer = IPC::Run::timeout(120);
	IPC::Run::run([ 'psql', '-Xq', '-P', 'footer=off', '-v', 'ON_ERROR_STOP=1', '-d', "host=$host port=$port dbname=" . ($port == $node->port ? 'postgres' : 'shop') . ' user=' . getpwuid($>) ],
		'<', \$script, '>', \$stdout, '2>', \$stderr, $timer);
	unlike($stderr, qr/(ERROR|WARNING)/, "$title: the statements") or diag($stdout);
	return "$stdout\n";
}

# Neither how wide columns are nor what stands at the end of lines matters.
sub tidy
{
	my ($text) = @_;
	$text =~ s/-{2,}/--/g;
	$text =~ s/ {2,}/ /g;
	$text =~ s/ +$//mg;
	return $text;
}

# The page's configuration, but with the paths, the port and the authentication of the test.
sub start_pooler
{
	my ($ini) = @_;
	my ($pgbouncer) = grep { defined && -x } $ENV{PGBOUNCER}, '/usr/sbin/pgbouncer', '/usr/bin/pgbouncer';
	return unless $pgbouncer;
	my $dir = $pooler_dir;
	mkdir $dir or die "$dir: $!";
	$pooler_port = PostgreSQL::Test::Cluster::get_free_port();
	my ($host, $port, $user) = ($node->host, $node->port, scalar getpwuid($>));
	$ini =~ s{host=/run/postgresql dbname=shop}{host=$host port=$port dbname=postgres user=$user};
	$ini =~ s{^listen_addr.*\n}{unix_socket_dir = $dir\n}m;
	$ini =~ s{^listen_port.*}{listen_port = $pooler_port}m;
	$ini =~ s{^auth_type.*}{auth_type = any}m;
	$ini =~ s{^auth_file.*}{logfile = $dir/log\npidfile = $dir/pid}m;
	append_to_file("$dir/pgbouncer.ini", $ini);
	# One that was only unpacked has its libraries beside it.
	local $ENV{LD_LIBRARY_PATH} = join ':', glob(dirname($pgbouncer) . '/../lib/*-linux-gnu') if $ENV{PGBOUNCER};
	$pooler = IPC::Run::start([ $pgbouncer, "$dir/pgbouncer.ini" ], '<', '/dev/null', '>', "$PostgreSQL::Test::Utils::log_path/pgbouncer.log", '2>&1');
	wait_until(sub { -S "$dir/.s.PGSQL.$pooler_port" }, 'the pooler');
	return;
}

# A consumer: runs until its queue is empty, and prints each message once, those of a key in order.
sub run_python
{
	my ($title, $text) = @_;
	local $ENV{PYTHONPATH} = "$root/clients/python:$root/clients/drivers";
	return if system('python3 -c "import psycopg" 2>/dev/null') != 0;
	my $dir = PostgreSQL::Test::Utils::tempdir();
	append_to_file("$dir/consumer.py", $text);
	local @ENV{qw(PGHOST PGPORT PGDATABASE)} = ($node->host, $node->port, 'postgres');
	my ($queue) = $text =~ /queues="(\w+)"/;
	my $out = '';
	$python = IPC::Run::start([ 'python3', "$dir/consumer.py" ], '<', '/dev/null', '>', \$out, '2>', "$PostgreSQL::Test::Utils::log_path/consumer.log");
	wait_for($node, "SELECT count(*) FROM my_queue WHERE queue = '$queue'", '0');
	$python->signal('TERM');
	$python->finish;
	undef $python;
	my %of_key;
	push @{ $of_key{$2} }, $1 while $out =~ /^(\S+) (\w+ \d+) /mg;
	is_deeply(\%of_key, { 'purchase 1' => [ 'purchase.placed', 'purchase.paid' ], 'purchase 2' => ['purchase.placed'] }, "$title: what was published");
	return;
}
