#!/usr/bin/env python3
"""The torture: producers, consumers and chaos on a server of its own, and a model that says what must have come of it.

    torture.py --bin DIR --home DIR [--small DIR] [--seconds 60] [--seed N] [--actors "handlers kill_worker"]

Prints TAP. README.md tells the rest; tests/torture/run makes a copy of the server and calls this.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import psycopg

import facts
import leaks
from actors import Log, Run
from chaos import WEIGHTS, Chaos
from consumers import Consumer, Sender
from model import Limits, Model
from producers import Commander, Dealer, Dependent, Documents, KeyProducer, Letters, Producer, Scheduler, Shaky, finish_prepared
from server import Servers

LIMITS = {
    "two": Limits(concurrency=2),
    "keys": Limits(per_key=2),
    "fifo": Limits(fifo=True),
    "rated": Limits(most_starts=44, period=1.0),
    "rated_keys": Limits(most_starts=10, period=1.0, rate_per_key=True),
    "mail_two": Limits(concurrency=2),
    "mail_fifo": Limits(fifo=True),
}

# By the names that ACTORS takes: class, role.
ACTORS = {
    "handlers": [(Producer, "alice"), (Producer, "postgres")],
    "keys": [(KeyProducer, "alice"), (KeyProducer, "bob")],
    "commands": [(Commander, "bob")],
    "after": [(Dependent, "bob")],
    "unique": [(Documents, "alice"), (Documents, "alice")],
    "letters": [(Letters, "bob"), (Letters, "postgres")],
    "schedules": [(Scheduler, "alice")],
    "shaky": [(Shaky, "carol")],
    "dealers": [(Dealer, "alice"), (Dealer, "bob"), (Dealer, "postgres")],
    "mail": [(Sender, "alice"), (Sender, "bob"), (Consumer, "alice"), (Consumer, "bob"), (Consumer, "postgres")],
}
MOST_WAITING = 80  # jobs of one queue, beyond which producers leave it alone
CALM = 6  # the last seconds, in which producers go on without chaos
PATIENCE = 60  # seconds without any progress after which what is left is stuck


class Torture:
    def __init__(self, options):
        self.options = options
        self.home = Path(options.home)
        self.model = Model()
        self.log = Log(self.home / "events.jsonl")
        self.servers = Servers(self.home, options.bin, Path(options.small) if options.small else None)
        self.run = Run(self.servers, self.model, self.log, options.seed)
        self.run.poisoned = self.home / "poisoned"
        self.memory = leaks.Memory()
        self.checks = self.failed = 0
        self.guilty = []  # jobs whose stories are told

    # ---- TAP

    def check(self, name, violations):
        self.checks += 1
        print(f"{'not ok' if violations else 'ok'} {self.checks} - {name}", flush=True)
        if violations:
            self.failed += 1
            self.say(f"seed {self.options.seed}: {len(violations)} times, such as")
            for violation in violations[:5]:
                self.say(f"  {getattr(violation, 'text', violation)}")
                self.guilty += getattr(violation, "jobs", [])[:3]

    def say(self, text):
        for line in str(text).split("\n"):
            print(f"# {line}", flush=True)

    # ---- the run

    def prepare(self):
        main = self.servers.main
        main.init()
        main.start()
        with main.connect() as conn:
            conn.execute("CREATE EXTENSION my_worker")
            conn.execute("CREATE DATABASE other")
            conn.execute((Path(__file__).parent / "schema.sql").read_text())

    def make_actors(self):
        counts = Counter()
        for name, members in ACTORS.items():
            for kind, role in members:
                if not self.options.actors or name in self.options.actors:
                    number = counts[kind, role] = counts[kind, role] + 1
                    self.run.actors.append(kind(self.run, f"{kind.__name__} {number} of {role}", role))

    def torture(self):
        begin = time.monotonic()
        self.make_actors()
        chaos = Chaos(self.run, self.options.seconds - CALM, self.options.actors)
        for thread in [*self.run.actors, chaos]:
            thread.start()
        self.look_until(begin + self.options.seconds - CALM)
        self.run.calm.set()
        chaos.join()
        self.insist(chaos.calm)
        self.memory.look(self.servers.main)
        self.insist(self.end_prepared)
        # From here on no nap and no restart makes up for a wake-up that is lost.
        self.look_until(time.monotonic() + CALM)
        self.run.over.set()
        for actor in self.run.actors:
            if actor.end is self.run.over:
                actor.join()
        self.servers.ensure_up()
        self.say(f"chaos: {', '.join(f'{what} {count}' for what, count in sorted(chaos.counts.items()))}")
        self.say(f"{len(self.model.txs)} transactions, {len(self.model.jobs)} jobs, "
                 f"{sum(actor.failures for actor in self.run.actors)} sessions or statements lost")

    def look_until(self, end):
        while time.monotonic() < end:
            time.sleep(0.5)
            self.look()

    def look(self):
        """While it runs: what must hold always; and which queues are full."""
        self.memory.look(self.servers.main)
        try:
            with self.servers.connect() as conn:
                waiting = conn.execute("SELECT queue, count(*) FROM my_queue GROUP BY queue").fetchall()
                self.run.crowded = {queue for queue, count in waiting if count > MOST_WAITING}
                for name, query in facts.ALWAYS.items():
                    for (text,) in conn.execute(query):
                        self.model.saw(name, text)
        except psycopg.Error:
            return

    # ---- the end

    def insist(self, deed):
        """Does it when the server is up, and again if that goes down in the middle."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self.servers.ensure_up()
                return deed()
            except psycopg.OperationalError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def end_prepared(self):
        """COMMIT PREPARED wakes nobody: a queue that is resumed has the keeper look. Else it is left alone, so that what is lost stays lost."""
        found = False
        generator = random.Random(f"{self.options.seed} prepared")
        with self.servers.connect() as conn:
            end = time.monotonic() + 10
            while gids := conn.execute("SELECT gid FROM pg_prepared_xacts ORDER BY gid").fetchall():
                found = True
                for (gid,) in gids:
                    try:
                        finish_prepared(self.run, conn, gid, generator)
                    except psycopg.Error:  # its own session does it at this moment
                        if time.monotonic() > end:
                            raise
                time.sleep(0.1)
            if found:
                conn.execute("SELECT my_worker.resume_queue('plain')")

    def end_schedules(self):
        """A schedule that is paused is due no more; then all that it has enqueued is known."""
        with self.servers.connect() as conn, conn.transaction():
            conn.execute("SELECT my_worker.pause_schedule(name, owner) FROM my_worker.schedules")
            conn.execute("""
                INSERT INTO torture.schedules
                SELECT s.id, s.name, s.runs, (SELECT min(run_at) FROM my_worker.jobs AS j WHERE j.schedule_id = s.id),
                       s.last_due, 1, s.name = 'all' FROM my_worker.schedules AS s""")

    def drain(self):
        """Until no job is left. What does not move for PATIENCE seconds is stuck."""
        begin = moved = time.monotonic()
        last = None
        while True:
            now = self.left()
            if now and not now[0]:
                break
            if now and now != last:
                last, moved = now, time.monotonic()
            if endless := self.poisoned():
                raise RuntimeError("; ".join(endless))
            if time.monotonic() > moved + PATIENCE or time.monotonic() > begin + 5 * PATIENCE:
                self.explain_stuck()
                break
            time.sleep(0.1)
        self.say(f"drained in {time.monotonic() - begin:.1f} s")
        self.run.drained.set()
        for actor in self.run.actors:
            actor.join()

    def left(self):
        """How many jobs have not ended, and how many have; None while the server is down: a job may still kill it."""
        try:
            with self.servers.connect() as conn:
                return conn.execute("SELECT (SELECT count(*) FROM my_queue), (SELECT count(*) FROM my_worker.history)").fetchone()
        except psycopg.Error:
            return None

    def explain_stuck(self):
        with self.servers.connect() as conn:
            for row in conn.execute("SELECT id, queue, status, run_at::text, attempts, my_worker.why(id) FROM my_queue ORDER BY id LIMIT 10"):
                self.say(f"stuck: {row}")

    def judge(self):
        with self.servers.connect() as conn:
            found = facts.read(conn)
            for name, violations in self.model.judge(found, LIMITS):
                self.check(name, violations)
            for name, query in facts.AT_THE_END.items():
                self.check(name, [text for (text,) in conn.execute(query)])
            for name, left in leaks.left_over(conn):
                self.check(f"{name} left", left)
            self.check("jobs that are committed behind others are found", leaks.late_commits(conn, self.servers.connect))
            self.check("as many jobs may run at once as ever", leaks.permits(conn, self.servers.connect))
        count, most, grown = self.memory.judged()
        self.check(f"launcher and keepers stay as small as they are ({count} lived for more than {leaks.Memory.WARM} s, "
                   f"and grew by {most} kB at most)", grown)
        for text in self.memory.told():
            self.say(text)
        self.check("no job kills more processes than it has attempts", self.poisoned())
        begin = time.monotonic()
        self.servers.main.stop("fast", check=False)
        self.check("the server stops", [] if time.monotonic() < begin + 60 else [f"it took {time.monotonic() - begin:.0f} s"])
        self.check("nobody saw anything wrong while it ran", self.model.violations)
        self.check("the server's log is free of faults", [line for server in self.servers.all() for line in facts.log_faults(server)])

    def poisoned(self):
        """Twice, and again where another crash hit the server at the same moment."""
        deaths = Counter(self.run.poisoned.read_text().split() if self.run.poisoned.exists() else [])
        return [f"job {n} has killed {count} processes" for n, count in deaths.items() if count > 5]

    # ---- stories

    def tell(self):
        """Of each guilty job: what the actors and the server's log say."""
        for n in dict.fromkeys(self.guilty[:6]):
            job = self.model.jobs.get(n)
            self.say(f"the story of job {n}: {job}")
            words = [f'"n": {n},', f'"n": {n}}}'] + ([f'"tx": {job.tx.number},', f'"tx": {job.tx.number}}}'] if job else [])
            for line in (self.home / "events.jsonl").read_text().splitlines():
                if any(word in line for word in words):
                    self.say(f"  {line}")
            for server in self.servers.all() if job and job.id else []:
                for line in server.log_lines():
                    if f"job {job.id} " in line or f"job {job.id}:" in line:
                        self.say(f"  {server.name}: {line}")

    def main(self):
        print(f"# torture: seed {self.options.seed}, {self.options.seconds:g} s", flush=True)
        try:
            self.prepare()
            self.torture()
            self.insist(self.end_prepared)
            self.insist(self.end_schedules)
            self.drain()
            self.judge()
        except Exception as error:
            self.check("the run comes to its end", [f"{type(error).__name__}: {error}"])
        finally:
            self.servers.stop_all()
        print(f"1..{self.checks}", flush=True)
        if self.failed:
            self.tell()
            if self.options.small and os.path.isdir(self.options.small):
                shutil.copytree(self.options.small, self.home / "small.kept", symlinks=True)
            self.say(f"seed {self.options.seed}; servers, logs and events.jsonl are in {self.home}")
        return 1 if self.failed else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--home", required=True)
    parser.add_argument("--small", help="a small disk of its own")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", default=None)
    parser.add_argument("--actors", default="")
    options = parser.parse_args()
    options.seed = options.seed or str(int.from_bytes(os.urandom(3), "big"))
    options.actors = options.actors.split()
    unknown = [name for name in options.actors if name not in ACTORS and name not in WEIGHTS]
    if unknown:
        sys.exit(f"torture: no actor is named {unknown[0]}: there are {' '.join([*ACTORS, *WEIGHTS])}")
    # The servers are stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(Torture(options).main())


if __name__ == "__main__":
    main()
