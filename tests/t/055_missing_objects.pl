# A table or an index of ours that is missing or invalid, or a foreign key that was made while nobody
# refused it: health() says which, also where jobs cannot run for it, and why() says that they cannot.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('main', -preload => 0, -extension => 0, 'my_worker.naptime' => 1);
$node->safe_psql('postgres', 'CREATE EXTENSION my_worker');
add_handlers($node);
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub objects { return sql(q{SELECT ok, detail FROM my_worker.health() WHERE "check" = 'objects'}) }
is(objects(), 't|all there', 'all is there, also before the module is loaded');
sql('CREATE TABLE refers (job bigint REFERENCES my_worker._jobs, queue text REFERENCES my_worker.queues)');
$node->append_conf('postgresql.conf', q{shared_preload_libraries = 'my_worker'});
$node->restart;

is(objects(), 'f|foreign key refers_job_fkey of table public.refers refers to my_worker._jobs, and does not hold: drop it, '
	  . 'foreign key refers_queue_fkey of table public.refers refers to my_worker.queues, and does not hold: drop it', 'foreign keys show');
my $job = sql(q{SELECT my_worker.enqueue('work')});
is(sql("SELECT my_worker.wait($job, '30 s')"), 'completed', 'and stop no job');
sql('DROP TABLE refers');
is(objects(), 't|all there', 'nor health() when they are gone');

# Those that the engine scans stop everything, the others only slow down.
my $later = sql(q{SELECT my_worker.enqueue('work', run_at := now() + interval '1 h')});
my %stops = map { $_ => 1 } qw(_jobs_pkey _jobs_claim_idx queues_pkey _jobs_strangers_idx _schedules_strangers_idx _consumers_pkey _jobs_key_idx
	_jobs_key_order_idx);
my @indexes = split /\n/, sql(q{SELECT i.indexrelid::regclass FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid
	WHERE c.relnamespace = 'my_worker'::regnamespace ORDER BY 1});
is(scalar @indexes, 19, 'the indexes of five tables');
for my $index (@indexes)
{
	my ($name) = $index =~ /^my_worker\.(\w+)$/;
	my $begins = $stops{$name} ? 'no job runs: ' : '';
	for my $attack ([ 'missing', "ALTER INDEX $index RENAME TO other", 'ALTER INDEX my_worker.other RENAME TO ' . $name ],
		[ 'invalid', "UPDATE pg_index SET indisvalid = false WHERE indexrelid = '$index'::regclass",
			"UPDATE pg_index SET indisvalid = true WHERE indexrelid = '$index'::regclass" ])
	{
		my ($is, $break, $mend) = @$attack;
		# In one transaction, so that none of our processes ever meets it.
		my $said = sql(qq{BEGIN; $break; SELECT string_agg(detail, '') FILTER (WHERE "check" = 'objects'),
			count(*) FILTER (WHERE "check" = 'launcher'), my_worker.why($later) LIKE 'no job runs: %' FROM my_worker.health(); ROLLBACK});
		is($said, "${begins}index $index is $is|1|" . ($stops{$name} ? 't' : 'f'), "$index is $is");
	}
}
for my $table (qw(_jobs history queues _schedules))
{
	is(sql(qq{BEGIN; ALTER EXTENSION my_worker DROP TABLE my_worker.$table;
		SELECT ok, detail FROM my_worker.health() WHERE "check" = 'objects'; ROLLBACK}),
		"f|no job runs: table my_worker.$table is missing", "$table is not ours");
}

# As it is met: jobs wait until the index is back.
sql('DROP INDEX my_worker._jobs_claim_idx');
is(objects(), 'f|no job runs: index my_worker._jobs_claim_idx is missing', 'a dropped index shows');
like(query_error($node, q{SELECT my_worker.enqueue('work')}), qr/^55000: a table or an index/, 'an error sends the reader to it');
like(sql("SELECT my_worker.why($later)"), qr/^no job runs: .*see my_worker\.health\(\)$/, 'and so does why()');
sql('CREATE INDEX _jobs_claim_idx ON my_worker._jobs (owner, queue, priority, run_at, id)');
is(objects(), 't|all there', 'it is back');
$job = sql(q{SELECT my_worker.enqueue('work')});
is(sql("SELECT my_worker.wait($job, '30 s')"), 'completed', 'and jobs run again');
unlike(sql("SELECT my_worker.why($later)"), qr/^no job runs/, 'as why() says');

done_testing();
