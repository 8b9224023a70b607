# The history may get columns, defaults, triggers and indexes of its owner's: rows are written as by any INSERT.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('changed', 'my_worker.naptime' => 1, 'my_worker.log_jobs' => 'none');
add_handlers($node);
my $postmaster = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');

sub run_some
{
	my ($label) = @_;
	$node->safe_psql('postgres', qq{SELECT count(my_worker.enqueue('work', '{"label": "$label"}')) FROM generate_series(1, 50)});
	return;
}

# Appended rows are as of their transaction's first command.
my $appended = q{SELECT count(*), count(*) FILTER (WHERE cmin::text = '0') FROM my_worker.history WHERE result #>> '{}' = '%s'};
run_some('first');
drained($node);
is($node->safe_psql('postgres', sprintf($appended, 'first')), '50|50', 'rows are appended while it is as we made it');

$node->safe_psql('postgres', q{
	ALTER TABLE my_worker.history ADD COLUMN note text, ADD COLUMN checked boolean NOT NULL DEFAULT true,
		ADD COLUMN twice int GENERATED ALWAYS AS (attempts * 2) STORED, ADD COLUMN written timestamptz NOT NULL DEFAULT now();
	CREATE INDEX written ON my_worker.history USING brin (written)});
run_some('more');
drained($node);
is($node->safe_psql('postgres', q{
	SELECT count(*), count(note), count(*) FILTER (WHERE checked), sum(twice), count(written) FROM my_worker.history
	WHERE status = 'completed' AND result #>> '{}' = 'more'}), '50|0|50|100|50', 'columns that were added have their defaults');

$node->safe_psql('postgres', q{
	CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := 'by ' || current_user; RETURN NEW; END $$;
	CREATE TRIGGER tell BEFORE INSERT ON my_worker.history FOR EACH ROW EXECUTE FUNCTION tell();
	CREATE ROLE app LOGIN; SELECT my_worker.grant_usage('app')});
$node->safe_psql('postgres', q{SET SESSION AUTHORIZATION app;
	SELECT count(my_worker.enqueue('work', '{"label": "told"}')) FROM generate_series(1, 50)});
drained($node);
is($node->safe_psql('postgres', q{SELECT DISTINCT note FROM my_worker.history WHERE result #>> '{}' = 'told'}), 'by postgres',
	'triggers of the owner fire, as the owner');
$node->safe_psql('postgres', 'DROP TRIGGER tell ON my_worker.history');

$node->safe_psql('postgres', q{ALTER TABLE my_worker.history DROP COLUMN note, DROP COLUMN checked, DROP COLUMN twice, DROP COLUMN written});
run_some('fewer');
drained($node);
is($node->safe_psql('postgres', sprintf($appended, 'fewer')), '50|50', 'and may go again: rows are appended');

# Each index has the rows that belong into it, and no others.
my $jobs = 200;
SKIP:
{
	skip 'amcheck is not there', 1 if $node->safe_psql('postgres', q{SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'}) eq '0';
	$node->safe_psql('postgres', q{
		CREATE EXTENSION amcheck;
		CREATE INDEX ON my_worker.history (lower(queue), id);
		CREATE INDEX ON my_worker.history (result) WHERE status = 'completed';
		CREATE INDEX ON my_worker.history (id) WHERE status = 'failed';
		CREATE INDEX ON my_worker.history (id) WHERE schedule_id IS NOT NULL AND attempts > 0;
		CREATE FUNCTION fails(job jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'fails'; END $$;
		SELECT my_worker.schedule('rare', '0 0 1 1 *', 'SELECT 1');
		SELECT my_worker.schedule('handled', '0 0 1 1 *', handler => 'work', payload => '{"label": "scheduled"}');
		INSERT INTO my_queue (handler, payload, max_attempts) SELECT CASE WHEN i % 10 = 0 THEN 'fails' ELSE 'work' END, '{"label": "mixed"}', 1
			FROM generate_series(1, 100) AS i;
		SELECT my_worker.run_now(name) FROM unnest('{rare,handled}'::text[]) AS name, generate_series(1, 10)});
	drained($node);
	$jobs += 100;
	$node->safe_psql('postgres', q{SELECT bt_index_check(indexrelid, true) FROM pg_index JOIN pg_class ON oid = indexrelid
		JOIN pg_am ON pg_am.oid = relam WHERE indrelid = 'my_worker.history'::regclass AND amname = 'btree'});
	is($node->safe_psql('postgres', q{SET enable_seqscan = off; SELECT count(*) FILTER (WHERE status = 'failed'), (SELECT count(*) FROM my_worker.history
		WHERE schedule_id IS NOT NULL) FROM my_worker.history WHERE status = 'failed'}), '10|20', 'and all are found by them');
}

effects_are($node, $jobs, 'each job ran once');
is($node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $postmaster, 'the server has been up all along');

$node->stop;
done_testing();
