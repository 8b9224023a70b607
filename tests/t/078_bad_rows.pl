# Rows that only a hand, a restore or the apply of a replica can have written cost themselves alone:
# schedules, delayed jobs and other jobs go on, the keeper lives, and each such row says what is wrong.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use Test::More;

my $node = new_node('bad_rows', 'my_worker.naptime' => 1, 'my_worker.log_jobs' => 'none', 'autovacuum' => 'off');
add_handlers($node);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(q{
	CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN;
	SELECT my_worker.grant_usage('alice'), my_worker.grant_usage('bob');
	SET ROLE bob; SELECT my_worker.schedule('tick', 'every 1 second', handler := 'work', overlap := 'allow')});
my ($keeper) = worker_pids($node, 'keeper');

# The keeper goes on, as the same process.
sub goes_on
{
	my ($while) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $fired = sql(q{SELECT coalesce(max(last_job_id), 0) FROM my_worker.schedules WHERE name = 'tick'});
	wait_for($node, qq{SELECT last_job_id > $fired + 1 FROM my_worker.schedules WHERE name = 'tick'});
	my $job = sql(q{SET ROLE bob; SELECT my_worker.enqueue('work', run_at := clock_timestamp() + interval '500 ms')});
	is(sql("SELECT my_worker.wait($job, '20 s')"), 'completed', "delayed jobs and schedules go on beside $while");
	$job = sql(q{SET ROLE alice; SELECT my_worker.enqueue('work')});
	is(sql("SELECT my_worker.wait($job, '20 s')"), 'completed', "and so do jobs of the same role");
	is((worker_pids($node, 'keeper'))[0], $keeper, 'the keeper has lived on');
	return;
}

