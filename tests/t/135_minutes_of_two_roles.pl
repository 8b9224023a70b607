# Two roles whose jobs end in the same queue, minute and handler each see what is of their own, and nothing else, while both
# are counted at the same time; a role with the rights of both sees the sum.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('roles', 'my_worker.max_workers' => 4);
sub sql { return $node->safe_psql('postgres', join(' ', @_)) }
sub as { my ($role, $sql) = @_; return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]) }
sql(q{CREATE ROLE ann LOGIN; CREATE ROLE ben LOGIN; CREATE ROLE boss LOGIN IN ROLE ann, ben; CREATE ROLE idle LOGIN;
	CREATE ROLE watch LOGIN IN ROLE pg_monitor; CREATE ROLE sends LOGIN;
	SELECT my_worker.grant_usage(r::regrole) FROM unnest('{ann,ben,boss,idle}'::text[]) AS r;
	CREATE FUNCTION quick() RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION secret_of_ben() RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION slow() RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(0.05)';
	SELECT my_worker.create_queue('shared'), my_worker.create_queue('held')});

as('ann', q{SELECT count(my_worker.enqueue('quick', queue => 'shared')) FROM generate_series(1, 3000)});
as('ben', q{SELECT count(my_worker.enqueue('quick', queue => 'shared')) FROM generate_series(1, 2000);
	SELECT my_worker.enqueue('secret_of_ben', queue => 'shared'), my_worker.enqueue('slow', queue => 'shared') FROM generate_series(1, 20)});
drained($node);

my $minutes = q{SELECT sum(completed), max(run_p95) > 40 FROM my_worker.queue_minutes};
my $handlers = q{SELECT string_agg(handler || ' ' || calls, ', ' ORDER BY handler) FROM my_worker.handler_stats};
wait_for($node, q{SELECT sum(completed) FROM my_worker.queue_minutes}, '5040');
my %seen = (
	ann => [ '3000', 'public.quick() 3000' ],
	ben => [ '2040', 'public.quick() 2000, public.secret_of_ben() 20, public.slow() 20' ],
	boss => [ '5040', 'public.quick() 5000, public.secret_of_ben() 20, public.slow() 20' ],
	watch => [ '5040', 'public.quick() 5000, public.secret_of_ben() 20, public.slow() 20' ],
	idle => [ '', '' ]);
for my $role (sort keys %seen)
{
	is(as($role, q{SELECT sum(completed) FROM my_worker.queue_minutes}), $seen{$role}[0], "$role: jobs by minute");
	is(as($role, $handlers), $seen{$role}[1], "$role: handlers");
}
is(as('ann', q{SELECT max(run_p95) < 45 FROM my_worker.queue_minutes}), 't', 'how long jobs of others took shows in nothing');
is(as('idle', q{SELECT count(*) FROM my_worker.queue_minutes_since('-infinity')}), '0', 'nor does that there were any');
for my $view (qw(queue_minutes handler_stats stats_reach))
{
	my ($status, undef, $stderr) = $node->psql('postgres', "SELECT * FROM my_worker.$view", extra_params => [ '-U', 'sends' ]);
	like($stderr, qr/permission denied/, "a role without usage may not read $view");
}

# What consumers end is counted for the owner, not for the role that consumed it.
sql(q{CREATE ROLE eats LOGIN; SELECT my_worker.grant_consume('held', 'eats'); SELECT my_worker.grant_usage('eats')});
as('ann', q{SELECT my_worker.send('held') FROM generate_series(1, 5)});
as('eats', q{SELECT my_worker.ack(id, lease) FROM my_worker.receive('held', 5)});
my $held = q{SELECT sum(completed) FROM my_worker.queue_minutes WHERE queue = 'held'};
is(as('ann', $held), '5', 'the owner sees what a consumer did with its jobs');
is(as('eats', $held), '', 'the consumer does not');
is(as('ben', $held), '', 'nor does another role');

# A role that is dropped stays in the sums of those who see all.
sql(q{DROP OWNED BY ben; REASSIGN OWNED BY ben TO postgres; DROP ROLE ben});
is(as('watch', q{SELECT sum(completed) FROM my_worker.queue_minutes WHERE queue = 'shared'}), '5040', 'a role that was dropped');
is(as('boss', q{SELECT sum(completed) FROM my_worker.queue_minutes WHERE queue = 'shared'}), '3000', 'is seen by nobody else');

$node->stop;
done_testing();
