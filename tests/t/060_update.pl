# ALTER EXTENSION my_worker UPDATE: 1.0 updated to 1.1 has the same objects as 1.1 created: columns in
# the same order, types, defaults, constraints, indexes, triggers, policies, rights, comments,
# function definitions, and what pg_dump carries.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', -extension => 0, 'my_worker.database' => 'created, updated');

# One line a fact, about every object that belongs to the extension. OIDs and generated names of
# tables' row types do not stand in it.
my $FACTS = q{
WITH members AS (
    SELECT d.classid, d.objid FROM pg_depend AS d JOIN pg_extension AS e ON d.refobjid = e.oid
     WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'my_worker'),
relations AS (
    SELECT c.* FROM pg_class AS c JOIN members AS m ON m.objid = c.oid
     WHERE m.classid = 'pg_class'::regclass),
acls AS (
    SELECT kind, name, (SELECT string_agg(format('%s=%s by %s', coalesce(nullif(a.grantee, 0)::regrole::text, 'PUBLIC'),
                                          a.privilege_type, a.grantor::regrole), ' ' ORDER BY a.grantee::regrole::text, a.privilege_type)
                          FROM aclexplode(acl) AS a) AS acl
      FROM (SELECT 'relation', oid::regclass::text, relacl FROM relations
            UNION ALL SELECT 'column', format('%s.%s', r.oid::regclass, t.attname), t.attacl
              FROM relations AS r JOIN pg_attribute AS t ON t.attrelid = r.oid WHERE t.attacl IS NOT NULL
            UNION ALL SELECT 'function', p.oid::regprocedure::text, p.proacl
              FROM pg_proc AS p JOIN members AS m ON m.objid = p.oid AND m.classid = 'pg_proc'::regclass
            UNION ALL SELECT 'schema', n.nspname, n.nspacl
              FROM pg_namespace AS n JOIN members AS m ON m.objid = n.oid AND m.classid = 'pg_namespace'::regclass)
           AS all_acls (kind, name, acl)),
facts (fact) AS (
    SELECT format('member %s', pg_describe_object(classid, objid, 0)) FROM members
    UNION ALL SELECT format('relation %s kind %s options %s persistence %s rls %s/%s replica %s', oid::regclass, relkind,
                            reloptions, relpersistence, relrowsecurity, relforcerowsecurity, relreplident) FROM relations
    UNION ALL SELECT format('column %s %s %s %s notnull %s identity %s collation %s storage %s default %s',
                            a.attrelid::regclass, a.position, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                            a.attidentity, a.attcollation, a.attstorage,
                            (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef AS d
                              WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum))
      FROM (SELECT t.*, row_number() OVER (PARTITION BY t.attrelid ORDER BY t.attnum) AS position
              FROM pg_attribute AS t JOIN relations AS r ON r.oid = t.attrelid
             WHERE t.attnum > 0 AND NOT t.attisdropped) AS a
    UNION ALL SELECT format('view %s as %s', oid::regclass, pg_get_viewdef(oid)) FROM relations WHERE relkind = 'v'
    -- Each database has a number of its own for its home.
    UNION ALL SELECT format('index %s options %s', replace(pg_get_indexdef(i.indexrelid), my_worker_internal.home()::text, 'home'), c.reloptions)
      FROM pg_index AS i JOIN relations AS r ON r.oid = i.indrelid JOIN pg_class AS c ON c.oid = i.indexrelid
    UNION ALL SELECT format('constraint %s %s %s', k.conrelid::regclass, k.conname, pg_get_constraintdef(k.oid))
      FROM pg_constraint AS k JOIN relations AS r ON r.oid = k.conrelid
    UNION ALL SELECT format('trigger %s enabled %s', pg_get_triggerdef(t.oid), t.tgenabled)
      FROM pg_trigger AS t JOIN relations AS r ON r.oid = t.tgrelid
    UNION ALL SELECT format('policy %s on %s for %s to %s using %s check %s', p.polname, p.polrelid::regclass, p.polcmd,
                            p.polroles, pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
      FROM pg_policy AS p JOIN relations AS r ON r.oid = p.polrelid
    UNION ALL SELECT format('rule %s', pg_get_ruledef(w.oid))
      FROM pg_rewrite AS w JOIN relations AS r ON r.oid = w.ev_class WHERE r.relkind <> 'v'
    UNION ALL SELECT format('sequence %s %s', s.seqrelid::regclass, row(s.seqtypid::regtype, s.seqstart, s.seqincrement,
                            s.seqmax, s.seqmin, s.seqcache, s.seqcycle))
      FROM pg_sequence AS s JOIN relations AS r ON r.oid = s.seqrelid
    UNION ALL SELECT format('function %s', regexp_replace(pg_get_functiondef(p.oid), 'SELECT ''[0-9 ]+''', 'SELECT birth'))
      FROM pg_proc AS p JOIN members AS m ON m.objid = p.oid AND m.classid = 'pg_proc'::regclass
    UNION ALL SELECT format('comment on %s: %s', pg_describe_object(d.classoid, d.objoid, d.objsubid), d.description)
      FROM pg_description AS d JOIN members AS m ON m.classid = d.classoid AND m.objid = d.objoid
    UNION ALL SELECT format('acl of %s %s: %s', kind, name, acl) FROM acls
    UNION ALL SELECT format('dumped %s where %s', c.oid::regclass, c.condition)
      FROM pg_extension AS e, unnest(e.extconfig, e.extcondition) AS c (oid, condition) WHERE e.extname = 'my_worker'
    UNION ALL SELECT format('extension version %s relocatable %s', extversion, extrelocatable) FROM pg_extension
     WHERE extname = 'my_worker')
SELECT fact FROM facts ORDER BY fact COLLATE "C"};

$node->safe_psql('postgres', "CREATE DATABASE $_") for qw(created updated);
$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; CREATE ROLE other LOGIN;');
$node->safe_psql('created', q{CREATE EXTENSION my_worker; SELECT my_worker.grant_usage('app')});
$node->safe_psql('updated', q{CREATE EXTENSION my_worker VERSION '1.0'; SELECT my_worker.grant_usage('app')});
my $version = $node->safe_psql('created', q{SELECT extversion FROM pg_extension WHERE extname = 'my_worker'});
$node->safe_psql('updated', q{
	CREATE FUNCTION f(bigint, jsonb) RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION f(jsonb) RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION g() RETURNS void LANGUAGE sql AS '';
	ALTER FUNCTION g() OWNER TO other;
	GRANT SELECT, INSERT, DELETE ON my_queue TO other;
	ALTER TABLE my_queue DISABLE TRIGGER USER;
	INSERT INTO my_queue (handler, run_at) VALUES ('public.f', 'infinity'), ('public.g', 'infinity'), ('public.f(jsonb)', 'infinity'),
		('public.gone', 'infinity');
	INSERT INTO my_queue (handler, owner, run_at) VALUES ('public.g', 'other', 'infinity');
	ALTER TABLE my_queue ENABLE TRIGGER USER});
$node->safe_psql('updated', 'ALTER EXTENSION my_worker UPDATE');
my $me = $node->safe_psql('updated', 'SELECT current_user');
is($node->safe_psql('updated', 'SELECT handler, handler_owner, owner FROM my_worker._jobs ORDER BY id'), <<EOT =~ s/\n$//r,
public.f(bigint, jsonb)||$me
public.g()|other|$me
public.f(jsonb)||$me
public.gone||$me
public.g()||other
EOT
	'handlers get the argument types that they stood for, and who owned the function');
is($node->safe_psql('updated', 'SELECT DISTINCT home = my_worker_internal.home() FROM my_worker._jobs'), 't', 'all jobs are at home');
is($node->safe_psql('updated', q{SET ROLE other; DELETE FROM my_queue; SELECT count(*) FROM my_queue}), '0',
	'a role with rights on the table has them on the view');
$node->safe_psql('updated', q{REVOKE ALL ON my_queue FROM other; REVOKE ALL ON my_worker._jobs FROM other; DROP FUNCTION f(jsonb), f(bigint, jsonb), g()});

my %facts = map { ($_ => [ split /\n(?=[a-z]+ )/, $node->safe_psql($_, $FACTS) ]) } qw(created updated);
cmp_ok(scalar @{ $facts{created} }, '>', 200, "the objects of $version are described");
my %created = map { $_ => 1 } @{ $facts{created} };
my %updated = map { $_ => 1 } @{ $facts{updated} };
is(join("\n", grep { !$updated{$_} } @{ $facts{created} }), '', 'nothing is missing after an update');
is(join("\n", grep { !$created{$_} } @{ $facts{updated} }), '', 'nothing is left over or different after an update');

# Without preload nobody refuses a foreign key where it is made.
my $bare = new_node('bare', -preload => 0, -extension => 0);
$bare->safe_psql('postgres', q{CREATE EXTENSION my_worker VERSION '1.0'});
$bare->safe_psql('postgres', q{CREATE TABLE refers (job bigint REFERENCES my_queue)});
like(query_error($bare, 'ALTER EXTENSION my_worker UPDATE'), qr/^0A000: .*constraint refers_job_fkey on table (public\.)?refers.*HINT/s,
	'a foreign key to the queue stops the update, which says what to drop');
$bare->safe_psql('postgres', 'DROP TABLE refers; ALTER EXTENSION my_worker UPDATE');

done_testing();