# Columns of a row in the queue, and how it is to end: failed (in the history, or set aside), completed,
# or waiting.
my @jobs = (
	[ q{handler, command}, q{'public.work(bigint, jsonb)', 'SELECT 1'}, 'failed' ],
	[ q{handler, command, status}, q{'public.work(bigint, jsonb)', 'SELECT 1', 'processing'}, 'failed' ],
	[ q{handler, status}, q{'public.work(bigint, jsonb)', 'nonsense'}, 'failed' ],
	[ q{command, status}, q{'SELECT 1', ''}, 'failed' ],
	[ q{command, status}, q{'SELECT 1', 'PENDING'}, 'failed' ],
	[ q{command, status}, q{'SELECT 1', repeat('x', 2000)}, 'failed' ],
	[ q{handler, status, max_attempts}, q{'public.work(bigint, jsonb)', 'processing', 1}, 'completed' ],
	[ q{command, status, max_attempts}, q{'SELECT 1', 'processing', 0}, 'failed' ],
	[ q{command, status, attempts}, q{'SELECT 1', 'processing', 2147483647}, 'failed' ],
	[ q{command, status, attempts, max_attempts}, q{'SELECT 1', 'processing', -5, -5}, 'failed' ],
	[ q{handler, attempts}, q{'public.work(bigint, jsonb)', 2147483647}, 'failed' ],
	[ q{command, attempts}, q{'SELECT 1', 2147483647}, 'failed' ],
	[ q{handler, attempts}, q{'public.work(bigint, jsonb)', -2147483648}, 'failed' ],
	[ q{handler, max_attempts}, q{'public.work(bigint, jsonb)', 0}, 'completed' ],
	[ q{handler, max_attempts}, q{'public.no_such_function(jsonb)', -2147483648}, 'failed' ],
	[ q{handler, timeout}, q{'public.work(bigint, jsonb)', '-1 year'}, undef ],
	[ q{command, timeout}, q{'SELECT 1', '-1 year'}, undef ],
	[ q{handler, timeout}, q{'public.work(bigint, jsonb)', '170000000 years'}, 'completed' ],
	[ q{handler, run_at}, q{'public.work(bigint, jsonb)', 'infinity'}, 'pending' ],
	[ q{handler, run_at, created_at}, q{'public.work(bigint, jsonb)', '-infinity', 'infinity'}, 'completed' ],
	[ q{handler, run_at, created_at}, q{'public.work(bigint, jsonb)', '-infinity', '-infinity'}, 'completed' ],
	[ q{handler, run_at, created_at}, q{'public.work(bigint, jsonb)', now() + interval '1 s', 'infinity'}, 'completed' ],
	[ q{handler, errors}, q{'public.work(bigint, jsonb)', '"no array"'}, 'completed' ],
	[ q{handler, errors, max_attempts}, q{'public.no_such_function(jsonb)', '{"a": 1}', 1}, 'failed' ],
	[ q{handler, errors, max_attempts}, q{'public.no_such_function(jsonb)', 'null', 1}, 'failed' ],
	[ q{command, errors, max_attempts}, q{'SELECT 1/0', '7', 1}, 'failed' ],
	[ q{handler, payload}, q{'public.work(bigint, jsonb)', 'null'}, undef ],
	[ q{handler, payload}, q{'public.work(bigint, jsonb)', '[]'}, 'completed' ],
	[ q{command}, q{''}, 'completed' ],
	[ q{command}, q{' ; -- nothing'}, 'completed' ],
	[ q{handler, max_attempts}, q{'', 1}, 'failed' ],
	[ q{handler, max_attempts}, q{repeat('a.', 5000), 1}, 'failed' ],
	[ q{handler, queue}, q{'public.work(bigint, jsonb)', 'no such queue'}, 'pending' ],
	[ q{command, status, queue}, q{'SELECT 1', 'processing', repeat('q', 3000)}, 'processing' ],
	[ q{handler, queue}, q{'public.work(bigint, jsonb)', ''}, 'pending' ],
	[ q{handler, owner}, q{'public.work(bigint, jsonb)', 4294967295::oid}, 'failed' ],
	[ q{command, owner, status}, q{'SELECT 1', 4000000000::oid, 'processing'}, 'failed' ],
	[ q{handler, owner}, q{'public.work(bigint, jsonb)', 0::oid}, 'failed' ],
	[ q{handler, owner, priority}, q{'public.work(bigint, jsonb)', 123456789::oid, -2147483648}, 'failed' ],
	[ q{handler, priority}, q{'public.work(bigint, jsonb)', 2147483647}, 'completed' ],
	[ q{handler, unique_key}, q{'public.work(bigint, jsonb)', repeat('k', 2000)}, 'completed' ],
	[ q{handler, started_at, last_error}, q{'public.work(bigint, jsonb)', 'infinity', repeat('e', 100000)}, 'completed' ],
	[ q{id, handler}, q{0, 'public.work(bigint, jsonb)'}, 'failed' ],
	[ q{id, handler}, q{-1, 'public.work(bigint, jsonb)'}, 'completed' ],
	[ q{id, command}, q{-2, 'SELECT 1'}, 'completed' ],
	[ q{id, handler}, q{9223372036854775807, 'public.work(bigint, jsonb)'}, 'failed' ],
	[ q{id, handler}, q{-9223372036854775808, 'public.work(bigint, jsonb)'}, 'failed' ],
	[ q{id, command}, q{9223372036854775806, 'SELECT 1'}, 'failed' ],
	[ q{id, command}, q{4611686018427387904, 'SELECT 1'}, 'failed' ],
	[ q{id, command, status}, q{9223372036854775805, 'SELECT 1', 'processing'}, 'failed' ]);

