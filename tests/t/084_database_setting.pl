# my_worker.database: what cannot be meant is refused where it is set, and serves nothing at the start; a
# name that no database has is warned of at the start and when that changes; wait() does not hang where
# nobody runs the jobs.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', 'my_worker.database' => 'postgres, mybd, POSTGRES, template1', 'my_worker.naptime' => 1);

# Each is an error of ALTER SYSTEM, with what is wrong and what to do.
my %refused = (
	'' => 'empty', '   ' => 'empty', ',,' => 'empty name', 'a,' => 'empty name', ',a' => 'empty name', '""' => 'empty name',
	'a b' => 'white space or quotes', q{''mydb''} => 'white space or quotes', 'a"b"' => 'white space or quotes',
	'"a' => 'not closed', 'a, "b' => 'not closed', '"a"b' => 'more text beside it', '*, a' => 'beside other names',
	'x' x 64 => 'longer than 63 bytes');
for my $value (sort keys %refused)
{
	my $error = query_error($node, qq{ALTER SYSTEM SET "my_worker.database" = '$value'});
	like($error, qr/^22023: invalid value for parameter "my_worker.database".*$refused{$value}.*HINT: /s, "refused: [$value]");
}
for my $value ('mydb', 'a,b', ' a , "B c" ', '*', ' * ', '"*"', 'my-db', 'Later', 'x' x 63, '"say ""hi"""')
{
	is(query_error($node, qq{ALTER SYSTEM SET "my_worker.database" = '$value'}), '', "taken: [$value]");
}
$node->safe_psql('postgres', 'ALTER SYSTEM RESET "my_worker.database"');

# One WARNING at the start for all that is wrong.
wait_log($node, qr/WARNING:  "my_worker.database" names what cannot be served/);
my $detail = qr/DETAIL:  There is no database "mybd"\. There is no database "POSTGRES", but a database "postgres": capitals count\. Database "template1" is a template/;
wait_log($node, $detail);
like($node->safe_psql('postgres', q{SELECT ok, detail FROM my_worker.health() WHERE "check" = 'databases'}),
	qr/^f\|"POSTGRES" does not exist, "mybd" does not exist, "template1" is a template/, 'health() names them');
is($node->safe_psql('postgres', q{SELECT ok, detail FROM my_worker.health() WHERE "check" = 'served'}),
	q{t|yes: my_worker.database is 'postgres, mybd, POSTGRES, template1'}, 'and shows the setting');

# Again when that changes, and not otherwise.
my $start = log_end($node);
$node->safe_psql('postgres', 'CREATE DATABASE mybd');
wait_log($node, qr/DETAIL:  There is no database "POSTGRES"/, $start);
$start = log_end($node);
$node->safe_psql('postgres', 'ALTER DATABASE mybd ALLOW_CONNECTIONS false');
wait_log($node, qr/Database "mybd" is a template, or does not accept connections/, $start);
$start = log_end($node);
$node->safe_psql('postgres', 'CREATE TABLE changes_nothing (); CREATE DATABASE elsewhere');
$node->safe_psql('postgres', 'ALTER DATABASE mybd ALLOW_CONNECTIONS true');
wait_log($node, qr/DETAIL:  There is no database "POSTGRES"/, $start);
is(log_has($node, qr/names what cannot be served/, $start), 1, 'said once for each change');

# Where nobody runs the jobs, wait() says so at once; of what has ended it answers.
$node->safe_psql('elsewhere', 'CREATE EXTENSION my_worker');
add_handlers($node, 'elsewhere');
my $job = $node->safe_psql('elsewhere', q{SELECT my_worker.enqueue('work')});
for my $call ("my_worker.wait($job)", "my_worker.wait($job, '1 h')")
{
	like(query_error($node, "SELECT $call", 'elsewhere'),
		qr/^55000: cannot wait for job $job: jobs in database "elsewhere" will not run: it is not served\nHINT: /, $call);
}
my $held = $node->safe_psql('elsewhere', 'INSERT INTO my_queue DEFAULT VALUES RETURNING id');
is($node->safe_psql('elsewhere', "SELECT my_worker.wait($held, '10 ms') IS NULL"), 't', 'a job for a consumer is waited for');
$node->safe_psql('elsewhere', "SELECT launch_dynamic_worker($job)");
is($node->safe_psql('elsewhere', "SELECT my_worker.wait($job, '30 s')"), 'completed', 'so is one that was launched');
my $gone = $node->safe_psql('elsewhere', q{SELECT my_worker.enqueue('work')});
$node->safe_psql('elsewhere', "SELECT my_worker.cancel($gone)");
is($node->safe_psql('elsewhere', "SELECT my_worker.wait($gone)"), 'cancelled', 'and one that has ended');

# A value that cannot be meant, in the file: the server starts, and serves nothing, not the default.
$node->append_conf('postgresql.conf', q{my_worker.database = 'postgres, "oops'});
$start = log_end($node);
$node->restart;
wait_log($node, qr/WARNING:  invalid value for parameter "my_worker.database".*\n.*DETAIL:  A double quote is not closed/, $start);
wait_log($node, qr/WARNING:  no database is served: the value of "my_worker.database" was refused/, $start);
is($node->safe_psql('postgres', q{SELECT string_agg("check", ', ' ORDER BY "check") FROM my_worker.health()
	WHERE NOT ok AND "check" IN ('served', 'databases')}), 'databases, served', 'health() says so');
like($node->safe_psql('postgres', q{SELECT detail FROM my_worker.health() WHERE "check" = 'served'}),
	qr/^no: the value of my_worker.database was refused/, 'and does not show the default as what was given');
my ($status, $waits, $warning) = $node->psql('postgres', q{SELECT my_worker.run('SELECT 1')});
like($warning, qr/will not run: it is not served\nHINT:  Correct "my_worker.database", whose value was refused/, 'enqueueing tells what to do');
like($node->safe_psql('postgres', "SELECT my_worker.why($waits)"), qr/the value of my_worker.database was refused/, 'and so does why()');
is($node->safe_psql('postgres', q{SELECT count(*) FROM my_worker.workers WHERE kind = 'keeper'}), '0', 'nothing is served');

# The same where the names are of another encoding than ours: bytes are compared.
$node->append_conf('postgresql.conf', qq{my_worker.database = 'postgres, "l\xe4nder"'});
$node->restart;
$node->safe_psql('postgres', qq{CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0});
$node->safe_psql('latin', qq{SET client_encoding = 'LATIN1'; CREATE DATABASE "l\xe4nder" TEMPLATE latin});
wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'my_worker keeper'}, '1');
is($node->safe_psql('latin', qq{SET client_encoding = 'LATIN1'; SELECT count(*) FROM pg_database WHERE datname = 'l\xe4nder'}), '1',
	'a database with such a name is there');
$node->safe_psql('latin', qq{SET client_encoding = 'LATIN1';\n\\connect "l\xe4nder"\nCREATE EXTENSION my_worker});
wait_for($node, q{SELECT count(*) FROM my_worker.workers WHERE kind = 'keeper'}, '2');

$node->stop;
done_testing();
