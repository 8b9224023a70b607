# The scenarios of `make bench`; bench/run and bench/steps.sh have what they call. What is compared
# stands side by side, so that the two are seconds apart.

# ---- drain: how fast a backlog goes -----------------------------------------------------------------

# Jobs that do nothing, and jobs that update a row; against the loop that claims as many at a time.
scenario_drain() {
    local jobs before
    jobs=$(count 100000)
    # A queue that keeps its jobs has some. From some 100,000 on a B-tree has the height at which appending
    # to it no longer begins at its root.
    before=$(count 500000)
    for ((ROUND = 1; ROUND <= REPEAT; ROUND++)); do
        setting my_worker.max_items 100
        speed "my_worker" "$jobs" ours plain "$jobs"
        speed "PL/pgSQL loop of 100" "$jobs" loop 100 "$jobs"
        speed "my_worker: writing" "$jobs" ours write "$jobs"
        speed "PL/pgSQL loop of 100: writing" "$jobs" loop 100 "$jobs" true
        setting my_worker.max_items 1000
        speed "my_worker: max_items 1000" "$jobs" ours plain "$jobs"
        speed "PL/pgSQL loop of 1000" "$jobs" loop 1000 "$jobs"
        speed "my_worker: history kept" "$jobs" ours kept "$jobs" "$before"
        speed "my_worker: max_items 1000" "$jobs" ours plain "$jobs"
        speed "my_worker: history kept, the first jobs" "$jobs" ours kept "$jobs"
        speed "my_worker: batch handler" "$jobs" ours batch "$jobs"
        workers 2
        speed "my_worker: two workers" "$jobs" ours plain "$jobs"
        workers 1 || failed "one worker alone"
        speed "my_worker: max_items 1000" "$jobs" ours plain "$jobs"
        speed "PL/pgSQL loop of 1000: writing" "$jobs" loop 1000 "$jobs" true
        speed "my_worker: max_items 1000, writing" "$jobs" ours write "$jobs"
        workers 2
        speed "my_worker: two workers, writing" "$jobs" ours write "$jobs"
        workers 1 || failed "one worker alone"
    done
    setting my_worker.max_items 100
    target "my_worker" "PL/pgSQL loop of 100" ">= 2"
    target "my_worker: max_items 1000" "PL/pgSQL loop of 1000" ">= 1.2"
    target "my_worker: history kept" "my_worker: max_items 1000" ">= 0.6"
    target "my_worker: history kept, the first jobs" "my_worker: max_items 1000" "-"
    target "my_worker: two workers" "my_worker: max_items 1000" ">= 1.3"
    target "my_worker: batch handler" "my_worker: max_items 1000" ">= 2"
    target "my_worker: writing" "PL/pgSQL loop of 100: writing" "-"
    target "my_worker: max_items 1000, writing" "PL/pgSQL loop of 1000: writing" "-"
    target "my_worker: two workers, writing" "my_worker: max_items 1000, writing" "-"
}

# ---- flow: what each limit costs that never limits ------------------------------------------------

scenario_flow() {
    local jobs calls limit
    jobs=$(count 100000)
    calls=$(count 20000)
    for ((ROUND = 1; ROUND <= REPEAT; ROUND++)); do
        for limit in $FLOW; do
            speed "my_worker: none" "$jobs" ours plain "$jobs"
            speed "my_worker: $limit" "$jobs" ours "$limit" "$jobs"
        done
        for limit in $FLOW_KEYS; do
            speed "my_worker: none, 1,000 keys" "$jobs" ours_keys plain "$jobs"
            speed "my_worker: $limit, 1,000 keys" "$jobs" ours_keys "$limit" "$jobs"
        done
        for limit in $FLOW_ENDS; do
            speed "my_worker: jobs that fail" "$calls" ended fails "$calls"
            speed "my_worker: $limit" "$calls" ended "$limit" "$calls"
        done
        for limit in $FLOW_CALLS; do
            speed "enqueue()" "$calls" enqueue_calls nothing "$calls"
            speed "enqueue(): $limit" "$calls" enqueue_calls "$limit" "$calls"
        done
    done
    for limit in $FLOW; do target "my_worker: $limit" "my_worker: none" "-"; done
    for limit in $FLOW_KEYS; do target "my_worker: $limit, 1,000 keys" "my_worker: none, 1,000 keys" "-"; done
    for limit in $FLOW_ENDS; do target "my_worker: $limit" "my_worker: jobs that fail" "-"; done
    for limit in $FLOW_CALLS; do target "enqueue(): $limit" "enqueue()" "-"; done
}
FLOW="rate rate_per_key per_key fifo dead_letter retry_on"
FLOW_KEYS="rate_per_key per_key fifo"
FLOW_ENDS="dies fails_on" # jobs that fail for good: into a dead-letter queue, by a rule
FLOW_CALLS="key unique replace rerun error after expires"

ours_keys() { ours "$1" "$2" "" 1000; }

ended() { # ended QUEUE JOBS: as `ours`, until the queue is empty, wherever its jobs have gone
    fresh
    ours_off || return
    run_sql -c "CALL bench.fill('$1', $2)" -c "VACUUM ANALYZE my_worker._jobs" -c "CHECKPOINT" >/dev/null || return
    ours_on
    await 600 "SELECT EXISTS (SELECT FROM bench.marks WHERE what = 'last') AND NOT EXISTS (SELECT FROM my_queue WHERE queue = '$1')" || return
    sql "SELECT bench.elapsed('first', 'last')"
}

