"""The consumer by LISTEN/NOTIFY that an application has: psycopg, a program of its own. Does what listener.c
does: sleeps on its socket, takes what it was told by one prepared DELETE, and the server notes when."""

import sys

import psycopg

TAKE = """
    WITH j AS (DELETE FROM bench.jobs WHERE id = ANY (%s::bigint[]) RETURNING xmin)
    INSERT INTO bench.starts (what, committed) SELECT 'listener', pg_xact_commit_timestamp(xmin) FROM j"""


def main():
    with psycopg.connect("", autocommit=True) as connection:
        # Prepared before the clock runs, as all statements of the others are.
        connection.execute(TAKE, [[]], prepare=True)
        connection.execute("LISTEN bench")
        print("ready", flush=True)
        told = []
        while "stop" not in told:
            # All that are there: what came while the statement ran is kept for the next round.
            told = [notification.payload for notification in connection.notifies(stop_after=1)]
            ids = [int(payload) for payload in told if payload != "stop"]
            if ids:
                connection.execute(TAKE, [ids], prepare=True)


try:
    main()
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
