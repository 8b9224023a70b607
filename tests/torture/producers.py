"""The actors that enqueue, each in its own way, and those that deal with what is enqueued."""

import json
import time

from actors import Actor

MEANT = frozenset({"P0001"})


class Producer(Actor):
    """Enqueues handler jobs into some queues, by every way that there is."""

    queues = {"plain": 6, "savepoints": 3, "together": 3, "two": 2}

    def step(self):
        way = self.random.choices(
            ["one", "several", "insert", "copy", "savepoints", "rollback", "prepare"], [8, 4, 3, 2, 3, 1, 1])[0]
        queue = self.random.choices(list(self.queues), list(self.queues.values()))[0]
        getattr(self, way)(queue)

    # ---- ways to enqueue

    def one(self, queue):
        with self.transaction() as tx:
            self.enqueue(tx, queue)

    def several(self, queue):
        with self.transaction() as tx:
            for _ in range(self.random.randint(2, 12)):
                self.enqueue(tx, queue)

    def insert(self, queue):
        with self.transaction() as tx:
            for _ in range(self.random.randint(1, 5)):
                n, payload, about, options = self.job_for(queue)
                self.enqueued(tx, n, queue, **about)
                columns = {"queue": queue, "handler": self.handler(queue), "payload": json.dumps(payload), **options}
                names = ", ".join(columns)
                marks = ", ".join(["%s"] * len(columns))
                about["id"] = self.value(f"INSERT INTO my_queue ({names}) VALUES ({marks}) RETURNING id", *columns.values())
                self.model.jobs[n].id = about["id"]

    def copy(self, queue):
        with self.transaction() as tx:
            with self.conn.cursor().copy("COPY my_queue (queue, handler, payload, group_key) FROM STDIN") as copy:
                for _ in range(self.random.randint(1, 30)):
                    n, payload, about, options = self.job_for(queue)
                    self.enqueued(tx, n, queue, **about)
                    copy.write_row((queue, self.handler(queue), json.dumps(payload), options.get("group_key")))

    def savepoints(self, queue):
        with self.transaction() as tx:
            for _ in range(self.random.randint(1, 4)):
                self.sql("SAVEPOINT s")
                jobs = [self.enqueue(tx, queue) for _ in range(self.random.randint(1, 3))]
                if self.random.random() < 0.5:
                    # Before the statement: if it fails, all is rolled back anyway.
                    for job in jobs:
                        job.added = False
                    self.sql("ROLLBACK TO SAVEPOINT s")
                elif self.random.random() < 0.5:
                    self.sql("RELEASE SAVEPOINT s")

    def rollback(self, queue):
        with self.transaction(end="ROLLBACK") as tx:
            self.enqueue(tx, queue)

    def prepare(self, queue):
        gid = f"torture {self.numbers()}"
        try:
            with self.transaction(end=f"PREPARE TRANSACTION '{gid}'") as tx:
                self.enqueue(tx, queue)
            self.torture.prepared[gid] = tx
        except BaseException:
            # Perhaps it was prepared: the end of the run looks.
            raise
        if self.random.random() < 0.7:
            self.rest()
            finish_prepared(self.torture, self.conn, gid, self.random)

    # ---- what is enqueued

    def enqueue(self, tx, queue):
        n, payload, about, options = self.job_for(queue)
        job = self.enqueued(tx, n, queue, **about)
        arguments = {"payload": json.dumps(payload), "queue": queue, **options}
        text = ", ".join(f"{name} => %s" for name in arguments)
        job.id = self.value(f"SELECT my_worker.enqueue('{self.handler(queue)}', {text})", *arguments.values())
        self.note("id", n=n, id=job.id)
        return job

    def handler(self, queue):
        return "torture.work_together" if queue == "together" else "torture.work"

    def job_for(self, queue):
        """(its number, payload, what the model is told, arguments of enqueue)"""
        n = self.numbers()
        payload, about, options = {"n": n}, {}, {}
        chance = self.random.random()
        if queue == "together":
            if chance < 0.01:
                payload["always_fail"] = True
                options["max_attempts"] = 2
                about["errors"] = MEANT
            return n, payload, about, options
        if chance < 0.15:
            payload["fail"] = self.random.randint(1, 3)
            about["errors"] = MEANT
        elif chance < 0.2:
            payload["snooze"] = about["snoozes"] = self.random.randint(1, 2)
        elif chance < 0.23:
            payload["give_up"] = True
            about["errors"] = about["fatal"] = frozenset({"MW001"})
        if self.random.random() < 0.2:
            payload["sleep"] = round(self.random.expovariate(1 / 0.02), 4)
        if self.random.random() < 0.1:
            options["run_at"] = stamp(time.time() + self.random.random())
        if self.random.random() < 0.1:
            options["priority"] = self.random.randint(-2, 2)
        if queue == "two":
            payload.update(occupy="two", most=2)
        return n, payload, about, options


class KeyProducer(Producer):
    """Jobs of few keys, in queues that go by them."""

    queues = {"keys": 3, "fifo": 3, "rated": 2, "rated_keys": 2}

    def job_for(self, queue):
        n, payload, about, options = super().job_for(queue)
        if queue in ("keys", "fifo", "rated_keys"):
            key = f"key {self.random.randint(1, 6)}"
            options["group_key"] = about["group_key"] = key
            if queue != "rated_keys":
                payload.update(occupy=f"{queue} {self.user} {key}", most=2 if queue == "keys" else 1)
        if queue in ("rated", "rated_keys"):
            payload.pop("fail", None)
        return n, payload, about, options


def stamp(seconds):
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds)) + f"{seconds % 1:.6f}"[1:] + "+00"


def finish_prepared(torture, conn, gid, generator):
    """COMMIT PREPARED or ROLLBACK PREPARED; the model hears which."""
    tx = torture.prepared.get(gid)
    commit = generator.random() < 0.7
    conn.execute(f"{'COMMIT' if commit else 'ROLLBACK'} PREPARED '{gid}'")
    if tx is not None:
        torture.prepared.pop(gid)
        if commit:
            tx.committed(time.time())
        else:
            tx.rolled_back()
        torture.log.write("prepared", tx.state, tx=tx.number)
