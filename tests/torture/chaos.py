"""The chaos: one actor that does to the server what happens to servers, at times that the seed has chosen."""

import random
import signal
import threading
import time

import psycopg

from server import alive, kill


class Chaos(threading.Thread):
    def __init__(self, run, seconds, names=None):
        super().__init__(name="chaos", daemon=True)
        self.torture, self.servers, self.model = run, run.servers, run.model
        self.random = random.Random(f"{run.seed} chaos")
        self.counts = {}
        self.plan = self.make_plan(seconds, names)

    def make_plan(self, seconds, names):
        """[(when, what, a number for its choices)]: all that chance decides, decided beforehand."""
        weights = {name: weight for name, weight in WEIGHTS.items() if not names or name in names}
        plan, at = [], 1.0
        while weights and at < seconds:
            what = self.random.choices(list(weights), list(weights.values()))[0]
            plan.append((at, what, self.random.random()))
            at += 0.3 + self.random.expovariate(1 / 0.9)
        return plan

    def note(self, what, **about):
        self.torture.log.write("chaos", what, **about)

    def run(self):
        begin = time.monotonic()
        for at, what, choice in self.plan:
            if self.torture.over.wait(max(0, begin + at - time.monotonic())):
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


WEIGHTS = {
    "kill_worker": 6, "kill_keeper": 2, "kill_launcher": 2, "kill_session": 3, "kill_helper": 1,
    "terminate": 6, "cancel": 8, "freeze": 2, "lose_client": 4,
}
