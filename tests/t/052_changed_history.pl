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

effects_are($node, 200, 'each job ran once');
is($node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $postmaster, 'the server has been up all along');

$node->stop;
done_testing();
