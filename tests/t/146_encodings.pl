# Databases of several encodings in one server, all at work: names, keys, payloads, errors and messages are bytes in the
# encoding of their database, cut between characters, and no database stumbles over what another one says.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

plan skip_all => 'no locales ("make deps" makes them)' unless $ENV{TEST_LOCALES};
$ENV{LOCPATH} = $ENV{TEST_LOCALES};

# What CREATE DATABASE is told, and a word in that encoding: five characters that are letters and lie beyond ASCII.
my %databases = (
	turkish => ["ENCODING 'UTF8' LOCALE 'tr_TR.UTF-8'", 'c4b1c4b0c59fc49fc3b6'],
	latin1 => ["ENCODING 'LATIN1' LOCALE 'de_DE.ISO-8859-1'", 'e4f6fcdfe9'],
	latin5 => ["ENCODING 'LATIN5' LOCALE 'tr_TR.ISO-8859-9'", 'fdddfef0f6'],
	euc_jp => ["ENCODING 'EUC_JP' LOCALE 'ja_JP.EUC-JP'", 'c6fccbdcb8eca4caa4d2'],
	# Bytes that are text in no other of them.
	sql_ascii => ["ENCODING 'SQL_ASCII' LOCALE 'C'", 'fffec3e4f0'],
	icu => ["ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR' LOCALE 'C'", 'f09fa680e697a5c3bc' . 'c4b0c4b1'],
);
my @names = sort keys %databases;

my $node = new_node('encodings', 'my_worker.database' => '*', 'my_worker.max_workers' => 8, 'max_worker_processes' => 32, 'my_worker.naptime' => 1);

# What is asked in one of them, in ASCII.
sub in_db { my ($name, @sql) = @_; return $node->safe_psql($name, join(' ', @sql)) }

for my $name (@names)
{
	my ($how, $word) = @{ $databases{$name} };
	my $encoding = $how =~ /ENCODING '(\w+)'/ ? $1 : '';
	$node->safe_psql('postgres', "CREATE DATABASE $name TEMPLATE template0 $how");
	in_db($name, qq{
		CREATE EXTENSION my_worker;
		CREATE FUNCTION word() RETURNS text IMMUTABLE LANGUAGE sql AS \$\$ SELECT convert_from('\\x$word', '$encoding') \$\$;
		CREATE TABLE gate (is_open boolean);
		SELECT my_worker.create_queue(word(), max_attempts => 1);
		SELECT my_worker.create_queue('held ' || word());});
	in_db($name, q{
		DO $do$ BEGIN
			EXECUTE format('CREATE SCHEMA %I', word());
			EXECUTE format($f$CREATE FUNCTION %1$I.%1$I(p jsonb) RETURNS text LANGUAGE plpgsql AS $$
				BEGIN
					PERFORM my_worker.progress(50, 'x' || repeat(word(), 100));
					WHILE p ? 'gate' AND NOT EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.01); END LOOP;
					IF p ? 'fail' THEN
						RAISE EXCEPTION USING MESSAGE = repeat(word(), 20000), DETAIL = repeat('x' || word(), 20000), HINT = repeat('xx' || word(), 20000);
					END IF;
					RETURN p->>'word';
				END $$ $f$, word());
		END $do$});
}

# All run at once, wait, and are looked at from everywhere.
my %job;
for my $name (@names)
{
	$job{$name} = in_db($name, q{SELECT my_worker.enqueue(format('%1$I.%1$I', word()), jsonb_build_object('gate', true, 'word', word()), queue => word())});
}
wait_for($node, q{SELECT count(*) FILTER (WHERE message IS NOT NULL) = 1 FROM (SELECT progress_message AS message FROM my_worker.jobs WHERE status = 'processing') AS j}, 't', undef, $_) for @names;
for my $name (@names)
{
	is(in_db($name, q{SELECT octet_length(progress_message) BETWEEN 150 AND 160, left('x' || repeat(word(), 100), length(progress_message)) = progress_message, queue = word()
		FROM my_worker.jobs WHERE status = 'processing'}), 't|t|t', "$name: a message is cut between characters");
	my $looks = eval { in_db($name, q{SELECT count(*) FROM my_worker.workers WHERE queue IS NOT DISTINCT FROM queue || ''},
		q{; SELECT count(*) > 0 FROM my_worker.queue_stats; SELECT count(*) FROM my_worker.health(); SELECT count(*) FROM get_worker_stats()},
		q{; SELECT count(*) FROM my_worker_status; SELECT count(length(queue)) >= 1 FROM my_worker.workers WHERE database = current_database()}) };
	ok(defined $looks, "$name: sees what runs in all of them") or diag($@);
}
for my $name (@names)
{
	in_db($name, 'INSERT INTO gate VALUES (true)');
	is(in_db($name, "SELECT my_worker.wait($job{$name}, '30 s')"), 'completed', "$name: a handler, its schema and its queue have such names");
	is(in_db($name, "SELECT result #>> '{}' = word() FROM my_worker.history WHERE id = $job{$name}"), 't', "$name: what it returns is what it got");
}

