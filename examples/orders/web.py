"""The shop's door: POST /orders places an order, waits a moment for its invoice, and answers with both.
A sketch: your framework and a pool of connections take the place of this server."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg


def place_order(order):
    with psycopg.connect(autocommit=True) as conn:
        order_id, job = conn.execute(
            "SELECT * FROM shop.place_order(%s::uuid, %s, %s, %s)",
            (order["request"], order["email"], order["country"], order["sku"]),
        ).fetchone()  # committed: the job may run
        # Sleeps until the job has ended, two seconds at most. NULL: not yet; the invoice comes by mail anyway.
        status = conn.execute("SELECT my_worker.wait(%s, '2 s')", (job,)).fetchone()[0]
        result = conn.execute("SELECT result FROM my_worker.jobs WHERE id = %s", (job,)).fetchone()
        done = status == "completed" and result
        return (201 if done else 202), {"order": order_id, "invoice": result[0] if done else None}


class Door(BaseHTTPRequestHandler):
    def do_POST(self):
        try:
            status, answer = place_order(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        except psycopg.errors.RaiseException as error:
            status, answer = 409, {"error": error.diag.message_primary}
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode() + b"\n")


ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8080"))), Door).serve_forever()
