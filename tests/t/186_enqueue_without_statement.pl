# enqueue(), enqueue_many() and send() write a job and its index entries without a statement; where the owner of the
# extension has changed the table, a statement writes them, and all that he has made counts.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $libraries = `pg_config --pkglibdir`;
chomp $libraries;
-e "$libraries/$_.so" or plan skip_all => "this server came without $_" for qw(pg_stat_statements amcheck);

my $node = new_node('direct', 'my_worker.enabled' => 'off', 'shared_preload_libraries' => 'pg_stat_statements, my_worker',
	'pg_stat_statements.track' => 'all');
add_handlers($node);
$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_stat_statements;
	CREATE EXTENSION amcheck;
	CREATE ROLE alice LOGIN;
	SELECT my_worker.grant_usage('alice');
	SELECT my_worker.create_queue('bare');
});

sub statements
{
	return $node->safe_psql('postgres',
		q{SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query LIKE 'INSERT INTO my_worker._jobs %'});
}

sub enqueue { return $node->safe_psql('postgres', "SELECT my_worker.enqueue('work' $_[0])") }

# All kinds of jobs, as the superuser and as a role with usage.
my $all = q{
	SELECT my_worker.enqueue('work', jsonb_build_object('n', i), priority := i % 3) FROM generate_series(1, 200) AS i;
	SELECT my_worker.enqueue('work', run_at := now() + i * '1 min'::interval) FROM generate_series(1, 50) AS i;
	SELECT my_worker.enqueue('work', run_at := 'infinity');
	SELECT my_worker.enqueue('work', payload := NULL, priority := NULL, run_at := NULL);
	SELECT my_worker.enqueue('work', (SELECT jsonb_agg(md5(i::text)) FROM generate_series(1, 5000) AS i));
	SELECT my_worker.enqueue_many('work', ARRAY['1', NULL, '{"a": 2}']::jsonb[], run_at := now() + '1 h');
	SELECT my_worker.enqueue_many('work', ARRAY[['1', '2'], ['3', '4']]::jsonb[]);
	SELECT my_worker.enqueue_many('work', '{}');
	SELECT my_worker.send('bare', '{"to": "you"}', kind := 'mail', headers := '{"h": 1}');
	SELECT my_worker.send_many('bare', ARRAY['1', '2']::jsonb[]);
	BEGIN; SELECT my_worker.enqueue('work'); ROLLBACK;
	BEGIN; SAVEPOINT a; SELECT my_worker.enqueue('work'); ROLLBACK TO a; SELECT my_worker.enqueue('work'); COMMIT;
};
$node->safe_psql('postgres', "SET client_min_messages = warning; $_ $all") for '', 'SET ROLE alice;';
is(statements(), '0', 'no statement has inserted a job');
my $by_statement = q{
	SELECT my_worker.enqueue('work', unique_key := 'k');
	SELECT my_worker.enqueue('work', group_key := 'g');
	SELECT my_worker.enqueue('work', expires_at := now() + '1 h');
	SELECT my_worker.enqueue('work', after := ARRAY[my_worker.enqueue('work')]);
};
$node->safe_psql('postgres', "SET client_min_messages = warning; $_ $by_statement") for '', 'SET ROLE alice;';
is(statements(), '8', 'but those that take more than their own row');

sub check_indexes
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql('postgres', q{
		SELECT count(bt_index_check(c.oid, true)) FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
		JOIN pg_am AS a ON a.oid = c.relam WHERE i.indrelid = 'my_worker._jobs'::regclass AND a.amname = 'btree' AND i.indisvalid}),
		$node->safe_psql('postgres', q{SELECT count(*) FROM pg_index WHERE indrelid = 'my_worker._jobs'::regclass}), $name);
	return;
}
check_indexes('each index has an entry of each row that belongs into it');
is($node->safe_psql('postgres', q{SELECT count(*) || ' ' || count(DISTINCT id) || ' ' || count(*) FILTER (WHERE payload = '{}')
	FROM my_worker._jobs WHERE owner = 'alice'::regrole}),
	$node->safe_psql('postgres', q{SELECT count(*) || ' ' || count(DISTINCT id) || ' ' || count(*) FILTER (WHERE payload = '{}')
	FROM my_worker._jobs WHERE owner = 'postgres'::regrole}), 'a role enqueues as a superuser does');
is($node->safe_psql('postgres', q{SELECT count(*) FROM my_worker._jobs WHERE home IS DISTINCT FROM my_worker_internal.home()
	OR created_at IS NULL OR run_at IS NULL OR payload IS NULL OR priority IS NULL OR status <> ALL (ARRAY['pending', 'blocked'])}), '0', 'all columns are filled');

