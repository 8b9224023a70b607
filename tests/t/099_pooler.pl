# Consumers behind pgbouncer, in each of its modes, as docs/consumers.md says.

use strict;
use warnings;

use File::Basename qw(dirname);
use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;

my ($pgbouncer) = grep { defined && -x } $ENV{PGBOUNCER}, '/usr/sbin/pgbouncer', '/usr/bin/pgbouncer';
plan skip_all => 'pgbouncer is not there: "make deps" gets it' unless $pgbouncer;

my $node = new_node('main', 'my_worker.naptime' => 3600);
sub sql { return $node->safe_psql('postgres', join(' ', @_)) }
sql(q{SELECT my_worker.create_queue('q', backoff => '10 ms'); CREATE TABLE effects (job bigint)});

# A pooler for each mode, on one socket: three databases of the same server, two connections each.
my $dir = PostgreSQL::Test::Utils::tempdir_short();
my $port = $node->port;
my $server = 'host=' . $node->host . " port=$port dbname=postgres user=postgres";
append_to_file("$dir/pgbouncer.ini", <<"END");
[databases]
session = $server pool_mode=session
transaction = $server pool_mode=transaction
statement = $server pool_mode=statement
[pgbouncer]
unix_socket_dir = $dir
listen_port = $port
auth_type = any
default_pool_size = 2
logfile = $dir/log
pidfile = $dir/pid
END
my $log = "$PostgreSQL::Test::Utils::log_path/pgbouncer.log";
# One that was only unpacked has its libraries beside it.
local $ENV{LD_LIBRARY_PATH} = join ':', glob(dirname($pgbouncer) . '/../lib/*-linux-gnu') if $ENV{PGBOUNCER};
my $pooler = IPC::Run::start([ $pgbouncer, "$dir/pgbouncer.ini" ], '<', '/dev/null', '>', $log, '2>&1');
END { local $?; $pooler->kill_kill if $pooler }
wait_until(sub { -S "$dir/.s.PGSQL.$port" }, 'the pooler');

# Runs a script in a connection of its own.
sub through
{
	my ($mode, $script) = @_;
	my ($stdout, $stderr) = ('', '');
	IPC::Run::run([ 'psql', '-XAtq', '-d', "host=$dir port=$port dbname=$mode user=postgres" ], '<', \$script, '>', \$stdout, '2>', \$stderr);
	chomp($stdout, $stderr);
	return $stdout . ($stderr =~ /(ERROR|FATAL).*/ ? $& : '');
}
# A connection of the pool that is taken, so that others get another one.
sub holder
{
	my ($mode) = @_;
	my $session = { in => "BEGIN;\nSELECT 'pid', pg_backend_pid();\n", out => '' };
	$session->{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', "host=$dir port=$port dbname=$mode user=postgres" ], '<', \$session->{in}, '>', \$session->{out}, '2>&1');
	$session->{run}->pump until $session->{out} =~ /^pid\|(\d+)$/m;
	return ($session, $1);
}
sub state_of { return sql("SELECT status, attempts FROM my_worker.jobs WHERE id = $_[0]") }

# Transaction mode, a lease for a time: received through one connection of the server, ended through another one.
my $job = sql(q{SELECT my_worker.send('q')});
my ($got, $lease, $first) = split /\|/, through('transaction', q{SELECT id, lease, pg_backend_pid() FROM my_worker.receive('q', lease => '1 min')});
is($got, $job, 'transaction mode: a lease for a time');
my ($holder, $held) = holder('transaction');
is($held, $first, 'the connection that received is taken');
is(through('transaction', "SELECT my_worker.extend($job, $lease, '2 min'), my_worker.progress($job, $lease, 50), pg_backend_pid() <> $first"), 't|t|t',
	'it is extended through another one');
is(through('transaction', "BEGIN; INSERT INTO effects VALUES ($job); SELECT my_worker.ack($job, $lease); COMMIT"), 't', 'and acknowledged with its work');
is(sql('SELECT count(*) FROM effects') . ' ' . (split /\|/, state_of($job))[0], '1 completed', 'both are there');
$holder->{in} .= "ROLLBACK;\n\\q\n";
$holder->{run}->finish;

# A client that waits is woken through the pooler.
my $waiter = { out => '' };
$waiter->{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', "host=$dir port=$port dbname=transaction user=postgres", '-c',
		q{SELECT id FROM my_worker.receive('q', wait => '5 s', lease => '1 min')} ], '<', '/dev/null', '>', \$waiter->{out}, '2>&1');
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'consumer' AND state = 'idle'}, '1');
$job = sql(q{SELECT my_worker.send('q')});
$waiter->{run}->finish;
is($waiter->{out}, "$job\n", 'a COMMIT wakes who waits behind it');

# Transaction mode, a lease of the session: it is the pooler's session, and outlives the client.
$job = sql(q{SELECT my_worker.send('q')});
($got, $lease) = split /\|/, through('transaction', q{SELECT id, lease FROM my_worker.receive('q')});
is($got, $job, 'transaction mode: a lease of the session');
is(state_of($job), 'processing|0', 'the client has gone, and the job stays out');
is(through('transaction', "SELECT my_worker.ack($job, $lease)"), 't', 'whoever has the lease ends it');

# Session mode: DISCARD ALL gives back.
$job = sql(q{SELECT my_worker.send('q')});
($got, $lease) = split /\|/, through('session', q{SELECT id, lease FROM my_worker.receive('q')});
is($got, $job, 'session mode: a lease of the session');
wait_for($node, "SELECT status || ' ' || attempts FROM my_worker.jobs WHERE id = $job", 'pending 1');
pass('a client that goes gives the job back, charged');
is(sql("SELECT last_error FROM my_worker.jobs WHERE id = $job"), q{the consumer's session was reset}, 'with an error that says so');
is(through('session', "SELECT my_worker.ack($job, $lease)"), 'f', 'and its lease ends nothing any more');
is(through('session', q{SELECT my_worker.ack(id, lease) FROM my_worker.receive('q', wait => '5 s')}), 't', 'one that acknowledges does not');

# Statement mode: each call by itself.
$job = sql(q{SELECT my_worker.send('q')});
($got, $lease) = split /\|/, through('statement', q{SELECT id, lease FROM my_worker.receive('q', lease => '1 min')});
is(through('statement', "SELECT my_worker.ack($job, $lease)"), 't', 'statement mode: a lease for a time');
like(through('statement', 'BEGIN'), qr/(ERROR|FATAL)/, 'and no transaction');

done_testing();
