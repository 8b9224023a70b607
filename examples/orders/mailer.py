"""Sends the shop's mail through sendmail. Start it as often as you like, on as many machines as you like."""

import logging
import os
import subprocess
from email.message import EmailMessage

from my_worker import Fail, Worker

SENDMAIL = os.environ.get("SENDMAIL", "/usr/sbin/sendmail")
NEVER = {65: "bad data", 67: "no such user", 68: "no such host"}  # sysexits.h: trying again makes no sense

logging.basicConfig(level=logging.INFO)
worker = Worker(queues="shop_mail", concurrency=4, name="mailer.py")


def send(job, subject, text):
    mail = EmailMessage()
    mail["Message-ID"] = f"<{job.id}@shop.example>"  # the same if it is sent twice, so who gets it can tell
    mail["From"], mail["To"], mail["Subject"] = "shop@shop.example", job.payload["to"], subject
    mail["X-Mailer"] = "Python"
    mail.set_content(text)
    status = subprocess.run([SENDMAIL, "-t", "-i"], input=mail.as_bytes(), timeout=50).returncode
    if status in NEVER:
        raise Fail(NEVER[status])
    if status != 0:
        raise RuntimeError(f"sendmail ended with {status}")  # tried again after the queue's backoff


@worker.job("order placed")
def order_placed(job):
    send(job, f"Your order {job.payload['order']}", "Thank you! The invoice follows.\n")


@worker.job("invoice")
def invoice(job):
    send(job, f"Invoice {job.payload['number']}", f"Please pay {job.payload['total']} for order {job.payload['order']}.\n")


worker.run()
