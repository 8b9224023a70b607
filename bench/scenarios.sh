# The scenarios of `make bench`; see bench/run for what they call.

# ---- steps --------------------------------------------------------------------------------------

setting() { # setting NAME VALUE: for all, from now on
    sql "ALTER SYSTEM SET $1 = '$2'"
    sql "SELECT pg_reload_conf()" >/dev/null
}

# ours_on, ours_off: jobs run, or wait.
ours_on() { setting my_worker.enabled on; }
ours_off() { setting my_worker.enabled off; }

# fresh: every run begins with empty, vacuumed tables and a checkpoint behind it.
fresh() {
    sql "TRUNCATE bench.marks, bench.jobs, my_worker.history"
    sql "DELETE FROM my_queue"
    run_sql -c "VACUUM my_queue" -c "VACUUM ANALYZE bench.jobs" -c "CHECKPOINT" >/dev/null
}

# percent 0.5: prints 50.
percent() { awk -v p="$1" 'BEGIN { print 100 * p }'; }

has_mark() { [ "$(sql "SELECT count(*) FROM bench.marks WHERE what = '$1'")" != 0 ]; }

empty_queue() { [ "$(sql "SELECT count(*) FROM (SELECT FROM my_queue WHERE run_at <= now() LIMIT 1) AS q")" = 0 ]; }

# ours QUEUE JOBS: prints the milliseconds that our workers need for so many jobs.
ours() {
    fresh
    ours_off
    run_sql -c "CALL bench.fill('$1', $2)" -c "VACUUM ANALYZE my_queue" -c "CHECKPOINT" >/dev/null || return
    ours_on
    wait_until 600 has_mark last && wait_until 60 empty_queue || return
    sql "SELECT bench.elapsed('first', 'last')"
}

# loop BATCH JOBS: the same for the PL/pgSQL loop.
loop() {
    fresh
    run_sql -c "INSERT INTO bench.jobs (payload) SELECT '{}' FROM generate_series(1, $2)" \
        -c "VACUUM ANALYZE bench.jobs" -c "CHECKPOINT" >/dev/null || return
    drain_loop "$1"
}

# drain_loop BATCH [ENOUGH]: prints the milliseconds that the loop needs for what is there.
drain_loop() {
    run_sql -c "INSERT INTO bench.marks (what, at) VALUES ('first', clock_timestamp())" \
        -c "CALL bench.drain($1, ${2:-NULL})" \
        -c "INSERT INTO bench.marks (what, at) VALUES ('last', clock_timestamp())" \
        -c "SELECT bench.elapsed('first', 'last')" | tail -n 1
}

# hold_snapshot: from now on a session holds a snapshot that is as old as now. release_snapshot ends it.
hold_snapshot() {
    coproc HOLDER { run_sql 2>&1; }
    HOLDER_IN=${HOLDER[1]}
    HOLDER_OUT=${HOLDER[0]}
    printf 'BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT 42;\n' >&"$HOLDER_IN"
    read -r -t 20 _ <&"$HOLDER_OUT"
}

release_snapshot() {
    local pid=$HOLDER_PID
    printf 'COMMIT;\n\\q\n' >&"$HOLDER_IN"
    wait "$pid"
}

# ---- drain: how fast a backlog of jobs that do nothing goes ----------------------------------------

scenario_drain() {
    local jobs peer ms round
    jobs=$(count 100000)
    for ((round = 1; round <= REPEAT; round++)); do
        setting my_worker.max_workers 1
        setting my_worker.max_items 100
        ms=$(ours plain "$jobs") && record "my_worker" jobs/s "$(rate "$jobs" "$ms")"
        ms=$(loop 100 "$jobs") && record "PL/pgSQL loop of 100" jobs/s "$(rate "$jobs" "$ms")"
        setting my_worker.max_items 1000
        ms=$(ours plain "$jobs") && record "my_worker: max_items 1000" jobs/s "$(rate "$jobs" "$ms")"
        ms=$(loop 1000 "$jobs") && record "PL/pgSQL loop of 1000" jobs/s "$(rate "$jobs" "$ms")"
        ms=$(ours kept "$jobs") && record "my_worker: history kept" jobs/s "$(rate "$jobs" "$ms")"
        ms=$(ours batch "$jobs") && record "my_worker: batch handler" jobs/s "$(rate "$jobs" "$ms")"
        setting my_worker.max_workers 2
        ms=$(ours plain "$jobs") && record "my_worker: two workers" jobs/s "$(rate "$jobs" "$ms")"
        setting my_worker.max_workers 1
        for peer in $PEERS; do
            "peer_$peer" "$jobs"
        done
    done
    setting my_worker.max_items 100
    target "my_worker" "PL/pgSQL loop of 100" ">= 2"
    target "my_worker: max_items 1000" "PL/pgSQL loop of 1000" ">= 1.2"
    target "my_worker: max_items 1000" "graphile-worker" ">= 4"
    target "my_worker: history kept" "my_worker: max_items 1000" ">= 0.6"
    target "my_worker: two workers" "my_worker: max_items 1000" ">= 1.3"
    target "my_worker: batch handler" "my_worker: max_items 1000" ">= 2"
}

