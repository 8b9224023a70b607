"""The chaos: one thread that does to the server what happens to servers, at times that the seed has chosen.

Each method that WEIGHTS names is a kind of it. They follow one another; what takes longer puts off the next one.
"""

import json
import random
import signal
import subprocess
import threading
import time

import psycopg

from producers import Producer, Shaky, stamp
from server import alive, exists, kill


class Chaos(threading.Thread):
    def __init__(self, run, seconds, names=None):
        super().__init__(name="chaos", daemon=True)
        self.torture, self.servers, self.model = run, run.servers, run.model
        self.random = random.Random(f"{run.seed} chaos")
        self.counts = {}
        self.snapshots = []
        self.killed = None
        self.plan = self.make_plan(seconds, names)

    def make_plan(self, seconds, names):
        """[(when, what, a number for its choices)]: all that chance decides, decided beforehand."""
        weights = {name: weight for name, weight in WEIGHTS.items() if not names or name in names}
        mild = {name: weight for name, weight in weights.items() if name in MILD}
        plan, at = [], 1.0
        while weights and at < seconds:
            # The end of a long run crashes nothing, so that processes live long enough to show whether they grow.
            choice = mild if mild and seconds > LONG and at > seconds - LONG / 2 else weights
            what = self.random.choices(list(choice), list(choice.values()))[0]
            plan.append((at, what, self.random.random()))
            at += 0.2 + self.random.expovariate(1 / 0.7)
        # What is rare comes once in any run.
        for what, part in (("poison", 0.15), ("failover", 0.3), ("poison", 0.4)):
            if what in weights and plan and seconds >= 20:
                place = int(part * len(plan))
                plan[place] = (plan[place][0], what, plan[place][2])
        return plan

    def note(self, what, **about):
        self.torture.log.write("chaos", what, **about)

    def run(self):
        begin = time.monotonic()
        for at, what, choice in self.plan:
            if self.torture.calm.wait(max(0, begin + at - time.monotonic())):
                break
            self.random = random.Random(choice)
            self.note(what)
            try:
                with self.servers.lock:
                    getattr(self, what)()
                self.counts[what] = self.counts.get(what, 0) + 1
            except psycopg.Error as error:
                self.note("missed", of=what, error=str(error).strip().split("\n")[0])
            except Exception as error:
                self.model.saw("actors", f"chaos {what}: {type(error).__name__}: {error}")
                self.note("fault", of=what, error=repr(error))

    # ---- processes

    def pids(self, *kinds):
        """Server processes by their titles: `my_worker worker`, `checkpointer`, a session's application_name is not in it."""
        return [pid for pid, title in self.servers.main.children() if any(kind in title for kind in kinds)]

    def hit(self, pids, sig):
        if pids:
            pid = self.random.choice(pids)
            if sig == signal.SIGKILL:
                self.killed = pid
            self.note("signal", pid=pid, signal=sig.name, hit=kill(pid, sig))

    def kill_worker(self):
        self.hit(self.pids("my_worker worker", "dynamic_worker"), signal.SIGKILL)

    def kill_keeper(self):
        self.hit(self.pids("my_worker keeper"), signal.SIGKILL)

    def kill_launcher(self):
        self.hit(self.pids("my_worker launcher"), signal.SIGKILL)

    def kill_session(self):
        self.hit(self.pids("[local]"), signal.SIGKILL)

    def kill_helper(self):
        self.hit(self.pids("checkpointer", "walwriter", "background writer", "autovacuum"), signal.SIGKILL)

    def terminate(self):
        self.hit(self.pids("my_worker", "dynamic_worker", "[local]"), signal.SIGTERM)

    def cancel(self):
        self.hit(self.pids("my_worker", "dynamic_worker", "[local]"), signal.SIGINT)

    def freeze(self):
        """A process that gets no processor for a while."""
        pids = self.pids("my_worker", "[local]")
        if pids:
            pid = self.random.choice(pids)
            kill(pid, signal.SIGSTOP)
            time.sleep(self.random.uniform(0.1, 1))
            kill(pid, signal.SIGCONT)

    def lose_client(self):
        self.random.choice(self.torture.actors).lose_connection()

    # ---- the server

    def up(self):
        self.servers.ensure_up()

    def restart_fast(self):
        self.up()
        main = self.servers.main
        if main.stop("fast", check=False, seconds=60).returncode:
            # PostgreSQL 15 waits for ever where the shutdown comes in the middle of a recovery from a crash.
            if not main.recovers():
                self.model.saw("stops", f"{main.name} did not stop within a minute")
            main.stop("immediate", check=False)
        self.up()

    def restart_immediate(self):
        self.servers.main.stop("immediate", check=False)
        self.up()

    def kill_postmaster(self):
        # The last process that was killed may have held an LWLock. Whoever waits for that lock does not notice that the
        # postmaster is gone. So the postmaster is killed after it has heard of that process, and has ended those that wait.
        wait_until(lambda: self.killed is None or not exists(self.killed), 30)
        self.killed = None
        # Not within a recovery: its process would then wait a minute for a checkpoint that nobody does.
        self.up()
        pid = self.servers.main.postmaster()
        children = self.servers.main.children()
        kill(pid)
        # Its children notice, and end; a new one refuses to start before.
        left = lambda: [f"{title} ({child})" for child, title in children if alive(child)]
        wait_until(lambda: not left(), 90, left)
        self.up()

    def crash_in_recovery(self):
        """The process that recovers the server is killed, too."""
        main = self.servers.main
        main.stop("immediate", check=False)
        starter = threading.Thread(target=lambda: main.start(check=False))
        starter.start()
        # It may come and go unseen: then the start is awaited, for as long as that may take.
        wait_until(lambda: self.pids("startup") or not starter.is_alive(), 100)
        self.hit(self.pids("startup"), signal.SIGKILL)
        starter.join()
        self.up()

    def failover(self):
        """A standby is made, gets all that is committed, and takes over when the primary stops, in one mode or another."""
        self.up()
        old = self.servers.main
        mode = self.random.choice(["fast", "immediate", "kill"])
        new = self.servers.standby = self.servers.new()
        try:
            self.make_standby(old, new)
        except (psycopg.Error, RuntimeError, TimeoutError, subprocess.TimeoutExpired) as error:
            # A job that kills its process has hit the primary, or the disk is busy: it goes on as it was.
            self.note("no failover", error=str(error))
            if new.postmaster():
                new.stop("immediate", check=False)
            self.servers.old.append(new)
            self.servers.standby = None
            self.up()
            self.admin("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
            return
        if mode == "kill":
            children = old.children()
            kill(old.postmaster())
            wait_until(lambda: not any(alive(child) for child, _title in children), 90)
        else:
            if old.stop(mode, check=False, seconds=60).returncode:
                old.stop("immediate", check=False)
        new.promote()
        self.servers.old.append(old)
        self.servers.main, self.servers.standby = new, None
        self.note("promoted", mode=mode, to=new.name)
        self.up()

    def make_standby(self, old, new):
        old.program("pg_basebackup", "-h", old.sockets, "-p", "5432", "-U", "postgres", "-D", new.data, "-c", "fast", "-R", "-X", "stream",
                    "--no-sync")
        new.configure()
        new.start()
        with old.connect() as conn:
            conn.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            conn.execute("SELECT pg_reload_conf()")
            # Commits from here on wait for the standby; those before have reached it when this has.
            wait_until(lambda: conn.execute("SELECT sync_state = 'sync' FROM pg_stat_replication").fetchone() == (True,), 30)
            time.sleep(0.5)
            position = conn.execute("SELECT pg_current_wal_insert_lsn()").fetchone()[0]
            wait_until(lambda: conn.execute("SELECT flush_lsn >= %s FROM pg_stat_replication", (position,)).fetchone() == (True,), 30)

    # ---- what administrators do

    def admin(self, *statements, dbname="postgres"):
        with self.servers.connect(dbname, application_name="torture chaos") as conn:
            conn.execute("SET lock_timeout = '2 s'")
            conn.execute("SET statement_timeout = '10 s'")
            for statement in statements:
                conn.execute(statement)

    def set(self, name, value):
        self.admin(f"ALTER SYSTEM SET {name} = '{value}'", "SELECT pg_reload_conf()")

    def settings(self):
        name, values = self.random.choice([
            ("my_worker.max_workers", [1, 2, 4, 6]), ("my_worker.max_items", [1, 10, 100, 1000]),
            ("my_worker.max_workers_per_role", [0, 1, 2]), ("my_worker.naptime", [1, 2, 5]),
            ("my_worker.worker_idle_timeout", [0, 1, 60]), ("my_worker.log_jobs", ["none", "errors", "all"])])
        self.set(name, self.random.choice(values))

    def disabled(self):
        self.set("my_worker.enabled", "off")
        time.sleep(self.random.uniform(0.2, 1.5))
        self.set("my_worker.enabled", "on")

    def pause(self):
        queue = self.random.choice(["plain", "together", "two", "keys", "fifo", "rated", "commands", "mail", "ticks"])
        self.admin(f"SELECT my_worker.pause_queue('{queue}')")
        time.sleep(self.random.uniform(0.1, 0.8))
        self.admin(f"SELECT my_worker.resume_queue('{queue}')")

    def alter(self):
        """Never beyond what the model holds the queue to."""
        self.admin(self.random.choice([
            "SELECT my_worker.alter_queue('two', concurrency => 1)", "SELECT my_worker.alter_queue('two', concurrency => 2)",
            "SELECT my_worker.alter_queue('keys', per_key => 1)", "SELECT my_worker.alter_queue('keys', per_key => 2)",
            "SELECT my_worker.alter_queue('savepoints', jobs_per_savepoint => 1)",
            "SELECT my_worker.alter_queue('savepoints', jobs_per_savepoint => 100)",
            "SELECT my_worker.alter_queue('rated', burst => 1)", "SELECT my_worker.alter_queue('rated', burst => 5)",
            "SELECT my_worker.alter_queue('plain', timeout => '20 s')", "SELECT my_worker.reset_queue('plain', 'timeout')"]))

    def maintain(self):
        self.admin(self.random.choice([
            "VACUUM FULL my_worker._jobs", "VACUUM my_worker._jobs", "VACUUM FULL my_worker.history", "ANALYZE",
            "REINDEX TABLE my_worker._jobs", "REINDEX TABLE CONCURRENTLY my_worker._jobs",
            "REINDEX TABLE CONCURRENTLY my_worker.history", "VACUUM FULL my_worker._dependencies", "CHECKPOINT"]))

    def lock(self):
        with self.servers.connect() as conn:
            conn.execute("SET lock_timeout = '2 s'")
            conn.execute("BEGIN")
            conn.execute(f"LOCK TABLE {self.random.choice(['my_worker._jobs', 'my_worker.queues', 'my_worker.history'])} IN ACCESS EXCLUSIVE MODE")
            time.sleep(self.random.uniform(0.05, 0.6))
            conn.execute("COMMIT")

    def old_snapshot(self):
        """Keeps vacuum from what is dead until a later one of these, or until something ends the session."""
        for conn in self.snapshots:
            conn.close()
        conn = self.servers.connect(application_name="torture old snapshot")
        conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        conn.execute("SELECT count(*) FROM my_queue")
        self.snapshots = [conn]

    def function(self):
        self.admin("DROP FUNCTION torture.shaky")
        time.sleep(self.random.uniform(0, 0.3))
        self.admin(SHAKY)
        self.admin(SHAKY.replace("CREATE", "CREATE OR REPLACE"))

    def role(self):
        self.admin("ALTER ROLE carol NOLOGIN")
        time.sleep(self.random.uniform(0, 0.3))
        self.admin("ALTER ROLE carol LOGIN", "ALTER ROLE carol SET work_mem = '2MB'")

    def drop_role(self):
        """A role goes while its jobs wait and run."""
        name = f"passing_{self.random.randint(1, 10**9)}"
        actor = PassingRole(self.torture, name)
        self.admin(f"CREATE ROLE {name} LOGIN", f"SELECT my_worker.grant_usage('{name}')")
        try:
            actor.enqueue_some()
        finally:
            self.admin(f"SELECT my_worker.revoke_usage('{name}')", f"DROP ROLE {name}")

    def extension(self):
        """In a database beside: the extension goes while its jobs wait and run."""
        try:
            if self.random.random() < 0.3:
                self.admin("DROP DATABASE IF EXISTS other WITH (FORCE)", "CREATE DATABASE other")
            self.admin("CREATE EXTENSION IF NOT EXISTS my_worker",
                       "SELECT my_worker.run('SELECT pg_sleep(0.05)') FROM generate_series(1, 10)",
                       "SELECT my_worker.schedule('s', 'every 1 second', 'SELECT 1')", dbname="other")
            time.sleep(self.random.uniform(0, 0.5))
            self.admin("DROP EXTENSION my_worker CASCADE", dbname="other")
        except psycopg.errors.InvalidCatalogName:
            self.admin("CREATE DATABASE other")

    # ---- disks

    def slow_disk(self):
        """Each flush takes longer, that of the log with the lock held that all others wait for; and each write of a page does."""
        longer = self.random.choice([0.005, 0.02, 0.06])
        self.admin("ALTER SYSTEM SET fsync = 'on'", "ALTER SYSTEM SET commit_siblings = 0",
                   f"ALTER SYSTEM SET commit_delay = '{0 if self.servers.nature.works else longer * 1e6:.0f}'", "SELECT pg_reload_conf()")
        self.servers.nature.set(flush=longer)
        time.sleep(self.random.uniform(0.5, 2))
        self.servers.nature.set()
        self.admin("ALTER SYSTEM SET fsync = 'off'", "ALTER SYSTEM RESET commit_delay", "SELECT pg_reload_conf()")

    def full_disk(self):
        """Nothing more can be written to the disk of the first server, but for its log of transactions, for a while."""
        disk = self.servers.small
        if disk is None or disk not in self.servers.main.data.resolve().parents:
            return
        ballast = disk / "ballast"
        try:
            with open(ballast, "wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(65536))
                except OSError:
                    pass
            time.sleep(self.random.uniform(0.3, 1.5))
        finally:
            ballast.unlink()
        self.up()

    # ---- clocks

    def clock(self):
        """The server's clock jumps, and some time later back."""
        if self.servers.nature.works:
            self.model.clock_moves(time.time())
            self.servers.nature.set(clock=self.random.choice([-5, -2, -0.5, 0.5, 2, 5]))
            time.sleep(self.random.uniform(0.2, 1.5))
            self.servers.nature.set()
            self.model.clock_is_right(time.time())

    # ---- jobs

    def poison(self):
        """A job that kills its process, until its attempts are used up."""
        self.up()
        Poisoner(self.torture, f"poison {self.random.random()}").enqueue_one()

    def calm(self):
        """Takes back all that would keep jobs from their end."""
        for conn in self.snapshots:
            conn.close()
        self.servers.nature.set()
        self.up()
        queues = ["plain", "together", "two", "keys", "fifo", "rated", "commands", "mail", "ticks", "letters"]
        self.admin("ALTER SYSTEM RESET ALL", "SELECT pg_reload_conf()", "ALTER ROLE carol LOGIN",
                   SHAKY.replace("CREATE", "CREATE OR REPLACE"),
                   *[f"SELECT my_worker.resume_queue('{queue}')" for queue in queues],
                   "SELECT my_worker.alter_queue('two', concurrency => 2)", "SELECT my_worker.alter_queue('keys', per_key => 2)")


class PassingRole(Shaky):
    """Not a thread of its own: enqueues as a role that is dropped next."""

    def __init__(self, run, name):
        super().__init__(run, name, name)

    def enqueue_some(self):
        self.connect()
        try:
            for _ in range(3):
                self.one("shaky")
        finally:
            self.close()

    def job_for(self, queue):
        n, payload, about, options = super().job_for(queue)
        return n, payload, about, {**options, "run_at": stamp(time.time() + self.random.random() / 3)}


class Poisoner(Producer):
    def enqueue_one(self):
        self.connect()
        try:
            with self.transaction() as tx:
                n = self.numbers()
                job = self.enqueued(tx, n, "poison")
                job.id = self.value("SELECT my_worker.enqueue('torture.poison', %s, queue => 'poison', max_attempts => 2)",
                                    json.dumps({"n": n, "file": str(self.torture.poisoned)}))
        finally:
            self.close()


SHAKY = """CREATE FUNCTION torture.shaky(id bigint, p jsonb) RETURNS text LANGUAGE sql
    AS $$ INSERT INTO torture.effects (n, what, job) VALUES ((p->>'n')::bigint, 'done', id) RETURNING what $$"""


def wait_until(fact, seconds, why=lambda: ""):
    end = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > end:
            raise TimeoutError(f"waited in vain for {seconds} s {why()}")
        time.sleep(0.02)


# What happens how often, compared with the others.
WEIGHTS = {
    "kill_worker": 8, "kill_keeper": 2, "kill_launcher": 2, "kill_session": 3, "kill_helper": 1, "kill_postmaster": 1,
    "terminate": 8, "cancel": 10, "freeze": 3, "lose_client": 6,
    "restart_fast": 2, "restart_immediate": 2, "crash_in_recovery": 1, "failover": 1,
    "settings": 4, "disabled": 2, "pause": 4, "alter": 4, "maintain": 4, "lock": 2, "old_snapshot": 3,
    "function": 3, "role": 3, "drop_role": 2, "extension": 2, "slow_disk": 2, "full_disk": 2, "poison": 1,
    "clock": 3,
}

# What ends neither the server nor launcher and keepers.
MILD = {"cancel", "freeze", "lose_client", "settings", "disabled", "pause", "alter", "maintain", "lock", "old_snapshot",
        "function", "role", "drop_role", "extension", "slow_disk", "clock"}
LONG = 240  # seconds, from which on a run has such an end of half that length
