# Triggers of others that were made where nobody refused them, on a server without the module or under
# 1.0: neither an update of the extension nor a statement of ours runs what they call, their conditions
# included.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('main', -preload => 0, -extension => 0, 'my_worker.naptime' => 1);
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub as_mallory { return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'mallory' ]) }
sql(q{
	CREATE EXTENSION my_worker VERSION '1.0';
	CREATE ROLE mallory LOGIN;
	GRANT USAGE ON SCHEMA my_worker TO mallory;
	GRANT CREATE ON SCHEMA public TO mallory;
	GRANT ALL ON ALL TABLES IN SCHEMA my_worker, public TO mallory});
add_handlers($node);
# The library of 1.1 takes jobs before the update, too.
sql(q{INSERT INTO my_queue (handler, run_at) VALUES ('work', 'infinity'); INSERT INTO my_queue (handler, run_at) VALUES ('work', 'infinity');
	UPDATE my_queue SET priority = 3; UPDATE my_queue SET handler = 'public.work'});
is(sql('SELECT count(*), min(priority) FROM my_queue'), '2|3', 'rows are written under 1.0');
as_mallory(q{
	CREATE TABLE loot (who text DEFAULT current_user);
	GRANT INSERT ON loot TO PUBLIC;
	CREATE FUNCTION evil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.loot DEFAULT VALUES; RETURN NEW; END $$;
	CREATE FUNCTION evil(anyelement) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.loot DEFAULT VALUES; RETURN true; END $$;
	CREATE FUNCTION evil(bigint, text) RETURNS boolean LANGUAGE sql AS 'SELECT public.evil($1)';
	CREATE OPERATOR === (LEFTARG = bigint, RIGHTARG = text, FUNCTION = evil);
	CREATE DOMAIN odd AS bigint CHECK (public.evil(VALUE))});

my @triggers = (
	[ 'BEFORE UPDATE', 'TABLE FOR EACH ROW EXECUTE FUNCTION evil()' ],
	[ 'AFTER UPDATE', 'TABLE FOR EACH STATEMENT EXECUTE FUNCTION evil()' ],
	[ 'BEFORE UPDATE', 'TABLE FOR EACH ROW WHEN (evil(new.id)) EXECUTE FUNCTION suppress_redundant_updates_trigger()' ],
	[ 'BEFORE UPDATE', q{TABLE FOR EACH ROW WHEN (new.id OPERATOR(public.===) 'x') EXECUTE FUNCTION suppress_redundant_updates_trigger()} ],
	[ 'BEFORE UPDATE', 'TABLE FOR EACH ROW WHEN (new.id::odd > 0) EXECUTE FUNCTION suppress_redundant_updates_trigger()' ],
	[ 'BEFORE UPDATE', 'TABLE FOR EACH ROW WHEN (CASE WHEN new.id > 0 THEN ARRAY[evil(new.payload)] END IS NOT NULL) EXECUTE FUNCTION suppress_redundant_updates_trigger()' ]);
for my $trigger (@triggers)
{
	my ($when, $rest) = @$trigger;
	$rest =~ s/TABLE/my_queue/;
	as_mallory("CREATE TRIGGER strange $when ON $rest");
	like(query_error($node, 'ALTER EXTENSION my_worker UPDATE'), qr/^42501: a trigger on a table of my_worker is not its owner's/,
		"no update with $when ON $rest");
	sql('DROP TRIGGER strange ON my_queue');
}
is(sql('SELECT count(*) FROM loot'), '0', 'nothing of it has run');
sql(q{CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
	CREATE TRIGGER mine BEFORE UPDATE ON my_queue FOR EACH ROW WHEN (new.id > 0) EXECUTE FUNCTION mine();
	ALTER EXTENSION my_worker UPDATE});
is(sql(q{SELECT extversion FROM pg_extension WHERE extname = 'my_worker'}), '1.1', 'a trigger of a superuser is no hindrance');

# Under 1.1, where the module was away for a while.
for my $trigger (@triggers)
{
	my ($when, $rest) = @$trigger;
	s/UPDATE/INSERT/, s/TABLE/my_worker._jobs/ for $when, $rest;
	as_mallory("CREATE TRIGGER strange $when ON $rest");
	like(query_error($node, q{SELECT my_worker.enqueue('work', run_at := 'infinity')}), qr/42501: trigger "strange" on table "my_worker\._jobs" is not its owner's/,
		"no job with $when ON $rest");
	sql('DROP TRIGGER strange ON my_worker._jobs');
}
is(sql('SELECT count(*) FROM loot'), '0', 'nothing of it has run');
sql(q{SELECT my_worker.enqueue('work', run_at := 'infinity')});
pass('and without it all is well');

done_testing();