# ---- snapshot: an old snapshot is held while many jobs pass ---------------------------------------

# The last part alone is measured.
snapshot_ours() { # snapshot_ours JOBS LAST HOLD
    fresh
    ours_off
    run_sql -c "CALL bench.fill('plain', $(($1 - $2)))" \
        -c "UPDATE bench.marks SET what = what" \
        -c "INSERT INTO my_queue (queue, handler, payload, run_at) VALUES ('plain', 'bench.mark', '{\"what\": \"part\"}', now())" \
        -c "INSERT INTO my_queue (queue, payload) SELECT 'plain', '{}' FROM generate_series(1, $2)" \
        -c "INSERT INTO my_queue (queue, handler, payload, run_at) VALUES ('plain', 'bench.mark', '{\"what\": \"end\"}', now())" \
        -c "VACUUM ANALYZE my_queue" -c "CHECKPOINT" >/dev/null || return
    [ "$3" = no ] || hold_snapshot
    ours_on
    wait_until 900 has_mark end && wait_until 60 empty_queue
    [ "$3" = no ] || release_snapshot
    sql "SELECT bench.elapsed('part', 'end')"
}

snapshot_loop() { # snapshot_loop JOBS LAST HOLD
    local ms
    fresh
    run_sql -c "INSERT INTO bench.jobs (payload) SELECT '{}' FROM generate_series(1, $1)" \
        -c "VACUUM ANALYZE bench.jobs" -c "CHECKPOINT" >/dev/null || return
    [ "$3" = no ] || hold_snapshot
    sql "CALL bench.drain(100, $(($1 - $2)))"
    ms=$(drain_loop 100)
    [ "$3" = no ] || release_snapshot
    echo "$ms"
}

scenario_snapshot() {
    local jobs last round ms
    jobs=$(count 500000)
    last=$(count 50000)
    setting my_worker.max_workers 1
    for ((round = 1; round <= REPEAT; round++)); do
        ms=$(snapshot_ours "$jobs" "$last" no) && record "my_worker: without" jobs/s "$(rate "$last" "$ms")"
        ms=$(snapshot_ours "$jobs" "$last" yes) && record "my_worker: old snapshot" jobs/s "$(rate "$last" "$ms")"
        [ "$round" = 1 ] || continue
        ms=$(snapshot_loop "$jobs" "$last" no) && record "PL/pgSQL loop of 100: without" jobs/s "$(rate "$last" "$ms")"
        ms=$(snapshot_loop "$jobs" "$last" yes) && record "PL/pgSQL loop of 100: old snapshot" jobs/s "$(rate "$last" "$ms")"
    done
    target "my_worker: old snapshot" "my_worker: without" ">= 0.9"
    target "PL/pgSQL loop of 100: old snapshot" "PL/pgSQL loop of 100: without" "-"
}

# ---- backlog: what stands in the queue or in the history beside the jobs that run ------------------

# behind JOBS: prints the milliseconds for so many jobs that go before all that is there.
behind() {
    sql "TRUNCATE bench.marks"
    ours_off
    run_sql -c "INSERT INTO my_queue (queue, handler, payload, priority, run_at) VALUES ('plain', 'bench.mark', '{\"what\": \"first\"}', -1, now() - interval '1 h')" \
        -c "INSERT INTO my_queue (queue, payload, priority) SELECT 'plain', '{}', -1 FROM generate_series(1, $1)" \
        -c "INSERT INTO my_queue (queue, handler, payload, priority) VALUES ('plain', 'bench.mark', '{\"what\": \"last\"}', -1)" \
        -c "CHECKPOINT" >/dev/null || return
    ours_on
    wait_until 300 has_mark last || return
    ours_off
    sql "SELECT bench.elapsed('first', 'last')"
}

