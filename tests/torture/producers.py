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
            ["one", "several", "insert", "copy", "savepoints", "late", "rollback", "prepare"], [8, 4, 3, 2, 3, 3, 1, 1])[0]
        if way == "prepare" and self.torture.calm.is_set():
            return
        queue = self.random.choices(list(self.queues), list(self.queues.values()))[0]
        if queue not in self.torture.crowded:
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
            columns = ["group_key", "timeout", "max_attempts", "expires_at"]
            with self.conn.cursor().copy(f"COPY my_queue (queue, handler, payload, {', '.join(columns)}) FROM STDIN") as copy:
                for _ in range(self.random.randint(1, 30)):
                    n, payload, about, options = self.job_for(queue)
                    self.enqueued(tx, n, queue, **about)
                    copy.write_row((queue, self.handler(queue), json.dumps(payload), *map(options.get, columns)))

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

    def late(self, queue):
        """Others enqueue and commit in between, so workers have read past the place of these jobs."""
        with self.transaction() as tx:
            self.enqueue(tx, queue)
            self.end.wait(self.random.uniform(0.02, 0.3))
            self.enqueue(tx, queue)

    def rollback(self, queue):
        with self.transaction(end="ROLLBACK") as tx:
            self.enqueue(tx, queue)

    def prepare(self, queue):
        gid = f"torture {self.numbers()}"
        with self.transaction(end=f"PREPARE TRANSACTION '{gid}'") as tx:
            self.enqueue(tx, queue)
            # Also if the answer to PREPARE is lost: whoever ends it then tells the model.
            self.torture.prepared[gid] = tx
        if self.random.random() < 0.7:
            self.rest()
            finish_prepared(self.torture, self.conn, gid, self.random)

    def expects(self, error):
        # COMMIT PREPARED, when the end of the run has done it.
        return error.sqlstate in ("42704", "55000") and "prepared transaction" in str(error)

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
        chance = self.random.random()
        if chance < 0.02:
            options["expires_at"] = stamp(time.time() + 2 * self.random.random())
            about["expires"] = True
        elif chance < 0.03:
            payload["sleep"] = 10
            options.update(timeout="100 ms", max_attempts=2)
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
    commit = generator.random() < 0.7
    conn.execute(f"{'COMMIT' if commit else 'ROLLBACK'} PREPARED '{gid}'")
    tx = torture.prepared.pop(gid, None)
    if tx is not None:
        if commit:
            tx.committed(time.time())
        else:
            tx.rolled_back()
        torture.log.write("prepared", tx.state, tx=tx.number)


class Commander(Actor):
    """Enqueues commands: one attempt or several, one statement or several, some that fail."""

    def step(self):
        if "commands" in self.torture.crowded:
            return
        with self.transaction() as tx:
            for _ in range(self.random.randint(1, 3)):
                n = self.numbers()
                most = self.random.choice([1, 1, 3])
                call = f"SELECT torture.command({n}, {self.random.choice([0, 0, 0, 0.02, 0.2])})"
                about = {"promise": "command"}
                text = self.random.choice([f"{call}", f"SET work_mem = '1MB'; {call}", f"{call}; SELECT 1", f"BEGIN; {call}; COMMIT"])
                if self.random.random() < 0.1:
                    text = f"{call}; SELECT 1/0"
                    about["errors"] = frozenset({"22012"})
                job = self.enqueued(tx, n, "commands", **about)
                job.id = self.value("SELECT my_worker.run(%s, queue => 'commands', max_attempts => %s)", text, most)


class Dependent(Producer):
    """Jobs that come after others: of the same transaction, and of earlier ones."""

    def __init__(self, *args):
        super().__init__(*args)
        self.recent = []

    def step(self):
        if "plain" in self.torture.crowded:
            return
        with self.transaction() as tx:
            jobs = [self.enqueue(tx, "plain") for _ in range(self.random.randint(1, 3))]
            for _ in range(self.random.randint(1, 3)):
                choice = jobs + self.recent
                others = self.random.sample(choice, min(len(choice), self.random.randint(1, 4)))
                n = self.numbers()
                failed = self.random.choice(["cancel", "cancel", "run"])
                job = self.enqueued(tx, n, "plain", after=tuple(other.n for other in others), after_failed=failed)
                job.id = self.value("SELECT my_worker.enqueue('torture.work', %s, queue => 'plain', after => %s, after_failed => %s)",
                                    json.dumps({"n": n}), [other.id for other in others], failed)
                jobs.append(job)
        # What was not committed has ids that may be given again after a promotion.
        self.recent = (self.recent + jobs)[-10:]