enqueue_calls() { # enqueue_calls WHAT CALLS: prints their milliseconds, while no job runs
    fresh
    ours_off || return
    timed_call "bench.enqueue('$1', $2)"
}

# ---- peers: the same jobs in other queues ---------------------------------------------------------

# Ours with its default settings, beside each peer with its fastest.
scenario_peers() {
    local jobs peer
    [ -n "$PEERS" ] || note "No peer was asked for."
    jobs=$(count 100000)
    for ((ROUND = 1; ROUND <= REPEAT; ROUND++)); do
        for peer in $PEERS; do
            have_peer "$peer" || continue
            "peer_$peer" "$jobs"
        done
    done
    target "my_worker" "graphile-worker: own empty task" ">= 4"
    target "my_worker" "graphile-worker" "-"
    target "my_worker: writing" "graphile-worker: writing" "-"
    target "my_worker" "pg-boss: own empty task" "-"
    for peer in pg-boss procrastinate PgQ "pgmq of 100" "pgmq of 1000"; do
        target "my_worker" "$peer" "-"
        target "my_worker: writing" "$peer: writing" "-"
    done
    target "my_worker: batch handler" PgQ "-"
    target "my_worker: batch handler, writing" "PgQ: writing" "-"
}

# ---- snapshot: an old snapshot is held while many jobs pass ---------------------------------------

# The last part alone is measured.
snapshot_ours() { # snapshot_ours JOBS LAST HELD
    fresh
    ours_off || return
    run_sql -c "CALL bench.fill_parts($1 - $2, $2)" -c "VACUUM ANALYZE my_worker._jobs" -c "CHECKPOINT" >/dev/null || return
    if [ "$3" = held ]; then hold_snapshot || return; fi
    ours_on
    await_done 900 end
    if [ "$3" = held ]; then release_snapshot; fi
    sql "SELECT bench.elapsed('part', 'end')"
}

snapshot_loop() { # snapshot_loop JOBS LAST HELD
    local ms
    fresh
    run_sql -c "INSERT INTO bench.jobs (payload) SELECT '{}' FROM generate_series(1, $1)" \
        -c "VACUUM ANALYZE bench.jobs" -c "CHECKPOINT" >/dev/null || return
    if [ "$3" = held ]; then hold_snapshot || return; fi
    sql "CALL bench.drain(100, $(($1 - $2)), false)"
    ms=$(timed_call "bench.drain(100, NULL, false)")
    if [ "$3" = held ]; then release_snapshot; fi
    echo "$ms"
}

# The loop slows down with the square of what has passed: fewer jobs show it well enough.
scenario_snapshot() {
    local jobs last fewer
    jobs=$(count 500000 5000)
    last=$((jobs / 10))
    fewer=$((jobs / 5 * 2))
    for ((ROUND = 1; ROUND <= REPEAT; ROUND++)); do
        speed "my_worker: without" "$last" snapshot_ours "$jobs" "$last" free
        speed "my_worker: old snapshot" "$last" snapshot_ours "$jobs" "$last" held
    done
    ROUND=1
    speed "PL/pgSQL loop of 100: without" "$last" snapshot_loop "$fewer" "$last" free
    speed "PL/pgSQL loop of 100: old snapshot, $fewer jobs" "$last" snapshot_loop "$fewer" "$last" held
    target "my_worker: old snapshot" "my_worker: without" ">= 0.9"
    target "PL/pgSQL loop of 100: old snapshot, $fewer jobs" "PL/pgSQL loop of 100: without" "-"
}

# ---- backlog: what stands in the queue or in the history beside the jobs that run ------------------

# So many jobs from the head of a queue, the others left where they are. The small queue is in a server
# of its own with the same settings, so that it can be measured right beside the large one without
# filling that again: only one of the two works at a time.

# head_of_queue JOBS BEHIND: fills the queue up to so many jobs and so many behind them, and prints the
# milliseconds of the first.
head_of_queue() {
    local from
    run_sql -c "TRUNCATE bench.marks" -c "CALL bench.fill_up($1 + $2)" -c "VACUUM ANALYZE my_worker._jobs" >/dev/null || return
    from=$(sql "SELECT min(run_at) FROM my_queue WHERE run_at <= now()")
    sql "CALL bench.mark_head('$from', $1)" && sql "CHECKPOINT" || return
    ours_on
    await_mark 300 last
    ours_off || return
    sql "SELECT bench.elapsed('first', 'last')"
}

# on CLUSTER COMMAND ARG...
on() { PGHOST=$WORK/$1/s "${@:2}"; }

beside_small() { # beside_small CASE JOBS BEHIND
    for ((ROUND = 1; ROUND <= REPEAT; ROUND++)); do
        speed "small queue, beside $1" "$2" on small head_of_queue "$2" 10000
        speed "$1" "$2" head_of_queue "$2" "$3"
    done
    # At most 1.2 times the time is at least 0.83 of the speed.
    target "$1" "small queue, beside $1" ">= 0.83"
}

