# Peers of `make bench`, each got from its registry into the run's own directory when asked for.
# peer_NAME JOBS records the figures of one repetition.

# node_peer NAME: has bench/NAME.js and what it requires in $WORK/tmp/npm, or fails with a word.
node_peer() {
    local dir=$WORK/tmp/npm
    if [ ! -e "$dir" ]; then
        command -v npm >/dev/null || { say "   $1: left out, there is no npm"; return 1; }
        user_dir "$dir"
        (cd "$dir" && as_user npm install --silent --no-fund --no-audit graphile-worker@0.18 pg@8 >"$WORK/tmp/npm.log" 2>&1)
    fi
    [ -d "$dir/node_modules/pg" ] || { say "   $1: left out, npm could not install it"; return 1; }
    cp "bench/$1.js" "$dir/"
}

# graphile-worker (npm) at its fastest settings: 24 at once, a local queue of 500, no delay of completion.
peer_graphile() {
    local jobs=$1 ms
    node_peer graphile || return 0
    fresh
    ms=$(cd "$WORK/tmp/npm" && as_user timeout 300 node graphile.js "$jobs" 2>"$WORK/tmp/graphile.log") || {
        say "   graphile-worker: left out, it failed: $(tail -n 1 "$WORK/tmp/graphile.log")"
        return 0
    }
    record "graphile-worker" jobs/s "$(rate "$jobs" "$ms")"
}
