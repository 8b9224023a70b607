"""A worker as a process of its own: writes to a file when a job begins and ends.

python3 -m tests.child QUEUE FILE SECONDS_OF_A_JOB CONCURRENCY GRACE [LEASE]
"""

import logging
import sys
import time

from my_worker import Worker

queue, file, seconds, concurrency, grace, *lease = sys.argv[1:]
worker = Worker(
    queues=queue, concurrency=int(concurrency), grace=float(grace), lease=float(lease[0]) if lease else None
)


def note(word: str, job_id: int) -> None:
    with open(file, "a") as notes:
        notes.write(f"{word} {job_id}\n")


@worker.job()
def work(job):
    note("begin", job.id)
    time.sleep(float(seconds))
    note("end", job.id)


logging.basicConfig(level=logging.INFO)
worker.run()