scenario_backlog() {
    local jobs million
    jobs=$(count 50000)
    million=$(count 1000000 10000)
    (begin_cluster small) || { failed "backlog: a second server"; return; }
    on small ours_off
    ours_off
    fresh
    on small head_of_queue "$jobs" 10000 >/dev/null
    beside_small "backlog of $million" "$jobs" "$million"
    beside_small "backlog of $((5 * million))" "$jobs" "$((5 * million))"
    fresh
    run_sql -c "INSERT INTO my_queue (queue, payload, priority, run_at)
            SELECT 'plain', '{}', i % 3 - 2, now() + interval '1 day' FROM generate_series(1, $million) AS i" >/dev/null
    beside_small "$million future jobs" "$jobs" 10000
    fresh
    run_sql -c "CALL bench.fill_history(5 * $million)" \
        -c "VACUUM ANALYZE my_worker.history" >/dev/null
    beside_small "history of $((5 * million))" "$jobs" 10000
    on small stop_cluster small
    rm -rf "$WORK/small"
    fresh
    ours_on
}

# ---- enqueue: eight clients, one row a transaction; and many rows in one statement ---------------

bench_enqueue() { # bench_enqueue SECONDS STATEMENT: prints transactions a second
    printf '%s;\n' "${2//$'\n'/ }" >"$WORK/tmp/enqueue.sql"
    chmod 644 "$WORK/tmp/enqueue.sql"
    as_user pgbench -n -M prepared -c 8 -j 2 -T "$1" -f "$WORK/tmp/enqueue.sql" 2>/dev/null |
        awk '/^tps/ { printf "%.0f", $3 }'
}

# timed STATEMENT: prints its milliseconds.
timed() { run_sql -c '\timing on' -c "$1" | awk '/^Time/ { print $2 }'; }

one_by_one() { record "$1" tx/s "$(bench_enqueue "$(count 8 1)" "$2")"; }

# Beside one of two listeners: one that reads what it is told and does nothing more, so that a COMMIT has
# somebody to wake, or one that takes the jobs as well, which is all that there is to a queue.
one_by_one_heard() { # one_by_one_heard CASE STATEMENT [read]
    compile_listener || { left_out "$1" "$WHY"; return; }
    open_listener "$WORK/tmp/listener" "${@:3}" || { failed "$1" "the listener did not start"; return; }
    one_by_one "$1" "$2"
    close_listener
}

many_rows() { # many_rows CASE ROWS STATEMENT
    local ms
    sql CHECKPOINT
    ms=$(timed "$3")
    if [ -n "$ms" ]; then record "$1" rows/s "$(rate "$2" "$ms")"; else failed "$1"; fi
}

# The same columns, defaults, checks and indexes; no triggers.
like_ours() {
    sql "CREATE TABLE IF NOT EXISTS bench.like_ours
         (LIKE my_worker._jobs INCLUDING DEFAULTS INCLUDING IDENTITY INCLUDING INDEXES INCLUDING CONSTRAINTS)"
}

PLAIN_INSERT="INSERT INTO bench.like_ours (queue, payload) VALUES ('plain', '{}')"
NOTIFYING_INSERT="WITH j AS ($PLAIN_INSERT RETURNING id) SELECT pg_notify('bench', '') FROM j"

scenario_enqueue() {
    local many
    many=$(count 100000)
    like_ours
    for ((ROUND = 1; ROUND <= REPEAT; ROUND++)); do
        fresh
        ours_off
        sql "TRUNCATE bench.like_ours"
        one_by_one "plain INSERT" "$PLAIN_INSERT"
        one_by_one "my_worker: INSERT" "INSERT INTO my_queue (queue, payload) VALUES ('plain', '{}')"
        one_by_one "INSERT and pg_notify, nobody listens" "$NOTIFYING_INSERT"
        one_by_one "my_worker: enqueue()" "SELECT my_worker.enqueue('bench.noop', '{}', 'plain')"
        # A COMMIT that wakes somebody.
        fresh
        sql "TRUNCATE bench.like_ours"
        ours_on
        one_by_one_heard "INSERT and pg_notify, one listens" "$NOTIFYING_INSERT" read
        one_by_one "my_worker: INSERT, held for other consumers" "INSERT INTO my_queue (queue, payload) VALUES ('held', '{}')"
        fresh
        jobs_go_meanwhile ""
        await_empty 300
        ours_off
        fresh
        sql "TRUNCATE bench.like_ours"
        many_rows "plain INSERT .. SELECT" "$many" "INSERT INTO bench.like_ours (queue, payload) SELECT 'plain', '{}' FROM generate_series(1, $many)"
        many_rows "my_worker: INSERT .. SELECT" "$many" "INSERT INTO my_queue (queue, payload) SELECT 'plain', '{}' FROM generate_series(1, $many)"
        many_rows "my_worker: enqueue_many()" "$many" "SELECT count(*) FROM my_worker.enqueue_many('bench.noop', array_fill('{}'::jsonb, ARRAY[$many]), 'plain')"
    done
    fresh
    slowly_flushed
    ours_on
    target "my_worker: INSERT" "plain INSERT" ">= 0.8"
    target "my_worker: INSERT, jobs run meanwhile" "INSERT and pg_notify, jobs are taken meanwhile" ">= 4"
    target "my_worker: INSERT, held for other consumers" "INSERT and pg_notify, one listens" "-"
    target "my_worker: INSERT" "INSERT and pg_notify, nobody listens" "-"
    target "my_worker: INSERT, jobs run meanwhile, slower flush" "INSERT and pg_notify, one listens, slower flush" ">= 4"
    target "my_worker: INSERT, jobs run meanwhile, slower flush" "INSERT and pg_notify, jobs are taken meanwhile, slower flush" ">= 4"
    target "my_worker: INSERT, jobs run meanwhile, slower flush" "plain INSERT, slower flush" "-"
    target "my_worker: INSERT .. SELECT" "plain INSERT .. SELECT" ">= 0.5"
    target "my_worker: enqueue()" "plain INSERT" "-"
    target "my_worker: INSERT, jobs run meanwhile" "plain INSERT" "-"
    target "my_worker: enqueue_many()" "plain INSERT .. SELECT" "-"
}

