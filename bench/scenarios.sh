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