# With a backlog in the way: due jobs of a lower priority, or jobs of the future, or finished ones.
scenario_backlog() {
    local jobs many round ms
    jobs=$(count 20000)
    many=$(count 1000000)
    fresh
    for ((round = 1; round <= REPEAT; round++)); do
        ms=$(behind "$jobs") && record "my_worker: small queue" jobs/s "$(rate "$jobs" "$ms")"
        fresh
    done
    run_sql -c "INSERT INTO my_queue (queue, payload, priority, run_at) SELECT 'plain', '{}', i % 3 - 2, now() + interval '1 day' FROM generate_series(1, $many) AS i" \
        -c "VACUUM ANALYZE my_queue" >/dev/null
    for ((round = 1; round <= REPEAT; round++)); do
        ms=$(behind "$jobs") && record "my_worker: $many future jobs" jobs/s "$(rate "$jobs" "$ms")"
    done
    fresh
    run_sql -c "INSERT INTO my_queue (queue, payload) SELECT 'plain', '{}' FROM generate_series(1, $many) AS i" \
        -c "VACUUM ANALYZE my_queue" >/dev/null
    for ((round = 1; round <= REPEAT; round++)); do
        ms=$(behind "$jobs") && record "my_worker: backlog of $many" jobs/s "$(rate "$jobs" "$ms")"
    done
    fresh
    run_sql -c "INSERT INTO my_worker.history (id, queue, status, payload, priority, run_at, created_at, attempts, owner, finished_at)
            SELECT i, 'plain', 'completed', '{}', 0, now(), now(), 1, 'postgres', now() FROM generate_series(1, 5 * $many) AS i" \
        -c "VACUUM ANALYZE my_worker.history" >/dev/null
    for ((round = 1; round <= REPEAT; round++)); do
        ms=$(behind "$jobs") && record "my_worker: history of $((5 * many))" jobs/s "$(rate "$jobs" "$ms")"
    done
    fresh
    ours_on
    # At most 1.2 times the time is at least 0.83 of the rate.
    target "my_worker: $many future jobs" "my_worker: small queue" ">= 0.83"
    target "my_worker: backlog of $many" "my_worker: small queue" ">= 0.83"
    target "my_worker: history of $((5 * many))" "my_worker: small queue" ">= 0.83"
}

# ---- enqueue: eight clients, one row a transaction; and many rows in one statement ---------------

bench_enqueue() { # bench_enqueue SECONDS STATEMENT: prints transactions a second
    printf '%s;\n' "$2" >"$WORK/tmp/enqueue.sql"
    chmod 644 "$WORK/tmp/enqueue.sql"
    as_user pgbench -n -M prepared -c 8 -j 2 -T "$1" -f "$WORK/tmp/enqueue.sql" 2>/dev/null |
        awk '/^tps/ { printf "%.0f", $3 }'
}

# timed STATEMENT: prints its milliseconds.
timed() { run_sql -c '\timing on' -c "$1" | awk '/^Time/ { print $2 }'; }

scenario_enqueue() {
    local seconds many round ms
    seconds=$(awk -v s="$SCALE" 'BEGIN { print (s < 1 ? 4 : 8) }')
    many=$(count 100000)
    sql "CREATE TABLE IF NOT EXISTS bench.like_ours (LIKE my_queue INCLUDING DEFAULTS INCLUDING IDENTITY INCLUDING INDEXES INCLUDING CONSTRAINTS)"
    ours_off
    for ((round = 1; round <= REPEAT; round++)); do
        fresh
        sql "TRUNCATE bench.like_ours"
        record "plain INSERT" tx/s "$(bench_enqueue "$seconds" "INSERT INTO bench.like_ours (queue, payload) VALUES ('plain', '{}')")"
        record "my_worker: INSERT" tx/s "$(bench_enqueue "$seconds" "INSERT INTO my_queue (queue, payload) VALUES ('plain', '{}')")"
        record "my_worker: enqueue()" tx/s "$(bench_enqueue "$seconds" "SELECT my_worker.enqueue('bench.noop', '{}', 'plain')")"
        record "INSERT and pg_notify" tx/s "$(bench_enqueue "$seconds" "WITH j AS (INSERT INTO bench.like_ours (queue, payload) VALUES ('plain', '{}') RETURNING id) SELECT pg_notify('jobs', '') FROM j")"
        fresh
        sql "TRUNCATE bench.like_ours"
        ms=$(timed "INSERT INTO bench.like_ours (queue, payload) SELECT 'plain', '{}' FROM generate_series(1, $many)")
        record "plain INSERT .. SELECT" rows/s "$(rate "$many" "$ms")"
        ms=$(timed "INSERT INTO my_queue (queue, payload) SELECT 'plain', '{}' FROM generate_series(1, $many)")
        record "my_worker: INSERT .. SELECT" rows/s "$(rate "$many" "$ms")"
        ms=$(timed "SELECT count(*) FROM my_worker.enqueue_many('bench.noop', array_fill('{}'::jsonb, ARRAY[$many]), 'plain')")
        record "my_worker: enqueue_many()" rows/s "$(rate "$many" "$ms")"
    done
    fresh
    ours_on
    target "my_worker: INSERT" "plain INSERT" ">= 0.8"
    target "my_worker: INSERT" "INSERT and pg_notify" ">= 4"
    target "my_worker: INSERT .. SELECT" "plain INSERT .. SELECT" ">= 0.5"
}

