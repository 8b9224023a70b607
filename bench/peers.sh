# The peers of `make bench`, each got from its registry into the run's own directory, by the registry's
# own client, when it is asked for. get_NAME gets one, or fails with a word why in WHY; peer_NAME JOBS
# records the figures of one repetition, each beside one of ours.
#
# All jobs are 100,000 that wait when the clock starts. The slow ones are stopped after a share of
# them: their speed is that of the first jobs, which is not below that of the last.

NODE_PEERS="graphile-worker@0.18 pg-boss@10 pg@8"
PYTHON_PEERS=("procrastinate==3.*" "psycopg[binary,pool]==3.*")
PGMQ_CRATE="0.33"

declare -A PEER_STATE
WHY=

# have_peer NAME: gets it the first time. One that cannot be had is left out.
have_peer() {
    if [ -z "${PEER_STATE[$1]:-}" ]; then
        say "   getting $1"
        WHY="it could not be installed"
        if "get_$1"; then PEER_STATE[$1]=here; else PEER_STATE[$1]=${WHY}; fi
    fi
    [ "${PEER_STATE[$1]}" = here ] || { left_out "$1" "${PEER_STATE[$1]}"; return 1; }
}

# version WHAT VERSION: into the table.
version() { note "$1 $2"; }

# beside_noop, beside_writing: ours at its default settings, for the peer that comes next.
beside_noop() { speed "my_worker" "$1" ours plain "$1"; }
beside_writing() { speed "my_worker: writing" "$1" ours write "$1"; }

# peer_speed CASE JOBS COMMAND ARG...: like `speed`, but a peer that fails does not count against us.
peer_speed() {
    local ms
    ms=$("${@:3}" 2>"$WORK/tmp/peer.log") || ms=
    if [ -n "$ms" ]; then
        record "$1" jobs/s "$(rate "$2" "$ms")"
    else
        left_out "$1" "it failed: $(tail -n 1 "$WORK/tmp/peer.log")"
    fi
}

# wants NAME: it was asked for, and can be had.
wants() {
    case " $PEERS " in *" $1 "*) have_peer "${2:-$1}" ;; *) return 1 ;; esac
}

lacks() {
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null || { WHY="there is no $program"; return 0; }
    done
    return 1
}

# ---- npm ----------------------------------------------------------------------------------------

get_npm() {
    local dir=$WORK/tmp/npm
    [ ! -e "$dir/ready" ] || return 0
    if lacks npm node; then return 1; fi
    user_dir "$dir"
    # shellcheck disable=SC2086 # several packages
    (cd "$dir" && as_user timeout 300 npm install --silent --no-fund --no-audit $NODE_PEERS) >"$WORK/tmp/npm.log" 2>&1 || {
        WHY="npm could not install it"
        return 1
    }
    cp bench/peer_*.js bench/peer_*.mjs "$dir/" && cp -r clients/node "$dir/client" && touch "$dir/ready"
}

npm_version() { sed -n 's/^ *"version": "\(.*\)".*/\1/p' "$WORK/tmp/npm/node_modules/$1/package.json" | head -n 1; }

# node_peer NAME JOB JOBS ENOUGH
node_peer() {
    fresh
    (cd "$WORK/tmp/npm" && as_user timeout --foreground 300 node "peer_$1.js" "${@:2}")
}

# graphile-worker at its fastest settings: 24 at once, a local queue of 500, no delay of completion.
get_graphile() { get_npm && version graphile-worker "$(npm_version graphile-worker)"; }

peer_graphile() {
    beside_noop "$1"
    peer_speed "graphile-worker: own empty task" "$1" node_peer graphile own "$1" "$1"
    peer_speed "graphile-worker" "$(($1 / 2))" node_peer graphile noop "$1" "$(($1 / 2))"
    beside_writing "$1"
    peer_speed "graphile-worker: writing" "$(($1 / 2))" node_peer graphile touch "$1" "$(($1 / 2))"
}

