#!/usr/bin/env python3
"""The torture: producers, consumers and chaos on a server of its own, and a model that says what must have come of it.

    torture.py --bin DIR --home DIR [--seconds 60] [--seed N] [--actors "handlers kills"]

Prints TAP. README.md tells the rest; tests/torture/run makes the server's copy and calls this.
"""

import argparse
import os
import random
import sys
import time
from pathlib import Path

import psycopg

import facts
from actors import Log, Run
from chaos import Chaos
from model import Limits, Model
from producers import KeyProducer, Producer, finish_prepared
from server import Servers

LIMITS = {
    "two": Limits(concurrency=2),
    "keys": Limits(per_key=2),
    "fifo": Limits(fifo=True),
    "rated": Limits(most_starts=44, period=1.0),
    "rated_keys": Limits(most_starts=10, period=1.0, rate_per_key=True),
}
MOST_WAITING = 3000
PATIENCE = 60  # seconds without any progress after which what is left is stuck


class Torture:
    def __init__(self, options):
        self.options = options
        self.home = Path(options.home)
        self.model = Model()
        self.log = Log(self.home / "events.jsonl")
        self.servers = Servers(self.home, options.bin)
        self.run = Run(self.servers, self.model, self.log, options.seed)
        self.count = self.failed = 0
        self.failures = []

    # ---- TAP

    def check(self, name, violations):
        self.count += 1
        print(f"{'not ok' if violations else 'ok'} {self.count} - {name}", flush=True)
        if violations:
            self.failed += 1
            print(f"#   seed {self.options.seed}: {len(violations)} times, such as")
            for violation in violations[:5]:
                text = getattr(violation, "text", violation)
                print(f"#   {text}")
                for n in getattr(violation, "jobs", [])[:3]:
                    self.failures.append(n)

    def say(self, text):
        print(f"# {text}", flush=True)

    # ---- the run

    def prepare(self):
        main = self.servers.main
        main.init()
        main.start()
        with main.connect() as conn:
            conn.execute("CREATE EXTENSION my_worker")
            conn.execute("CREATE DATABASE other")
            conn.execute((Path(__file__).parent / "schema.sql").read_text())

    def actors(self):
        run = self.run
        all_actors = {
            "handlers": lambda: [Producer(run, "handlers of alice", "alice"), Producer(run, "handlers of postgres")],
            "keys": lambda: [KeyProducer(run, "keys of alice", "alice"), KeyProducer(run, "keys of bob", "bob")],
        }
        chosen = self.options.actors
        return [actor for name, make in all_actors.items() if not chosen or name in chosen for actor in make()]

    def torture(self):
        begin = time.monotonic()
        actors = self.actors()
        chaos = Chaos(self.run, self.options.seconds, self.options.actors)
        for thread in actors + [chaos]:
            thread.start()
        while time.monotonic() < begin + self.options.seconds:
            time.sleep(0.5)
            self.look()
        self.run.over.set()
        chaos.join()
        for actor in actors:
            if actor.end is self.run.over:
                actor.join()
        self.servers.ensure_up()
        self.say(f"chaos: {', '.join(f'{what} {count}' for what, count in sorted(chaos.counts.items()))}")
        self.say(f"{len(self.model.txs)} transactions, {len(self.model.jobs)} jobs, "
                 f"{sum(actor.failures for actor in actors)} sessions or statements lost")

    def look(self):
        """While it runs: producers rest where so many jobs wait."""
        try:
            with self.servers.connect() as conn:
                waiting = conn.execute("SELECT count(*) FROM my_queue").fetchone()[0]
        except psycopg.Error:
            return
        if waiting > MOST_WAITING:
            self.run.crowded.set()
        elif waiting < MOST_WAITING / 2:
            self.run.crowded.clear()

    def finish_prepared(self):
        generator = random.Random(f"{self.options.seed} prepared")
        with self.servers.connect() as conn:
            for (gid,) in conn.execute("SELECT gid FROM pg_prepared_xacts ORDER BY gid").fetchall():
                finish_prepared(self.run, conn, gid, generator)

    def drain(self):
        """Until no job is left. What does not move for PATIENCE seconds is stuck."""
        begin = moved = time.monotonic()
        last = None
        while True:
            with self.servers.connect() as conn:
                left, ended = conn.execute("SELECT (SELECT count(*) FROM my_queue), (SELECT count(*) FROM my_worker.history)").fetchone()
            if not left:
                break
            if (left, ended) != last:
                last, moved = (left, ended), time.monotonic()
            if time.monotonic() > moved + PATIENCE:
                self.explain_stuck()
                break
            time.sleep(0.1)
        self.say(f"drained in {time.monotonic() - begin:.1f} s")
        self.run.drained.set()

    def explain_stuck(self):
        with self.servers.connect() as conn:
            for row in conn.execute("SELECT id, queue, status, run_at, attempts, my_worker.why(id) FROM my_queue ORDER BY id LIMIT 10"):
                self.say(f"stuck: {row}")

    def judge(self):
        with self.servers.connect() as conn:
            found = facts.read(conn)
        for name, violations in self.model.judge(found, LIMITS):
            self.check(name, violations)
        self.check("actors saw nothing wrong", self.model.violations)
        self.check("the server's log is free of faults", [line for server in self.servers.all() for line in facts.log_faults(server)])

    def main(self):
        print(f"# torture: seed {self.options.seed}, {self.options.seconds} s", flush=True)
        try:
            self.prepare()
            self.torture()
            self.finish_prepared()
            self.drain()
            self.judge()
        finally:
            self.servers.stop_all()
        print(f"1..{self.count}")
        if self.failed:
            self.say(f"seed {self.options.seed}; what it leaves is in {self.home}")
        return 1 if self.failed else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--home", required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", default=None)
    parser.add_argument("--actors", default="")
    options = parser.parse_args()
    options.seed = options.seed or str(int.from_bytes(os.urandom(4)))
    options.actors = options.actors.split()
    os.makedirs(options.home, exist_ok=True)
    sys.exit(Torture(options).main())


if __name__ == "__main__":
    main()
