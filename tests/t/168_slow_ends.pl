# The keeper ends jobs one by one where one of them cannot be ended with the others: also where all together take
# longer than a step of the keeper may. Each step ends one at least.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('slow_ends', 'my_worker.naptime' => 1, 'my_worker.enabled' => 'off');
add_handlers($node);

sub sql { return $node->safe_psql('postgres', $_[0]) }

# A row of the history takes 20 ms, and one is refused.
sql(q{
	CREATE ROLE gone LOGIN;
	SELECT my_worker.grant_usage('gone');
	CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_sleep(0.02);
		IF NEW.payload ? 'refused' THEN
			RAISE EXCEPTION 'refused';
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER slow BEFORE INSERT ON my_worker.history FOR EACH ROW EXECUTE FUNCTION slow();
	SET ROLE gone;
	SELECT my_worker.enqueue('work', CASE i WHEN 5 THEN '{"refused": true}' ELSE '{}' END::jsonb) FROM generate_series(1, 6) AS i;
	SELECT my_worker.enqueue('work', CASE i WHEN 5 THEN '{"refused": true}' ELSE '{}' END::jsonb, 'default',
		expires_at := clock_timestamp() + '1 ms') FROM generate_series(1, 6) AS i;
	RESET ROLE;
	ALTER ROLE gone NOLOGIN;
	ALTER SYSTEM SET my_worker.enabled = on;
	SELECT pg_reload_conf()});

wait_for($node, q{SELECT count(*) FROM my_queue WHERE status = 'pending'}, '0');
is(sql(q{SELECT count(*) FILTER (WHERE status = 'failed'), count(*) FILTER (WHERE status = 'cancelled') FROM my_worker.history}),
	'5|5', 'all but two jobs have ended, by the role that may not log in and by their time');
is(sql(q{SELECT count(*) FROM my_queue WHERE payload ? 'refused'}), '2', 'the two whose ends cannot be written are set aside');

$node->stop;
done_testing();
