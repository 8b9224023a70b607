"""What all actors are: a thread with a random generator, a connection and the model.

An actor is a subclass with a `step()`; `run()` calls it until the run is over. Its generator is seeded by the run's
seed and its name, so its decisions are the same in each run with that seed. A step that fails because the server is
gone, or because the chaos hit its session, is simply the end of that step.
"""

import json
import random
import socket
import threading
import time
from contextlib import contextmanager

import psycopg

# Errors that say nothing against the engine: sessions and statements are killed and cancelled here, standbys are
# read-only, disks are full, locks are waited for in vain.
CHAOS_STATES = {"57P01", "57P02", "57P03", "57014", "25006", "53100", "53200", "53300", "40001", "40P01", "55P03", "08006", "25P03"}


class Log:
    """Events as JSON, one a line."""

    def __init__(self, path):
        self.file = open(path, "w")
        self.lock = threading.Lock()
        self.begin = time.time()

    def write(self, actor, what, **about):
        line = json.dumps({"at": round(time.time() - self.begin, 4), "actor": actor, "what": what, **about}, default=str)
        with self.lock:
            self.file.write(line + "\n")
            self.file.flush()


class Counter:
    """Numbers that are the same for the same actor, whatever the others do: each has a range of its own."""

    def __init__(self, actor_number):
        self.next = actor_number * 10_000_000

    def __call__(self):
        self.next += 1
        return self.next


class Run:
    """What the actors share."""

    def __init__(self, servers, model, log, seed):
        self.servers, self.model, self.log, self.seed = servers, model, log, seed
        self.calm = threading.Event()  # the chaos has ended: wake-ups alone must do now
        self.over = threading.Event()  # producers end
        self.drained = threading.Event()  # consumers end
        self.crowded = set()  # queues with so many jobs that producers leave them alone
        self.prepared = {}  # gid: transaction
        self.actors = []
        self.made = 0  # actors, ever


class Actor(threading.Thread):
    user = "postgres"
    pause = 0.05  # seconds between two steps, on average

    def __init__(self, run, name, user=None):
        super().__init__(name=name, daemon=True)
        self.torture, self.model = run, run.model
        self.user = user or self.user
        self.random = random.Random(f"{run.seed} {name}")
        self.end = run.over
        self.conn = None
        self.steps = self.failures = 0
        run.made += 1
        self.numbers = Counter(run.made)

    def note(self, what, **about):
        self.torture.log.write(self.name, what, **about)

    def run(self):
        while not self.end.is_set():
            try:
                if self.conn is None or self.conn.closed:
                    self.connect()
                self.step()
                self.steps += 1
            except psycopg.Error as error:
                self.failed(error)
            except Exception as error:  # a fault of the actor itself
                self.model.saw("actors", f"{self.name}: {type(error).__name__}: {error}")
                self.note("fault", error=repr(error))
                self.end.wait(1)
            self.rest()
        self.close()

    def failed(self, error):
        self.failures += 1
        state = error.sqlstate
        self.note("error", sqlstate=state, error=str(error).strip().split("\n")[0])
        if state is not None and state not in CHAOS_STATES and not self.expects(error):
            self.model.saw("sessions", f"{self.name}: {state}: {str(error).strip()}")
        # An open transaction of the failed step would spoil the next one.
        self.close()
        self.end.wait(0.1)

    def expects(self, error):
        return False

    def rest(self):
        self.end.wait(self.random.expovariate(1 / self.pause))

    def connect(self):
        self.conn = self.torture.servers.connect(user=self.user, application_name=f"torture {self.name}")

    def close(self):
        conn, self.conn = self.conn, None
        if conn is not None:
            try:
                conn.close()
            except psycopg.Error:
                pass

    def lose_connection(self):
        """By somebody else: as if this client's host had gone. Whether there was a connection to lose."""
        conn = self.conn
        try:
            with socket.socket(fileno=socket.dup(conn.fileno())) as sock:
                sock.shutdown(socket.SHUT_RDWR)
            return True
        except (AttributeError, OSError, psycopg.Error):
            return False

    def sql(self, text, *values):
        cursor = self.conn.execute(text, values or None)
        return cursor.fetchall() if cursor.description else None

    def value(self, text, *values):
        return self.sql(text, *values)[0][0]

    @contextmanager
    def transaction(self, isolation="READ COMMITTED", end="COMMIT"):
        """A transaction that leaves its marker; the model hears how it ended. `end` may be ROLLBACK, or a
        PREPARE TRANSACTION, which leaves it open."""
        tx = self.model.begin(self.name, self.numbers())
        self.note("begin", tx=tx.number)
        try:
            self.sql(f"BEGIN ISOLATION LEVEL {isolation}")
            self.sql("INSERT INTO torture.markers VALUES (%s)", tx.number)
            yield tx
        except BaseException:
            # COMMIT was not sent, so it is rolled back, whatever became of the session.
            tx.rolled_back()
            self.note("rolled back", tx=tx.number)
            raise
        try:
            self.sql(end)
        except psycopg.Error as error:
            if error.sqlstate is None or error.sqlstate.startswith(("57P", "08")) or end != "COMMIT":
                tx.unknown()
            else:
                tx.rolled_back()
            self.note(tx.state, tx=tx.number, end=end, sqlstate=error.sqlstate)
            raise
        if end == "COMMIT":
            tx.committed(time.time())
        elif end == "ROLLBACK":
            tx.rolled_back()
        self.note(tx.state, tx=tx.number)

    def enqueued(self, tx, n, queue, **about):
        self.note("job", n=n, tx=tx.number, queue=queue, id=about.get("id"), key=about.get("group_key"))
        return self.model.job(n, tx, queue, self.user, **about)