# ---- latency: from COMMIT to start --------------------------------------------------------------

# A job notes when it starts; the time before it is the client's clock_timestamp() at the INSERT, the
# last thing before COMMIT. The peer is a session that listens and notes the same.
scenario_latency() {
    local round rate_wanted seconds=8 p
    sql "DROP TABLE IF EXISTS bench.starts; CREATE TABLE bench.starts (what text, sent timestamptz, started timestamptz DEFAULT clock_timestamp())"
    sql "CREATE OR REPLACE FUNCTION bench.started(id bigint, payload jsonb) RETURNS void LANGUAGE sql AS
         \$\$ INSERT INTO bench.starts (what, sent) VALUES ('ours', (payload->>'at')::timestamptz) \$\$"
    ours_on
    for ((round = 1; round <= REPEAT; round++)); do
        for rate_wanted in 20 1000; do
            fresh
            sql "TRUNCATE bench.starts"
            printf '%s;\n' "INSERT INTO my_queue (queue, handler, payload) VALUES ('plain', 'bench.started', jsonb_build_object('at', clock_timestamp()))" >"$WORK/tmp/latency.sql"
            chmod 644 "$WORK/tmp/latency.sql"
            as_user pgbench -n -M prepared -c 4 -j 1 -R "$rate_wanted" -T "$seconds" -f "$WORK/tmp/latency.sql" >/dev/null 2>&1
            wait_until 60 empty_queue
            for p in 0.5 0.99; do
                record "my_worker: p$(percent $p) at $rate_wanted/s" ms "$(sql "SELECT round(1000 * extract(epoch FROM percentile_cont($p) WITHIN GROUP (ORDER BY started - sent))::numeric, 3) FROM bench.starts")"
            done
        done
        listen_latency 20 "$seconds"
    done
    target "my_worker: p50 at 20/s" "LISTEN/NOTIFY: p50 at 20/s" "<= 0.5"
    target "my_worker: p99 at 20/s" "LISTEN/NOTIFY: p99 at 20/s" "<= 0.5"
    target "my_worker: p99 at 1000/s" - "<= 10"
}

# A consumer as clients have it: it sleeps on its socket, and takes a job by DELETE when it is told.
listen_latency() { # listen_latency RATE SECONDS
    local p listener
    node_peer listener || return 0
    sql "TRUNCATE bench.starts, bench.jobs"
    (cd "$WORK/tmp/npm" && as_user timeout "$(($2 + 5))" node listener.js "$(($2 + 3))") &
    listener=$!
    sleep 1
    printf '%s;\n' "WITH j AS (INSERT INTO bench.jobs (payload) VALUES (jsonb_build_object('at', clock_timestamp())) RETURNING id) SELECT pg_notify('bench', id::text) FROM j" >"$WORK/tmp/latency.sql"
    as_user pgbench -n -M prepared -c 4 -j 1 -R "$1" -T "$2" -f "$WORK/tmp/latency.sql" >/dev/null 2>&1
    wait "$listener"
    for p in 0.5 0.99; do
        record "LISTEN/NOTIFY: p$(percent $p) at $1/s" ms "$(sql "SELECT round(1000 * extract(epoch FROM percentile_cont($p) WITHIN GROUP (ORDER BY started - sent))::numeric, 3) FROM bench.starts")"
    done
}

# ---- idle: a minute without work ------------------------------------------------------------------

idle_ticks() {
    local pid total=0
    for pid in $(sql "SELECT pid FROM pg_stat_activity WHERE backend_type = 'my_custom_worker'"); do
        total=$((total + $(awk '{ print $14 + $15 }' "/proc/$pid/stat")))
    done
    echo "$total"
}

scenario_idle() {
    local seconds ticks wal transactions
    seconds=$(awk -v s="$SCALE" 'BEGIN { print (s < 1 ? 15 : 60) }')
    fresh
    sleep 15
    ticks=$(idle_ticks)
    wal=$(sql "SELECT pg_current_wal_insert_lsn()")
    transactions=$(sql "SELECT pg_snapshot_xmax(pg_current_snapshot())")
    sleep "$seconds"
    record "my_worker: CPU in $seconds s" ms "$((10 * ($(idle_ticks) - ticks)))"
    record "my_worker: WAL in $seconds s" bytes "$(sql "SELECT pg_current_wal_insert_lsn() - '$wal'")"
    record "my_worker: transaction ids in $seconds s" ids "$(sql "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint - $transactions")"
    target "my_worker: CPU in $seconds s" - "<= 10"
    target "my_worker: WAL in $seconds s" - "<= 0"
    target "my_worker: transaction ids in $seconds s" - "<= 0"
}