for my $name (@names)
{
	# Errors are cut between characters; in SQL_ASCII each byte is one.
	my $job = in_db($name, q{SELECT my_worker.enqueue(format('%1$I.%1$I', word()), '{"fail": true}', queue => word())});
	in_db($name, "SELECT my_worker.wait($job, '30 s')");
	is(in_db($name, qq{SELECT status, octet_length(last_error) BETWEEN 8000 AND 8192, left(repeat(word(), 20000), length(last_error)) = last_error,
		left(repeat('x' || word(), 20000), length(errors->0->>'detail')) = errors->0->>'detail', left(repeat('xx' || word(), 20000), length(errors->0->>'hint')) = errors->0->>'hint'
		FROM my_worker.history WHERE id = $job}), 'failed|t|t|t|t', "$name: an error's texts are cut between characters");

	# Keys and kinds may have 1000 bytes, not 1001, wherever a character ends.
	is(in_db($name, q{DO $$
		DECLARE
			key text := repeat(word(), 1000 / octet_length(word()));
			what text;
		BEGIN
			key := key || repeat('x', 1000 - octet_length(key));
			PERFORM my_worker.send('held ' || word(), jsonb_build_object('word', word()), kind => key, headers => jsonb_build_object(word(), word()),
				unique_key => key, group_key => key);
			FOREACH what IN ARRAY ARRAY['kind', 'unique_key', 'group_key'] LOOP
				BEGIN
					EXECUTE format('SELECT my_worker.send(%L, %I => %L)', 'held ' || word(), what, key || 'x');
					RAISE 'a % of 1001 bytes was taken', what USING ERRCODE = 'XX000';
				EXCEPTION WHEN invalid_parameter_value THEN NULL;
				END;
			END LOOP;
		END $$}), '', "$name: a key of 1000 bytes is taken, one of 1001 refused");
	is(in_db($name, q{SELECT r.kind = j.group_key AND r.kind = j.unique_key AND r.headers->>word() = word() AND r.payload->>'word' = word() AND octet_length(r.kind) = 1000
		FROM my_worker.receive('held ' || word(), kinds => ARRAY[(SELECT kind FROM my_queue WHERE kind IS NOT NULL)]) AS r JOIN my_queue AS j USING (id);}), 't',
		"$name: and a consumer gets what was sent");

	# Schedules, by the words that are ASCII whatever the locale says of i and I.
	in_db($name, q{DO $$ BEGIN
			PERFORM my_worker.schedule(word(), '0 0 * * FRI', handler => format('%1$I.%1$I', word()), queue => word(), payload => '{"gate": true}');
			PERFORM my_worker.schedule('i' || word(), 'every 15 minutes', handler => format('%1$I.%1$I', word()), queue => word());
		END $$});
	my $run = in_db($name, 'SELECT my_worker.run_now(word())');
	is(in_db($name, "SELECT my_worker.wait($run, '30 s')"), 'completed', "$name: a schedule of such a name runs");
	is(in_db($name, q{SELECT count(*) FROM (SELECT * FROM my_worker.next_runs('0 0 * * FRI', 1) INTERSECT SELECT * FROM my_worker.next_runs('0 0 * * fri', 1)) AS same}),
		'1', "$name: FRI is fri, whatever the locale says of i");
}

# What the log and the activity show was cut between characters, too, or is escaped.
is(log_has($node, qr/PANIC|XX000|invalid byte sequence/), 0, 'nothing of it is an error of ours');
$node->stop;
done_testing();