# The whole way of a job, in both: enqueued, somebody woken, taken, gone.
jobs_go_meanwhile() { # jobs_go_meanwhile SUFFIX
    one_by_one_heard "INSERT and pg_notify, jobs are taken meanwhile$1" \
        "WITH j AS (INSERT INTO bench.jobs DEFAULT VALUES RETURNING id) SELECT pg_notify('bench', id::text) FROM j"
    one_by_one "my_worker: INSERT, jobs run meanwhile$1" "INSERT INTO my_queue (queue, payload) VALUES ('plain', '{}')"
    await_empty 300
}

# The same where a flush takes 0.3 ms longer, as pg_notify's lock is held over it: on a disk on which eight
# clients come to some 8,000 plain INSERTs a second, and to 1,500 with pg_notify.
slowly_flushed() {
    local library=$WORK/tmp/slow_flush.so
    cc -O2 -shared -fPIC -DFLUSH_US=300 bench/slow_flush.c -o "$library" -ldl >"$WORK/tmp/cc.log" 2>&1 || {
        left_out "slower flushes" "bench/slow_flush.c could not be compiled"
        return
    }
    chmod 755 "$library"
    (LD_PRELOAD=$library begin_cluster slow "wal_sync_method = fdatasync") || { failed "slower flushes: a second server"; return; }
    on slow like_ours
    for ((ROUND = 1; ROUND <= REPEAT; ROUND++)); do
        on slow fresh
        on slow sql "TRUNCATE bench.like_ours"
        on slow one_by_one "plain INSERT, slower flush" "$PLAIN_INSERT"
        on slow one_by_one_heard "INSERT and pg_notify, one listens, slower flush" "$NOTIFYING_INSERT" read
        on slow jobs_go_meanwhile ", slower flush"
    done
    on slow stop_cluster slow
    rm -rf "$WORK/slow"
}

# ---- latency: from COMMIT to start --------------------------------------------------------------

# A job notes when it starts; the time before it is that of the commit, which the server records with it,
# just before it flushes that record to disk. So the flush is in the figure, for ours and for the
# listener, unless the enqueuer's COMMIT does not wait for it ("unflushed").
scenario_latency() {
    local p suffix
    PSYCOPG=
    if [ -z "$PEERS" ]; then left_out psycopg "no peer was asked for"; elif have_peer psycopg; then PSYCOPG=yes; fi
    for ((ROUND = 1; ROUND <= REPEAT; ROUND++)); do
        delays 20 "$(count 20 1)" on ""
        delays 20 "$(count 20 1)" off ", unflushed"
        delays 1000 "$(count 8 1)" on ""
    done
    for suffix in "" ", unflushed"; do
        for p in p50 p99; do
            target "my_worker: $p at 20/s$suffix" "$BY_PSYCOPG: $p at 20/s$suffix" "<= 0.5"
            target "my_worker: $p at 20/s$suffix" "$BY_C: $p at 20/s$suffix" "-"
        done
    done
    target "my_worker: p99 at 1000/s" - "<= 10"
    target "my_worker: p99 at 1000/s" "$BY_PSYCOPG: p99 at 1000/s" "-"
    target "my_worker: p99 at 1000/s" "$BY_C: p99 at 1000/s" "-"
}

# The consumers by LISTEN/NOTIFY: as an application has it, and the least that one can be.
BY_PSYCOPG="LISTEN/NOTIFY with psycopg"
BY_C="LISTEN/NOTIFY in C, the bound of any listener"

# Ours stands between the two, next to both.
delays() { # delays RATE SECONDS FLUSHED SUFFIX
    if compile_listener; then
        listened "$BY_C" "$@" "$WORK/tmp/listener" || failed "$BY_C: at $1/s$4" "$(tail -n 1 "$WORK/tmp/listener.log")"
    else
        left_out "$BY_C" "$WHY"
    fi
    fresh
    ours_on
    send "$1" "$2" "$3" "INSERT INTO my_queue (queue, handler) VALUES ('plain', 'bench.started')"
    await_empty 60
    record_delays "my_worker" "$1" "$4"
    [ -n "$PSYCOPG" ] || return 0
    listened "$BY_PSYCOPG" "$@" "$WORK/tmp/python/bin/python" "$WORK/tmp/python/listener.py" ||
        left_out "$BY_PSYCOPG" "it failed: $(tail -n 1 "$WORK/tmp/listener.log")"
}

listened() { # listened WHO RATE SECONDS FLUSHED SUFFIX COMMAND ARG...
    local status
    fresh
    open_listener "${@:6}" || return
    send "$2" "$3" "$4" "WITH j AS (INSERT INTO bench.jobs DEFAULT VALUES RETURNING id)
        SELECT pg_notify('bench', id::text) FROM j"
    await 60 "SELECT NOT EXISTS (SELECT FROM bench.jobs)"
    status=$?
    close_listener
    [ "$status" != 0 ] || record_delays "$1" "$2" "$5"
    return "$status"
}

