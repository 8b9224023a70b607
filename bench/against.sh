# The scenario `against`: this tree beside an older commit, AGAINST, each in a server of its own, in turn,
# seconds apart. `make bench SCENARIO=against AGAINST=6de179f REPEAT=9` shows what has become slower: each
# ratio is the median over the pairs, and above 1 this tree is faster. Beside the speed stands what the
# server took of the processors, which a neighbour of the machine disturbs less.

AGAINST=${AGAINST:-}

# Each of these drains 100,000 jobs.
AGAINST_DRAIN="plain write kept batch batch_write"

scenario_against() {
    local name
    begin_before || return
    for ((ROUND = 1; ROUND <= REPEAT; ROUND++)); do
        for name in $AGAINST_DRAIN; do both drained "drain: $name" "$(count 100000)" 100 "$name"; done
        both drained "drain: plain, max_items 1000" "$(count 100000)" 1000 plain
        both drained "drain: write, max_items 1000" "$(count 100000)" 1000 write
        both drained "drain: two workers" "$(count 200000)" 100 plain 2
        both enqueued "INSERT" "INSERT INTO my_queue (queue, payload) VALUES ('plain', '{}')"
        both enqueued "enqueue()" "SELECT my_worker.enqueue('bench.noop', '{}', 'plain')"
        both inserted "INSERT .. SELECT" "INSERT INTO my_queue (queue, payload) SELECT 'plain', '{}' FROM generate_series(1, $(count 100000))"
        both inserted "enqueue_many()" "SELECT count(*) FROM my_worker.enqueue_many('bench.noop', array_fill('{}'::jsonb, ARRAY[$(count 100000)]), 'plain')"
        both delayed "latency" 20 "$(count 10 2)"
        both delayed "latency" 1000 "$(count 5 2)"
    done
    on before stop_cluster before
    awk -F'"' 'NR > 1 && sub(/^this, /, "", $2) && !seen[$2]++ { print $2 }' "$CSV" | while IFS= read -r name; do
        case $name in
            *": p50 "* | *": p99 "* | *", CPU") target "before, $name" "this, $name" "-" ;;
            *) target "this, $name" "before, $name" "-" ;;
        esac
    done
}

# The scenario `turns`: drains and INSERT .. SELECT alone, in turns of some 50 ms, hundreds of them, by the processor
# time that the workers, or the session, take a job. A machine that is shared changes its speed from one second to the next, by
# a half and more; two turns side by side see the same of it. `make bench SCENARIO=turns AGAINST=6de179f TURNS=200`.
scenario_turns() {
    local name
    begin_before || return
    for name in $TURNS_OF; do
        case $name in
            *_1000) in_turns "${name%_1000}, max_items 1000" 1000 "${name%_1000}" 1 ;;
            *_two) in_turns "${name%_two}, two workers" 100 "${name%_two}" 2 ;;
            *) in_turns "$name" 100 "$name" 1 ;;
        esac
    done
    on before stop_cluster before
}

# begin_before: the older commit in its server.
begin_before() {
    [ -n "$AGAINST" ] || die "AGAINST=COMMIT says which commit stands beside this one"
    reloc_commit "$AGAINST" || { failed "against $AGAINST" "it could not be built or installed"; return 1; }
    (BIN=$BEFORE_BIN SETUP=$WORK/before.src/bench/setup.sql begin_cluster before) || { failed "against $AGAINST" "its server did not start"; return 1; }
    on before warm_up
}

# So many turns go by before both servers start anew: where a server's libraries and memory lie makes up to five
# percent, and stays the same for its life.
SITTING=20

# in_turns CASE MAX_ITEMS QUEUE WORKERS
in_turns() {
    local jobs=10000 server
    case $3 in *write) jobs=4000 ;; esac
    jobs=$((jobs * $4))
    for ((ROUND = 1; ROUND <= TURNS; ROUND++)); do
        case $((ROUND % SITTING)) in
            1) sit_down "$2" "$3" "$jobs" "$4" ;;
            11) for server in before bench; do on "$server" run_sql -c "VACUUM $(on "$server" jobs_table)" -c "VACUUM bench.rows"; done ;;
        esac
        if [ $((ROUND % 2)) = 1 ]; then
            turn "before, $1" before "$3" "$jobs"
            turn "this, $1" bench "$3" "$jobs"
        else
            turn "this, $1" bench "$3" "$jobs"
            turn "before, $1" before "$3" "$jobs"
        fi
        [ $((ROUND % SITTING)) != 0 ] && [ "$ROUND" != "$TURNS" ] || stand_up
    done
    target "before, $1" "this, $1" "-"
    [ "$1" != plain ] || target "before, INSERT .. SELECT" "this, INSERT .. SELECT" "-"
}

# sit_down MAX_ITEMS QUEUE JOBS WORKERS: both servers start anew, and drain once.
sit_down() {
    local server bin
    for server in before bench; do
        bin=$BIN
        [ "$server" = bench ] || bin=$BEFORE_BIN
        on "$server" setting my_worker.max_items "$1"
        on "$server" setting my_worker.max_workers "$4"
        (BIN=$bin on "$server" restart_cluster "$server")
        on "$server" fresh
        on "$server" ours_on
        on "$server" open_session "$server"
        turn "" "$server" "$2" "$3"
    done
}

