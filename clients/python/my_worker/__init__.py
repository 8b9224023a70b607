"""Take jobs from my_worker, the job queue inside PostgreSQL, and put jobs into it.

    worker = Worker("dbname=shop", queues="mail")

    @worker.job("welcome")
    def welcome(job):
        send_mail(job.payload["to"])

    worker.run()
"""

from ._job import AsyncJob, Fail, Job, LeaseLost, Release, RetryIn
from ._send import SendOptions, enqueue, send, send_many
from ._worker import Worker

__all__ = [
    "AsyncJob", "Fail", "Job", "LeaseLost", "Release", "RetryIn", "SendOptions", "Worker",
    "enqueue", "send", "send_many",
]