send() { # send RATE SECONDS FLUSHED STATEMENT
    printf '%s;\n' "${4//$'\n'/ }" >"$WORK/tmp/latency.sql"
    chmod 644 "$WORK/tmp/latency.sql"
    PGOPTIONS="-c synchronous_commit=$3" as_user pgbench -n -M prepared -c 4 -j 1 -R "$1" -T "$2" -f "$WORK/tmp/latency.sql" >/dev/null 2>&1
}

record_delays() { # record_delays WHO RATE SUFFIX
    local p
    for p in 0.5 0.99; do
        record "$1: p$(percent $p) at $2/s$3" ms "$(sql "SELECT bench.delay($p)")"
    done
}

compile_listener() {
    local program=$WORK/tmp/listener
    [ ! -e "$program" ] || return 0
    # A copy of pg_config beside a copy of the server names a place without headers.
    cc -O2 -I"$("$PG_CONFIG" --includedir)" -I/usr/include/postgresql bench/listener.c -o "$program" \
        -L"$("$PG_CONFIG" --libdir)" -Wl,-rpath,"$("$PG_CONFIG" --libdir)" -lpq >"$WORK/tmp/cc.log" 2>&1 || {
        WHY="bench/listener.c could not be compiled"
        return 1
    }
}

# open_listener COMMAND ARG...: until it says that it listens.
open_listener() {
    exec {LISTENER}< <(as_user "$@" 2>"$WORK/tmp/listener.log")
    if read -r -t 20 -u "$LISTENER" ANSWER && [ "$ANSWER" = ready ]; then return; fi
    exec {LISTENER}<&-
    return 1
}

close_listener() {
    sql "NOTIFY bench, 'stop'"
    read -r -t 20 -u "$LISTENER" ANSWER
    exec {LISTENER}<&-
}

# ---- consumers: sessions outside of the pool take the jobs -----------------------------------------

# consumed BATCH JOBS [LEASE]: prints the milliseconds in which one session receives and acknowledges so many.
fill_consumed() { # fill_consumed JOBS
    run_sql -c "SELECT count(*) FROM my_worker.send_many('consumed', array_fill('{}'::jsonb, ARRAY[$1]))" \
        -c "VACUUM ANALYZE my_worker._jobs" -c "CHECKPOINT" >/dev/null
}
consumed() {
    fresh
    fill_consumed "$2" || return
    timed_call "bench.consume($1, ${3:-NULL})" && none_left
}
none_left() { [ "$(sql "SELECT count(*) FROM my_queue WHERE queue = 'consumed'")" = 0 ] || { say "   jobs are left"; return 1; }; }

read_and_deleted() { # read_and_deleted BATCH JOBS: the same with pgmq's table and statements
    run_sql -c "TRUNCATE bench.messages" \
        -c "INSERT INTO bench.messages (vt, message) SELECT now(), '{}' FROM generate_series(1, $2)" \
        -c "VACUUM ANALYZE bench.messages" -c "CHECKPOINT" >/dev/null || return
    timed_call "bench.read_and_delete($1)"
}

# Twenty sessions that wait in a queue where nothing comes, and one more that has a job.
consumers_wait() {
    local i
    sql "SELECT my_worker.send('held', kind => 'taken')" >/dev/null || return
    printf "SELECT count(*) FROM my_worker.receive('held', kinds => '{taken}');\n" >"$WORK/tmp/waits.sql"
    for ((i = 0; i < 500; i++)); do printf "SELECT count(*) FROM my_worker.receive('held', wait => '5 s', kinds => '{none}');\n"; done >>"$WORK/tmp/waits.sql"
    for ((i = 0; i < 20; i++)); do PGAPPNAME=waits run_sql -f "$WORK/tmp/waits.sql" >/dev/null 2>&1 & done
    await 30 "SELECT count(*) = 20 FROM my_worker.workers WHERE kind = 'consumer'"
}
consumers_leave() {
    sql "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'waits'" >/dev/null
    await 30 "SELECT count(*) = 0 FROM my_worker.workers WHERE kind = 'consumer'"
}

# How many ms of CPU a second the sessions of consumers take.
waiting_cost() { # waiting_cost SECONDS
    local pids before after
    pids=$(sql "SELECT string_agg(pid::text, ' ') FROM my_worker.workers WHERE kind = 'consumer'")
    before=$(cpu_ticks "$pids")
    pause "$1"
    after=$(cpu_ticks "$pids")
    awk -v a="$before" -v b="$after" -v s="$1" -v hz="$(getconf CLK_TCK)" 'BEGIN { printf "%.2f", (b - a) * 1000 / hz / s }'
}
cpu_ticks() { # cpu_ticks "PID ..."
    local pid
    for pid in $1; do sed 's/.*) //' "/proc/$pid/stat"; done 2>/dev/null | awk '{ sum += $12 + $13 } END { print sum + 0 }'
}

