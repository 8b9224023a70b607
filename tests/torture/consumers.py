"""Jobs for consumers: those who send them, and those who receive them by both kinds of lease."""

import json
import time

from actors import Actor
from producers import MEANT, Producer


class Sender(Producer):
    queues = {"mail": 4, "mail_two": 2, "mail_fifo": 2}

    def step(self):
        queue = self.random.choices(list(self.queues), list(self.queues.values()))[0]
        if queue in self.torture.crowded:
            return
        with self.transaction(end=self.random.choice(["COMMIT"] * 9 + ["ROLLBACK"])) as tx:
            for _ in range(self.random.randint(1, 6)):
                n = self.numbers()
                mode = self.random.choice(["exact", "exact", "loose"])
                key = f"key {self.random.randint(1, 4)}" if queue == "mail_fifo" else None
                job = self.enqueued(tx, n, queue, promise="once" if mode == "exact" else "loose", group_key=key)
                job.id = self.value("SELECT my_worker.send(%s, %s, kind => %s, group_key => %s)",
                                    queue, json.dumps({"n": n, "mode": mode}), mode, key)


class Consumer(Actor):
    """Receives, works and ends jobs as a well-made program would, and sometimes as a badly made one."""

    pause = 0.02

    def __init__(self, run, name, user):
        super().__init__(run, name, user)
        self.end = run.drained
        self.forgotten = False

    @property
    def calm(self):
        """When the chaos is over, all jobs are to end."""
        return self.torture.calm.is_set()

    def step(self):
        if self.forgotten and (self.calm or self.random.random() < 0.2):
            # The session ends, and with it the leases that were forgotten.
            self.forgotten = False
            self.close()
            return
        if self.random.random() < 0.3:
            self.show_old_lease()
        queue = self.random.choice(["mail", "mail", "mail_two", "mail_fifo"])
        lease = self.random.choice([None, None, "1 s", "3 s"])
        receive = ("SELECT id, lease, payload, attempt, max_attempts FROM my_worker.receive(%s, %s, wait => %s, lease => %s)",
                   queue, self.random.randint(1, 5), "0.1 s" if self.calm else self.random.choice(["0", "0.3 s", "1 s"]), lease)
        if not self.calm and self.random.random() < 0.05:
            self.sql("BEGIN")
            jobs = self.sql(*receive)
            self.note("received and rolled back", jobs=[payload["n"] for _id, _lease, payload, *_ in jobs])
            self.sql("ROLLBACK")
            return
        asked = time.time()
        jobs = self.sql(*receive)
        received = time.time()
        for id, token, payload, *_ in jobs:
            self.model.received(payload["n"], id, token, asked, received)
        for id, token, payload, attempt, most in jobs:
            n = payload["n"]
            self.note("received", n=n, id=id, lease=token, kind=lease or "session", attempt=attempt)
            if attempt > most:
                self.model.saw("attempts", f"attempt {attempt} of {most} of job {n} was received", [n])
            self.deal(n, id, token, payload["mode"], lease, received)
            if self.conn is None:
                return

    def deal(self, n, id, token, mode, lease, received):
        what = "work" if self.calm else self.random.choices(
            ["work", "nack", "fail", "release", "forget", "leave", "late"], [75, 5, 1, 5, 3, 1, 5])[0]
        job = self.model.jobs[n]
        self.note(what, n=n, lease=token)
        if what == "forget":
            self.forgotten = True
        elif what == "leave":
            self.close()
        elif what == "release":
            self.sql("SELECT my_worker.release(%s, %s)", id, token)
        elif what == "nack":
            job.errors |= MEANT
            self.sql("SELECT my_worker.nack(%s, %s, 'not today', delay => '20 ms')", id, token)
        elif what == "fail":
            job.errors |= MEANT
            job.fatal |= MEANT
            self.sql("SELECT my_worker.nack(%s, %s, 'never', fail => true)", id, token)
        else:
            ends = None
            if what == "late" and lease == "1 s":
                self.torture.drained.wait(1.2)
                ends = received + 1
            elif lease and self.random.random() < 0.2:
                self.sql("SELECT my_worker.extend(%s, %s, '2 s')", id, token)
            else:
                self.torture.drained.wait(self.random.expovariate(1 / 0.01))
            self.work(n, id, token, mode, ends)

    def work(self, n, id, token, mode, ends):
        # A timed lease ends so long after the moment at which it was given, which was before it was received.
        lost = self.model.is_lost(n, token) or (ends is not None and time.time() > ends and self.model.is_right(ends - 1, ends))
        effect = "INSERT INTO torture.effects (n, what, job) VALUES (%s, 'done', %s)"
        if mode == "loose":
            self.sql(effect, n, id)
            acknowledged = self.value("SELECT my_worker.ack(%s, %s)", id, token)
        else:
            self.sql("BEGIN")
            self.sql(effect, n, id)
            acknowledged = self.value("SELECT my_worker.ack(%s, %s)", id, token)
            self.sql("COMMIT" if acknowledged else "ROLLBACK")
        self.note("acknowledged" if acknowledged else "too late", n=n, lease=token)
        if acknowledged and lost:
            self.model.saw("leases", f"job {n} was acknowledged by lease {token}, which was over", [n])
        if acknowledged and n not in self.model.revived:
            self.model.seen[n] = "completed"

    def show_old_lease(self):
        """Of a job that somebody else has received since: whatever is asked for with it comes to nothing."""
        try:
            n, id, token = self.model.over.pop()
        except IndexError:
            return
        call = self.random.choice(["ack(%s, %s)", "nack(%s, %s)", "release(%s, %s)", "extend(%s, %s, '1 s')"])
        self.note("old lease", n=n, lease=token, call=call)
        if self.value(f"SELECT my_worker.{call}", id, token):
            self.model.saw("leases", f"{call} of job {n} with lease {token}, which was over, was true", [n])

    def expects(self, error):
        return error.sqlstate == "55000" and "launcher" in str(error)
