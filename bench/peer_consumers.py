"""A consumer by psycopg, ours or one of pgmq: takes so many jobs at a time, ends them, each in a transaction of its own, and
prints the milliseconds until none is left. The jobs are there already."""

import sys
import time

import psycopg

WHOSE, BATCH = sys.argv[1], int(sys.argv[2])

TAKE, END = {
    "my_worker": (
        "SELECT id, lease, kind, payload, headers, attempt FROM my_worker.receive('consumed', %s)",
        "SELECT my_worker.ack_many(%s::bigint[], %s::bigint[])",
    ),
    "pgmq": (
        "SELECT msg_id, read_ct, enqueued_at, vt, message FROM pgmq.read('bench', 60, %s)",
        "SELECT pgmq.delete('bench', %s::bigint[])",
    ),
}[WHOSE]


def main():
    with psycopg.connect("", autocommit=True, prepare_threshold=1) as connection:
        begin = time.monotonic()
        while jobs := connection.execute(TAKE, (BATCH,)).fetchall():
            ids = [job[0] for job in jobs]
            connection.execute(END, (ids, [job[1] for job in jobs]) if WHOSE == "my_worker" else (ids,))
        print(1000 * (time.monotonic() - begin))


try:
    main()
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
