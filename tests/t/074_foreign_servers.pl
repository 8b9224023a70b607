# Handlers that work at another server by postgres_fdw: an interruption for the sake of other jobs is charged
# to nobody, whatever it fails with, and the work is done once.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('foreign', 'my_worker.naptime' => 1, max_connections => 50);
for my $extension (qw(postgres_fdw))
{
	next if $node->safe_psql('postgres', "SELECT count(*) FROM pg_available_extensions WHERE name = '$extension'");
	plan skip_all => "this server came without $extension";
}
add_handlers($node);
my ($host, $port) = ($node->host, $node->port);
$node->safe_psql('postgres', qq{
	CREATE EXTENSION postgres_fdw;
	CREATE SERVER loop FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$host', port '$port', dbname 'postgres');
	CREATE USER MAPPING FOR PUBLIC SERVER loop;
	CREATE TABLE far (job bigint, label text);
	-- Slow at the other side, in the middle of a statement.
	CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS \$\$
	BEGIN IF NEW.label = 'slow' THEN PERFORM pg_sleep(0.2); END IF; RETURN NEW; END \$\$;
	CREATE TRIGGER slowly BEFORE INSERT ON far FOR EACH ROW EXECUTE FUNCTION slowly();
	CREATE FOREIGN TABLE far_away (job bigint, label text) SERVER loop OPTIONS (table_name 'far');
	CREATE FUNCTION visit(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS \$\$
	BEGIN INSERT INTO far_away VALUES (id, p->>'label'); END \$\$;
	-- One that makes something else of an interruption.
	CREATE FUNCTION disguised(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS \$\$
	BEGIN
		INSERT INTO effects (job) VALUES (id);
		PERFORM pg_sleep(0.1);
	EXCEPTION WHEN query_canceled THEN RAISE connection_exception;
	END \$\$});

# Fast ones before each slow one, so that the slow one's neighbours wait for it.
$node->safe_psql('postgres', q{BEGIN;
	SELECT count(my_worker.enqueue('visit', '{"label": "fast"}', max_attempts => 1)) FROM generate_series(1, 5);
	SELECT count(my_worker.enqueue('visit', jsonb_build_object('label', CASE WHEN i % 4 = 0 THEN 'slow' ELSE 'fast' END), max_attempts => 1)) FROM generate_series(1, 40) AS i;
	COMMIT});
drained($node);
is($node->safe_psql('postgres', q{SELECT status, count(*), max(attempts) FROM my_worker.history WHERE handler = 'public.visit(bigint, jsonb)' GROUP BY 1}),
	'completed|45|1', 'no job fails');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT job) FROM far'), '45|45', 'and each has done its work once');

# A batch handler whose call fails there: the process ends, and the next one calls each job alone, which finds the bad one.
$node->safe_psql('postgres', q{TRUNCATE far;
	CREATE FUNCTION visit_all(ids bigint[], p jsonb[]) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO far_away SELECT i, x->>'label' FROM unnest(ids, p) AS t (i, x);
		PERFORM 1 / (x->>'label' <> 'bad')::integer FROM unnest(p) AS x;
	END $$;
	SELECT my_worker.create_queue('one', concurrency => 1);
	BEGIN;
	SELECT count(my_worker.enqueue('visit_all', jsonb_build_object('label', CASE i WHEN 7 THEN 'bad' ELSE 'fast' END), 'one', max_attempts => 1)) FROM generate_series(1, 20) AS i;
	COMMIT});
drained($node);
is($node->safe_psql('postgres', q{SELECT status, count(*), max(attempts) FROM my_worker.history WHERE handler ~ 'visit_all' AND payload->>'label' <> 'late' GROUP BY 1 ORDER BY 1}),
	"completed|19|1\nfailed|1|1", 'a batch with a bad job: it fails alone');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT job) FROM far'), '19|19', 'and the others have done their work once');

# The far side refuses at the COMMIT of several jobs: each is run alone, in processes that end.
$node->safe_psql('postgres', q{TRUNCATE far;
	CREATE FUNCTION too_late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.label = 'late' THEN RAISE 'refused'; END IF; RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER too_late AFTER INSERT ON far DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION too_late();
	BEGIN;
	SELECT count(my_worker.enqueue('visit_all', jsonb_build_object('label', CASE i WHEN 3 THEN 'late' ELSE 'fast' END), 'one', max_attempts => 1)) FROM generate_series(1, 8) AS i;
	COMMIT});
drained($node);
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT job) FROM far'), '7|7', 'refused at COMMIT: the others have done their work once');
$node->safe_psql('postgres', 'DROP TRIGGER too_late ON far');

# The same where the library was there from the start, so that batches hold several.
$node->append_conf('postgresql.conf', q{shared_preload_libraries = 'my_worker,postgres_fdw'});
$node->restart;
$node->safe_psql('postgres', q{TRUNCATE far; BEGIN;
	SELECT count(my_worker.enqueue('visit', '{"label": "fast"}', max_attempts => 1)) FROM generate_series(1, 20);
	SELECT count(my_worker.enqueue('visit', jsonb_build_object('label', CASE WHEN i % 10 = 0 THEN 'slow' ELSE 'fast' END), max_attempts => 1)) FROM generate_series(1, 60) AS i;
	COMMIT});
drained($node);
is($node->safe_psql('postgres', q{SELECT count(*) FROM my_worker.history WHERE handler = 'public.visit(bigint, jsonb)' AND status = 'failed'}), '0', 'preloaded: no job fails');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT job) FROM far'), '80|80', 'and each has done its work once');

$node->safe_psql('postgres', q{BEGIN; SELECT count(my_worker.enqueue('work', '{}', max_attempts => 1)) FROM generate_series(1, 200);
	SELECT count(my_worker.enqueue(CASE WHEN i % 10 = 0 THEN 'disguised' ELSE 'work' END, '{}', max_attempts => 1)) FROM generate_series(1, 50) AS i; COMMIT});
drained($node);
is($node->safe_psql('postgres', q{SELECT count(*) FROM my_worker.history WHERE status = 'failed' AND queue = 'default'}), '0', 'an interruption that shows as another error is not charged');
effects_are($node, 250, 'each job has left its effect once');

# A worker loads what a session of its role would.
$node->safe_psql('postgres', q{CREATE ROLE watched LOGIN; SELECT my_worker.grant_usage('watched');
	ALTER ROLE watched SET session_preload_libraries = 'auto_explain';
	CREATE TABLE loaded (name text); GRANT INSERT ON loaded TO watched;
	CREATE FUNCTION note_loaded() RETURNS void LANGUAGE sql AS $$ INSERT INTO loaded SELECT name FROM pg_settings WHERE name = 'auto_explain.log_min_duration' $$});
$node->safe_psql('postgres', q{SET ROLE watched; SELECT my_worker.enqueue('note_loaded')});
drained($node);
is($node->safe_psql('postgres', 'SELECT count(*) FROM loaded'), '1', 'a worker loads session_preload_libraries');

$node->stop;
done_testing();
