# What the scenarios of `make bench` and its peers do all the time: settings, fresh tables, waiting,
# draining.
#
# Waiting must cost the two cores nothing that is measured: a wait asks one open session, which holds
# no snapshot between two questions, and forks nothing (`pause` reads from a pipe that stays empty).

setting() { # setting NAME VALUE: for all, from now on
    run_sql -c "ALTER SYSTEM SET $1 = '$2'" -c "SELECT pg_reload_conf()" >/dev/null
}

# ours_on, ours_off: jobs run, or wait. A reload reaches the workers by and by, and a batch that runs
# ends first: off is off when three looks find that no job runs and none was done between them.
ours_on() { setting my_worker.enabled on; }
ours_off() {
    local before= same=0 deadline=$((SECONDS + 60))
    setting my_worker.enabled off
    open_session settled || return
    while [ "$same" -lt 3 ] && [ "$SECONDS" -lt "$deadline" ]; do
        ask settled "SELECT concat_ws(' ', current_setting('my_worker.enabled'), items_processed,
            (SELECT count(*) FROM my_worker.workers WHERE job_id IS NOT NULL)) FROM my_worker_status" || break
        case $ANSWER in
            "off "*" 0") if [ "$ANSWER" = "$before" ]; then same=$((same + 1)); else same=0; fi ;;
            *) same=0 ;;
        esac
        before=$ANSWER
        pause 0.1
    done
    close_session settled
    [ "$same" -ge 3 ] || { say "   jobs still run: $before"; return 1; }
}

# workers N: at most so many, from now on. Those that there are above it leave, and one that had not left
# would run jobs of what is measured next.
workers() {
    setting my_worker.max_workers "$1"
    await 60 "SELECT count(*) <= $1 FROM my_worker.workers WHERE kind = 'worker'"
}

# fresh: every measurement begins with empty, vacuumed tables and a checkpoint behind it.
fresh() {
    local jobs
    jobs=$(jobs_table) || return
    run_sql -c "TRUNCATE bench.marks, bench.jobs, bench.starts, $jobs, my_worker.history" \
        -c "VACUUM $jobs" -c "VACUUM ANALYZE bench.jobs" -c "VACUUM bench.rows" -c "CHECKPOINT" >/dev/null
}

# jobs_table: prints the name of the table of jobs; up to 1.0 it was the name that users write, too.
jobs_table() { sql "SELECT coalesce(to_regclass('my_worker._jobs'), to_regclass('my_queue'))"; }

# percent 0.5: prints 50.
percent() { awk -v p="$1" 'BEGIN { print 100 * p }'; }

# cpu_taken: the microseconds of processor that the server at PGHOST has taken, its ended processes included.
cpu_taken() {
    local top
    # A process that ends is counted by its parent a little later.
    pause 0.1
    top=$(head -n 1 "${PGHOST%/s}/data/postmaster.pid")
    {
        awk '{ print "ended", ($16 + $17) * 10000 }' "/proc/$top/stat"
        cat "/proc/$top/schedstat" $(pgrep -P "$top" | sed 's|.*|/proc/&/schedstat|') 2>/dev/null
    } | awk '/^ended/ { sum += $2; next } { sum += $1 / 1000 } END { printf "%d", sum }'
}

# ---- sessions and waiting -------------------------------------------------------------------------

pause() { read -r -t "$1" -u "$NEVER"; }

declare -A SESSION_IN SESSION_OUT SESSION_PID

# open_session NAME: a psql that stays until close_session. In a subshell it lives in that one alone.
open_session() {
    local in out pipe
    pipe=$WORK/tmp/$1.$BASHPID
    mkfifo "$pipe.in" "$pipe.out" || return
    run_sql <"$pipe.in" >"$pipe.out" 2>&1 &
    SESSION_PID[$1]=$!
    exec {in}>"$pipe.in" {out}<"$pipe.out"
    rm "$pipe.in" "$pipe.out"
    SESSION_IN[$1]=$in SESSION_OUT[$1]=$out
}