# With the trigger off, as a replica or a superuser writes them.
sub plant
{
	my ($columns, $values) = @_;
	my $owner = $columns =~ /owner/ ? '' : ', owner';
	my $role = $owner && q{, 'alice'::regrole};
	return sql(qq{SET session_replication_role = replica;
		INSERT INTO my_queue ($columns$owner) VALUES ($values$role) RETURNING id});
}
my @planted = map { [ plant($_->[0], $_->[1]), @$_ ] } @jobs;
goes_on('50 bad rows');
for (@planted)
{
	my ($id, $columns, $values, $ends) = @$_;
	my $status = "SELECT coalesce((SELECT status FROM my_worker.history WHERE id = $id),
		(SELECT status FROM my_queue WHERE id = $id), 'gone')";
	if (!defined $ends)
	{
		wait_for($node, "SELECT s IN ('failed', 'pending', 'completed') FROM ($status) AS a (s)");
		sql("SELECT my_worker.cancel($id)");
		next;
	}
	wait_for($node, $status, $ends);
	is(sql($status), $ends, "($columns) = ($values): $ends");
	next if $ends ne 'failed';
	is(sql(qq{SELECT count(*) FROM (SELECT last_error FROM my_worker.history WHERE id = $id
		UNION ALL SELECT last_error FROM my_queue WHERE id = $id) AS e WHERE last_error <> ''}), '1', '... and says why');
}
goes_on('what is left of them');
sql(q{SET session_replication_role = replica; DELETE FROM my_queue WHERE owner <> 'bob'::regrole});

# Thousands of them hold up nobody either.
sql(q{SET session_replication_role = replica;
	INSERT INTO my_queue (command, status, owner) SELECT 'SELECT 1', 'nonsense ' || i % 1000, 'alice'::regrole
		FROM generate_series(1, 5000) AS i;
	INSERT INTO my_queue (handler, command, owner) SELECT 'public.work(bigint, jsonb)', 'SELECT 1', 'alice'::regrole FROM generate_series(1, 500)});
goes_on('thousands of bad rows');
wait_for($node, q{SELECT count(*) FROM my_queue WHERE owner = 'alice'::regrole AND status <> 'failed'}, '0', 120);
pass('all of them are dealt with');

# A row that can neither be failed nor be set aside is left out, and the log says so once.
sql(q{CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'never'; END $$;
	CREATE TRIGGER never BEFORE INSERT ON my_worker.history FOR EACH ROW WHEN (new.payload ? 'never') EXECUTE FUNCTION never()});
my $table = sql(q{SELECT coalesce(to_regclass('my_worker._jobs'), to_regclass('public.my_queue'))});
sql(qq{ALTER TABLE $table ADD CONSTRAINT never CHECK (NOT payload ? 'never' OR (status <> 'failed' AND attempts = 0 AND last_error IS NULL))});
my $start = log_end($node);
my $stuck = plant(q{command, status, payload, max_attempts}, q{'SELECT 1', 'processing', '{"never": 1}', 1});
my $orphan = plant(q{handler, payload, owner}, q{'public.work(bigint, jsonb)', '{"never": 1}', 4000000000::oid});
wait_log($node, qr/job $_ is left out: it cannot be set aside, SQLSTATE 23514/, $start) for $stuck, $orphan;
goes_on('rows that cannot be set aside');
is(log_has($node, qr/is left out/, $start), 2, 'the log has heard of each once');

# Schedules.
my @schedules = (
	[ q{schedule}, q{'not a schedule'} ], [ q{schedule}, q{''} ], [ q{schedule}, q{'every -1 second'} ],
	[ q{schedule}, q{'* * 31 2 *'} ], [ q{schedule}, q{repeat('* ', 100000)} ],
	[ q{timezone}, q{'Nowhere/Town'} ], [ q{timezone}, q{''} ], [ q{queue}, q{'no such queue'} ],
	[ q{owner}, q{4000000000::oid} ], [ q{anchor}, q{'infinity'} ], [ q{anchor}, q{'-infinity'} ],
	[ q{last_due}, q{'infinity'} ], [ q{handler}, q{repeat('h', 100000)} ],
	[ q{overlap}, q{'perhaps'} ], [ q{catchup}, q{'NONE'} ], [ q{max_attempts}, q{-1} ]);
my @fine = (
	[ q{next_run_at}, q{NULL} ], [ q{next_run_at}, q{'-infinity'} ], [ q{payload}, q{'null'} ],
	[ q{live_jobs}, q{'{NULL, -1, 9223372036854775807}'} ], [ q{live_jobs}, q{'{{1,2},{3,4}}'} ],
	[ q{held_jobs}, q{'{NULL, 0, 5}'} ], [ q{id}, q{-7} ], [ q{last_due}, q{'-infinity'} ],
	[ q{last_job_id}, q{-1} ], [ q{timeout}, q{NULL} ]);
