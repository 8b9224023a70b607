# An INSERT into my_queue writes a job of the usual kind with two or three index entries, and without the executor's way through
# all indexes. Rows that belong into more of them, and tables that their owner has changed, go that way. Nothing else shows.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $libraries = `pg_config --pkglibdir`;
chomp $libraries;
my %has = map { $_ => -e "$libraries/$_.so" } qw(auto_explain amcheck);

my $node = new_node('rows', 'my_worker.enabled' => 'off');
add_handlers($node);
$node->safe_psql('postgres', q{
	CREATE ROLE alice LOGIN;
	SELECT my_worker.grant_usage('alice');
	SELECT my_worker.create_queue('held');
	CREATE SCHEMA mine;
	CREATE FUNCTION mine.locked(integer) RETURNS jsonb VOLATILE LANGUAGE sql AS $$
		SELECT to_jsonb(count(DISTINCT l.relation)) FROM pg_locks AS l JOIN pg_index AS i ON i.indexrelid = l.relation
		WHERE l.pid = pg_backend_pid() AND i.indrelid = 'my_worker._jobs'::regclass $$;
	GRANT USAGE ON SCHEMA mine TO alice});

$node->safe_psql('postgres', 'CREATE EXTENSION amcheck') if $has{amcheck};

sub sql { return $node->safe_psql('postgres', "SET client_min_messages = warning; $_[0]") }
sub indexes_of { return sql(q{SELECT count(*) FROM pg_index WHERE indrelid = 'my_worker._jobs'::regclass}) }

sub check_indexes
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	SKIP: {
	skip 'this server came without amcheck', 1 unless $has{amcheck};
	is(sql(q{SELECT count(bt_index_check(c.oid, true)) FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
		JOIN pg_am AS a ON a.oid = c.relam WHERE i.indrelid = 'my_worker._jobs'::regclass AND a.amname = 'btree' AND i.indisvalid}),
		indexes_of(), $name);
	}
	return;
}

# How many indexes are locked when the second row is on its way.
sub opened
{
	my ($role, $columns, $values) = @_;
	return sql(qq{SET ROLE $role; BEGIN; WITH made AS (INSERT INTO my_queue (handler, payload$columns)
		SELECT 'work', mine.locked(i)$values FROM generate_series(1, 2) AS i RETURNING id, payload)
		SELECT payload FROM made ORDER BY id DESC LIMIT 1; ROLLBACK});
}
is(opened($_, '', ''), '2', "$_ opens two indexes for jobs of the usual kind") for qw(postgres alice);
is(opened('alice', ', run_at', q{, now() + '1 h'}), '3', 'three for jobs that are due later');
is(opened('alice', ', unique_key', q{, i}), indexes_of() + 0, 'all for jobs that belong into others');

# Rows of all kinds in one statement.
my $kinds = q{SELECT 'work', to_jsonb(i), i % 3, CASE WHEN i % 2 = 0 THEN now() + i * '1 min'::interval ELSE now() END,
	CASE WHEN i % 5 = 0 THEN 'key ' || i END, CASE WHEN i % 7 = 0 THEN 'group' END, CASE WHEN i % 11 = 0 THEN now() + '1 day'::interval END
	FROM generate_series(1, 300) AS i};
my $columns = '(handler, payload, priority, run_at, unique_key, group_key, expires_at)';
for my $role (qw(postgres alice))
{
	sql(qq{SET ROLE $role; INSERT INTO my_queue $columns $kinds});
	sql(qq{SET ROLE $role; INSERT INTO my_queue DEFAULT VALUES; INSERT INTO my_queue (handler, run_at) VALUES ('work', 'infinity'), ('work', '-infinity')});
	sql(qq{SET ROLE $role; INSERT INTO my_queue (handler, unique_key) VALUES ('work', 'key 5'), ('work', 'new') ON CONFLICT DO NOTHING});
	sql(qq{SET ROLE $role; INSERT INTO my_queue (handler, payload) SELECT 'work', jsonb_agg(md5(i::text)) FROM generate_series(1, 5000) AS i});
	sql(qq{SET ROLE $role; DO \$\$ DECLARE job record; BEGIN
		FOR job IN INSERT INTO my_queue (handler) VALUES ('work'), ('work'), ('work') RETURNING id LOOP EXIT; END LOOP; END \$\$});
}
check_indexes('each index has an entry of each row that belongs into it');
is(sql(q{SELECT string_agg(count::text, ' ') FROM (SELECT count(*) FROM my_worker._jobs GROUP BY owner) AS c}), '308 308', 'each row is there once');
is(sql(q{SELECT count(*) FROM my_worker._jobs WHERE home IS DISTINCT FROM my_worker_internal.home() OR created_at IS NULL OR status <> 'pending'}),
	'0', 'with all its columns');