# From the COMMIT of a job until a client that waits in receive() has it.
received() { # received RATE SECONDS FLUSHED SUFFIX
    fresh
    open_listener "$WORK/tmp/listener" receive || return
    send "$1" "$2" "$3" "SELECT my_worker.send('consumed')"
    await 60 "SELECT NOT EXISTS (SELECT FROM my_queue WHERE queue = 'consumed')"
    sql "SELECT my_worker.send('consumed', kind => 'stop')" >/dev/null
    read -r -t 20 -u "$LISTENER" ANSWER
    exec {LISTENER}<&-
    record_delays "my_worker: receive()" "$1" "$4"
}

# The same in pgmq, by SQL and by psycopg, and our Node client beside those of others, with an empty task.
consumers_beside() {
    local jobs batch
    for batch in 1 100; do
        jobs=$(count $((batch == 1 ? 3000 : 100000)))
        if wants pgmq; then
            speed "receive and ack, $batch at a time, beside pgmq" "$jobs" consumed "$batch" "$jobs"
            peer_speed "pgmq: $batch at a time" "$jobs" consumed_of_pgmq "$batch" "$jobs"
            if wants pgmq psycopg; then
                peer_speed "my_worker by psycopg: $batch at a time" "$jobs" by_psycopg my_worker "$batch" "$jobs"
                peer_speed "pgmq by psycopg: $batch at a time" "$jobs" by_psycopg pgmq "$batch" "$jobs"
            fi
        fi
    done
    jobs=$(count 50000)
    if wants graphile; then
        peer_speed "Node client" "$jobs" client_by_node "$jobs"
        peer_speed "graphile-worker: own empty task" "$jobs" node_peer graphile own "$jobs" "$jobs"
    fi
    if wants pgboss; then
        peer_speed "Node client" "$jobs" client_by_node "$jobs"
        peer_speed "pg-boss: own empty task" "$((jobs / 5))" node_peer pgboss own "$jobs" "$((jobs / 5))"
    fi
}
targets_beside() {
    local batch
    for batch in 1 100; do
        target "receive and ack, $batch at a time, beside pgmq" "pgmq: $batch at a time" "$([ "$batch" = 1 ] && echo ">= 1.5" || echo ">= 2")"
        target "my_worker by psycopg: $batch at a time" "pgmq by psycopg: $batch at a time" ">= 1.5"
    done
    target "Node client" "graphile-worker: own empty task" ">= 1.5"
    target "Node client" "pg-boss: own empty task" "-"
}

scenario_consumers() {
    local jobs batch p seconds suffix
    seconds=$(count 15 2)
    # Consumers get nothing while jobs are not to run, as the scenario before may have left it.
    ours_on
    for ((ROUND = 1; ROUND <= REPEAT; ROUND++)); do
        for batch in 1 10 100; do
            # Ours waits once for the disk, theirs twice; "unflushed" leaves that out.
            jobs=$(count $((batch == 1 ? 3000 : 1000 * batch)))
            speed "receive and ack, $batch at a time" "$jobs" consumed "$batch" "$jobs"
            speed "read and delete by SQL, $batch at a time" "$jobs" read_and_deleted "$batch" "$jobs"
            speed "receive for a time and ack, $batch at a time" "$jobs" consumed "$batch" "$jobs" "'1 min'"
            jobs=$(count 50000)
            PGOPTIONS="-c synchronous_commit=off" speed "receive and ack, $batch at a time, unflushed" "$jobs" consumed "$batch" "$jobs"
            PGOPTIONS="-c synchronous_commit=off" speed "read and delete by SQL, $batch at a time, unflushed" "$jobs" read_and_deleted "$batch" "$jobs"
        done
        consumers_beside
        if compile_listener; then
            received 20 "$seconds" on "" || failed "my_worker: receive() at 20/s" "$(tail -n 1 "$WORK/tmp/listener.log")"
            listened "$BY_C" 20 "$seconds" on "" "$WORK/tmp/listener" || failed "$BY_C: at 20/s"
            received 20 "$seconds" off ", unflushed" || failed "my_worker: receive() at 20/s, unflushed"
            listened "$BY_C" 20 "$seconds" off ", unflushed" "$WORK/tmp/listener" || failed "$BY_C: at 20/s, unflushed"
        else
            left_out "$BY_C" "$WHY"
        fi
        jobs=$(count 100000)
        speed "workers, no consumer" "$jobs" ours plain "$jobs"
        if consumers_wait; then
            record "20 consumers wait" "ms of CPU a second" "$(waiting_cost "$seconds")"
            speed "workers, 20 consumers wait and hold" "$jobs" drain_beside "$jobs"
            consumers_leave
        else
            failed "20 consumers"
        fi
    done
    for batch in 1 10 100; do
        for suffix in "" ", unflushed"; do
            target "receive and ack, $batch at a time$suffix" "read and delete by SQL, $batch at a time$suffix" "$([ -z "$suffix" ] && echo ">= 1.5" || echo ">= 2")"
        done
        target "receive for a time and ack, $batch at a time" "read and delete by SQL, $batch at a time" "-"
    done
    for suffix in "" ", unflushed"; do
        target "my_worker: receive(): p50 at 20/s$suffix" "$BY_C: p50 at 20/s$suffix" "<= 1"
        target "my_worker: receive(): p99 at 20/s$suffix" "$BY_C: p99 at 20/s$suffix" "-"
    done
    target "workers, 20 consumers wait and hold" "workers, no consumer" ">= 0.97"
    target "20 consumers wait" - "<= 10"
    targets_beside
}

