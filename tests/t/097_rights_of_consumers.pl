# What grant_consume() has given ends with the role, and with DROP OWNED BY: neither a later grant, nor a dump and a
# restore where another role has the number of the one that was dropped, gives it to anybody.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', 'my_worker.naptime' => 3600);
sub sql { return $node->safe_psql('postgres', join(' ', @_)) }
sql(q{CREATE ROLE con LOGIN; CREATE ROLE kept LOGIN; CREATE ROLE users;
	SELECT my_worker.create_queue('one'), my_worker.create_queue('two');
	SELECT my_worker.send('one', '"secret"'), my_worker.send('two', '"secret"');
	SELECT my_worker.grant_usage('users')});
my $received = sub { my ($role, $queue) = @_; return sql("SET ROLE $role; SELECT count(my_worker.release(id, lease)) FROM my_worker.receive('$queue', 5)") };
my $seen = sub { my ($role) = @_; return sql("SET ROLE $role; SELECT coalesce(string_agg(queue, ' ' ORDER BY queue), '-') FROM my_worker.jobs") };

sql(q{SELECT my_worker.grant_consume('one', 'con'), my_worker.grant_consume('one', 'kept'); GRANT users TO con});
is($received->('con', 'one'), '1', 'a role with the right receives');
is($seen->('con'), 'one', 'and sees');
like(query_error($node, 'DROP ROLE con'), qr/^2BP01/, 'it cannot be dropped before its rights are revoked');
sql('DROP OWNED BY con');
is($received->('con', 'one'), '0', 'after DROP OWNED BY it receives nothing, though it may call the function by another role');
is($seen->('con'), '-', 'and sees nothing');
sql(q{SELECT my_worker.grant_usage('con')});
is($received->('con', 'one'), '0', 'grant_usage() brings nothing back');
sql(q{SELECT my_worker.grant_consume('two', 'con')});
is($received->('con', 'one'), '0', 'nor does the right to another queue');
is($received->('con', 'two'), '1', 'which it has');
sql(q{SELECT my_worker.revoke_consume('two', 'con')});
is(sql(q{SELECT has_table_privilege('con', 'my_worker._consumers', 'REFERENCES')}), 'f', 'nothing is left of the right when it is revoked');
is(sql(q{SET ROLE con; SELECT my_worker.send('one') > 0}), 't', 'what grant_usage() gave is');
sql(q{SELECT my_worker.cancel(id) FROM my_queue WHERE owner = 'con'::regrole});

# A role of which a row is left when it is dropped.
sql(q{SELECT my_worker.grant_consume('one', 'con'), my_worker.grant_consume('two', 'con')});
my $oid = sql(q{SELECT 'con'::regrole::oid});
sql(q{DELETE FROM my_worker.history; DROP OWNED BY con; DROP ROLE con});
is(sql(q{SELECT count(*) FROM my_worker._consumers}), '3', 'the rows of a dropped role are there');
my $tempdir = PostgreSQL::Test::Utils::tempdir();
$node->command_ok([ 'pg_dump', '-f', "$tempdir/dump.sql", '-d', $node->connstr('postgres') ], 'pg_dump');
$node->command_ok([ 'pg_dumpall', '--globals-only', '--no-role-passwords', '-f', "$tempdir/globals.sql", '-d', $node->connstr('postgres') ],
	'pg_dumpall -g');
unlike(slurp_file("$tempdir/dump.sql"), qr/^one\t$oid$/m, 'which a dump leaves out');
like(slurp_file("$tempdir/dump.sql"), qr/^one\tkept$/m, 'but not those of others');

my $new = new_node('new', -extension => 0, 'my_worker.naptime' => 3600);
$new->psql('postgres', slurp_file("$tempdir/globals.sql"), on_error_stop => 0);
$new->safe_psql('postgres', "CREATE ROLE eve LOGIN; SET allow_system_table_mods = on; UPDATE pg_authid SET oid = $oid WHERE rolname = 'eve'");
my (undef, undef, $stderr) = $new->psql('postgres', slurp_file("$tempdir/dump.sql"), on_error_stop => 1);
is($stderr, '', 'the dump is restored');
$new->safe_psql('postgres', q{SELECT my_worker.adopt()});
is($new->safe_psql('postgres', q{SELECT my_worker.grant_usage('eve'); SET ROLE eve; SELECT count(my_worker.release(id, lease)) FROM my_worker.receive('one', 5)}),
	"\n0", 'a role that has the number of the dropped one has no right');
is($new->safe_psql('postgres', q{SET ROLE kept; SELECT count(my_worker.release(id, lease)) FROM my_worker.receive('one', 5)}), '1', 'a role that had it has it');

# In the same server, where numbers come again after four billion.
sql("CREATE ROLE eve LOGIN; SET allow_system_table_mods = on; UPDATE pg_authid SET oid = $oid WHERE rolname = 'eve'");
sql(q{SELECT my_worker.grant_usage('eve')});
is($received->('eve', 'one'), '0', 'nor has one in the same server');
sql(q{SELECT my_worker.grant_consume('two', 'eve')});
is($received->('eve', 'one'), '0', 'also when it is granted another queue');
sql(q{SELECT my_worker.revoke_consume('two', 'eve'), my_worker.revoke_usage('eve'); DROP ROLE eve});
is(sql(q{SELECT count(*) FROM my_worker._consumers}), '1', 'and the rows are gone by then');

done_testing();
