# Schedules that fire: each due time once, and what overlap, catch-up, pause, a moved clock, another
# role and a bad row make of it.
#
# The naptime is an hour, so that whatever happens in time happens because the keeper was told or
# slept until the due time. my_worker.clock_offset moves the clock of schedules; run_at stays real.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('main', 'my_worker.naptime' => 3600, 'my_worker.log_jobs' => 'none');

sub sql { return $node->safe_psql('postgres', $_[0]); }

sub move_clock
{
	my ($seconds) = @_;
	sql("ALTER SYSTEM SET my_worker.clock_offset = '${seconds}s'");
	sql('SELECT pg_reload_conf()');
	wait_for($node, q{SELECT setting FROM pg_settings WHERE name = 'my_worker.clock_offset'}, $seconds);
	return;
}

sql(q{
	CREATE TABLE ran (name text, job bigint, started timestamptz DEFAULT clock_timestamp(), ended timestamptz);
	CREATE FUNCTION work(id bigint, payload jsonb) RETURNS void LANGUAGE sql AS
		$$INSERT INTO ran (name, job) VALUES (payload->>'name', id)$$;
	CREATE FUNCTION slow(id bigint, payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		began timestamptz := clock_timestamp();
	BEGIN
		PERFORM pg_sleep((payload->>'seconds')::float8);
		INSERT INTO ran VALUES (payload->>'name', id, began, clock_timestamp());
	END $$;
});

# A handler, every second.
sql(q{SELECT my_worker.schedule('tick', 'every 1 second', handler := 'work', payload := '{"name": "tick"}')});
wait_for($node, q{SELECT count(*) >= 3 FROM ran WHERE name = 'tick'});
is(sql(q{SELECT count(*) FROM ran AS r JOIN my_worker.jobs AS j ON j.id = r.job
		WHERE name = 'tick' AND r.started NOT BETWEEN j.run_at AND j.run_at + interval '0.9 s'}),
	'0', 'runs start at their due time, not at the next nap');
is(sql(q{SELECT bool_and(run_at = anchor + n * interval '1 s') FROM
		(SELECT run_at, anchor, row_number() OVER (ORDER BY run_at) AS n
		   FROM my_worker.history, my_worker._schedules AS s WHERE name = 'tick' AND history.handler LIKE 'public.work(%') AS x}),
	't', 'and are due at whole multiples of the interval');
is(sql(q{SELECT last_run_at > now() - interval '5 s', last_status IN ('completed', 'pending', 'processing'),
		last_job_id >= (SELECT max(job) FROM ran) FROM my_worker.schedules}),
	't|t|t', 'the view shows the last run');

# Pause: nothing more; resume: only from then on.
sql(q{SELECT my_worker.pause_schedule('tick')});
drained($node);
my $runs = sql(q{SELECT count(*) FROM ran});
move_clock(600);
sql(q{SELECT my_worker.schedule('other', 'every 1 second', handler := 'work', payload := '{"name": "other"}')});
wait_for($node, q{SELECT count(*) >= 2 FROM ran WHERE name = 'other'});
is(sql(q{SELECT count(*) FROM ran WHERE name = 'tick'}), $runs, 'a paused schedule does not fire');
sql(q{SELECT my_worker.unschedule('other')});
sql(q{SELECT my_worker.resume_schedule('tick')});
wait_for($node, qq{SELECT count(*) > $runs FROM ran WHERE name = 'tick'});
cmp_ok(sql(q{SELECT count(*) FROM ran WHERE name = 'tick'}), '<', $runs + 10,
	'after it is resumed nothing is made up for');
is(sql(q{SELECT count(*) FROM my_worker.history WHERE run_at > finished_at}), '0',
	'jobs keep the real time while the clock of schedules is moved');
sql(q{SELECT my_worker.unschedule('tick')});

# A moved clock: three hours and a half without a look.
for my $catchup (qw(none one all))
{
	sql(qq{SELECT my_worker.schedule('$catchup', '7 * * * *', handler := 'work',
		payload := '{"name": "$catchup"}', catchup := '$catchup', timezone := 'UTC')});
}
move_clock(600 + 3.5 * 3600);
wait_for($node, q{SELECT count(*) = 0 FROM my_worker.schedules
	WHERE next_run_at < now() + interval '3.5 hours'});
drained($node);
my $missed = sql(q{SELECT count(*) FROM ran WHERE name = 'all'});
cmp_ok($missed, '>=', 3, "catchup all: each one ($missed)");
cmp_ok($missed, '<=', 4, 'and no more');
is(sql(q{SELECT count(*) FROM ran WHERE name = 'one'}), '1', 'catchup one: the latest');
is(sql(q{SELECT count(*) FROM ran WHERE name = 'none'}), '0', 'catchup none: nothing');
is(sql(q{SELECT o.last_due = a.last_due FROM my_worker.schedules AS o, my_worker.schedules AS a
		WHERE o.name = 'one' AND a.name = 'all'}), 't', 'which is the latest that "all" ran');
is(sql(q{SELECT last_skipped_at IS NOT NULL, last_job_id IS NULL FROM my_worker.schedules WHERE name = 'none'}),
	't|t', 'what was left out is seen in the view');

# A clock set back fires nothing twice, and goes on when it has caught up.
move_clock(600);
sql(q{SELECT my_worker.schedule('probe', 'every 1 second', handler := 'work', payload := '{"name": "probe"}')});
wait_for($node, q{SELECT count(*) >= 2 FROM ran WHERE name = 'probe'});
move_clock(600 + 3.5 * 3600);
wait_for($node, q{SELECT last_due > now() + interval '3 hours' FROM my_worker.schedules WHERE name = 'probe'});
drained($node);
is(sql(q{SELECT count(*) FROM ran WHERE name = 'all'}), $missed, 'a clock set back and forth again fires nothing twice');
is(sql(q{SELECT count(*) FROM ran WHERE name = 'one'}), '1', 'also with catchup one');

# A day of seconds: bounded.
sql(q{SELECT my_worker.schedule('day', '* * * * * *', handler := 'work', payload := '{"name": "day"}', catchup := 'all')});
sql(q{SELECT my_worker.unschedule('probe')});
move_clock(600 + 28 * 3600);
wait_for($node, q{SELECT count(*) >= 1000 FROM ran WHERE name = 'day'});
sql(q{SELECT my_worker.pause_schedule('day')});
drained($node);
cmp_ok(sql(q{SELECT count(*) FROM ran WHERE name = 'day'}), '<', 1100, 'a day of missed seconds is cut to 1000');
# A run before the clock moved has, by the real clock, the second of one that was made up for.
is(sql(q{SELECT count(*) FROM (SELECT run_at FROM my_worker.history WHERE payload->>'name' = 'day'
		AND created_at > run_at + interval '3 s' GROUP BY run_at HAVING count(*) > 1) AS twice}),
	'0', 'and none of them ran twice');
sql(q{SELECT my_worker.unschedule(name) FROM my_worker.schedules});
move_clock(0);

# Overlap: jobs of three seconds, due every second.
for my $overlap (qw(skip queue allow))
{
	sql(qq{SELECT my_worker.schedule('$overlap', 'every 1 second', handler := 'slow',
		payload := '{"name": "$overlap", "seconds": 2.5}', overlap := '$overlap')});
}
wait_for($node, q{SELECT count(*) >= 2 FROM ran WHERE name = 'skip'});
is(sql(q{SELECT count(*) FROM ran AS a JOIN ran AS b ON a.name = b.name AND a.job < b.job AND b.started < a.ended
		WHERE a.name <> 'allow'}), '0', 'skip and queue: never two runs at a time');
is(sql(q{SELECT held > 1 FROM my_worker.schedules WHERE name = 'queue'}), 't', 'queue: due runs wait');
is(sql(q{SELECT count(*) FROM my_worker.jobs AS j LEFT JOIN my_worker.schedules AS s ON s.id = j.schedule_id AND s.name = j.payload->>'name'
		WHERE j.payload->>'name' IN ('skip', 'queue', 'allow') AND s.id IS NULL}), '0', 'each job knows its schedule');
is(sql(q{SELECT count(*) FROM my_worker.schedules AS s
		WHERE s.runs <> (SELECT count(*) FROM my_worker.jobs AS j WHERE j.schedule_id = s.id)}), '0', 'and each schedule counts them');
cmp_ok(sql(q{SELECT count(*) FROM my_worker.jobs WHERE payload->>'name' = 'allow' AND status = 'processing'}),
	'>', 1, 'allow: several run at a time');
is(sql(q{SELECT count(*) < 5 FROM my_worker.jobs WHERE payload->>'name' = 'skip'}), 't', 'skip: leaves runs out');
is(sql(q{SELECT last_skipped_at IS NOT NULL FROM my_worker.schedules WHERE name = 'skip'}), 't', 'and says so');
sql(q{SELECT my_worker.pause_schedule(name) FROM my_worker.schedules});
wait_for($node, q{SELECT count(*) >= 4 FROM ran WHERE name = 'queue'});
is(sql(q{SELECT count(*) FROM ran AS a JOIN ran AS b ON a.name = b.name AND a.job < b.job AND b.started < a.ended
		WHERE a.name = 'queue'}), '0', 'queued runs go on one by one while the schedule is paused');
is(sql(q{SELECT max(lag) < interval '1.5 s' FROM (SELECT started - lag(ended) OVER (ORDER BY job) AS lag
		FROM ran WHERE name = 'queue') AS x}), 't', 'each as soon as the one before has ended');
sql(q{SELECT my_worker.unschedule('queue')});
is(sql(q{SELECT count(*) FROM my_queue WHERE run_at = 'infinity'}), '0', 'unschedule cancels those that wait');
sql(q{SELECT my_worker.unschedule(name) FROM my_worker.schedules});
sql(q{SELECT my_worker.cancel(id) FROM my_queue});

# A queued run whose predecessor is cancelled while it waits goes on at once.
sql(q{SELECT my_worker.create_queue('paused')});
sql(q{SELECT my_worker.pause_queue('paused')});
sql(q{SELECT my_worker.schedule('head', 'every 1 second', handler := 'work', payload := '{"name": "head"}',
	overlap := 'queue', queue := 'paused')});
wait_for($node, q{SELECT held > 1 FROM my_worker.schedules WHERE name = 'head'});
sql(q{SELECT my_worker.pause_schedule('head')});
my $second = sql(q{SELECT min(id) FROM my_queue WHERE run_at = 'infinity'});
sql(q{SELECT my_worker.cancel(id) FROM my_queue WHERE queue = 'paused' AND run_at < 'infinity'});
wait_for($node, qq{SELECT run_at < 'infinity' FROM my_queue WHERE id = $second});
pass('a cancelled run lets the next one go');
my $cancelled = q{SELECT cancelled FROM my_worker.queue_stats WHERE queue = 'paused'};
my ($before, $held) = (sql($cancelled), sql(q{SELECT held FROM my_worker.schedules WHERE name = 'head'}));
sql(q{SELECT my_worker.unschedule('head')});
is(sql($cancelled), $before + $held, 'the runs that unschedule() cancels are counted');
sql(q{SELECT my_worker.drop_queue('paused', true)});

# Without a time zone it is the server's, not the session's.
sql(q{ALTER SYSTEM SET timezone = 'Asia/Kolkata'});
sql(q{SELECT pg_reload_conf()});
wait_for($node, q{SET timezone = 'Asia/Tokyo';
	SELECT t AT TIME ZONE 'Asia/Kolkata' FROM my_worker.next_runs('0 3 * * *', 1, after := '2025-01-01') AS t},
	'2025-01-01 03:00:00');
sql(q{SET timezone = 'Asia/Tokyo'; SELECT my_worker.schedule('zone', '0 3 * * *', handler := 'work')});
is(sql(q{SELECT timezone FROM my_worker.schedules WHERE name = 'zone'}), 'Asia/Kolkata',
	'the time zone is the server\'s by default');
sql(q{ALTER SYSTEM RESET timezone});
sql(q{SELECT pg_reload_conf()});
sql(q{SELECT my_worker.unschedule('zone')});

# As another role: the jobs are its own.
sql(q{
	CREATE ROLE alice LOGIN;
	SELECT my_worker.grant_usage('alice');
	CREATE TABLE who (session text, owner text);
	GRANT INSERT ON who TO alice;
	CREATE FUNCTION who() RETURNS void LANGUAGE sql AS 'INSERT INTO who VALUES (session_user, current_user)';
});
sql(q{SET ROLE alice; SELECT my_worker.schedule('alices', 'every 1 second', handler := 'who')});
wait_for($node, q{SELECT count(*) > 0 FROM who});
is(sql(q{SELECT DISTINCT session, owner FROM who}), 'alice|alice', 'jobs run as the owner of the schedule');
is(sql(q{SELECT DISTINCT owner FROM my_worker.history WHERE handler LIKE 'public.who(%'}), 'alice', 'and are hers');

# Bad rows disable themselves; others go on.
sql(q{SELECT my_worker.create_queue('away')});
sql(q{SELECT my_worker.schedule(name, 'every 1 second', handler := 'work', payload := '{"name": "bad"}',
	queue := CASE name WHEN 'no queue' THEN 'away' ELSE 'default' END, overlap := 'allow')
	FROM unnest(ARRAY['no zone', 'no rule', 'no queue', 'no owner', 'no anchor', 'no time']) AS name});
sql(q{SELECT my_worker.schedule('good', 'every 1 second', handler := 'work', payload := '{"name": "good"}')});
sql(q{UPDATE my_worker._schedules SET timezone = 'Mars/Phobos' WHERE name = 'no zone'});
sql(q{UPDATE my_worker._schedules SET schedule = 'now and then' WHERE name = 'no rule'});
sql(q{UPDATE my_worker._schedules SET owner = 4242 WHERE name = 'no owner'});
sql(q{UPDATE my_worker._schedules SET anchor = 'infinity' WHERE name = 'no anchor'});
sql(q{UPDATE my_worker._schedules SET schedule = 'every 1 year', next_run_at = '-infinity', last_due = NULL, anchor = now() + interval '1 h'
	WHERE name = 'no time'});
my $log = -s $node->logfile;
sql(q{SELECT my_worker.drop_queue('away', true)});
wait_for($node, q{SELECT count(*) = 5 FROM my_worker.schedules WHERE NOT active AND disabled_reason IS NOT NULL});
wait_for($node, q{SELECT next_run_at = anchor FROM my_worker._schedules WHERE name = 'no time'});
pass('a time that was never is no due time');
is(sql(q{SELECT name, disabled_reason FROM my_worker.schedules WHERE NOT active ORDER BY name}),
	join("\n", 'no anchor|schedule is never due', 'no owner|owner of the schedule was dropped (role with OID 4242)',
		'no queue|queue "away" does not exist',
		'no rule|cron expression must have five or six fields, not 3',
		'no zone|time zone "Mars/Phobos" is not known'), 'a bad row disables itself and says why');
$node->wait_for_log(qr/22023 LOG:  schedule "no zone" is disabled: time zone "Mars\/Phobos" is not known/);
my $good = sql(q{SELECT count(*) FROM ran WHERE name = 'good'});
wait_for($node, qq{SELECT count(*) > $good + 1 FROM ran WHERE name = 'good'});
pass('the others go on');
sql(q{SELECT my_worker.schedule('no zone', 'every 1 second', handler := 'work', payload := '{"name": "mended"}')});
wait_for($node, q{SELECT count(*) > 0 FROM ran WHERE name = 'mended'});
pass('defined again it runs again');

# A row that somebody has locked is left alone, and fires when it is free.
sql(q{SELECT my_worker.schedule('locked', 'every 1 second', handler := 'work', payload := '{"name": "locked"}')});
my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->query_safe(q{BEGIN; SELECT my_worker.run_now('locked')});
$good = sql(q{SELECT count(*) FROM ran WHERE name = 'good'});
wait_for($node, qq{SELECT count(*) > $good + 2 FROM ran WHERE name = 'good'});
pass('a locked row holds up no other');
$session->query_safe('ROLLBACK');
$session->quit;
wait_for($node, q{SELECT count(*) > 1 FROM ran WHERE name = 'locked'});
pass('and fires when it is free again');

# DROP ROLE of an owner.
sql(q{SELECT my_worker.unschedule(name, owner) FROM my_worker.schedules WHERE owner::text = 'alice'});

unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/PANIC|terminated by signal|XX000/,
	'no trouble in the log');
$node->stop;
done_testing();
