# Monitoring as people run it: postgres_exporter with our queries as a member of pg_monitor, and the
# dashboard's metrics, which are those of the queries.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IO::Socket::INET;
use JSON::PP;
use MyWorkerTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = "$FindBin::RealBin/../../monitoring";
plan skip_all => 'the directory monitoring/ is not at hand' unless -e "$dir/postgres_exporter.yaml";
my $yaml = slurp_file("$dir/postgres_exporter.yaml");

# Namespace and column make a metric's name. Labels are none.
my (%metric, $namespace);
for (split /\n/, $yaml)
{
	$namespace = $1 if /^(\w+):$/;
	$metric{"${namespace}_$1"} = 1 if /^    - (\w+): \{usage: "(?:GAUGE|COUNTER)"/;
}
cmp_ok(scalar keys %metric, '>', 15, 'the queries define metrics');

sub dashboard_metrics
{
	my $board = decode_json(slurp_file("$dir/grafana.json"));
	my %used;
	for my $panel (@{ $board->{panels} })
	{
		for my $target (@{ $panel->{targets} })
		{
			$used{$_} = 1 for $target->{expr} =~ /\b(my_worker_\w+)/g;
		}
	}
	return sort keys %used;
}
my @used = dashboard_metrics();
cmp_ok(scalar @used, '>', 10, 'the dashboard has metrics');
is(join(' ', grep { !$metric{$_} } @used), '', 'each of them is defined by the queries');

my $exporter = $ENV{POSTGRES_EXPORTER} // '/usr/bin/prometheus-postgres-exporter';
SKIP:
{
	skip 'prometheus-postgres-exporter is not there: "make deps" gets it', 6 unless -x $exporter;
	look_at_page();
}
done_testing();

# Starts the exporter as a member of pg_monitor that has no other right, and reads its page.
sub look_at_page
{
	my $node = new_node('monitoring');
	add_handlers($node);
	$node->safe_psql('postgres', q{CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
		SELECT my_worker.enqueue('work', '{"label": "secret"}');
		SELECT my_worker.enqueue('work', '{"fail": "secret"}', max_attempts => 1)});
	wait_for($node, q{SELECT completed, failed FROM my_worker.queue_stats WHERE queue = 'default'}, '1|1');

	my $port = PostgreSQL::Test::Cluster::get_free_port();
	local $ENV{DATA_SOURCE_NAME} =
	  'user=watcher dbname=postgres sslmode=disable host=' . $node->host . ' port=' . $node->port;
	my $log = "$PostgreSQL::Test::Utils::log_path/exporter.log";
	my $pid = fork() // die "cannot fork: $!\n";
	if ($pid == 0)
	{
		open STDOUT, '>', $log;
		open STDERR, '>&', \*STDOUT;
		exec $exporter, "--web.listen-address=127.0.0.1:$port",
		  "--extend.query-path=$dir/postgres_exporter.yaml", '--disable-default-metrics', '--disable-settings-metrics';
		exit 127;
	}
	my $text = '';
	eval { wait_until(sub { ($text = page($port)) =~ /^my_worker_queue_completed_total/m }, 'the exporter') };
	kill 'TERM', $pid;
	waitpid $pid, 0;
	like($text, qr/^my_worker_queue_completed_total\{[^}]*queue="default"[^}]*\} 1$/m, 'the exporter shows a completed job')
	  or diag($text, slurp_file($log));
	is(join(' ', grep { $text !~ /^$_\{/m } sort keys %metric), '', 'it shows every metric that the queries define');
	is(join(' ', grep { $text !~ /^$_\{/m } @used), '', 'so every metric of the dashboard');
	like($text, qr/^my_worker_health_ok\{check="launcher"[^}]*\} 1$/m, 'and the checks');
	unlike($text, qr/secret/, 'and no payload or error text');
	unlike(slurp_file($log), qr/level=error|permission denied/, 'pg_monitor is all that its role needs');
	$node->stop;
	return;
}

sub page
{
	my ($port) = @_;
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 5) or return '';
	print $socket "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n";
	local $/;
	return scalar(<$socket>) // '';
}