# pg-boss: its fetch() and complete() in two loops, 1,000 jobs at once. Its work() sleeps between batches.
get_pgboss() { get_npm && version pg-boss "$(npm_version pg-boss)"; }

peer_pgboss() {
    beside_noop "$1"
    peer_speed "pg-boss: own empty task" "$(($1 / 5))" node_peer pgboss own "$1" "$(($1 / 5))"
    peer_speed "pg-boss" "$(($1 / 5))" node_peer pgboss noop "$1" "$(($1 / 5))"
    beside_writing "$1"
    peer_speed "pg-boss: writing" "$(($1 / 5))" node_peer pgboss touch "$1" "$(($1 / 5))"
}

# Our client, of whose jobs nothing is to be done but to say that they are done.
client_by_node() { # client_by_node JOBS
    fresh
    fill_consumed "$1" || return
    (cd "$WORK/tmp/npm" && as_user timeout --foreground 300 node peer_client.mjs "$1")
}

# ---- PyPI ---------------------------------------------------------------------------------------

get_python() {
    local dir=$WORK/tmp/python
    [ ! -e "$dir/ready" ] || return 0
    if lacks python3; then return 1; fi
    { as_user python3 -m venv "$dir" && as_user timeout 300 "$dir/bin/pip" install -q "${PYTHON_PEERS[@]}"; } >"$WORK/tmp/pip.log" 2>&1 || {
        WHY="pip could not install it"
        return 1
    }
    cp bench/peer_*.py bench/listener.py "$dir/" && touch "$dir/ready"
}

python_version() { "$WORK/tmp/python/bin/python" -c 'import importlib.metadata as m, sys; print(m.version(sys.argv[1]))' "$1"; }

# psycopg: for the consumer by LISTEN/NOTIFY of the scenario `latency`.
get_psycopg() { get_python && version psycopg "$(python_version psycopg)"; }

# by_psycopg WHOSE BATCH JOBS: a consumer of ours or of pgmq.
by_psycopg() {
    fresh
    case $1 in
        pgmq) run_sql -c "CALL bench.fill_pgmq($3)" -c "VACUUM ANALYZE pgmq.q_bench" -c "CHECKPOINT" >/dev/null || return ;;
        *) fill_consumed "$3" || return ;;
    esac
    (cd "$WORK/tmp" && as_user timeout --foreground 300 python/bin/python python/peer_consumers.py "$1" "$2")
}

# procrastinate: 24 at once, finished jobs deleted.
get_procrastinate() { get_python && version procrastinate "$(python_version procrastinate)"; }

python_peer() {
    fresh
    (cd "$WORK/tmp" && as_user timeout --foreground 300 python/bin/python python/peer_procrastinate.py "$@")
}

peer_procrastinate() {
    beside_noop "$1"
    peer_speed "procrastinate" "$(($1 / 20))" python_peer noop "$1" "$(($1 / 20))"
    beside_writing "$1"
    peer_speed "procrastinate: writing" "$(($1 / 20))" python_peer touch "$1" "$(($1 / 20))"
}

# ---- apt: Debian's packages, unpacked into the run's copy of the server ----------------------------

# get_deb PACKAGE FILE: the package's files are those of Debian's server of the same major version; an
# installed one is in the copy already.
get_deb() {
    local dir=$WORK/tmp/deb
    if [ -e "$("$BIN/pg_config" --sharedir)/extension/$2.control" ]; then version "$1" "as installed"; return; fi
    if [ -n "$SERVER" ]; then WHY="the server is not ours to add to"; return 1; fi
    if lacks apt-get dpkg; then return 1; fi
    case $("$PG_CONFIG" --version) in *Debian* | *Ubuntu* | *pgdg*) ;; *) WHY="its package is for Debian's server"; return 1 ;; esac
    user_dir "$dir"
    (cd "$dir" && timeout 120 apt-get download "$1") >"$WORK/tmp/deb.log" 2>&1 && dpkg -x "$dir/$1"_*.deb "$WORK/server" || {
        WHY="apt could not get $1"
        return 1
    }
    version "$1" "$(dpkg-deb -f "$dir/$1"_*.deb Version)"
}

