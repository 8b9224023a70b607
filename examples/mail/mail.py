"""Sends a mail for each order, here into the file `mail.txt`. PGHOST, PGDATABASE and the like say where the
orders are. Start it as often as you like, on as many machines as you like."""

import logging
import time

from my_worker import Worker

logging.basicConfig(level=logging.INFO)
worker = Worker(queues="mail", concurrency=1)


@worker.job("order placed")
def order_placed(job):
    order = job.payload
    time.sleep(0.1)  # a mail server takes its time
    with open("mail.txt", "a") as mail:
        # The same job, the same Message-ID: who receives a mail twice can tell.
        mail.write(f"Message-ID: <{job.id}@shop> To: {order['email']} Thank you for ordering: {order['item']}\n")


worker.run()