# A statement sees what was enqueued before it in its transaction, and in a function within it.
is($node->safe_psql('postgres', q{BEGIN; SELECT my_worker.enqueue('work', priority := 4711) > 0;
	SELECT count(*) FROM my_queue WHERE priority = 4711; ROLLBACK}), "t\n1", 'the next statement sees the job');

# What may not be.
like(query_error($node, q{BEGIN READ ONLY; SELECT my_worker.enqueue('work')}), qr/^25006: .*read-only transaction/, 'not in a transaction that may only read');
like(query_error($node, q{SELECT setval('my_worker._jobs_id_seq', 1); SELECT my_worker.enqueue('work')}), qr/^23505: .*"_jobs_pkey"/, 'not with an id that is taken');
$node->safe_psql('postgres', q{SELECT setval('my_worker._jobs_id_seq', (SELECT max(id) FROM my_worker._jobs))});
check_indexes('a refused row leaves nothing in an index');

# What the owner of the extension makes on the table.
my @changes = (
	[ 'an index', 'CREATE INDEX mine ON my_worker._jobs ((payload->>$$n$$))', 'DROP INDEX my_worker.mine', sub {
		$node->safe_psql('postgres', q{SET enable_seqscan = off; SELECT count(*) FROM my_worker._jobs WHERE payload->>'n' = '4711'}) }, '1' ],
	[ 'a column with a default', q{ALTER TABLE my_worker._jobs ADD COLUMN mine integer NOT NULL DEFAULT 7},
		'ALTER TABLE my_worker._jobs DROP COLUMN mine', sub {
		$node->safe_psql('postgres', q{SELECT mine FROM my_worker._jobs WHERE payload->>'n' = '4711'}) }, '7' ],
	[ 'a trigger', q{CREATE TABLE noted (id bigint); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN INSERT INTO public.noted VALUES (NEW.id); RETURN NULL; END';
		CREATE TRIGGER mine AFTER INSERT ON my_worker._jobs FOR EACH ROW EXECUTE FUNCTION note()},
		'DROP TRIGGER mine ON my_worker._jobs', sub { $node->safe_psql('postgres', 'SELECT count(*) FROM noted') }, '1' ],
	[ 'a rule', q{CREATE TABLE ruled (id bigint); CREATE RULE mine AS ON INSERT TO my_worker._jobs DO ALSO INSERT INTO public.ruled VALUES (1)},
		'DROP RULE mine ON my_worker._jobs', sub { $node->safe_psql('postgres', 'SELECT count(*) FROM ruled') }, '1' ]);
for (@changes)
{
	my ($what, $make, $drop, $look, $expected) = @$_;
	my $session = $node->background_psql('postgres');
	$session->query_safe(q{SELECT my_worker.enqueue('work')});
	$node->safe_psql('postgres', $make);
	my $before = statements();
	$session->query_safe(q{SELECT my_worker.enqueue('work', '{"n": 4711}')});
	cmp_ok(statements(), '>', $before, "$what has a session go by statements");
	is($look->(), $expected, "$what has seen the job");
	$session->quit;
	$node->safe_psql('postgres', "DELETE FROM my_queue WHERE payload->>'n' = '4711'; $drop");
}
$node->safe_psql('postgres', q{ALTER TABLE my_worker._jobs ADD CONSTRAINT mine CHECK (priority < 100) NOT VALID});
like(query_error($node, q{SELECT my_worker.enqueue('work', priority := 100)}), qr/^23514: .*"mine"/, 'a CHECK counts');
$node->safe_psql('postgres', q{ALTER TABLE my_worker._jobs DROP CONSTRAINT mine});
check_indexes('in the end, too');

# An index of ours that is gone keeps nobody from enqueueing.
$node->safe_psql('postgres', q{DROP INDEX my_worker._jobs_later_idx; SELECT my_worker.enqueue('work', run_at := now() + '1 h')});
check_indexes('nor does a dropped index');

$node->safe_psql('postgres', q{DELETE FROM my_queue WHERE queue = 'bare' OR status = 'blocked' OR run_at > now() OR payload @> '[]'});
$node->append_conf('postgresql.conf', 'my_worker.enabled = on');
$node->restart;
wait_for($node, q{SELECT count(*) FROM my_queue}, '0');
is($node->safe_psql('postgres', q{SELECT count(*) FROM my_worker.history WHERE status <> 'completed'}), '0', 'all of them run');

done_testing();
