# The history may get columns of its reader's: what is written of a job leaves them empty.

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

$node->safe_psql('postgres', q{ALTER TABLE my_worker.history ADD COLUMN note text, ADD COLUMN checked boolean DEFAULT true});
run_some('more');
drained($node);
is($node->safe_psql('postgres', q{
	SELECT count(*), count(note), count(checked) FROM my_worker.history WHERE status = 'completed' AND result #>> '{}' = 'more'}),
	'50|0|0', 'columns that were added are empty');

$node->safe_psql('postgres', q{ALTER TABLE my_worker.history DROP COLUMN note, DROP COLUMN checked});
run_some('fewer');
drained($node);
is($node->safe_psql('postgres', q{SELECT count(*) FROM my_worker.history WHERE result #>> '{}' = 'fewer'}), '50',
	'and may go again');

effects_are($node, 100, 'each job ran once');
is($node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $postmaster, 'the server has been up all along');

$node->stop;
done_testing();