major() { "$PG_CONFIG" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/'; }

get_cron() { get_deb "postgresql-$(major)-cron" pg_cron; }

# PgQ: events in batches of 1,000, a tick each; one consumer.
get_pgq() {
    get_deb "postgresql-$(major)-pgq3" pgq || return
    run_sql -f bench/peer_pgq.sql >"$WORK/tmp/pgq.log" 2>&1 || { WHY="its set-up failed"; return 1; }
}

drain_pgq() { # drain_pgq JOBS WRITING
    fresh
    run_sql -c "CALL bench.fill_pgq($1)" -c "VACUUM ANALYZE" -c "CHECKPOINT" >/dev/null || return
    timed_call "bench.drain_pgq($2)"
}

# It hands out a batch, of which one job that fails takes all with it: what a batch handler is here.
peer_pgq() {
    beside_noop "$1"
    peer_speed "PgQ" "$1" drain_pgq "$1" false
    speed "my_worker: batch handler" "$1" ours batch "$1"
    beside_writing "$1"
    peer_speed "PgQ: writing" "$1" drain_pgq "$1" true
    speed "my_worker: batch handler, writing" "$1" ours batch_write "$1"
}

# ---- crates.io ------------------------------------------------------------------------------------

# pgmq: its SQL is in its Rust client. read() and delete() in a PL/pgSQL loop, one transaction a batch.
get_pgmq() {
    local dir=$WORK/tmp/crate file
    if lacks "${CARGO:=cargo}"; then return 1; fi
    mkdir -p "$dir/src" && touch "$dir/src/lib.rs"
    printf '[package]\nname = "get"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n[dependencies]\npgmq = "%s"\n' "$PGMQ_CRATE" >"$dir/Cargo.toml"
    (cd "$dir" && timeout 300 "$CARGO" vendor --quiet vendor) >"$WORK/tmp/cargo.log" 2>&1 || {
        WHY="cargo could not get its crate"
        return 1
    }
    file=$(find "$dir/vendor/pgmq" -name pgmq.sql | head -n 1)
    [ -n "$file" ] || { WHY="its crate has no pgmq.sql"; return 1; }
    # As an extension's script: without the lines that only CREATE EXTENSION can run.
    { echo "CREATE SCHEMA pgmq;"; grep -v '^\\' "$file" | sed 's/@extschema@/pgmq/g'; cat bench/peer_pgmq.sql; } |
        run_sql >"$WORK/tmp/pgmq.log" 2>&1 || { WHY="its set-up failed: $(tail -n 1 "$WORK/tmp/pgmq.log")"; return 1; }
    version "pgmq (from its crate)" "$(sed -n 's/^default_version *= *.\([0-9.]*\).*/\1/p' "$dir"/vendor/pgmq/src/install/embedded/pgmq.control)"
}

drain_pgmq() { # drain_pgmq BATCH JOBS WRITING
    fresh
    run_sql -c "CALL bench.fill_pgmq($2)" -c "VACUUM ANALYZE pgmq.q_bench" -c "CHECKPOINT" >/dev/null || return
    timed_call "bench.drain_pgmq($1, $3)"
}

consumed_of_pgmq() { # consumed_of_pgmq BATCH JOBS
    fresh
    run_sql -c "CALL bench.fill_pgmq($2)" -c "VACUUM ANALYZE pgmq.q_bench" -c "CHECKPOINT" >/dev/null || return
    timed_call "bench.consume_pgmq($1)"
}

peer_pgmq() {
    beside_noop "$1"
    peer_speed "pgmq of 100" "$1" drain_pgmq 100 "$1" false
    peer_speed "pgmq of 1000" "$1" drain_pgmq 1000 "$1" false
    beside_writing "$1"
    peer_speed "pgmq of 100: writing" "$1" drain_pgmq 100 "$1" true
    peer_speed "pgmq of 1000: writing" "$1" drain_pgmq 1000 "$1" true
}
