"""What may not be left when all is done: locks, leases, permits, files, memory."""

import json
import re
import time
from pathlib import Path

import psycopg

PATIENCE = 60

# Each a query that returns a row, as text, for what is left over. Asked again until the deadline: sessions end when they end.
NOTHING_LEFT = {
    "no locks": """
        SELECT format('%s has %s on %s', coalesce(a.application_name, l.pid::text), l.mode, coalesce(l.relation::regclass::text, l.locktype))
          FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a USING (pid)
         WHERE l.locktype = 'advisory' OR a.backend_type IN ('my_custom_worker', 'dynamic_worker')""",
    "no prepared transactions": "SELECT gid FROM pg_prepared_xacts",
    "no process runs or holds a job": """
        SELECT format('%s %s is %s with job %s', kind, pid, state, job_id) FROM my_worker.workers
         WHERE kind IN ('consumer', 'dynamic') OR state NOT IN ('idle', 'starting') AND kind <> 'launcher' OR job_id IS NOT NULL""",
    "no dependencies": "SELECT format('job %s comes after %s', job, after) FROM my_worker._dependencies",
    "no files": """
        SELECT format('pg_stat_tmp/%s', f) FROM pg_ls_dir('pg_stat_tmp') AS f
         WHERE f LIKE 'my_worker%' AND f NOT IN ('my_worker.marks', 'my_worker.leases')
        UNION ALL SELECT format('%s in pgsql_tmp', name) FROM pg_ls_tmpdir()""",
}


def left_over(conn):
    """Yields (name, what is left)."""
    for name, query in NOTHING_LEFT.items():
        end = time.monotonic() + PATIENCE
        while (left := [row[0] for row in conn.execute(query)]) and time.monotonic() < end:
            time.sleep(0.1)
        yield name, left


def permits(conn, connect):
    """As many jobs as ever may run at once again: whoever lost a permit, a key or a place of the pool would let fewer run."""
    # The last one leaves workers idle that have had the queue's permits, which sessions take next.
    places = {"keys": 2, "plain": 4, "fifo": 1, "two": 2}
    wanted = 0
    for queue, most in places.items():
        for _ in range(most):
            conn.execute("SELECT my_worker.enqueue('torture.meet', %s, queue => %s, group_key => 'meeting')",
                         (json.dumps({"place": f"meeting of {queue}", "most": most}), queue))
        wanted += most
        end = time.monotonic() + PATIENCE
        while (met := conn.execute("SELECT count(*) FROM torture.effects WHERE what LIKE 'meeting of %'").fetchone()[0]) < wanted:
            if time.monotonic() > end:
                return [f"{most} jobs of {queue} did not run at once: {met - wanted + most} have met"]
            time.sleep(0.05)
    end = time.monotonic() + PATIENCE
    while error := perform_at_once(connect, places["two"]):
        if time.monotonic() > end:
            return [f"{places['two']} sessions could not perform jobs of two at once: {error}"]
        time.sleep(0.1)
    for _ in range(2):
        conn.execute("SELECT my_worker.send('mail_two')")
    got = conn.execute("SELECT count(my_worker.ack(id, lease)) FROM my_worker.receive('mail_two', 5, wait => '5 s')").fetchone()[0]
    return [] if got == 2 else [f"{got} of 2 jobs of mail_two could be received at once"]


def late_commits(conn, connect):
    """No schedule fires, no job waits for later and the nap is long, so no look of the keeper helps those who lose a wake-up."""
    queues = ["plain", "savepoints", "two", "keys", "together"]
    enqueue = "SELECT my_worker.enqueue('torture.tick', queue => %s, priority => %s) FROM generate_series(1, %s)"
    wait = "SELECT NOT EXISTS (SELECT FROM my_queue)"
    for _ in range(3):
        sessions = [connect() for _ in queues]
        try:
            for priority, (session, queue) in enumerate(zip(sessions, queues)):
                session.execute("BEGIN")
                session.execute(enqueue, (queue, priority % 3, 1))
            for queue in queues:
                for priority in range(3):
                    conn.execute(enqueue, (queue, priority, 50))
            if not holds_soon(conn, wait):
                return ["jobs do not end while other transactions are open"]
            for session in sessions:
                session.execute("COMMIT")
        finally:
            for session in sessions:
                session.close()
        if not holds_soon(conn, wait):
            return [f"job {id} of {queue} was not found" for id, queue in conn.execute("SELECT id, queue FROM my_queue")]
    return []


def holds_soon(conn, query):
    end = time.monotonic() + PATIENCE / 3
    while not conn.execute(query).fetchone()[0]:
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def perform_at_once(connect, count):
    """Has so many sessions each perform a job of `two` in a transaction; what kept one of them from it, or None."""
    sessions = [connect() for _ in range(count)]
    try:
        for session in sessions:
            session.execute("BEGIN")
            session.execute("SELECT my_worker.perform(my_worker.enqueue('torture.tick', queue => 'two'))")
        return None
    except psycopg.Error as error:
        return error
    finally:
        for session in sessions:
            session.close()  # which rolls back


class Memory:
    """RssAnon of launcher and keepers, from their first half minute on: on a machine that is crowded the first so many looks, since
    little has happened in half a minute there."""

    WARM, LOOKS, MOST = 30, 50, 1024  # seconds, looks (some two a second), kB

    def __init__(self):
        self.seen = {}  # (pid, when it began): [name, looks, when first seen, when last seen, kB when warm, kB now]

    def look(self, server):
        for pid, title in server.children():
            if "my_worker launcher" in title or "my_worker keeper" in title:
                try:
                    kilobytes = int(re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])
                    # A number may be given again to another process.
                    began = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
                except (OSError, TypeError, IndexError):
                    continue
                self.note((pid, began), "launcher" if "launcher" in title else "keeper", kilobytes, time.monotonic())

    def note(self, process, name, kilobytes, now):
        seen = self.seen.setdefault(process, [name, 0, now, now, None, 0])
        seen[1] += 1
        if seen[4] is None and seen[1] > self.LOOKS and now > seen[2] + self.WARM:
            seen[4] = kilobytes
        seen[3], seen[5] = now, kilobytes

    def warm(self):
        """[(how long it lived, name, pid, kB when warm, kB at last)], those that lived longest first."""
        return sorted(((last - first, name, pid, warm, kilobytes) for (pid, _began), (name, _looks, first, last, warm, kilobytes)
                       in self.seen.items() if warm is not None), reverse=True)

    def told(self):
        """Those that lived longest, in words."""
        return [f"{name} of {seconds:.0f} s: {warm} kB, then {now} kB" for seconds, name, _pid, warm, now in self.warm()[:6]]

    def judged(self):
        """(processes that lived long enough, by how much one grew at most, those that grew too much)"""
        grown = [(f"{name} {pid}", now - warm) for _seconds, name, pid, warm, now in self.warm()]
        return len(grown), max((kilobytes for _name, kilobytes in grown), default=0), [
            f"{name} has grown by {kilobytes} kB" for name, kilobytes in grown if kilobytes > self.MOST]