# As `ours`, but what consumers hold stays there.
drain_beside() { # drain_beside JOBS
    setting my_worker.enabled off
    await 30 "SELECT current_setting('my_worker.enabled') = 'off' AND NOT EXISTS (SELECT FROM my_worker.workers WHERE kind = 'worker' AND job_id IS NOT NULL)" || return
    run_sql -c "TRUNCATE bench.marks" -c "CALL bench.fill('plain', $1)" -c "VACUUM ANALYZE my_worker._jobs" -c "CHECKPOINT" >/dev/null || return
    ours_on
    await 600 "SELECT EXISTS (SELECT FROM bench.marks WHERE what = 'last') AND NOT EXISTS (SELECT FROM my_queue WHERE queue = 'plain')" || return
    sql "SELECT bench.elapsed('first', 'last')"
}

# ---- mixed: one long job among short ones --------------------------------------------------------

# Two workers, many short jobs, and one of two seconds near the head: until all short ones are done and
# committed. With the long one a single worker is left for them, so that is what it is held against.
short_jobs() { # short_jobs JOBS WORKERS LONG: prints milliseconds
    local ms
    workers "$2" || return
    fresh
    ours_off || return
    run_sql -c "CALL bench.fill('plain', $1)" \
        -c "UPDATE my_queue SET handler = 'bench.long' WHERE $3 AND id = (SELECT min(id) + 500 FROM my_queue)" \
        -c "VACUUM ANALYZE my_worker._jobs" -c "CHECKPOINT" >/dev/null || return
    ours_on
    await 300 "SELECT NOT EXISTS (SELECT FROM my_queue WHERE handler IS DISTINCT FROM 'bench.long')" || return
    ms=$(sql "SELECT round(1000 * extract(epoch FROM clock_timestamp() - at), 3) FROM bench.marks WHERE what = 'first'")
    await_empty 60
    echo "$ms"
}

scenario_mixed() {
    local jobs
    jobs=$(count 10000)
    for ((ROUND = 1; ROUND <= REPEAT; ROUND++)); do
        record "short jobs: two workers" ms "$(short_jobs "$jobs" 2 false)"
        record "short jobs: two workers and a job of 2 s" ms "$(short_jobs "$jobs" 2 true)"
        record "short jobs: one worker" ms "$(short_jobs "$jobs" 1 false)"
    done
    workers 1 || failed "one worker alone"
    target "short jobs: two workers and a job of 2 s" "short jobs: one worker" "-"
    target "short jobs: two workers and a job of 2 s" "short jobs: two workers" "-"
}

# ---- schedules: ours and pg_cron's -----------------------------------------------------------------

# A server with both. How late a command starts that is due each full minute, then (pg_cron of Debian 12
# has none) each second, and what a schedule that is not due for months costs meanwhile.
scenario_schedules() {
    local cron=yes minutes start
    have_peer cron || cron=
    if [ -n "$cron" ]; then
        (begin_cluster cron "shared_preload_libraries = 'my_worker, pg_cron'" "cron.database_name = 'postgres'" \
            "cron.use_background_workers = on" "cron.log_run = off" "cron.log_statement = off") || {
            failed "schedules: a server with pg_cron"
            return
        }
        on cron sql "CREATE EXTENSION pg_cron"
    else
        (begin_cluster cron) || { failed "schedules: a server"; return; }
    fi
    on cron schedules_measured "$cron"
    on cron stop_cluster cron
    rm -rf "$WORK/cron"
    target "my_worker: start after the full minute" "pg_cron: start after the full minute" "-"
    target "my_worker: CPU a minute, idle" "pg_cron: CPU a minute, idle" "-"
}

# due WHAT: the command of a schedule, which notes the time.
due() { printf "INSERT INTO bench.starts (what) VALUES (''%s'')" "$1"; }

schedules_measured() { # schedules_measured CRON
    local who seconds
    [ -z "$1" ] || sql "SELECT cron.schedule('minute', '* * * * *', '$(due pg_cron)')" >/dev/null
    sql "SELECT my_worker.schedule('minute', '* * * * *', '$(due my_worker)')" >/dev/null
    for ((ROUND = 1; ROUND <= REPEAT; ROUND++)); do
        sql "TRUNCATE bench.starts"
        await 130 "SELECT count(DISTINCT what) = ${1:+1 + }1 FROM bench.starts"
        for who in my_worker ${1:+pg_cron}; do
            record "$who: start after the full minute" ms "$(sql "SELECT round(1000 * min(extract(second FROM started)), 3) FROM bench.starts WHERE what = '$who'")"
        done
    done
    ROUND=1
    [ -z "$1" ] || sql "SELECT cron.unschedule('minute'), cron.schedule('year', '0 0 1 1 *', '$(due pg_cron)')" >/dev/null
    sql "SELECT my_worker.unschedule('minute')" >/dev/null
    sql "SELECT my_worker.schedule('second', '* * * * * *', '$(due each)')" >/dev/null
    sql "TRUNCATE bench.starts"
    await 130 "SELECT count(*) >= $(count 30 5) FROM bench.starts"
    for who in 0.5 0.99; do
        record "my_worker: start after each second, p$(percent $who)" ms "$(sql "SELECT round(1000 * percentile_cont($who) WITHIN GROUP (ORDER BY extract(second FROM started) % 1)::numeric, 3) FROM bench.starts")"
    done
    sql "SELECT my_worker.unschedule('second'), my_worker.schedule('year', '0 0 1 1 *', '$(due year)')" >/dev/null
    setting my_worker.worker_idle_timeout 600
    seconds=$(count 60 1)
    quiet "$seconds"
    watch_idle "my_custom_worker pg_cron" "$seconds"
    record "my_worker: CPU a minute, idle" ms "$(idle_cpu my_custom_worker "$seconds" 60)"
    [ -z "$1" ] || record "pg_cron: CPU a minute, idle" ms "$(idle_cpu pg_cron "$seconds" 60)"
}

