# The owner of a database owns its schema public, and may rename it, drop plain indexes in it and put
# look-alikes of our objects there. Nothing of ours goes by a name in that schema: not the keeper, not
# workers, not sessions of others that enqueue. And statements that lock a table before they look
# whether their author may are refused at once, so that nobody stalls others by them.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('main', -extension => 0, 'my_worker.database' => 'shop', 'my_worker.naptime' => 1);
$node->safe_psql('postgres', 'CREATE ROLE mallory LOGIN; CREATE ROLE alice LOGIN; CREATE DATABASE shop OWNER mallory');
$node->safe_psql('shop', q{
	CREATE EXTENSION my_worker;
	CREATE TABLE public.loot (who text DEFAULT current_user, session text DEFAULT session_user);
	CREATE INDEX loot_idx ON public.loot (who);
	ALTER TABLE public.loot OWNER TO mallory;
	GRANT INSERT ON public.loot TO PUBLIC;
	CREATE SCHEMA app;
	GRANT USAGE ON SCHEMA app TO PUBLIC;
	CREATE FUNCTION app.work(jsonb) RETURNS text LANGUAGE sql AS $$ SELECT current_user::text $$;
	CREATE FUNCTION app.waits(jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		WHILE NOT EXISTS (SELECT FROM app.gate) LOOP
			PERFORM pg_sleep(0.01);
		END LOOP;
	END $$;
	CREATE TABLE app.gate (name text);
	GRANT SELECT ON app.gate TO PUBLIC;
	SELECT my_worker.grant_usage('alice'), my_worker.grant_usage('mallory')});
is($node->safe_psql('shop', q{SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'public'}),
	'pg_database_owner', 'the database owner owns the schema public');

sub as
{
	my ($role, $sql) = @_;
	return $node->safe_psql('shop', $sql, extra_params => [ '-U', $role ]);
}

# What evil() is called as shows in `loot`.
as('mallory', q{
	CREATE FUNCTION public.evil() RETURNS bigint LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.loot DEFAULT VALUES;
		RETURN 1;
	EXCEPTION WHEN undefined_table THEN
		INSERT INTO old.loot DEFAULT VALUES;
		RETURN 1;
	END $$});

my $swap = q{
	BEGIN;
	ALTER SCHEMA public RENAME TO old;
	CREATE SCHEMA public;
	GRANT ALL ON SCHEMA public TO PUBLIC;
	CREATE VIEW public.my_queue AS
		SELECT old.evil() AS id, 'default'::text AS queue, 'processing'::text AS status, NULL::text AS handler, 'SELECT old.evil()'::text AS command,
			'{}'::jsonb AS payload, 0 AS priority, now() AS run_at, now() AS created_at, now() AS started_at, 0 AS attempts,
			1 AS max_attempts, NULL::interval AS timeout, NULL::text AS unique_key, 'postgres'::text::regrole AS owner,
			NULL::text AS last_error, NULL::jsonb AS errors;
	GRANT ALL ON public.my_queue TO PUBLIC;
	CREATE TABLE public._jobs (id bigint DEFAULT old.evil());
	CREATE INDEX my_queue_claim_idx ON public._jobs (id);
	CREATE INDEX my_queue_processing_idx ON public._jobs ((old.evil()));
	COMMIT};
$swap =~ s/\n\tCREATE INDEX my_queue_processing_idx[^\n]*//;
my $swap_back = q{
	BEGIN;
	DROP SCHEMA public CASCADE;
	ALTER SCHEMA old RENAME TO public;
	COMMIT};

# A session of everybody's that has used the queue before, and jobs of all kinds meanwhile.
my $session = $node->background_psql('shop', extra_params => [ '-U', 'alice' ]);
$session->query_safe(q{SELECT my_worker.enqueue('app.work')});
as('mallory', $swap);
my $job = $session->query_safe(q{SELECT my_worker.enqueue('app.work')});
is($session->query_safe("SELECT my_worker.wait($job, '30 s')"), 'completed', 'sessions enqueue as before');
$job = $session->query_safe(q{SELECT my_worker.run('SELECT 1')});
is($session->query_safe("SELECT my_worker.wait($job, '30 s')"), 'completed', 'commands run');
my $supers = $node->safe_psql('shop', q{SELECT my_worker.run('SELECT 1')});
is($node->safe_psql('shop', "SELECT my_worker.wait($supers, '30 s')"), 'completed', 'a superuser is not deceived');
my $later = as('alice', q{SELECT my_worker.enqueue('app.work', run_at := clock_timestamp() + '500 ms')});
is(as('alice', "SELECT my_worker.wait($later, '30 s')"), 'completed', 'the keeper looks as before');
is($node->safe_psql('shop', q{SELECT count(*) FROM my_worker.health() WHERE "check" = 'launcher' AND ok}), 1, 'health() answers');
$node->safe_psql('shop', "SELECT my_worker.why($later), my_worker.cancel($later), my_worker.retry($later)");
is($node->safe_psql('shop', 'SELECT count(*) FROM old.loot'), '0', 'and nobody has run evil()');
as('mallory', $swap_back);
is($node->safe_psql('shop', "SELECT count(*) FROM my_queue"), '0', 'the view is back with its schema');

# In a loop, so that every statement of ours meets each state of it.
my $loop = join ";\n", map { ($swap =~ s/^\s*BEGIN;/BEGIN;/r, $swap_back) } 1 .. 25;
my $attack = $node->background_psql('shop', extra_params => [ '-U', 'mallory' ]);
$attack->query_until(qr/begun/, "\\echo begun\n$loop;\n\\echo ended\n");
for my $round (1 .. 25)
{
	$session->query_safe(q{SELECT my_worker.run('SELECT 1'), my_worker.enqueue('app.work'), my_worker.cancel(my_worker.enqueue('app.work', run_at := 'infinity'))});
	$node->safe_psql('shop', q{SELECT my_worker.enqueue('app.work'), my_worker.run('SELECT 1', run_at := clock_timestamp() + '20 ms')});
}
$attack->query_until(qr/done/, "\\echo done\n");
$attack->quit;
wait_for($node, 'SELECT count(*) FROM my_worker._jobs', '0', undef, 'shop');
is($node->safe_psql('shop', q{SELECT count(*) FROM public.loot}), '0', 'round after round nobody ran evil() either');
is($node->safe_psql('shop', q{SELECT status, count(*) FROM my_worker.history GROUP BY 1 ORDER BY 1}) =~ /failed/ ? 'failed' : '', '',
	'and no job failed');

# Plain indexes of a schema are its owner's to drop.
like(query_error($node, 'DROP INDEX my_worker._jobs_claim_idx', 'shop'), qr/^$/, 'a superuser may drop an index');
like(query_error($node, q{SELECT my_worker.enqueue('app.work')}, 'shop'), qr/^55000: a table or an index of extension "my_worker" is missing/,
	'then nothing goes wrong: everything says what is missing');
$node->safe_psql('shop', 'CREATE INDEX _jobs_claim_idx ON my_worker._jobs (owner, queue, priority, run_at, id)');
$job = $node->safe_psql('shop', q{SELECT my_worker.enqueue('app.work')});
is($node->safe_psql('shop', "SELECT my_worker.wait($job, '30 s')"), 'completed', 'and goes on when it is back');

# Statements that lock first: a job holds a lock on our tables meanwhile.
my $long = $session->query_safe(q{SELECT my_worker.enqueue('app.waits')});
job_pid($node, $long, 'shop');
# With all rights that can be granted, and whatever way a statement has to name a relation.
$node->safe_psql('shop', 'GRANT ALL ON ALL TABLES IN SCHEMA my_worker, public TO mallory');
as('mallory', join ';', 'CREATE VIEW public.reads_0 AS SELECT * FROM my_worker._jobs',
	(map { "CREATE VIEW public.reads_$_ AS SELECT * FROM public.reads_" . ($_ - 1) } 1 .. 12),
	'CREATE VIEW public.reads_within AS SELECT * FROM (SELECT * FROM my_worker.history OFFSET 0) AS h',
	'CREATE VIEW public.reads_if AS SELECT 1 AS one WHERE EXISTS (SELECT FROM my_worker._jobs)',
	'CREATE VIEW public.reads_with AS WITH q AS (SELECT * FROM my_worker.queues) SELECT * FROM q');
my @statements = (
	(map { "BEGIN; LOCK TABLE public.reads_$_; ROLLBACK" } qw(0 12 within if with)),
	'BEGIN; LOCK TABLE shop.my_worker._jobs; ROLLBACK',
	'CREATE TRIGGER t BEFORE INSERT ON shop.my_worker._jobs FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()',
	'CREATE RULE r AS ON INSERT TO shop.my_worker._jobs DO INSTEAD NOTHING', 'CREATE TABLE public.r (j bigint REFERENCES shop.my_worker._jobs)',
	'ALTER TABLE public.loot ADD COLUMN j bigint REFERENCES shop.my_worker._jobs',
	q{CREATE TABLE public.c PARTITION OF my_worker._jobs FOR VALUES IN ('x')},
	q{CREATE FOREIGN TABLE public.f PARTITION OF my_worker._jobs FOR VALUES IN ('x') SERVER s},
	'CREATE FOREIGN TABLE public.f () INHERITS (my_worker._jobs) SERVER s',
	'ALTER FUNCTION public.evil() DEPENDS ON EXTENSION my_worker', 'ALTER ROUTINE public.evil() NO DEPENDS ON EXTENSION my_worker',
	q{CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION pg_temp.f() DEPENDS ON EXTENSION my_worker},
	'ALTER INDEX public.loot_idx DEPENDS ON EXTENSION my_worker',
	'DROP EXTENSION my_worker', 'DROP EXTENSION IF EXISTS my_worker CASCADE', 'LOCK TABLE my_worker._jobs', 'LOCK TABLE public.my_queue',
	'CREATE TRIGGER t BEFORE INSERT ON my_worker._jobs FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()',
	'CREATE RULE r AS ON INSERT TO my_worker._jobs DO INSTEAD NOTHING', 'CREATE STATISTICS public.s ON queue, owner FROM my_worker._jobs',
	'CREATE TABLE public.c () INHERITS (my_worker._jobs)', 'CREATE TABLE public.r (j bigint REFERENCES my_worker._jobs)',
	'ALTER TABLE public.loot ADD COLUMN j bigint REFERENCES my_worker._jobs', 'ALTER TABLE public.loot INHERIT my_worker._jobs',
	'CREATE PUBLICATION p FOR TABLE my_worker._jobs', q{COMMENT ON TABLE my_worker._jobs IS 'x'}, 'TRUNCATE my_worker._jobs',
	'ALTER MATERIALIZED VIEW my_worker._jobs DEPENDS ON EXTENSION plpgsql', 'ALTER TABLE my_worker._jobs ADD COLUMN x int',
	'CREATE INDEX ON my_worker._jobs (id)', 'DROP TABLE my_worker._jobs', 'DROP VIEW public.my_queue', 'DROP SCHEMA my_worker',
	'DROP FUNCTION my_worker.enqueue', 'ALTER EXTENSION my_worker UPDATE', 'CLUSTER my_worker._jobs USING _jobs_pkey', 'REINDEX TABLE my_worker._jobs');
my @slow;
my @allowed;
for my $statement (@statements)
{
	my $begin = time;
	my ($status, undef, $error) = $node->psql('shop', "SET statement_timeout = '10 s'; $statement", extra_params => [ '-U', 'mallory' ]);
	push @slow, $statement if time - $begin > 2 || $error =~ /statement timeout/;
	# The database's owner may maintain all of its tables.
	push @allowed, $statement if $status == 0 && $error !~ /WARNING|ERROR/ && $statement !~ /^REINDEX/;
}
is("@slow", '', 'whoever may not is told so at once');
is("@allowed", '', 'and nothing of it is done');
my $begin = time;
my $other = $node->safe_psql('shop', q{SELECT my_worker.enqueue('app.work')});
is($node->safe_psql('shop', "SELECT my_worker.wait($other, '30 s')"), 'completed', 'other jobs run meanwhile');
cmp_ok(time - $begin, '<', 5, 'without a stall');
$node->safe_psql('shop', q{INSERT INTO app.gate VALUES ('open')});
is($session->query_safe("SELECT my_worker.wait($long, '30 s')"), 'completed', 'the long job ends');
$session->quit;

done_testing();