stand_up() {
    local server
    for server in before bench; do close_session "$server"; done
}

# turn CASE SERVER QUEUE JOBS: drains them, and records what the workers took, and of plain ones what their INSERT took.
# Without a case it records nothing, and need not find a worker.
turn() {
    local session workers from to
    ask "$2" "SELECT pg_backend_pid()"
    session=$ANSWER
    ask "$2" "SELECT coalesce(string_agg(pid::text, ' '), '') FROM my_worker.workers WHERE kind = 'worker'"
    workers=$ANSWER
    ask "$2" "SELECT my_worker.pause_queue('$3')"
    from=$(taken "$session")
    ask "$2" "WITH new AS (INSERT INTO my_queue (queue, payload) SELECT '$3', '{}' FROM generate_series(1, $4) RETURNING 1) SELECT count(*) FROM new"
    to=$(taken "$session")
    case $1 in *", plain") record "${1%plain}INSERT .. SELECT" us/job "$(each "$from" "$to" "$4")" ;; esac
    # shellcheck disable=SC2086 # one pid a word
    from=$(taken $workers)
    ask "$2" "SELECT my_worker.resume_queue('$3')"
    while ask "$2" "SELECT EXISTS (SELECT FROM my_queue)" && [ "$ANSWER" = t ]; do pause 0.01; done
    # They commit, and go to sleep.
    pause 0.02
    # shellcheck disable=SC2086 # one pid a word
    to=$(taken $workers)
    [ -z "$1" ] || record "$1" us/job "$(each "$from" "$to" "$4")"
}

# taken PID...: prints the nanoseconds of a processor that these have had; nothing if one is gone.
taken() {
    local pid ns sum=0
    for pid; do
        read -r ns _ <"/proc/$pid/schedstat" || return
        sum=$((sum + ns))
    done
    [ "$sum" = 0 ] || echo "$sum"
}

# each FROM TO JOBS: prints the microseconds of each; nothing if one of the two is not known.
each() {
    if [ -n "$1" ] && [ -n "$2" ]; then awk -v ns="$(($2 - $1))" -v n="$3" 'BEGIN { printf "%.3f", ns / n / 1000 }'; fi
}

# reloc_commit COMMIT: the module of that commit in a copy of the server. Sets BEFORE_BIN.
reloc_commit() {
    local src=$WORK/before.src
    mkdir "$src" && git archive "$1" | tar -x -C "$src" || return
    cp -al "$WORK/server" "$WORK/before.server" || return
    rm -f "$WORK/before.server$(pg_config_dir pkglibdir)"/my_worker.so "$WORK/before.server$(pg_config_dir sharedir)"/extension/my_worker*
    $MAKE -s -C "$src" build >"$WORK/before.log" 2>&1 && $MAKE -s -C "$src" install DESTDIR="$WORK/before.server" >/dev/null || return
    chmod -R a+rX "$WORK/before.server"
    BEFORE_BIN=$WORK/before.server$(pg_config_dir bindir)
}

# both FUNCTION CASE ARG...: the case in one server and then in the other; which is first changes with the round.
both() {
    if [ $((ROUND % 2)) = 1 ]; then
        "$1" "before, $2" before "${@:3}"
        "$1" "this, $2" bench "${@:3}"
    else
        "$1" "this, $2" bench "${@:3}"
        "$1" "before, $2" before "${@:3}"
    fi
}

drained() { # drained CASE SERVER JOBS MAX_ITEMS QUEUE [WORKERS]
    on "$2" setting my_worker.max_items "$4"
    [ -z "${6:-}" ] || on "$2" workers "$6"
    on "$2" speed "$1" "$3" ours "$5" "$3"
    [ -z "${6:-}" ] || on "$2" workers 1
    record "$1, CPU" us/job "$(awk -v n="$3" '{ printf "%.3f", $1 / n }' "$WORK/tmp/cpu")"
}

enqueued() { # enqueued CASE SERVER STATEMENT
    local from tps
    on "$2" ours_off
    on "$2" fresh
    from=$(on "$2" cpu_taken)
    tps=$(on "$2" bench_enqueue "$(count 5 1)" "$3")
    record "$1" tx/s "$tps"
    record "$1, CPU" us/job "$(awk -v from="$from" -v to="$(on "$2" cpu_taken)" -v n="$((tps * $(count 5 1)))" 'BEGIN { printf "%.3f", (to - from) / n }')"
}

inserted() { # inserted CASE SERVER STATEMENT
    local from
    on "$2" ours_off
    on "$2" fresh
    from=$(on "$2" cpu_taken)
    on "$2" many_rows "$1" "$(count 100000)" "$3"
    record "$1, CPU" us/job "$(awk -v from="$from" -v to="$(on "$2" cpu_taken)" -v n="$(count 100000)" 'BEGIN { printf "%.3f", (to - from) / n }')"
}

delayed() { # delayed CASE SERVER RATE SECONDS
    on "$2" fresh
    on "$2" ours_on
    on "$2" send "$3" "$4" on "INSERT INTO my_queue (queue, handler) VALUES ('plain', 'bench.started')"
    on "$2" await_empty 60
    on "$2" record_delays "$1" "$3" ""
}