# ask NAME QUERY: one line of answer, in ANSWER.
ask() {
    ANSWER=
    printf '%s;\n' "$2" >&"${SESSION_IN[$1]}" && read -r -t 60 -u "${SESSION_OUT[$1]}" ANSWER
}

close_session() {
    local in=${SESSION_IN[$1]} out=${SESSION_OUT[$1]}
    printf '\\q\n' >&"$in"
    exec {in}>&- {out}<&-
    wait "${SESSION_PID[$1]}" 2>/dev/null
}

# await SECONDS QUERY: until it says t. Anything but t and f is an error.
await() {
    local deadline=$((SECONDS + $1)) status=1
    open_session waiter || return
    while ask waiter "$2"; do
        if [ "$ANSWER" = t ]; then status=0; break; fi
        if [ "$ANSWER" != f ]; then say "   $ANSWER"; break; fi
        if [ "$SECONDS" -ge "$deadline" ]; then say "   waited $1 s in vain for: $2"; break; fi
        pause 0.02
    done
    close_session waiter
    return $status
}

await_mark() { await "$1" "SELECT EXISTS (SELECT FROM bench.marks WHERE what = '$2')"; }
# await_done SECONDS MARK: that job has run, and all the others that are due. The jobs are looked for once it has:
# to plan a look through the view takes what a hundred jobs take.
await_done() { await_mark "$1" "$2" && await_empty "$1"; }
await_empty() { await "$1" "SELECT NOT EXISTS (SELECT FROM my_queue WHERE run_at <= now())"; }

# hold_snapshot: from now on a session holds a snapshot that is as old as now. release_snapshot ends it.
hold_snapshot() { open_session holder && ask holder "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 42" && [ "$ANSWER" = 42 ]; }
release_snapshot() { close_session holder; }

# ---- draining -----------------------------------------------------------------------------------

# ours QUEUE JOBS [ROWS [KEYS]]: prints the milliseconds that our workers need for so many jobs, from the start
# of the first to the start of the one after the last; beside so many rows of history; jobs of so many keys. Leaves
# in $WORK/tmp/cpu the microseconds that the server took of the processors meanwhile.
ours() {
    local from
    fresh
    ours_off || return
    [ -z "${3:-}" ] || run_sql -c "CALL bench.fill_history($3)" -c "VACUUM ANALYZE my_worker.history" >/dev/null || return
    run_sql -c "CALL bench.fill('$1', $2${4:+, $4})" -c "VACUUM ANALYZE $(jobs_table)" -c "CHECKPOINT" >/dev/null || return
    from=$(cpu_taken)
    ours_on
    await_done 600 last || return
    echo "$(($(cpu_taken) - from))" >"$WORK/tmp/cpu"
    sql "SELECT bench.elapsed('first', 'last')"
}

# loop BATCH JOBS [WRITING]: the same for the PL/pgSQL loop.
loop() {
    fresh
    run_sql -c "INSERT INTO bench.jobs (payload) SELECT '{}' FROM generate_series(1, $2)" \
        -c "VACUUM ANALYZE bench.jobs" -c "CHECKPOINT" >/dev/null || return
    timed_call "bench.drain($1, NULL, ${3:-false})"
}

# timed_call CALL: prints its milliseconds, and fails with it.
timed_call() {
    run_sql -c "TRUNCATE bench.marks" \
        -c "INSERT INTO bench.marks (what, at) VALUES ('first', clock_timestamp())" \
        -c "CALL $1" \
        -c "INSERT INTO bench.marks (what, at) VALUES ('last', clock_timestamp())" >/dev/null || return
    sql "SELECT bench.elapsed('first', 'last')"
}

# The first run starts processes, compiles functions and touches files for the first time: not measured.
warm_up() {
    local jobs
    jobs=$(count 10000)
    { ours plain "$jobs" && ours write "$jobs" && loop 100 "$jobs" && loop 100 "$jobs" true; } >/dev/null ||
        die "the warm-up failed"
}
