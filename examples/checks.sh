# What the checks of the five uses share (maintenance, orders, rollup, replication, alerting). Sourced by
# examples/NAME/check, which runs the blocks of its README in order, as a reader would type them, on the server that
# PGHOST and the like name, and looks at what has come of them. Prints TAP, then one line with figures.

set -u
name=${here##*/}
work=$(mktemp -d) || exit 1
count=0 failed=0 done_blocks=0
trap 'leave' EXIT
trap 'exit 143' TERM INT
cp -R "$here/." "$work/" && cd "$work" || exit 1

# What a reader has to install, and the test has already.
pip() { :; }
npm() { mkdir -p node_modules && ln -sfn "$here/../../clients/node" node_modules/my-worker; }

leave() {
    local pids
    pids=$(jobs -p)
    # shellcheck disable=SC2086 # one pid a word
    [ -z "$pids" ] || kill $pids 2>/dev/null
    [ -z "$(declare -F at_exit)" ] || at_exit
    wait
    rm -rf "$work"
}

ok() { # ok TRUTH NAME
    count=$((count + 1))
    if [ "$1" = 0 ]; then echo "ok $count - $2"; else failed=1; echo "not ok $count - $2"; fi
}

is() { # is GOT EXPECTED NAME
    [ "$1" = "$2" ]
    ok $? "$3"
    [ "$1" = "$2" ] || printf '# got: %s\n# expected: %s\n' "$1" "$2"
}

sql() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
ask() { sql -c "$1"; }

# wait_for SQL: until the query answers true, which it must within two minutes; not while the server is coming back.
wait_for() {
    local deadline=$((SECONDS + 120))
    until [ "$(ask "$1" 2>/dev/null)" = t ]; do
        if [ $SECONDS -ge $deadline ]; then
            echo "# waited in vain: $1"
            ask "SELECT DISTINCT '# ' || queue || ': ' || last_error FROM my_worker.jobs WHERE last_error <> '' LIMIT 10"
            return 1
        fi
        sleep 0.1
    done
}

# next_block: does what the next block of README.md says: sql by psql, sh in this very shell. Leaves what was
# printed in the file `answer`. Nothing makes sense after one that fails.
next_block() {
    done_blocks=$((done_blocks + 1))
    awk -v want=$done_blocks '
        /^```(sql|sh)$/ { n++; kind = substr($0, 4); if (n == want) { print kind; inside = 1; next } }
        $0 == "```" { inside = 0 }
        inside' README.md >block
    if [ "$(head -n 1 block)" = sql ]; then
        sed 1d block | psql -X -v ON_ERROR_STOP=1 >answer 2>&1
    else
        # shellcheck source=/dev/null
        . <(sed 1d block) >answer 2>&1
    fi
    ok $? "README: $(sed -n '2,${/^--/d; p; q}' block)"
    [ "$failed" = 0 ] || { sed 's/^/# /' answer; exit 1; }
}

# kill_workers ROLE N: kill -9, N times, of a worker of that role that is at work. The server restarts each time, so this
# is done on a server that is ours alone, and tests/run is told. Sets $killed.
kill_workers() {
    local pid deadline=$((SECONDS + 60))
    killed=0
    [ -n "${PGDATA:-}" ] || return 0
    echo "# kill -9 of workers: the server comes back each time"
    while [ $killed -lt "$2" ] && [ $SECONDS -lt $deadline ]; do
        pid=$(ask "SELECT pid FROM my_worker.workers WHERE role = '$1' AND state = 'running'" 2>/dev/null | head -n 1)
        [ -z "$pid" ] || { kill -9 "$pid" && killed=$((killed + 1)); sleep 1; }
        wait_for 'SELECT true'
    done
    is $killed "$2" "workers are killed at work"
}

# finish FIGURES: the plan, and the line that sums up.
finish() {
    is "$done_blocks" "$(grep -cE '^```(sql|sh)$' README.md)" "all blocks of the README were run"
    echo "1..$count"
    echo "$name: $1"
    exit $failed
}

sql -c 'SET client_min_messages = warning' -c 'CREATE EXTENSION IF NOT EXISTS my_worker'