# ---- idle: a minute without work ------------------------------------------------------------------

# quiet SECONDS: what was begun ends, naps are reached, and the background writer, which notes the
# running transactions in the WAL up to 15 seconds after the last change, has done so.
quiet() { pause "$(awk -v s="$1" 'BEGIN { print (s < 20 ? s : 20) }')"; }

# processes KIND: the pids whose backend_type begins so. Asked elsewhere than where idleness is watched.
processes() { PGDATABASE=template1 sql "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE replace('$1', '_', '\\_') || '%' ORDER BY pid"; }

# cpu_of PID...: their CPU time, in nanoseconds if the kernel keeps that, else in ticks made so.
cpu_of() {
    local pid
    for pid in "$@"; do
        if [ -r "/proc/$pid/schedstat" ]; then
            awk '{ print $1 }' "/proc/$pid/schedstat"
        else
            awk -v hz="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); print ($12 + $13) * 1e9 / hz }' "/proc/$pid/stat"
        fi
    done | awk '{ sum += $1 } END { printf "%.0f", sum }'
}

wakes_of() {
    local pid
    for pid in "$@"; do
        awk '/^voluntary_ctxt_switches/ { print $2 }' "/proc/$pid/status"
    done | awk '{ sum += $1 } END { printf "%.0f", sum }'
}

# watch_idle "KIND..." SECONDS: reads the kernel's clocks of the processes of each kind, waits that
# long, and reads them again. Nobody is asked anything meanwhile.
declare -A IDLE_PIDS IDLE_CPU IDLE_WAKES
watch_idle() {
    local kind
    for kind in $1; do IDLE_PIDS[$kind]=$(processes "$kind" | tr '\n' ' '); done
    # shellcheck disable=SC2086 # several pids
    for kind in $1; do IDLE_CPU[$kind]=$(cpu_of ${IDLE_PIDS[$kind]}) IDLE_WAKES[$kind]=$(wakes_of ${IDLE_PIDS[$kind]}); done
    pause "$2"
    # shellcheck disable=SC2086
    for kind in $1; do
        IDLE_CPU[$kind]=$(($(cpu_of ${IDLE_PIDS[$kind]}) - IDLE_CPU[$kind]))
        IDLE_WAKES[$kind]=$(($(wakes_of ${IDLE_PIDS[$kind]}) - IDLE_WAKES[$kind]))
    done
}

# idle_cpu KIND SECONDS IN: the milliseconds of CPU in so many seconds as the third says; nothing if
# there are no processes, or some came or went, so that their time is not known.
idle_cpu() {
    [ -n "${IDLE_PIDS[$1]}" ] && [ "$(processes "$1" | tr '\n' ' ')" = "${IDLE_PIDS[$1]}" ] || return
    awk -v ns="${IDLE_CPU[$1]}" -v s="$2" -v all="$3" 'BEGIN { printf "%.3f", ns / 1e6 * all / s }'
}

# Transactions as the other databases' statistics tell them, seen from a database where nothing of
# ours runs; transaction ids and WAL as the server counts them. Idle workers stay for it.
observe() { PGDATABASE=template1 sql "SELECT pg_stat_clear_snapshot(); $1" | tail -n 1; }

scenario_idle() {
    local seconds before after
    seconds=$(count 60 1)
    fresh
    setting my_worker.worker_idle_timeout 600
    ours plain 1000 >/dev/null
    quiet "$seconds"
    for ((ROUND = 1; ROUND <= REPEAT; ROUND++)); do
        before=$(observe "$IDLE_COUNTS")
        watch_idle my_custom_worker "$seconds"
        after=$(observe "$IDLE_COUNTS")
        record "CPU in $seconds s" ms "$(idle_cpu my_custom_worker "$seconds" "$seconds")"
        record "wake-ups in $seconds s" times "${IDLE_WAKES[my_custom_worker]}"
        record "transactions in $seconds s" times "$((${after%% *} - ${before%% *}))"
        record "transaction ids in $seconds s" times "$(awk -v a="$after" -v b="$before" 'BEGIN { split(a, x, " "); split(b, y, " "); print x[2] - y[2] }')"
        record "WAL in $seconds s" bytes "$((${after##* } - ${before##* }))"
    done
    setting my_worker.worker_idle_timeout 60
    target "CPU in $seconds s" - "<= 10"
    target "transactions in $seconds s" - "<= 0"
    target "transaction ids in $seconds s" - "<= 0"
    target "WAL in $seconds s" - "<= 0"
}

IDLE_COUNTS="SELECT concat_ws(' ',
    (SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database WHERE datname <> 'template1'),
    pg_snapshot_xmax(pg_current_snapshot()), pg_current_wal_insert_lsn() - '0/0')"