is(sql(q{BEGIN; INSERT INTO my_queue (handler, priority) VALUES ('work', 4711); SELECT count(*) FROM my_queue WHERE priority = 4711; ROLLBACK}), '1',
	'the next statement sees it');
is(sql(q{WITH made AS (INSERT INTO my_queue (handler, priority) VALUES ('work', 4712) RETURNING *)
	SELECT priority || ' ' || (SELECT count(*) FROM my_queue WHERE priority = 4712) || ' ' || status FROM made}), '4712 0 pending', 'its own statement does not, but by RETURNING');

# Rows that no trigger has looked at, of other states and of another home; and tables of others that have the name.
sql(q{SET session_replication_role = replica; INSERT INTO my_worker._jobs (handler, payload, priority, status, owner, home)
	SELECT 'public.work(bigint, jsonb)', '{}', 4715, (ARRAY['processing', 'failed', 'pending'])[i % 3 + 1], 'postgres',
	CASE WHEN i % 2 = 0 THEN 42 ELSE my_worker_internal.home() END FROM generate_series(1, 60) AS i});
check_indexes('rows past the trigger have their entries');
is(sql(q{SET enable_seqscan = off; SELECT count(*) FROM my_worker._jobs WHERE home = 42}), '30', 'also those of another home');
sql(q{DELETE FROM my_worker._jobs WHERE priority = 4715});
is(sql(q{CREATE TABLE mine._jobs (id bigint UNIQUE, even bool) PARTITION BY LIST (id); CREATE TABLE mine.all_jobs PARTITION OF mine._jobs DEFAULT;
	INSERT INTO mine._jobs VALUES (1), (2); CREATE TEMP TABLE _jobs (n integer UNIQUE CHECK (n > 0));
	WITH made AS (INSERT INTO _jobs VALUES (1), (2), (3) RETURNING n) INSERT INTO mine._jobs SELECT n + 10 FROM made;
	SET enable_seqscan = off; SELECT (SELECT count(*) FROM mine._jobs WHERE id > 0) || ' ' || (SELECT count(*) FROM _jobs WHERE n > 0)}), '5 3',
	'a table that has the name only is written as ever');

# One within the other: a default, or a function of the statement, inserts as well.
sql(q{CREATE FUNCTION mine.another() RETURNS jsonb LANGUAGE plpgsql AS $$ DECLARE made bigint; BEGIN
	INSERT INTO my_queue (handler, payload) VALUES ('work', '"inner"') RETURNING id INTO made; RETURN to_jsonb(made); END $$;
	INSERT INTO my_queue (handler, payload) SELECT 'work', mine.another() FROM generate_series(1, 20)});
is(sql(q{SELECT count(*) FROM my_queue AS outer_one JOIN my_queue AS i ON i.id = (outer_one.payload)::text::bigint
	WHERE jsonb_typeof(outer_one.payload) = 'number' AND i.payload = '"inner"'}), '20', 'an INSERT within an INSERT');
check_indexes('and both have their entries');

