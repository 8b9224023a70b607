# What the keeper has to do all at once: ten thousand schedules that are due in one second, and five million rows of
# history that are not kept any longer. No neighbours: figures with bounds.

# Created at is the time of the transaction that enqueued the job, which commits some milliseconds later.
scenario_due() {
    local schedules at last keeper cpu
    schedules=$(count 10000 100)
    for ((ROUND = 1; ROUND <= REPEAT; ROUND++)); do
        fresh
        at=$(sql "SELECT date_trunc('second', now() + interval '$(count 20 10) s')")
        sql "SELECT count(my_worker.schedule('due ' || n, to_char('$at'::timestamptz AT TIME ZONE 'UTC', 'SS MI HH24 DD MM') || ' *',
            handler := 'bench.noop', queue := 'kept', timezone := 'UTC')) FROM generate_series(1, $schedules) AS n" >/dev/null
        sql "VACUUM ANALYZE my_worker._schedules"
        keeper=$(sql "SELECT pid FROM my_worker.workers WHERE kind = 'keeper'")
        cpu=$(cpu_of "$keeper")
        if await 120 "SELECT count(*) = $schedules FROM my_worker.history WHERE schedule_id IS NOT NULL"; then
            for last in created_at:enqueued finished_at:run; do
                record "the last of $schedules is ${last#*:}" ms "$(sql "SELECT round(1000 * extract(epoch FROM max(${last%:*}) - '$at')) FROM my_worker.history WHERE schedule_id IS NOT NULL")"
            done
            record "CPU of the keeper for $schedules" ms "$(awk -v a="$(cpu_of "$keeper")" -v b="$cpu" 'BEGIN { printf "%.0f", (a - b) / 1e6 }')"
        else
            failed "$schedules schedules"
        fi
        sql "SELECT count(my_worker.unschedule(name)) FROM my_worker.schedules WHERE name LIKE 'due %'" >/dev/null
        sql "VACUUM my_worker._schedules"
    done
    target "the last of $schedules is enqueued" - "<= 1500"
    target "the last of $schedules is run" - "<= 5000"
}

# A schedule runs each second meanwhile. The keeper begins with the oldest when it starts, so the server is restarted.
scenario_forget() {
    local rows keeper cpu size before
    rows=$(count 5000000 100000)
    for ((ROUND = 1; ROUND <= REPEAT; ROUND++)); do
        fresh
        run_sql -c "SELECT my_worker.alter_queue('plain', retention => '7 days')" -c "CALL bench.fill_history($rows)" \
            -c "VACUUM ANALYZE my_worker.history" -c "CHECKPOINT" >/dev/null
        size=$(sql "SELECT pg_total_relation_size('my_worker.history')")
        run_sql -c "SELECT my_worker.schedule('tick', 'every 1 second', handler := 'bench.noop', queue := 'kept', overlap := 'allow', catchup := 'all')" \
            -c "SELECT my_worker.alter_queue('plain', retention => '1 s')" >/dev/null
        restart_cluster bench
        await 60 "SELECT count(*) = 1 FROM my_worker.workers WHERE kind = 'keeper'"
        keeper=$(sql "SELECT pid FROM my_worker.workers WHERE kind = 'keeper'")
        before=$(sql "SELECT clock_timestamp()")
        if await 600 "SELECT NOT EXISTS (SELECT FROM my_worker.history WHERE queue = 'plain')"; then
            cpu=$(cpu_of "$keeper")
            record "CPU for a million rows forgotten" ms "$(awk -v ns="$cpu" -v n="$rows" 'BEGIN { printf "%.0f", ns / 1e6 / n * 1e6 }')"
            record "a million rows forgotten" ms "$(sql "SELECT round(1000 * extract(epoch FROM clock_timestamp() - '$before'::timestamptz) * 1e6 / $rows)")"
            await 30 "SELECT count(*) >= 3 FROM my_worker.history WHERE queue = 'kept' AND run_at > '$before'"
            record "a schedule's job starts late meanwhile, at most" ms "$(sql "SELECT round(1000 * max(extract(epoch FROM started_at - run_at))) FROM my_worker.history WHERE queue = 'kept' AND run_at > '$before'")"
        else
            failed "$rows rows of history"
        fi
        # What autovacuum does more than once a day: pages of an index are free for new entries one VACUUM after the one that
        # has emptied them. The next day's rows then use the room.
        run_sql -c "SELECT my_worker.unschedule('tick'), my_worker.alter_queue('plain', retention => '7 days')" -c "VACUUM my_worker.history" \
            -c "SELECT pg_current_xact_id()" -c "VACUUM my_worker.history" -c "CALL bench.fill_history($rows)" >/dev/null
        record "size after the next day, of before" % "$(sql "SELECT round(100.0 * pg_total_relation_size('my_worker.history') / $size, 1)")"
        run_sql -c "SELECT my_worker.alter_queue('plain', retention => '0')" -c "TRUNCATE my_worker.history" >/dev/null
    done
    target "CPU for a million rows forgotten" - "<= 2000"
    target "a schedule's job starts late meanwhile, at most" - "<= 50"
    target "size after the next day, of before" - "<= 110"
}
