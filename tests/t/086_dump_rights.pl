# Who may dump jobs: rows of other owners are seen by superusers, and by readers of all data who bypass
# row-level security. Without that pg_dump stops, and does not leave rows out.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
$node->safe_psql('postgres', q{
	CREATE ROLE reader LOGIN IN ROLE pg_read_all_data;
	CREATE ROLE bypasser LOGIN BYPASSRLS IN ROLE pg_read_all_data;
	SELECT my_worker.run('SELECT 1', run_at => 'infinity');
	SELECT my_worker.schedule('yearly', '@yearly', 'SELECT 1');
	SELECT my_worker.cancel(my_worker.run('SELECT 2', run_at => 'infinity'))});

sub dump_as
{
	my ($role, @more) = @_;
	my ($stdout, $stderr) = run_command([ 'pg_dump', '-a', '-U', $role, @more, '-d', $node->connstr('postgres') ]);
	my $rows = () = $stdout =~ /SELECT [12]\b/g;
	return ($rows, $stderr);
}

my ($rows, $errors) = dump_as('reader');
like($errors, qr/affected by row-level security policy/, 'a reader of all data is told that rows would be missing');
($rows, $errors) = dump_as('bypasser');
is($errors, '', 'with BYPASSRLS there is no error');
is($rows, 3, 'and no row is missing');
($rows, $errors) = dump_as('reader', '--enable-row-security');
is($rows, 0, 'with --enable-row-security they are missing');

# A role that was dropped would be written as its number, which in another cluster is another role's: its jobs, their past
# and its schedules are not in a dump. A role whose name is a number is no such role.
$node->safe_psql('postgres', q{CREATE ROLE leaver; CREATE ROLE "4711";
	SELECT my_worker.grant_usage(r) FROM unnest(ARRAY['leaver', '"4711"']::regrole[]) AS r});
for my $role ('leaver', '"4711"')
{
	$node->safe_psql('postgres', qq{SET ROLE $role; SELECT my_worker.run('SELECT ' || n, run_at => 'infinity') FROM generate_series(1, 2) AS n;
		SELECT my_worker.cancel(my_worker.run('SELECT 1', run_at => 'infinity'));
		SELECT my_worker.schedule('of the role', '\@yearly', 'SELECT 2')});
}
$node->safe_psql('postgres', q{SELECT my_worker.revoke_usage('leaver'); DROP ROLE leaver});
is($node->safe_psql('postgres', q{SELECT count(*) FROM my_queue WHERE owner::text ~ '^\d'}), '2', 'the jobs are there');
($rows, $errors) = dump_as('postgres');
is($errors, '', 'a dump has no error');
is($rows, 3 + 4, 'and is without what a role left that was dropped');

$node->stop;
done_testing();
