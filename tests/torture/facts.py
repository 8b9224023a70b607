"""Reads from the database what the model is compared with."""

import re

from model import Facts, Row

# A handler's job has its number in the payload, a command in its text.
NUMBER = "coalesce((payload->>'n')::bigint, substring(command from 'torture.command[(]([0-9]+)')::bigint)"

ROWS = f"""
    SELECT {NUMBER}, id, true, queue, owner::text, status, attempts, max_attempts,
           extract(epoch FROM started_at)::float8, extract(epoch FROM finished_at)::float8, group_key, origin,
           ARRAY(SELECT e->>'sqlstate' FROM jsonb_array_elements(errors) AS e), schedule_id IS NOT NULL
      FROM my_worker.history
    UNION ALL
    SELECT {NUMBER}, id, false, queue, owner::text, status, attempts, max_attempts,
           extract(epoch FROM started_at)::float8, NULL, group_key, origin,
           ARRAY(SELECT e->>'sqlstate' FROM jsonb_array_elements(errors) AS e), schedule_id IS NOT NULL
      FROM my_queue
"""


def read(conn):
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        queues = dict(conn.execute("SELECT name, max_attempts FROM my_worker.queues").fetchall())
        rows = []
        for n, id, ended, queue, owner, status, attempts, most, started, finished, key, origin, errors, scheduled in conn.execute(ROWS):
            if not scheduled:
                rows.append(Row(n, id, ended, queue, owner, status, attempts, most or queues.get(queue, 0),
                                started, finished, key, origin, tuple(errors)))
        markers = {tx for (tx,) in conn.execute("SELECT tx FROM torture.markers")}
        effects = {(n, what): count for n, what, count in
                   conn.execute("SELECT n, what, count(*) FROM torture.effects WHERE n IS NOT NULL GROUP BY 1, 2")}
    return Facts(markers, rows, effects)


# A line of the server's log that no chaos explains.
FAULTS = re.compile(
    r"PANIC: |TRAP: |BREACH|internal error| XX00[0-2] (ERROR|FATAL)|WARNING: .*( leak|not closed|non-empty)|"
    r"was terminated by signal (?!9:|2:|15:)")


def log_faults(server, known=()):
    return [line for line in server.log_lines() if FAULTS.search(line) and not any(text in line for text in known)]
