# Launcher, keeper and worker keep the memory that they have after some jobs, whatever more of them run, fail or are commands.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

plan skip_all => 'no /proc to ask' unless -r '/proc/self/status';

my $node = new_node('memory', 'my_worker.naptime' => 1, 'my_worker.log_jobs' => 'none', 'my_worker.max_workers' => 1,
	'my_worker.worker_idle_timeout' => 3600, 'autovacuum' => 'off', 'fsync' => 'off', 'log_min_messages' => 'fatal');
add_handlers($node);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(q{CREATE FUNCTION noop(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
	CREATE FUNCTION fails(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'job % fails', id; END $$;
	SELECT my_worker.create_queue('plain', handler => 'noop', retention => '0');
	SELECT my_worker.create_queue('failing', handler => 'fails', max_attempts => 1);
	SELECT my_worker.schedule('tick', 'every 1 second', handler => 'noop')});

# So many of each, and what the processes have then, in kB, of their own.
sub memory_after
{
	my ($plain, $failing, $commands) = @_;
	sql(qq{INSERT INTO my_queue (queue) SELECT 'plain' FROM generate_series(1, $plain);
		INSERT INTO my_queue (queue) SELECT 'failing' FROM generate_series(1, $failing);
		SELECT count(my_worker.run('SELECT ' || i)) FROM generate_series(1, $commands) AS i});
	drained($node, 180);
	my %kb;
	for my $kind (qw(launcher keeper worker))
	{
		my ($pid) = worker_pids($node, $kind);
		open my $status, '<', "/proc/$pid/status" or die "no process $pid\n";
		($kb{$kind}) = map { /^RssAnon:\s+(\d+)/ ? $1 : () } <$status>;
		$kb{"$kind pid"} = $pid;
	}
	note("after $plain no-ops, $failing failures, $commands commands: "
		  . join ', ', map { "$_ $kb{$_} kB" } qw(launcher keeper worker));
	return \%kb;
}

memory_after(20_000, 500, 100);
my $before = memory_after(20_000, 500, 100);
my $after = memory_after(100_000, 4_000, 600);
for my $kind (qw(launcher keeper worker))
{
	is($after->{"$kind pid"}, $before->{"$kind pid"}, "the $kind is the same process");
	cmp_ok($after->{$kind} - $before->{$kind}, '<', 1024, "the $kind has grown by less than a megabyte");
}

$node->stop;
done_testing();
