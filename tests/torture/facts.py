"""Reads from the database what the model is compared with."""

import re

from model import Facts, Row

# A handler's job has its number in the payload, a command in its text.
NUMBER = "coalesce((payload->>'n')::bigint, substring(command from 'torture.command[(]([0-9]+)')::bigint)"

ROWS = f"""
    SELECT {NUMBER}, id, true, queue, owner::text, status, attempts, max_attempts,
           extract(epoch FROM started_at)::float8, extract(epoch FROM finished_at)::float8, group_key, origin,
           ARRAY(SELECT e->>'sqlstate' FROM jsonb_array_elements(errors) AS e)
      FROM my_worker.history
    UNION ALL
    SELECT {NUMBER}, id, false, queue, owner::text, status, attempts, max_attempts,
           extract(epoch FROM started_at)::float8, NULL, group_key, origin,
           ARRAY(SELECT e->>'sqlstate' FROM jsonb_array_elements(errors) AS e)
      FROM my_queue
"""


def read(conn):
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        queues = dict(conn.execute("SELECT name, max_attempts FROM my_worker.queues").fetchall())
        rows, left = [], []
        for n, id, ended, queue, owner, status, attempts, most, started, finished, key, origin, errors in conn.execute(ROWS):
            if n is not None:
                rows.append(Row(n, id, ended, queue, owner, status, attempts, most or queues.get(queue, 0),
                                started, finished, key, origin, tuple(errors)))
            elif not ended:
                left.append(f"job {id} without a number is still {status} in {queue}")
        markers = {tx for (tx,) in conn.execute("SELECT tx FROM torture.markers")}
        effects = {(n, what): count for n, what, count in
                   conn.execute("SELECT n, what, count(*) FROM torture.effects WHERE n IS NOT NULL GROUP BY 1, 2")}
    return Facts(markers, rows, effects, left)


# Each a query that returns a row for each breach, as text; asked while the run goes on, too.
ALWAYS = {
    "unique": """
        SELECT format('%s jobs of %s have the unique key %s', count(*), owner, unique_key) FROM my_queue
         WHERE unique_key IS NOT NULL GROUP BY owner, queue, unique_key HAVING count(*) > 2""",
    "concurrency": """
        SELECT format('%s workers run jobs of %s at once', count(*), queue) FROM my_worker.workers
         WHERE queue = 'two' AND job_id IS NOT NULL GROUP BY queue HAVING count(*) > 2""",
}

AT_THE_END = {
    "the last run of each document began after its last change": """
        SELECT format('document %s has version %s, and %s was copied', key, version, copied)
          FROM torture.documents WHERE copied <> version""",
    "each due time of a schedule has one job": """
        SELECT format('schedule %s has %s jobs for %s', schedule_id, count(*), run_at) FROM my_worker.history
         WHERE schedule_id IS NOT NULL AND attempts = 1 GROUP BY schedule_id, run_at HAVING count(*) > 1
        UNION ALL
        SELECT format('schedule %s has enqueued %s jobs, and %s are there', s.name, s.runs, count(h.id))
          FROM torture.schedules AS s LEFT JOIN my_worker.history AS h ON h.schedule_id = s.id
         GROUP BY s.id, s.name, s.runs HAVING count(h.id) <> s.runs
        UNION ALL
        SELECT format('schedule %s was due %s times, and has enqueued %s jobs', name, due, runs) FROM (
            SELECT name, runs, 1 + round(extract(epoch FROM last_due - first_due) / seconds)
              FROM torture.schedules WHERE all_of_them) AS s (name, runs, due) WHERE runs <> due
        UNION ALL
        SELECT format('job %s of a schedule is %s and has %s effects', h.id, h.status, count(e.job))
          FROM my_worker.history AS h LEFT JOIN torture.effects AS e ON e.job = h.id
         WHERE h.schedule_id IS NOT NULL AND h.handler LIKE 'torture.tick%' GROUP BY h.id, h.status
        HAVING count(e.job) <> (h.status = 'completed')::integer""",
}

# A line of the server's log that no chaos explains.
FAULTS = re.compile(
    r"PANIC: |TRAP: |BREACH|internal error| XX00[0-2] (ERROR|FATAL)|WARNING: .*( leak|not closed|non-empty)|"
    r"was terminated by signal (?!9:|2:|15:)")


# The server's own: its recovery has lost the postmaster; its disk is full; its autovacuum was to summarize a BRIN index that a
# REINDEX CONCURRENTLY took away meanwhile.
KNOWN = ("could not signal for checkpoint", "could not write init file", "autovacuum worker XX000 ERROR:  could not open relation with OID")


def log_faults(server):
    return [line for line in server.log_lines() if FAULTS.search(line) and not any(text in line for text in KNOWN)]
