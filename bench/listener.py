"""A consumer by LISTEN/NOTIFY, the peer of the scenario `latency`: sleeps on its socket, takes each job
by DELETE as soon as it is told, and notes when it did."""

import select
import sys
import time

import psycopg2

connection = psycopg2.connect("")
connection.autocommit = True
cursor = connection.cursor()
cursor.execute("LISTEN bench")
end = time.time() + float(sys.argv[1]) + 3
while time.time() < end:
    select.select([connection], [], [], 0.2)
    connection.poll()
    while connection.notifies:
        job = connection.notifies.pop(0).payload
        cursor.execute(
            "WITH j AS (DELETE FROM bench.jobs WHERE id = %s RETURNING payload) "
            "INSERT INTO bench.starts (what, sent) "
            "SELECT 'listener', (payload->>'at')::timestamptz FROM j",
            (job,),
        )
