# Peers of `make bench`, each got from its registry into the run's own directory when asked for.
# peer_NAME JOBS records the figures of one repetition.

# graphile-worker (npm) at its fastest settings: 24 at once, a local queue of 500, no delay of completion.
peer_graphile() {
    local dir=$WORK/tmp/graphile jobs=$1 ms
    if [ ! -e "$dir/ready" ]; then
        command -v npm >/dev/null || { say "   graphile-worker: left out, there is no npm"; return; }
        user_dir "$dir"
        (cd "$dir" && as_user npm install --silent --no-fund --no-audit graphile-worker@0.16 pg >npm.log 2>&1) || {
            say "   graphile-worker: left out, npm could not install it"
            return
        }
        cp bench/graphile.js "$dir/"
        touch "$dir/ready"
    fi
    fresh
    ms=$(cd "$dir" && as_user node graphile.js "$jobs" 2>"$WORK/graphile.log") || {
        say "   graphile-worker: left out, it failed: $(tail -n 1 "$WORK/graphile.log")"
        return
    }
    record "graphile-worker" jobs/s "$(rate "$jobs" "$ms")"
}