# Prepared, again and again, over a change of the table.
my $session = $node->background_psql('postgres');
$session->query_safe(q{PREPARE make (integer) AS INSERT INTO my_queue (handler, priority) VALUES ('work', $1)});
$session->query_safe(q{EXECUTE make(1000)}) for 1 .. 7;
sql(q{CREATE INDEX mine ON my_worker._jobs (priority)});
$session->query_safe(q{EXECUTE make(1001)}) for 1 .. 2;
is(sql(q{SET enable_seqscan = off; SELECT count(*) FROM my_worker._jobs WHERE priority = 1001}), '2', "an index of the owner's has the rows of a prepared statement");
is(opened('alice', '', ''), indexes_of() + 0, 'all indexes are opened then');
check_indexes('as do all others');
sql(q{DROP INDEX my_worker.mine});
$session->query_safe(q{EXECUTE make(1002)});
$session->quit;
is(opened('alice', '', ''), '2', 'two again without it');
sql(q{ALTER TABLE my_worker._jobs ADD CONSTRAINT mine CHECK (priority < 5000) NOT VALID});
like(query_error($node, q{INSERT INTO my_queue (handler, priority) VALUES ('work', 5000)}), qr/^23514: .*"mine"/, 'a CHECK counts');
sql(q{ALTER TABLE my_worker._jobs DROP CONSTRAINT mine});

# Errors are the executor's, with the names that drivers read.
my ($code, $stdout, $stderr) = $node->psql('postgres', qq{\\set VERBOSITY verbose
	INSERT INTO my_queue (id, handler) SELECT max(id), 'work' FROM my_worker._jobs});
like($stderr, qr/ERROR:  23505: .*"_jobs_pkey".*SCHEMA NAME:  my_worker.*TABLE NAME:  _jobs.*CONSTRAINT NAME:  _jobs_pkey/s, 'a taken id names its constraint');
($code, $stdout, $stderr) = $node->psql('postgres', qq{\\set VERBOSITY verbose
	INSERT INTO my_queue (handler, attempts) VALUES ('work', NULL)});
like($stderr, qr/ERROR:  23502: .*COLUMN NAME:  attempts/s, 'a missing value names its column');
like(query_error($node, q{SET ROLE alice; INSERT INTO my_queue (handler, owner) VALUES ('work', 'postgres')}), qr/^42501: /, "nobody enqueues in another's name");
like(query_error($node, q{BEGIN READ ONLY; INSERT INTO my_queue (handler) VALUES ('work')}), qr/^25006: /, 'nor in a transaction that may only read');
is(sql(q{BEGIN; SAVEPOINT a; INSERT INTO my_queue (handler, priority) VALUES ('work', 4713), ('work', 4713); ROLLBACK TO a;
	INSERT INTO my_queue (handler, priority) VALUES ('work', 4713); COMMIT; SELECT count(*) FROM my_queue WHERE priority = 4713}), '1', 'a savepoint takes it back');
check_indexes('what was refused or taken back leaves nothing wrong');

# Whoever looks at a plan sees the executor's.
my $explained = q{INSERT INTO my_queue (handler, priority) VALUES ('work', 4714)};
unlike(sql("EXPLAIN (ANALYZE) $explained"), qr/Foreign/, 'EXPLAIN ANALYZE tells of no foreign table');
unlike(sql("EXPLAIN (VERBOSE) $explained"), qr/Foreign/, 'nor does EXPLAIN');
SKIP: {
	skip 'this server came without auto_explain', 2 unless $has{auto_explain};
	my $offset = -s $node->logfile;
	sql("LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_analyze = $_; $explained") for qw(on off);
	my $log = slurp_file($node->logfile, $offset);
	like($log, qr/Insert on _jobs/, 'auto_explain shows the plan');
	unlike($log, qr/Foreign/, 'and tells of no foreign table');
}
sql($explained);
is(sql(q{SELECT count(*) FROM my_queue WHERE priority = 4714}), $has{auto_explain} ? '4' : '2', 'and each statement has made its row');

$node->safe_psql('postgres', q{DELETE FROM my_queue WHERE run_at > now() OR handler IS NULL OR jsonb_typeof(payload) <> 'object'});
$node->append_conf('postgresql.conf', 'my_worker.enabled = on');
$node->restart;
wait_for($node, q{SELECT count(*) FROM my_queue}, '0');
is(sql(q{SELECT count(*) FROM my_worker.history WHERE status <> 'completed'}), '0', 'all of them run');

done_testing();
