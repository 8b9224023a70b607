# Enqueueing as a role that may not log in, or not connect, warns at once, once a transaction; a schedule of
# such a role disables itself and says why.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('no_login', 'my_worker.naptime' => 1, 'my_worker.log_jobs' => 'none');
add_handlers($node);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub warnings_of
{
	my ($script) = @_;
	my ($status, $stdout, $stderr) = $node->psql('postgres', $script, on_error_stop => 1);
	is($status, 0, 'the statements pass') or diag($stderr);
	return scalar(() = $stderr =~ /WARNING:  jobs of role "group" will not run: /g);
}

sql(q{CREATE ROLE "group" NOLOGIN; CREATE ROLE alice LOGIN; GRANT "group" TO alice; CREATE ROLE far LOGIN;
	SELECT my_worker.grant_usage('group'), my_worker.grant_usage('alice'), my_worker.grant_usage('far')});

my $role = q{SET ROLE "group"; };
is(warnings_of($role . q{SELECT my_worker.enqueue('work')}), 1, 'enqueue() warns');
is(warnings_of($role . q{SELECT my_worker.run('SELECT 1')}), 1, 'run() warns');
is(warnings_of($role . q{INSERT INTO my_queue (handler) SELECT 'work' FROM generate_series(1, 100)}), 1, 'INSERT warns once');
is(warnings_of($role . q{BEGIN; SELECT my_worker.enqueue('work'), my_worker.enqueue('work'); INSERT INTO my_queue (handler)
	VALUES ('work'); COMMIT; SELECT my_worker.enqueue('work')}), 2, 'once a transaction');
is(warnings_of($role . q{SELECT my_worker.enqueue_many('work', ARRAY['1', '2']::jsonb[])}), 1, 'enqueue_many() warns');
is(warnings_of($role . q{SELECT my_worker.schedule('s', 'every 1 second', handler := 'work')}), 1, 'schedule() warns');
is(warnings_of(q{SET ROLE alice; SELECT my_worker.enqueue('work'); INSERT INTO my_queue (handler) VALUES ('work')}), 0,
	'a role that may log in is not warned');
is(warnings_of(q{SET check_function_bodies = off; SELECT pg_catalog.set_config('search_path', '', false);
	INSERT INTO public.my_queue (handler, owner) VALUES ('public.work(bigint, jsonb)', '"group"'::regrole)}), 0, 'a restore is not warned');
like($node->safe_psql('postgres', q{SET client_min_messages = error; SELECT my_worker.adopt()}), qr/1 more jobs/, 'its jobs are adopted');
my ($status, $stdout, $stderr) = $node->psql('postgres', $role . q{SELECT my_worker.enqueue('work')});
like($stderr, qr/not permitted to log in\nHINT:  Use ALTER ROLE \.\.\. LOGIN/, 'with a reason and a hint');

# The schedule.
wait_for($node, q{SELECT disabled_reason FROM my_worker._schedules WHERE name = 's'}, 'role "group" is not permitted to log in');
pass('its schedule is disabled with the reason');
is(sql(q{SELECT count(*) FROM my_worker._schedules WHERE last_job_id IS NOT NULL}), '0', 'and has enqueued nothing');
sql(q{ALTER ROLE "group" LOGIN; SET ROLE "group"; SELECT my_worker.resume_schedule('s')});
wait_for($node, q{SELECT last_status FROM my_worker.schedules WHERE name = 's'}, 'completed');
pass('once it may log in, the schedule is resumed');
is(warnings_of($role . q{SELECT my_worker.enqueue('work')}), 0, 'and there is no warning');

# What changes in the midst of a session is seen.
my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->query(q{SET ROLE "group"; SELECT my_worker.enqueue('work')});
my $start = log_end($node);
sql(q{ALTER ROLE "group" NOLOGIN});
$session->{stderr} = '';
$session->query(q{SELECT my_worker.enqueue('work')});
like($session->{stderr}, qr/WARNING:  jobs of role "group" will not run/, 'a session hears of a change');
$session->quit;
wait_for($node, q{SELECT disabled_reason FROM my_worker._schedules WHERE name = 's'}, 'role "group" is not permitted to log in');
pass('and so does its schedule');

# A role that may not connect.
sql(q{SET ROLE far; SELECT my_worker.schedule('f', 'every 1 second', handler := 'work')});
sql(q{REVOKE CONNECT ON DATABASE postgres FROM PUBLIC});
wait_for($node, q{SELECT disabled_reason FROM my_worker._schedules WHERE name = 'f'},
	'role "far" is not permitted to connect to the database');
pass('the schedule of a role that may not connect is disabled, too');
(undef, undef, $stderr) = $node->psql('postgres', q{SET ROLE far; SELECT my_worker.enqueue('work')});
like($stderr, qr/WARNING:  jobs of role "far" will not run: .*\nHINT:  Use GRANT CONNECT/, 'and enqueueing warns');

$node->stop;
done_testing();
