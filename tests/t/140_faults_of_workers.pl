# A fault at each step between COMMIT of who enqueues and the next job of the worker: an error, a full disk, a panic, a
# FATAL, a crash, a wait. After each the job has completed with its effect once, and was charged as docs/safety.md says;
# the queue's one permit, the key and the rate go on, and the server lives.
#
# Part of `make test-long`.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use MyWorkerTest;
use MyWorkerFaults;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = faulty_node('faults_workers', 'my_worker.max_workers' => 1, 'my_worker.max_rate_keys' => 100);

sql(q{
	CREATE FUNCTION first_fails(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects (job) VALUES (id);
		IF (SELECT attempts FROM my_queue WHERE my_queue.id = $1) = 0 THEN
			RAISE EXCEPTION 'the first attempt fails';
		END IF;
	END $$;
	CREATE FUNCTION fails(id bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO effects (job) VALUES (id); RAISE EXCEPTION 'fails'; END $$;
	CREATE FUNCTION together(ids bigint[], p jsonb[]) RETURNS void LANGUAGE sql AS $$
	INSERT INTO effects (job) SELECT unnest(ids) $$;
	SELECT my_worker.create_queue(name, backoff => '1 ms', max_attempts => 4)
		FROM unnest('{plain,command,held,letters}'::text[]) AS name;
	SELECT my_worker.create_queue('limited', concurrency => 1, backoff => '1 ms');
	SELECT my_worker.create_queue('keyed', fifo => true, backoff => '1 ms');
	SELECT my_worker.create_queue('rated', rate => 1000, rate_period => '1 s', burst => 1000, backoff => '1 ms');
	SELECT my_worker.create_queue('stretch', jobs_per_savepoint => 10, backoff => '1 ms');
	SELECT my_worker.create_queue('once', max_attempts => 1, dead_letter => 'letters');
	CREATE ROLE strict LOGIN;
	ALTER ROLE strict SET default_transaction_isolation = 'serializable';
	SELECT my_worker.grant_usage('strict');});
sql(q{SELECT my_worker.pause_queue(name) FROM unnest('{held,letters}'::text[]) AS name});

# What leads to a point: SQL whose last column is the job.
my $work = q{SELECT my_worker.enqueue('work', queue => '%s')};
my %leads = (
	(map { ($_ => sprintf $work, $_) } qw(plain limited rated)),
	keyed => q{SELECT my_worker.enqueue('work', queue => 'keyed', group_key => 'k')},
	fails => q{SELECT my_worker.enqueue('first_fails', queue => 'plain')},
	strict => q{SET ROLE strict; SELECT my_worker.enqueue('fails', queue => 'plain', max_attempts => 1)},
	dead => q{SELECT my_worker.enqueue('fails', queue => 'once')},
	together => q{SELECT min(my_worker.enqueue('together', queue => 'plain')) FROM generate_series(1, 5)},
	stretch => q{SELECT min(my_worker.enqueue('work', queue => 'stretch')) FROM generate_series(1, 5)},
	# A command has its effect in a transaction of its own.
	command => q{SELECT my_worker.run('INSERT INTO effects (job) VALUES (my_worker.current_job())', queue => 'command', max_attempts => 4)},
	once => q{SELECT my_worker.run('INSERT INTO effects (job) VALUES (my_worker.current_job())', queue => 'command')},
	# The end of the first and the claim of the second are one transaction; the first is meant.
	chain => q{SELECT min(my_worker.run('INSERT INTO effects (job) SELECT my_worker.current_job() WHERE my_worker.current_job() NOT IN (SELECT job FROM effects)',
		queue => 'command', max_attempts => 4)) FROM generate_series(1, 2)},
	launch => q{SELECT my_worker.enqueue('work', queue => 'held') AS job \gset
		SELECT launch_dynamic_worker(:job) IS NOT NULL; SELECT :job},
);

# How it ends: status, attempts and effects of the job. "2" is short for "completed|2|1". Where an attempt is charged it is
# because the process died in it, or the error is the job's, or its end was refused.
my $table = q{
	waking             plain     panic=1 crash=1 wait=1
	launcher_turn      plain     error=1 panic=1 fatal=1 crash=1 wait=1
	launcher_takes     plain     error=1 panic=1 fatal=1 crash=1 wait=1
	launcher_start     restart   error=1 panic=1 fatal=1 crash=1 wait=1
	attached           plain     error=1 panic=1 fatal=1 crash=1 wait=1
	permitted          limited   error=1 panic=1 fatal=1 crash=1 wait=1
	keyed              keyed     error=1 panic=1 fatal=1 crash=1 wait=1
	claimed            plain     error=1 panic=1 fatal=1 crash=1 wait=1
	granted            rated     error=1 panic=1 fatal=1 crash=1 wait=1
	marked             limited   error=1 full=1 panic=1 fatal=1 crash=2 wait=1
	taken_away         together  error=1 panic=1 fatal=1 crash=2 wait=1
	stretch_ends       stretch   error=1 panic=1 fatal=1 crash=1 wait=1
	called             keyed     error=2 full=2 panic=1 fatal=1 crash=2 wait=1
	sealed             limited   error=1 panic=1 fatal=1 crash=2 wait=1
	failing            fails     error=2 full=2 panic=2 fatal=2 crash=2 wait=2
	settled            keyed     panic=1 crash=2 wait=1
	written            limited   error=2 full=1 panic=1 fatal=1 crash=1 wait=1
	committed          limited   error=1 full=1 panic=1 fatal=1 crash=1 wait=1
	committed          keyed     error=1 full=1 panic=1 fatal=1 crash=1 wait=1
	given_back         plain     error=1 panic=1 fatal=1 crash=1 wait=1
	blamed             strict    error=failed|1|0 panic=failed|1|0 fatal=failed|1|0 crash=failed|1|0 wait=failed|1|0
	dead_letter        dead      error=pending|0|0 full=pending|0|0 panic=pending|0|0 fatal=pending|0|0 crash=pending|0|0 wait=pending|0|0
	command_claimed    command   error=2 full=1 panic=1 fatal=1 crash=1 wait=1
	command_committed  command   error=1 panic=1 fatal=1 crash=2 wait=1
	command_committed  once      error=failed|1|0 panic=failed|1|0 fatal=failed|1|0 crash=failed|1|0 wait=1
	command_ran        once      error=failed|1|1 panic=failed|1|1 fatal=failed|1|1 crash=failed|1|1 wait=1
	command_chained    chain     error=1 panic=2 fatal=2 crash=2 wait=1
	command_settled    command   error=1 panic=1 fatal=1 crash=1 wait=1
	launched           launch    error=pending|0|0 panic=pending|0|0 fatal=pending|0|0 crash=pending|0|0 wait=1
};

my $waiting;
each_fault($table, \&lead_to);

# lead_to(POINT, ACTION, LEAD): arms the fault and enqueues a job that meets it.
sub lead_to
{
	my ($point, $action, $lead) = @_;
	# Nobody else meets it.
	until_sql(q{SELECT count(*) = 0 FROM my_queue WHERE queue NOT IN ('held', 'letters')});
	my $arm = arm($point, $action);
	if ($lead eq 'restart')
	{
		# The launcher begins anew once it is gone.
		sql("$arm; SELECT pg_terminate_backend(pid) FROM my_worker.workers WHERE kind = 'launcher'");
		wait_happened($point) if $action ne 'wait';
		waits($point) if $action eq 'wait';
		return sql($leads{plain});
	}
	# Idle workers are gone where a process is to start.
	sql(q{SELECT pg_terminate_backend(pid) FROM my_worker.workers WHERE kind = 'worker'}) if $point =~ /^(launcher|attached)/;
	if ($point eq 'waking' && $action eq 'wait')
	{
		# The session itself waits, after its COMMIT.
		# Until the next fault.
		$waiting = start_sql("$arm; $leads{$lead}");
		waits($point);
		return sql('SELECT max(id) FROM my_worker.jobs');
	}
	my $out = try_sql("$arm; $leads{$lead}");
	my ($job) = $out =~ /(\d+)\s*$/;
	# A crash may take the answer with it. Of several jobs the first is meant.
	$job //= sql('SELECT max(id) FROM my_worker.jobs') - ($lead =~ /^(?:together|stretch)$/ ? 4 : $lead eq 'chain' ? 1 : 0);
	return $job;
}

# The module that is released has none of this.
my $released = slurp_file(glob "$ENV{SERVER_LIB}/my_worker.so");
unlike($released, qr/my_worker\.faults|mw_fault/, 'a released module has no points');
all_tried($table, qr/^(?:waking|launch|attached|permitted|keyed|claimed|granted|marked|taken|called|stretch|sealed|failing|dead|settled|written|committed|given|blamed|command)/);
all_sound("queue NOT IN ('held', 'letters')");
$node->stop;
done_testing();
