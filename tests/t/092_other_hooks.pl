# Other libraries that listen to statements, loaded before my_worker or after it: they see what jobs run and what is
# done to our objects, they may refuse it, and all of it does what it does without them.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $libraries = `pg_config --pkglibdir`;
chomp $libraries;

# A COPY by a role that row-level security applies to.
my $COPY = "COPY my_queue (queue, handler, payload) FROM STDIN;\ndefault\twork\t{\"label\": \"copied\"}\n\\.\n";

# A server that loads these libraries in this order, with work done of each kind.
sub busy_node
{
	my ($name, $preload, %settings) = @_;
	my $node = new_node($name, shared_preload_libraries => $preload, 'my_worker.database' => 'postgres, other', %settings);
	add_handlers($node);
	$node->safe_psql('postgres', q{
		CREATE ROLE alice LOGIN;
		SELECT my_worker.grant_usage('alice');
		CREATE TABLE done (what text)});
	return $node;
}

sub work_of_each_kind
{
	my ($node, $order) = @_;
	$node->safe_psql('postgres', q{SELECT my_worker.run('INSERT INTO done VALUES (''command'')')});
	drained($node);
	is($node->safe_psql('postgres', 'SELECT what FROM done'), 'command', "$order: a command runs");
	$node->safe_psql('postgres', q{INSERT INTO my_queue (handler, payload) VALUES ('work', '{"label": "inserted"}')});
	my ($status, undef, $stderr) = $node->psql('postgres', "SET ROLE alice;\n$COPY");
	is("$status$stderr", '0', "$order: a role fills my_queue by COPY");
	$node->safe_psql('postgres', $COPY);
	drained($node);
	my $copy = $COPY;
	$node->safe_psql('postgres', "SET ROLE alice;\nBEGIN;\n${copy}SAVEPOINT s;\n${copy}ROLLBACK TO s;\n${copy}COMMIT;");
	drained($node);
	my $self = $node->safe_psql('postgres', 'SELECT current_user');
	is($node->safe_psql('postgres', 'SELECT label, role, count(*) FROM effects GROUP BY 1, 2 ORDER BY 1, 2'),
		"copied|alice|3\ncopied|$self|1\ninserted|$self|1", "$order: its jobs run as it");
	like(query_error($node, "SET ROLE alice;\nCOPY my_queue (queue, handler, owner) FROM STDIN;\n\\.\n"),
		qr/^42501: permission denied/, "$order: it may fill no column that it has no right to");
	like(query_error($node, "SET ROLE alice;\nBEGIN READ ONLY;\n$COPY"), qr/^25006: /,
		"$order: nor anything in a transaction that reads only");
	like(query_error($node, "SET ROLE alice;\nCOPY my_queue (queue, handler) FROM STDIN;\nnowhere\twork\n\\.\n"),
		qr/^42704: queue "nowhere" does not exist/, "$order: and what an INSERT is told, it is told");
	like(query_error($node, 'CREATE TABLE child (job bigint REFERENCES my_worker._jobs)'), qr/^0A000: /,
		"$order: DDL that we refuse is refused");
	$node->safe_psql('postgres', 'ALTER TABLE my_worker.history SET (fillfactor = 99)');
	$node->safe_psql('postgres', 'CREATE DATABASE other');
	$node->safe_psql('other', 'CREATE EXTENSION my_worker');
	$node->safe_psql('postgres', 'DROP DATABASE other');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_database WHERE datname = 'other'}), '0',
		"$order: DROP DATABASE finds the database empty");
	return;
}

# What is done above, and how often: as the libraries see statements.
my %DONE = (
	'what a command runs' => [ 'INSERT INTO done VALUES', 1 ],
	'what handlers run' => [ 'INSERT INTO effects', 5 ],
	'DDL on a table of ours' => [ 'ALTER TABLE my_worker\.history SET \(fillfactor = 99\)', 1 ],
	'DROP DATABASE' => [ 'DROP DATABASE other', 1 ]);

SKIP:
{
	skip 'this server came without pg_stat_statements', 1 unless -e "$libraries/pg_stat_statements.so";
	for my $preload ('pg_stat_statements, my_worker', 'my_worker, pg_stat_statements')
	{
		my $before = $preload !~ /^my/;
		my $node = busy_node($before ? 'counted_before' : 'counted_after', $preload,
			'pg_stat_statements.track' => 'all');
		$node->safe_psql('postgres', 'CREATE EXTENSION pg_stat_statements');
		work_of_each_kind($node, $preload);
		my $calls = sub {
			my ($text) = @_;
			return $node->safe_psql('postgres', qq{
				SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query ~ '^(EXPLAIN )?$text'});
		};
		is($calls->($DONE{$_}[0]), $DONE{$_}[1], "$preload: it counts $_") for sort keys %DONE;
		# One that the server would refuse is over for a library loaded before when it is refused.
		is($calls->('COPY my_queue'), $before ? 1 : 5, "$preload: it counts COPY");
	}
}

SKIP:
{
	skip 'this server came without pgaudit', 1 unless -e "$libraries/pgaudit.so";
	for my $preload ('pgaudit, my_worker', 'my_worker, pgaudit')
	{
		my $node = busy_node($preload =~ /^my/ ? 'audited_after' : 'audited_before', $preload,
			'pgaudit.log' => 'all');
		my $start = log_end($node);
		work_of_each_kind($node, $preload);
		my $audited = sub {
			my ($class, $text) = @_;
			return log_has($node, qr/AUDIT: SESSION,\d+,\d+,$class,[^\n]*,"?$text/, $start);
		};
		is($audited->('(?:WRITE|DDL)', $DONE{$_}[0]), $DONE{$_}[1], "$preload: it audits $_")
		  for grep { $_ ne 'DROP DATABASE' } sort keys %DONE;
		is($audited->('DDL', 'DROP DATABASE other'), 1, "$preload: it audits DROP DATABASE");
		# Also the one that was refused since its transaction reads only.
		is($audited->('WRITE,(?:COPY|INSERT)', 'COPY my_queue \(queue, handler, payload\)'), 6,
			"$preload: it audits each COPY once");
		is(log_has($node, qr/terminated by signal|pgaudit stack/, $start), 0, "$preload: and nothing breaks");
	}
}

done_testing();