class Documents(Actor):
    """Changes documents, and asks in the same transaction that the newest version be copied."""

    def step(self):
        key = f"document {self.random.randint(1, 5)}"
        with self.transaction():
            self.sql("INSERT INTO torture.documents VALUES (%s, 1) ON CONFLICT (key) DO UPDATE SET version = documents.version + 1", key)
            self.sql("SELECT my_worker.enqueue('torture.copy_document', %s, queue => 'documents', unique_key => %s, unique_mode => 'rerun')",
                     json.dumps({"key": key}), key)
        mode = self.random.choice(["keep", "replace", "rerun", "error"])
        self.sql("SELECT my_worker.enqueue('torture.tick', '{}', queue => 'documents', unique_key => %s, unique_mode => %s, "
                 "run_at => now() + %s * interval '1 s')", f"tick {self.random.randint(1, 3)}", mode, self.random.random())

    def expects(self, error):
        return error.sqlstate == "23505"


class Letters(Producer):
    """Jobs that often fail for good, and go on as dead letters; some are sent back."""

    queues = {"dying": 1}

    def step(self):
        super().step()
        if self.user == "postgres" and self.random.random() < 0.1:
            self.sql("SELECT my_worker.pause_queue('letters')")
            self.rest()
            self.sql("SELECT my_worker.redrive('letters', %s)", self.random.choice([None, 1, 10]))
            self.sql("SELECT my_worker.resume_queue('letters')")

    def job_for(self, queue):
        n = self.numbers()
        return n, {"n": n, "often": 0.6}, {"errors": MEANT}, {"max_attempts": 2}

    def copy(self, queue):
        self.several(queue)


class Scheduler(Actor):
    """Makes its schedules once; then it redefines one now and then, which changes nothing."""

    pause = 1

    def step(self):
        for name, rule, how in (("all", "every 1 second", "overlap => 'allow', catchup => 'all'"),
                                ("skip", "every 1 second", "overlap => 'skip'"), ("queue", "* * * * * *", "overlap => 'queue'")):
            if not self.value("SELECT count(*) FROM my_worker.schedules WHERE name = %s AND owner = current_user::regrole", name):
                self.sql(f"SELECT my_worker.schedule(%s, %s, handler => 'torture.tick', queue => 'ticks', {how})", name, rule)


class Shaky(Producer):
    """Jobs whose function and role come and go."""

    queues = {"shaky": 1}

    def handler(self, queue):
        return "torture.shaky"

    def job_for(self, queue):
        n = self.numbers()
        return n, {"n": n}, {"errors": frozenset({"42883", "42501", "28000"}), "fatal": frozenset({"28000"})}, {}

    def expects(self, error):
        return super().expects(error) or error.sqlstate in ("42883", "42704", "28000") or "is not permitted to log in" in str(error)


class Dealer(Producer):
    """Deals with jobs of its role: cancels, retries, waits, performs, launches, hurries, deletes them."""

    def step(self):
        jobs = [job for job in list(self.model.jobs.values())[-400:] if job.owner == self.user and job.id and job.tx.state == "committed"]
        if jobs:
            way = self.random.choices(["cancel", "retry", "wait", "perform", "launch", "hurry", "delete"], [4, 2, 4, 2, 2, 1, 1])[0]
            job = self.random.choice(jobs)
            self.note(way, n=job.n, id=job.id)
            getattr(self, way)(job)

    def cancel(self, job):
        with self.transaction(end=self.random.choice(["COMMIT", "COMMIT", "COMMIT", "ROLLBACK"])) as tx:
            self.model.tried_cancel.add(job.n)
            if self.value("SELECT my_worker.cancel(%s)", job.id):
                self.model.cancelled(job.n, tx)
                self.note("cancelled", n=job.n, tx=tx.number)

    def retry(self, job):
        ended = self.sql("SELECT id, (payload->>'n')::bigint FROM my_worker.history WHERE status IN ('failed', 'cancelled') "
                         "AND owner = current_user::regrole AND payload ? 'n' AND queue <> 'poison' ORDER BY finished_at DESC LIMIT 20")
        if ended:
            id, n = self.random.choice(ended)
            self.model.revived.add(n)
            self.note("retry", n=n, id=id)
            self.sql("SELECT my_worker.retry(%s)", id)

    def wait(self, job):
        status = self.value("SELECT my_worker.wait(%s, '1 s')", job.id)
        if status and job.queue != "dying" and not job.may_vanish and job.n not in self.model.revived:
            self.model.seen[job.n] = status

    def perform(self, job):
        with self.transaction(end=self.random.choice(["COMMIT", "ROLLBACK"])):
            self.sql("SELECT my_worker.perform(%s)", job.id)

    def launch(self, job):
        self.sql("SELECT launch_dynamic_worker(%s::bigint)", job.id)

    def hurry(self, job):
        self.sql("SELECT my_worker.run_soon(%s)", job.id)

    def delete(self, job):
        if self.user == "postgres":
            job.may_vanish = True
            self.sql("DELETE FROM my_queue WHERE id = %s", job.id)

    def expects(self, error):
        # What perform, launch and DELETE say of jobs that are gone, run, fail or must wait.
        return error.sqlstate in ("42704", "55006", "55000", "53400", "53000", "0A000", "P0001", "MW001")
