# What grant_usage() gives: with the extension in a schema of its own, where PUBLIC has nothing in public,
# after the schema was renamed; and to a role that was granted usage under 1.0, which needs no new
# grant. pg_dump carries the rights, also those that the update script gave.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', -extension => 0, 'my_worker.database' => 'own_schema, closed, updated, "renamed"');
$node->safe_psql('postgres', "CREATE DATABASE $_") for qw(own_schema closed updated renamed);
$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; CREATE ROLE other LOGIN; CREATE ROLE bystander LOGIN');

# Everything that a role with usage may do, as that role.
sub uses_everything
{
	my ($database, $schema, $name) = @_;
	my $script = qq{
		SET search_path = "$schema", pg_catalog;
		CREATE SCHEMA IF NOT EXISTS app_work;
		CREATE OR REPLACE FUNCTION app_work.f() RETURNS void LANGUAGE sql AS '';
		SELECT my_worker.enqueue('app_work.f') AS a \\gset
		INSERT INTO my_queue (handler) VALUES ('app_work.f') RETURNING id AS b \\gset
		SELECT my_worker.wait(:a, '8 s'), my_worker.wait(:b, '8 s');
		SELECT count(*) > 1 FROM my_worker.jobs;
		SELECT count(*) > 0 FROM my_worker.queue_stats;
		SELECT count(*) > 5 FROM my_worker.health();
		SELECT count(*) > 0 FROM my_worker.workers;
		SELECT items_processed > 0 FROM my_worker_status;
		SELECT my_worker.enqueue('app_work.f', run_at => 'infinity') AS c \\gset
		SELECT launch_dynamic_worker(:c) > 0;
		SELECT my_worker.wait(:c, '30 s');
		SELECT my_worker.schedule('s', '\@yearly', 'SELECT 1') > 0, my_worker.unschedule('s');
	};
	my ($status, $stdout, $stderr) = $node->psql($database, $script, extra_params => [ '-U', 'app' ], on_error_stop => 1);
	is($status, 0, $name) or diag($stderr);
	unlike($stdout, qr/^f/m, "$name: all of it");
	like($stdout, qr/^completed\|completed$/m, "$name: jobs run at once");
	return;
}

sub extension
{
	my ($database, $sql) = @_;
	$node->safe_psql($database, "$sql; GRANT CREATE ON DATABASE \"$database\" TO app");
	return;
}

extension('own_schema', q{CREATE SCHEMA jobs; CREATE EXTENSION my_worker SCHEMA jobs; SELECT my_worker.grant_usage('app')});
uses_everything('own_schema', 'jobs', 'in a schema of its own');
$node->safe_psql('own_schema', q{ALTER SCHEMA jobs RENAME TO "the jobs"});
$node->safe_psql('own_schema', q{SELECT my_worker.revoke_usage('app'), my_worker.grant_usage('app')});
uses_everything('own_schema', 'the jobs', 'after a rename');

extension('closed', q{REVOKE ALL ON SCHEMA public FROM PUBLIC; CREATE EXTENSION my_worker; SELECT my_worker.grant_usage('app')});
uses_everything('closed', 'public', 'where PUBLIC has no rights in public');
extension('renamed', q{CREATE EXTENSION my_worker; SELECT my_worker.grant_usage('app'); REVOKE ALL ON SCHEMA public FROM PUBLIC});
uses_everything('renamed', 'public', 'where PUBLIC lost them later');

# All is taken back: nothing that depends on the role is left.
$node->safe_psql($_, 'SELECT my_worker.revoke_usage(\'app\')') for qw(own_schema closed renamed);
for my $database (qw(own_schema closed renamed))
{
	is($node->safe_psql($database, q{
		SELECT count(*) FROM pg_shdepend AS d WHERE d.refobjid = 'app'::regrole AND d.deptype = 'a'
		   AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())}), '0', "$database: nothing is left of it");
}

# Usage of 1.0.
extension('updated', q{CREATE EXTENSION my_worker VERSION '1.0'; SELECT my_worker.grant_usage('app'); SELECT my_worker.grant_usage('other');
	GRANT USAGE ON SCHEMA my_worker TO bystander; GRANT EXECUTE ON FUNCTION my_worker.cancel(bigint) TO bystander;
	INSERT INTO my_worker._schedules (name, schedule, timezone, command, owner) VALUES ('west', '@daily', '+02', 'SELECT 1', 'app')});
$node->safe_psql('updated', 'ALTER EXTENSION my_worker UPDATE');
uses_everything('updated', 'public', 'usage that was granted under 1.0');
is($node->safe_psql('updated', q{SELECT has_function_privilege('bystander', 'my_worker.retry(bigint)', 'EXECUTE'),
	has_function_privilege('bystander', 'my_worker.health(interval)', 'EXECUTE')}), 'f|f', 'nobody gets more than he had');
is($node->safe_psql('updated', q{SELECT timezone FROM my_worker.schedules WHERE name = 'west'}), '<+02>+02', 'a stored zone keeps its meaning');
is($node->safe_psql('updated', q{SELECT to_char(due AT TIME ZONE 'UTC', 'HH24:MI') FROM my_worker.next_runs('@daily', 1, '<+02>+02') AS due}),
	'02:00', 'which was west');

my ($dump) = run_command([ 'pg_dump', '-s', '-d', $node->connstr('updated') ]);
for my $right ('ALL ON FUNCTION my_worker.cancel\(job_id bigint\)', 'ALL ON FUNCTION my_worker.health\(', 'SELECT ON TABLE my_worker.queue_stats',
	'SELECT ON TABLE my_worker.jobs', 'USAGE ON SCHEMA my_worker', 'USAGE ON SCHEMA public', 'ALL ON FUNCTION public.get_worker_stats\(')
{
	like($dump, qr/^GRANT $right.* TO $_;/m, "pg_dump carries the right of $_: $right") for qw(app other);
}
$node->safe_psql('updated', q{SELECT my_worker.revoke_usage('app')});
is($node->safe_psql('updated', q{
	SELECT count(*) FROM pg_shdepend AS d WHERE d.refobjid = 'app'::regrole AND d.deptype = 'a' AND d.classid <> 'pg_database'::regclass
	   AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())}), '0', 'and it is taken back whole');

$node->stop;
done_testing();