sql(q{ALTER TABLE my_worker._schedules DROP CONSTRAINT _schedules_overlap_check, DROP CONSTRAINT _schedules_catchup_check,
	DROP CONSTRAINT _schedules_max_attempts_check});
my $n = 0;
for (@schedules, @fine)
{
	my ($column, $value) = @$_;
	my %row = (name => "'s" . ++$n . "'", schedule => q{'every 1 second'}, timezone => q{'UTC'}, handler => q{'public.work(bigint, jsonb)'},
		owner => q{'alice'::regrole}, next_run_at => q{now()}, $column => $value);
	my @columns = sort keys %row;
	sql('SET session_replication_role = replica; INSERT INTO my_worker._schedules (' . join(', ', @columns)
		  . ') VALUES (' . join(', ', @row{@columns}) . ')');
}
goes_on('bad schedules');
for my $i (1 .. @schedules)
{
	my ($column, $value) = @{ $schedules[$i - 1] };
	# A payload's number of attempts is the job's to suffer from.
	next if $column eq 'max_attempts' || $column eq 'handler';
	wait_for($node, "SELECT NOT active AND disabled_reason <> '' FROM my_worker._schedules WHERE name = 's$i'");
	pass("a schedule whose $column is $value is disabled with a reason");
}
for my $i (@schedules + 1 .. @schedules + @fine)
{
	my ($column, $value) = @{ $fine[$i - 1 - @schedules] };
	wait_for($node, "SELECT active AND last_job_id > 0 FROM my_worker._schedules WHERE name = 's$i'");
	pass("a schedule whose $column is $value is due all the same");
}
goes_on('what is left of them');

# The history.
sql(q{SET session_replication_role = replica; INSERT INTO my_worker.history (id, queue, status, payload, priority, run_at,
	created_at, attempts, owner, finished_at) SELECT id, q, 'completed', 'null', 0, 'infinity', '-infinity', -1, 0::oid, f
	FROM (VALUES (-1, ''), (0, 'default'), (9223372036854775807, repeat('q', 3000))) AS v (id, q),
	(VALUES ('-infinity'::timestamptz), ('infinity'), ('4713-01-01 BC')) AS t (f)});
# What reads it goes on, row by row.
sql(q{SET session_replication_role = replica; INSERT INTO my_worker.history (id, queue, status, handler, payload, priority, run_at,
	created_at, attempts, owner, finished_at) SELECT id, 'default', 'failed', 'public.work(bigint, jsonb)', '{}', 0, now(), now(), 1, 'alice'::regrole, f
	FROM (VALUES (-9, 'infinity'::timestamptz), (4611686018427387904, now()), (9223372036854775807, '-infinity'), (1000000, 'infinity')) AS v (id, f)});
like(sql(q{SELECT detail FROM my_worker.health() WHERE "check" = 'failures'}), qr/failed, the last some time ago/,
	'health() takes any time');
is(sql(q{SELECT id, my_worker.retry(id) FROM my_worker.history WHERE status = 'failed' AND finished_at IN ('infinity', '-infinity') ORDER BY id}),
	"-9|f\n1000000|t\n9223372036854775807|f", 'retry() passes those that cannot come back');
is(sql("SELECT my_worker.wait(1000000, '30 s')"), 'completed', 'and takes the others');
is(log_has($node, qr/FATAL|exited with exit code/), 0, 'no process of ours has ended');
$node->restart;
wait_for($node, q{SELECT count(*) FROM my_worker.history WHERE attempts = -1 AND finished_at < now()}, '0');
($keeper) = worker_pids($node, 'keeper');
goes_on('a strange history');

is(log_has($node, qr/PANIC|terminated by signal|XX000/), 0, 'no trouble in the log');
$node->stop;
done_testing();
