# Owners that cannot have a session: their jobs fail with an error that says so, and cost nobody else.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('roles', 'my_worker.naptime' => 1, 'my_worker.worker_idle_timeout' => 0);
add_handlers($node);

my @odd = ('UPPER', 'with space', q{quo"te}, q{apos'trophe}, 'back\\slash', "\x{c3}\x{bc}ml\x{c3}\x{a4}ut", 'x' x 63, '-1', 'select', '%s%n');
sub ident   { my ($name) = @_; $name =~ s/"/""/g; return qq{"$name"} }
sub literal { my ($name) = @_; $name =~ s/'/''/g; return "E'" . $name =~ s/\\/\\\\/gr . "'" }

for my $name (@odd)
{
	my $i = ident($name);
	$node->safe_psql('postgres', "CREATE ROLE $i LOGIN; SELECT my_worker.grant_usage(" . literal($i) . '::regrole)');
	$node->safe_psql('postgres', qq{SET ROLE $i; SELECT my_worker.enqueue('work', '{"label": "odd"}');
		INSERT INTO my_queue (handler, payload) VALUES ('work', '{"label": "odd"}')});
}
drained($node);
for my $name (@odd)
{
	is($node->safe_psql('postgres', 'SELECT count(*) FROM effects WHERE role = ' . literal($name)), '2', "jobs of role $name ran");
}

# Roles that lose what they need, with a job that waits and one that is due.
$node->safe_psql('postgres', q{
	REVOKE CONNECT ON DATABASE postgres FROM PUBLIC;
	CREATE ROLE good LOGIN; CREATE ROLE nologin LOGIN; CREATE ROLE noconnect LOGIN; CREATE ROLE dropped LOGIN;
	GRANT CONNECT ON DATABASE postgres TO good, nologin, noconnect, dropped;
	SELECT my_worker.grant_usage(r::regrole) FROM unnest('{good,nologin,noconnect,dropped}'::text[]) AS r;
	ALTER SYSTEM SET my_worker.enabled = off;
	SELECT pg_reload_conf();});
wait_for($node, 'SHOW my_worker.enabled', 'off');
my %job;
for my $role ('nologin', 'noconnect', 'dropped', 'good')
{
	$job{$role} = $node->safe_psql('postgres', "SET ROLE $role; SELECT my_worker.enqueue('work')");
}
$node->safe_psql('postgres', q{
	ALTER ROLE nologin NOLOGIN;
	REVOKE CONNECT ON DATABASE postgres FROM noconnect;
	DROP OWNED BY dropped; DROP ROLE dropped;
	ALTER SYSTEM SET my_worker.enabled = on;
	SELECT pg_reload_conf();});
is($node->safe_psql('postgres', "SELECT my_worker.wait($job{good}, '20 s')"), 'completed', 'the job of a good role runs');
my %says = (nologin => qr/not permitted to log in/, noconnect => qr/not permitted to connect|CONNECT/, dropped => qr/dropped/);
for my $role (sort keys %says)
{
	is($node->safe_psql('postgres', "SELECT my_worker.wait($job{$role}, '20 s')"), 'failed', "$role: the job failed");
	like($node->safe_psql('postgres', "SELECT last_error FROM my_worker.history WHERE id = $job{$role}"), $says{$role},
		"$role: its error says why");
	is($node->safe_psql('postgres', "SELECT errors->0->>'sqlstate' <> '', count(*) FROM my_worker.history WHERE id = $job{$role} GROUP BY 1"),
		't|1', "$role: with a SQLSTATE, once");
	ok(log_has($node, qr/LOG:  job $job{$role} \(queue "default", handler public\.work\(bigint, jsonb\)\) failed in attempt 1 with SQLSTATE/),
		"$role: and the log names it") if $role eq 'nologin';
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM my_queue'), '0', 'nothing is left over');

# Putting it right and trying again.
$node->safe_psql('postgres', 'ALTER ROLE nologin LOGIN; GRANT CONNECT ON DATABASE postgres TO noconnect');
for my $role ('nologin', 'noconnect')
{
	is($node->safe_psql('postgres', "SELECT my_worker.retry($job{$role})"), 't', "$role: retry() after it was put right");
	is($node->safe_psql('postgres', "SELECT my_worker.wait($job{$role}, '20 s')"), 'completed', "$role: runs");
}

# While a worker of the role is there.
my $held = $node->safe_psql('postgres', q{SET ROLE nologin; SELECT my_worker.enqueue('work', '{"gate": "n"}')});
job_pid($node, $held);
$node->safe_psql('postgres', 'ALTER ROLE nologin NOLOGIN');
my $next = $node->safe_psql('postgres', q{SET ROLE good; SELECT my_worker.enqueue('work', '{"label": "next"}')});
is($node->safe_psql('postgres', "SELECT my_worker.wait($next, '20 s')"), 'completed', 'others go on meanwhile');
open_gate($node, 'n');
is($node->safe_psql('postgres', "SELECT my_worker.wait($held, '20 s')"), 'completed', 'what runs may end');

# An idle worker that is there already takes no more of such a role's jobs.
$node->safe_psql('postgres', q{ALTER ROLE nologin LOGIN; ALTER SYSTEM SET my_worker.worker_idle_timeout = 3600; SELECT pg_reload_conf()});
wait_for($node, 'SHOW my_worker.worker_idle_timeout', '1h');
$next = $node->safe_psql('postgres', q{SET ROLE nologin; SELECT my_worker.enqueue('work')});
is($node->safe_psql('postgres', "SELECT my_worker.wait($next, '20 s')"), 'completed', 'a role with a worker that stays');
$node->safe_psql('postgres', 'ALTER ROLE nologin NOLOGIN');
$next = $node->safe_psql('postgres', q{SET ROLE nologin; SELECT my_worker.enqueue('work')});
is($node->safe_psql('postgres', "SELECT my_worker.wait($next, '20 s')"), 'failed', 'fails once it may not log in any more');

# A dynamic worker of such a role.
$node->safe_psql('postgres', q{ALTER SYSTEM SET my_worker.enabled = off; SELECT pg_reload_conf()});
$node->safe_psql('postgres', 'ALTER ROLE nologin LOGIN');
my $launch = $node->safe_psql('postgres', q{SET ROLE nologin; SELECT my_worker.enqueue('work')});
$node->safe_psql('postgres', 'ALTER ROLE nologin NOLOGIN');
like(query_error($node, "SELECT launch_dynamic_worker($launch)"), qr/^28000: role "nologin" is not permitted to log in/,
	'launching for a role that may not log in is an error that says so');
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'dynamic'}, '0');
pass('and leaves no process');

# superuser_jobs = off.
$node->safe_psql('postgres', q{ALTER SYSTEM SET my_worker.enabled = on; ALTER SYSTEM SET my_worker.superuser_jobs = off;
	ALTER SYSTEM SET my_worker.naptime = 3600});
$node->restart;
my $super = $node->safe_psql('postgres', q{SELECT my_worker.enqueue('work', '{"label": "super"}')}, on_error_stop => 0);
if ($super =~ /^\d+$/)
{
	is($node->safe_psql('postgres', "SELECT my_worker.wait($super, '20 s')"), 'failed', 'superuser_jobs = off: their jobs fail');
	like($node->safe_psql('postgres', "SELECT last_error FROM my_worker.history WHERE id = $super"), qr/superuser/, 'saying why');
}
is($node->safe_psql('postgres', q{SELECT count(*) FROM effects WHERE label = 'super'}), '0', 'and do not run');
$next = $node->safe_psql('postgres', q{SET ROLE good; SELECT my_worker.enqueue('work')});
is($node->safe_psql('postgres', "SELECT my_worker.wait($next, '20 s')"), 'completed', 'those of others do');
# In one transaction, for the keeper ends such a job as soon as it sees it.
like(query_error($node, q{BEGIN;
	SELECT my_worker.enqueue('work', '{"label": "super"}') AS id \gset
	SELECT launch_dynamic_worker(:id);}), qr/^42501: .*superuser/m, 'launching one is an error');
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'dynamic'}, '0');
is($node->safe_psql('postgres', q{SELECT count(*) FROM effects WHERE label = 'super'}), '0', 'launch_dynamic_worker() is no way around it');
is(log_has($node, qr/PANIC|terminated by signal|XX000/), 0, 'no crash, no internal error');

$node->stop;
done_testing();
