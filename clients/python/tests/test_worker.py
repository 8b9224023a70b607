"""The client against a real server: the one that PGHOST and the like name. It may be restarted."""

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from datetime import datetime, timedelta, timezone

import psycopg
from psycopg.rows import namedtuple_row

import my_worker
from my_worker import Fail, Release, RetryIn, Worker

logging.basicConfig(filename=os.devnull)


def wait_for(fact, what, seconds=30):
    deadline = time.monotonic() + seconds
    while not (value := fact()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain: {what}")
        time.sleep(0.02)
    return value


class Case(unittest.TestCase):
    queue_number = 0

    @classmethod
    def setUpClass(cls):
        with psycopg.connect(autocommit=True) as conn:
            conn.execute("SET client_min_messages = warning")
            conn.execute("CREATE EXTENSION IF NOT EXISTS my_worker")
            conn.execute("CREATE TABLE IF NOT EXISTS effects (job bigint, what text UNIQUE)")

    def setUp(self):
        Case.queue_number += 1
        self.queue = f"{type(self).__name__}_{os.getpid()}_{Case.queue_number}".lower()
        self.open()
        self.addCleanup(lambda: self.conn.close())
        self.sql("SELECT my_worker.create_queue(%s, backoff => '50 ms', backoff_max => '50 ms')", self.queue)

    def open(self):
        self.conn = psycopg.connect(autocommit=True, row_factory=namedtuple_row)

    def sql(self, text, *values):
        cursor = self.conn.execute(text, values)
        return cursor.fetchall() if cursor.description else None

    def send(self, payload={}, **options):
        return my_worker.send(self.conn, options.pop("queue", self.queue), payload, **options)

    def row(self, job):
        return self.sql("SELECT * FROM my_worker.jobs WHERE id = %s", job)[0]

    def ended(self, *jobs, status="completed"):
        for job in jobs:
            said = self.sql("SELECT my_worker.wait(%s, '30 s') AS status", job)[0].status
            self.assertEqual(said, status, self.row(job) if said else "it waits still")
        return self.row(jobs[-1])

    def worker(self, **options):
        return Worker(**{"queues": self.queue, "grace": 5, **options})

    @contextlib.contextmanager
    def serving(self, worker):
        """The worker in a thread of its own, stopped at the end of the block."""
        failure = []

        def serve():
            try:
                worker.run()
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            worker.stop()
            thread.join(20)
            if failure:
                raise failure[0]
        self.assertFalse(thread.is_alive(), "the worker has stopped")


class Dispatch(Case):
    def test_each_kind_has_its_handler_and_the_rest_the_default(self):
        worker = self.worker()

        @worker.job("a", "b")
        def named(job):
            return ["named", job.kind, job.payload["n"]]

        @worker.job()
        def rest(job):
            return ["rest", job.kind, job.payload["n"]]

        jobs = [self.send({"n": n}, kind=kind) for n, kind in enumerate(["a", "b", "c", None])]
        with self.serving(worker):
            self.ended(*jobs)
        self.assertEqual(
            [self.row(job).result for job in jobs],
            [["named", "a", 0], ["named", "b", 1], ["rest", "c", 2], ["rest", None, 3]],
        )

    def test_without_a_default_other_kinds_are_left_to_others(self):
        worker = self.worker()
        worker.job("mine")(lambda job: None)
        other, mine = self.send(kind="other"), self.send(kind="mine")
        with self.serving(worker):
            self.ended(mine)
        self.assertEqual((self.row(other).status, self.row(other).attempts), ("pending", 0))

    def test_a_handler_sees_all_of_its_job(self):
        seen = []
        worker = self.worker()
        worker.job()(lambda job: seen.append(job))
        when = datetime.now(timezone.utc) - timedelta(hours=1)
        job = self.send(
            {"ä": [1.5, None]}, kind="k", headers={"trace": "t"}, priority=7, run_at=when, max_attempts=3, group_key="g"
        )
        with self.serving(worker):
            self.ended(job)
        (got,) = seen
        self.assertEqual(
            (got.id, got.queue, got.kind, got.payload, got.headers, got.attempt, got.max_attempts, got.priority),
            (job, self.queue, "k", {"ä": [1.5, None]}, {"trace": "t"}, 1, 3, 7),
        )
        self.assertEqual((got.run_at, got.group_key), (when, "g"))
        self.assertEqual(got.owner, self.sql("SELECT current_user")[0][0])
        self.assertNotIn("1.5", repr(got))

    def check_so_many_at_once(self, queues, handler_of):
        lock, running, most = threading.Lock(), [0], [0]

        def enter(step):
            with lock:
                running[0] += step
                most[0] = max(most[0], running[0])

        worker = self.worker(queues=queues, concurrency=3, prefetch=1)
        worker.job()(handler_of(enter))
        jobs = [self.send(queue=queue) for queue in queues for _ in range(12 // len(queues))]
        with self.serving(worker):
            self.ended(*jobs)
        self.assertEqual(most[0], 3)
        self.assertEqual({self.row(job).attempts for job in jobs}, {1})

    def test_so_many_run_at_once_in_threads(self):
        def handler_of(enter):
            def handler(job):
                enter(1)
                time.sleep(0.1)
                enter(-1)

            return handler

        self.check_so_many_at_once([self.queue], handler_of)

    def test_so_many_run_at_once_of_two_queues_together(self):
        def handler_of(enter):
            async def handler(job):
                enter(1)
                await asyncio.sleep(0.1)
                enter(-1)

            return handler

        other = self.queue + "_other"
        self.sql("SELECT my_worker.create_queue(%s)", other)
        self.check_so_many_at_once([self.queue, other], handler_of)

    def test_an_idle_queue_keeps_no_place_from_another(self):
        other = self.queue + "_idle"
        self.sql("SELECT my_worker.create_queue(%s)", other)
        together = threading.Barrier(2)
        worker = self.worker(queues=[other, self.queue], concurrency=2)
        worker.job()(lambda job: together.wait(20) and None)
        with self.serving(worker):
            wait_for(lambda: self.sql("SELECT 1 FROM my_worker.workers WHERE kind = 'consumer'"), "it waits")
            self.ended(*[self.send() for _ in range(2)])

    def test_a_job_starts_at_once_after_its_commit(self):
        worker = self.worker()
        worker.job()(lambda job: time.time())
        with self.serving(worker):
            self.ended(self.send())
            delays = []
            for _ in range(5):
                sent = time.time()
                delays.append(self.ended(self.send()).result - sent)
        self.assertLess(min(delays), 0.5)


class Ends(Case):
    def effects(self, job):
        return [row.what for row in self.sql("SELECT what FROM effects WHERE job = %s", job)]

    def test_effect_and_end_are_one_transaction(self):
        worker = self.worker()

        @worker.job(transaction=True)
        def book(job, conn):
            conn.execute("INSERT INTO effects VALUES (%s, %s)", (job.id, f"booked {job.id}/{job.attempt}"))
            if job.attempt == 1:
                raise ValueError("not yet")
            return {"booked": True}

        job = self.send()
        with self.serving(worker):
            row = self.ended(job)
        self.assertEqual(self.effects(job), [f"booked {job}/2"])
        self.assertEqual((row.result, len(row.errors)), ({"booked": True}, 1))

    def test_a_failure_at_commit_leaves_neither_effect_nor_end(self):
        self.sql("CREATE TABLE IF NOT EXISTS deferred (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        self.sql("INSERT INTO deferred SELECT 1 WHERE NOT EXISTS (SELECT FROM deferred)")
        worker = self.worker()

        @worker.job(transaction=True)
        def twice(job, conn):
            conn.execute("INSERT INTO deferred VALUES (1)")

        job = self.send(max_attempts=1)
        with self.serving(worker):
            row = self.ended(job, status="failed")
        self.assertIn("23505", row.errors[0]["message"])

    def check_lost_lease(self, worker, started, may_end):
        job = self.send(max_attempts=1)
        with self.serving(worker):
            self.assertTrue(started.wait(20))
            self.sql("SELECT my_worker.cancel(%s)", job)
            may_end.set()
            self.ended(job, status="cancelled")
        self.assertEqual(self.effects(job), [])

    def test_a_lost_lease_rolls_back(self):
        started, may_end, worker = threading.Event(), threading.Event(), self.worker()

        @worker.job(transaction=True)
        def book(job, conn):
            conn.execute("INSERT INTO effects VALUES (%s, %s)", (job.id, f"lost {job.id}"))
            started.set()
            may_end.wait(20)

        self.check_lost_lease(worker, started, may_end)

    def test_a_lost_lease_rolls_back_with_asyncio(self):
        started, may_end, worker = threading.Event(), threading.Event(), self.worker(lease=60)

        @worker.job(transaction=True)
        async def book(job, conn):
            await conn.execute("INSERT INTO effects VALUES (%s, %s)", (job.id, f"lost {job.id}"))
            started.set()
            await asyncio.to_thread(may_end.wait, 20)

        self.check_lost_lease(worker, started, may_end)

    def test_a_handler_that_rolls_back_has_failed(self):
        worker = self.worker()

        @worker.job(transaction=True)
        def rolls_back(job, conn):
            raise psycopg.Rollback()

        with self.serving(worker):
            row = self.ended(self.send(max_attempts=1), status="failed")
        self.assertIn("rolled back", row.errors[0]["message"])

    def test_an_exception_fails_the_attempt_and_the_job_is_tried_again(self):
        worker = self.worker()

        @worker.job()
        def flaky(job):
            if job.attempt < 3:
                raise ValueError(f"no {job.attempt}\0")
            return job.attempt

        with self.serving(worker):
            row = self.ended(self.send())
        self.assertEqual((row.result, row.attempts), (3, 3))
        self.assertEqual([error["message"] for error in row.errors], ["ValueError: no 1", "ValueError: no 2"])

    def test_an_error_of_the_database_is_told_without_the_row(self):
        worker = self.worker()

        @worker.job(transaction=True)
        def insert(job, conn):
            conn.execute("INSERT INTO effects VALUES (0, %s)", (job.payload["secret"],))
            conn.execute("INSERT INTO effects VALUES (0, %s)", (job.payload["secret"],))

        with self.serving(worker):
            row = self.ended(self.send({"secret": "hush"}, max_attempts=1), status="failed")
        self.assertIn("UniqueViolation (23505): duplicate key", row.errors[0]["message"])
        self.assertNotIn("hush", str(row.errors))

    def test_what_the_handler_raises_says_how_it_ends(self):
        worker = self.worker()

        @worker.job("fail")
        def fail(job):
            raise Fail("no such address")

        @worker.job("retry")
        async def retry(job):
            if job.attempt == 1:
                raise RetryIn(0.5, "busy")

        @worker.job("release")
        def release(job, seen=[]):
            if not seen:
                seen.append(job.id)
                raise Release(timedelta(seconds=0.3))
            return job.attempt

        @worker.job("exit")
        def leave(job):
            sys.exit(3)

        @worker.job("json")
        def not_json(job):
            return object()

        options = {"fail": {}, "retry": {}, "release": {}, "exit": {"max_attempts": 1}, "json": {"max_attempts": 1}}
        jobs = {kind: self.send(kind=kind, **more) for kind, more in options.items()}
        with self.serving(worker):
            row = self.ended(jobs["fail"], status="failed")
            self.assertEqual((row.attempts, row.errors[0]["message"]), (1, "no such address"))
            row = self.ended(jobs["retry"])
            self.assertEqual((row.attempts, row.errors[0]["message"]), (2, "busy"))
            self.assertGreater(row.started_at - row.created_at, timedelta(seconds=0.5))
            row = self.ended(jobs["release"])
            self.assertEqual((row.result, row.errors), (1, None))
            self.assertIn("SystemExit: 3", self.ended(jobs["exit"], status="failed").errors[0]["message"])
            self.assertIn("TypeError", self.ended(jobs["json"], status="failed").errors[0]["message"])

    def test_a_result_that_the_server_refuses_fails_its_job_alone(self):
        worker = self.worker()
        worker.job()(lambda job: job.payload["result"].replace("NUL", "\0"))
        jobs = [self.send({"result": text}, max_attempts=1) for text in ("a", "NUL", "b")]
        with self.serving(worker):
            self.ended(jobs[0], jobs[2])
            self.ended(jobs[1], status="failed")

    def test_many_jobs_with_and_without_results(self):
        worker = self.worker(concurrency=20, prefetch=50)

        @worker.job()
        async def quick(job):
            return job.payload if job.payload % 2 else None

        jobs = my_worker.send_many(self.conn, self.queue, range(500))
        with self.serving(worker):
            wait_for(lambda: not self.sql("SELECT 1 FROM my_queue WHERE queue = %s LIMIT 1", self.queue), "all done")
        rows = self.sql("SELECT id, result FROM my_worker.history WHERE queue = %s ORDER BY id", self.queue)
        self.assertEqual([row.id for row in rows], jobs)
        self.assertEqual([row.result for row in rows], [n if n % 2 else None for n in range(500)])

    def test_progress_is_seen_while_the_job_runs(self):
        reported, may_end, worker = threading.Barrier(3), threading.Event(), self.worker()

        @worker.job("sync")
        def steps(job):
            self.assertTrue(job.progress(40, "four of ten"))
            reported.wait(20)
            may_end.wait(20)

        @worker.job("async")
        async def more_steps(job):
            self.assertTrue(await job.progress(60))
            await asyncio.to_thread(reported.wait, 20)
            await asyncio.to_thread(may_end.wait, 20)

        jobs = [self.send(kind="sync"), self.send(kind="async")]
        with self.serving(worker):
            reported.wait(20)
            seen = [(row.status, row.progress, row.progress_message) for row in map(self.row, jobs)]
            may_end.set()
            self.ended(*jobs)
        self.assertEqual(seen, [("processing", 40, "four of ten"), ("processing", 60, None)])


class Leases(Case):
    def test_a_timed_lease_is_extended_while_the_job_runs(self):
        worker = self.worker(lease=1)
        worker.job()(lambda job: time.sleep(2.5))
        with self.serving(worker):
            row = self.ended(self.send())
        self.assertEqual((row.attempts, row.errors), (1, None))

    def test_a_cancelled_job_is_told_to_stop(self):
        told, worker = [], self.worker(lease=1)

        @worker.job("sync")
        def thread(job):
            told.append(job.stop.wait(20) and "sync")

        @worker.job("async")
        async def task(job):
            try:
                await asyncio.sleep(20)
            except asyncio.CancelledError:
                told.append("async")
                raise

        jobs = [self.send(kind="sync"), self.send(kind="async")]
        with self.serving(worker):
            for job in jobs:
                wait_for(lambda: self.row(job).status == "processing", "it runs")
                self.sql("SELECT my_worker.cancel(%s)", job)
            wait_for(lambda: sorted(told) == ["async", "sync"], "both are told")
            self.ended(*jobs, status="cancelled")

    def test_a_session_holds_its_jobs_and_stops_at_once_when_idle(self):
        worker = self.worker(name="post office")
        may_end = threading.Event()
        worker.job()(lambda job: may_end.wait(20) and None)
        job = self.send()
        with self.serving(worker):
            row = wait_for(lambda: (row := self.row(job)).status == "processing" and row, "it runs")
            self.assertEqual((row.consumer, row.lease_until), ("post office", None))
            may_end.set()
            self.ended(job)
            begin = time.monotonic()
        self.assertLess(time.monotonic() - begin, 3)

    def test_a_worker_outlives_its_connections(self):
        worker = self.worker(lease=5)

        @worker.job(transaction=True)
        def book(job, conn):
            conn.execute("INSERT INTO effects VALUES (%s, %s)", (job.id, f"outlived {job.id}"))

        kill = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE application_name = 'doomed' AND backend_type = 'client backend'"""
        worker._connect_with["application_name"] = "doomed"
        with self.serving(worker):
            for _ in range(3):
                self.ended(self.send())
                self.sql(kill)
            self.ended(self.send())


class Starting(Case):
    def test_a_wrong_queue_or_address_is_said_at_once(self):
        for options in ({"queues": "nosuch"}, {"conninfo": "host=/nowhere"}):
            worker = self.worker(**options)
            worker.job()(print)
            with self.assertRaises(psycopg.Error):
                worker.run()

    def test_a_worker_without_handlers_says_so(self):
        with self.assertRaisesRegex(ValueError, "no handler"):
            self.worker().run()


class Processes(Case):
    def setUp(self):
        super().setUp()
        handle, self.notes = tempfile.mkstemp()
        os.close(handle)
        self.addCleanup(os.unlink, self.notes)

    def child(self, *arguments):
        command = [sys.executable, "-m", "tests.child", self.queue, self.notes, *map(str, arguments)]
        child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        return child

    def noted(self, word):
        with open(self.notes) as notes:
            return [int(line.split()[1]) for line in notes if line.startswith(word + " ")]

    def check_kill(self, *lease):
        jobs = my_worker.send_many(self.conn, self.queue, [{}] * 12)
        child = self.child(0.1, 1, 5, *lease)
        wait_for(lambda: len(self.noted("begin")) >= 4, "some jobs have begun")
        child.kill()
        child.wait()
        begun = self.noted("begin")
        self.assertLess(len(begun), 12)
        self.child(0.05, 1, 5, *lease)
        self.ended(*jobs)
        again = [job for job in set(jobs) if self.noted("begin").count(job) > 1]
        self.assertEqual(set(self.noted("end")), set(jobs))
        self.assertLessEqual(set(again), {begun[-1]}, "at most the one in its hands is repeated")
        charged = [row.id for row in map(self.row, jobs) if row.errors]
        self.assertEqual(charged, again)

    def test_kill_9_loses_none_and_repeats_at_most_the_one_at_hand(self):
        self.check_kill()

    def test_kill_9_with_timed_leases(self):
        self.check_kill(2)

    def test_sigterm_lets_what_runs_end_and_leaves_the_rest(self):
        jobs = my_worker.send_many(self.conn, self.queue, [{}] * 5)
        child = self.child(0.7, 2, 20)
        wait_for(lambda: len(self.noted("begin")) == 2, "two jobs have begun")
        child.send_signal(signal.SIGTERM)
        self.assertEqual(child.wait(20), 0)
        self.assertEqual(sorted(self.noted("end")), jobs[:2])
        rows = [self.row(job) for job in jobs]
        self.assertEqual([row.status for row in rows], ["completed"] * 2 + ["pending"] * 3)
        self.assertEqual([row.errors for row in rows], [None] * 5)

    def test_after_the_grace_what_runs_is_released_uncharged(self):
        for lease in ([], [30]):
            job = self.send()
            child = self.child(60, 2, 0.3, *lease)
            wait_for(lambda: job in self.noted("begin"), "it has begun")
            child.send_signal(signal.SIGINT)
            self.assertEqual(child.wait(20), 0)
            row = self.row(job)
            self.assertEqual((row.status, row.attempts, row.errors), ("pending", 0, None))
            self.sql("SELECT my_worker.cancel(%s)", job)

    def check_restart(self, mode, *lease):
        jobs = my_worker.send_many(self.conn, self.queue, [{}] * 12)
        self.child(0.1, 2, 5, *lease)
        wait_for(lambda: len(self.noted("end")) >= 3, "some jobs have ended")
        self.conn.close()
        command = ["pg_ctl", "-s", "-w", "-D", os.environ["PGDATA"], "-l", os.environ["PGLOG"], "-m", mode, "restart"]
        subprocess.run(command, check=True)
        self.open()
        self.ended(*jobs)
        self.assertEqual(set(self.noted("end")), set(jobs))

    def test_a_restart_of_the_server_loses_none(self):
        self.check_restart("fast")

    def test_a_crash_of_the_server_loses_none(self):
        self.check_restart("immediate", 2)


class Sending(Case):
    def waiting(self):
        return self.sql("SELECT count(*) FROM my_queue WHERE queue = %s", self.queue)[0].count

    def test_sending_is_part_of_the_callers_transaction(self):
        with contextlib.suppress(ZeroDivisionError), self.conn.transaction():
            my_worker.send(self.conn, self.queue, {"n": 1})
            my_worker.send_many(self.conn, self.queue, [1, 2])
            raise ZeroDivisionError
        self.assertEqual(self.waiting(), 0)
        with self.conn.transaction():
            first = my_worker.send(self.conn, self.queue, unique_key="k")
            self.assertEqual(my_worker.send(self.conn, self.queue, unique_key="k"), first)
            self.assertEqual(len(my_worker.send_many(self.conn, self.queue, [1, 2], kind="x", timeout="1 min")), 2)
        self.assertEqual(self.waiting(), 3)

    def test_sending_with_asyncio(self):
        async def main():
            conn = await psycopg.AsyncConnection.connect(row_factory=namedtuple_row)
            async with conn:
                job = await my_worker.send(conn, self.queue, {"n": 1}, headers={"a": "b"})
                return [job, *await my_worker.send_many(conn, self.queue, ["x", None])]

        jobs = asyncio.run(main())
        self.assertEqual([self.row(job).payload for job in jobs], [{"n": 1}, "x", None])

    def test_enqueueing_for_the_server(self):
        self.sql("CREATE OR REPLACE FUNCTION double(n jsonb) RETURNS int LANGUAGE sql RETURN 2 * n::int")
        job = my_worker.enqueue(self.conn, "double", 21, priority=-1)
        self.assertEqual(self.ended(job).result, 42)

    def test_a_misspelt_option_is_an_error(self):
        with self.assertRaisesRegex(TypeError, 'no parameter \'prioriti\''):
            my_worker.send(self.conn, self.queue, prioriti=1)


class Asyncio(Case):
    def test_a_worker_inside_a_program_with_a_loop(self):
        async def main():
            worker, seen = self.worker(), []

            @worker.job("plain")
            async def plain(job):
                seen.append(job.payload)

            @worker.job("transaction", transaction=True)
            async def booked(job, conn):
                await conn.execute("INSERT INTO effects VALUES (%s, 'asyncio')", (job.id,))
                return await my_worker.send(conn, self.queue, "next", kind="plain")

            serving = asyncio.create_task(worker.serve())
            job = self.send(kind="transaction")
            await asyncio.to_thread(self.ended, job)
            await asyncio.to_thread(self.ended, self.row(job).result)
            worker.stop()
            await asyncio.wait_for(serving, 10)
            return seen

        self.assertEqual(asyncio.run(main()), ["next"])
        self.assertEqual(len(self.sql("SELECT 1 FROM effects WHERE what = 'asyncio'")), 1)


if __name__ == "__main__":
    unittest.main()
