"""The consumer by LISTEN/NOTIFY that an application has: psycopg, a program of its own. Sleeps on its socket,
takes what it was told by one prepared DELETE, and has a job to start when that has answered. Like ours it
takes, works and finishes in one transaction; a consumer that commits what it has taken first waits for one
more flush before it starts."""

import sys
import time

import psycopg

TAKE = "DELETE FROM bench.jobs WHERE id = ANY (%s::bigint[]) RETURNING payload, pg_xact_commit_timestamp(xmin)::text"
NOTE = """
    INSERT INTO bench.starts (what, committed, started)
    SELECT 'listener', c, to_timestamp(%s) FROM unnest(%s::timestamptz[]) AS c"""


def main():
    with psycopg.connect("", autocommit=True) as connection:
        # Prepared before the clock runs, as all statements of the others are.
        connection.execute(TAKE, [[]], prepare=True)
        connection.execute(NOTE, [0, []], prepare=True)
        connection.execute("LISTEN bench")
        print("ready", flush=True)
        told = []
        while "stop" not in told:
            # All that are there: what came while the statement ran is kept for the next round.
            told = [notification.payload for notification in connection.notifies(stop_after=1)]
            ids = [int(payload) for payload in told if payload != "stop"]
            if ids:
                with connection.transaction():
                    jobs = connection.execute(TAKE, [ids], prepare=True).fetchall()
                    started = time.time()
                    connection.execute(NOTE, [started, [committed for _, committed in jobs]], prepare=True)


try:
    main()
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
