"""The worker: takes jobs from queues, runs their handlers, and ends the jobs.

One event loop drives everything; handlers that are plain functions run in threads of their own. The
connections, all opened when first needed and anew after a loss:

- one for each queue, which waits in `receive` and, where leases are the session's, holds them;
- one that acknowledges, extends and reports, for all jobs;
- one for each transactional handler that runs, kept for the next one.

A job's end is always said with its lease, so from any connection, and a lost lease changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import random
import signal
import threading
from datetime import timedelta
from typing import Any, Awaitable, Callable, Iterable, Iterator, Mapping, NamedTuple, Optional, TypeVar, Union

import psycopg
from psycopg.rows import dict_row, tuple_row

from ._job import AsyncJob, Delay, Fail, Job, LeaseLost, Release, RetryIn, error_text, interval

log = logging.getLogger("my_worker")
Function = TypeVar("Function", bound=Callable[..., Any])
Row = dict[str, Any]

RECEIVE = """
SELECT id, lease, %(queue)s::text AS queue, kind, payload, headers, attempt, max_attempts, priority,
       run_at, created_at, owner::text AS owner, group_key
  FROM my_worker.receive(queue => %(queue)s::text, n => %(n)s::integer, wait => %(wait)s::interval,
                         lease => %(lease)s::interval, kinds => %(kinds)s::text[])"""
ACK = "SELECT my_worker.ack(%s::bigint, %s::bigint, %s::jsonb)"
ACK_MANY = """
SELECT t.id FROM unnest(%s::bigint[], %s::bigint[], %s::jsonb[]) AS t(id, lease, result)
 WHERE my_worker.ack(t.id, t.lease, t.result)"""
NACK = """SELECT my_worker.nack(%s::bigint, %s::bigint, error => %s::text, delay => %s::interval,
                      fail => %s::boolean) AS held"""
RELEASE = "SELECT my_worker.release(%s::bigint, %s::bigint, %s::interval) AS held"
EXTEND = """
SELECT t.id, t.lease, my_worker.extend(t.id, t.lease, %s::interval) AS held
  FROM unnest(%s::bigint[], %s::bigint[]) AS t(id, lease)"""

SERVER_GOES = ("57P01", "57P02")  # ended by an administrator, or by another process's crash
CONNECTION_LOST = (psycopg.OperationalError, psycopg.InterfaceError)
PATIENCE = 30.0  # seconds that an answer may take beyond the wait that was asked for


class _Handler(NamedTuple):
    function: Callable[..., Any]
    transaction: bool
    is_async: bool


class _Link:
    """A connection for one statement at a time, opened when needed and anew after it was lost."""

    def __init__(self, connect: Callable[[], Awaitable[psycopg.AsyncConnection[Any]]]) -> None:
        self._connect, self._lock = connect, asyncio.Lock()
        self.connection: Optional[psycopg.AsyncConnection[Any]] = None

    @property
    def lost(self) -> bool:
        return self.connection is None or self.connection.closed

    async def query(self, sql: str, values: Any) -> list[Row]:
        async with self._lock:
            if self.connection is None or self.lost:
                self.connection = await self._connect()
            async with self.connection.cursor(row_factory=dict_row) as cursor:
                return await (await cursor.execute(sql, values)).fetchall()

    async def cancel(self) -> None:
        if self.connection is not None and not self.lost:
            with contextlib.suppress(psycopg.Error):
                await self.connection.cancel_safe(timeout=5)

    async def close(self) -> None:
        if self.connection is not None:
            await self.connection.close()


class Worker:
    """Runs at most `concurrency` jobs at once from some queues.

    `lease`: None: the session holds the jobs, and a death is noticed at once; needs a connection or a
    pooler in session mode. Else a time that is extended while a job runs: works through any pooler.
    `prefetch`: so many more jobs are held ready; `grace`: seconds that jobs have to end after a stop;
    `wait`: seconds of one waiting call; `connect`: more arguments for `psycopg.connect`.
    """

    def __init__(
        self, conninfo: str = "", *, queues: Union[str, Iterable[str]] = "default",
        concurrency: int = 10, lease: Optional[Delay] = None, prefetch: int = 0, grace: float = 30.0,
        wait: float = 5.0, name: str = "my_worker", connect: Optional[Mapping[str, Any]] = None,
    ) -> None:  # fmt: skip
        self.queues = [queues] if isinstance(queues, str) else list(queues)
        self.concurrency, self.prefetch, self.grace, self.wait = concurrency, prefetch, grace, wait
        self.lease = interval(lease)
        self._conninfo = conninfo
        self._connect_with: dict[str, Any] = {
            "autocommit": True, "fallback_application_name": name,
            "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3,
        }  # fmt: skip
        if self.lease is not None:
            self._connect_with["prepare_threshold"] = None  # a pooler may not know prepared statements
        self._connect_with.update(connect or {})
        self._handlers: dict[Optional[str], _Handler] = {}
        self._hand: dict[Job, None] = {}  # the jobs that this worker has, in order of arrival
        self._acks: list[tuple[Job, Optional[str], asyncio.Future[bool]]] = []
        self._idle: list[psycopg.Connection[Any]] = []
        self._idle_async: list[psycopg.AsyncConnection[Any]] = []

    # ---- what one calls ----

    def job(self, *kinds: str, transaction: bool = False) -> Callable[[Function], Function]:
        """Registers a handler for jobs of these kinds; without a kind, for all that have no other.

        The handler is called with the job. With `transaction` also with a connection, in whose
        transaction the job is acknowledged: its effects and the job's end are one fact.
        """

        def register(function: Function) -> Function:
            is_async = inspect.iscoroutinefunction(function)
            for kind in kinds or (None,):
                self._handlers[kind] = _Handler(function, transaction, is_async)
            return function

        return register

    def run(self) -> None:
        """Serves until `stop()`, SIGTERM or SIGINT."""
        asyncio.run(self.serve())

    def stop(self) -> None:
        """Takes no more jobs and ends when those at hand have ended; called again, at once."""
        with contextlib.suppress(AttributeError, RuntimeError):  # it has not begun, or has ended
            self._loop.call_soon_threadsafe(self._stop)

    async def serve(self) -> None:
        """As `run()`, within a running event loop."""
        if not self._handlers:
            raise ValueError("the worker has no handler: use @worker.job()")
        self._loop = asyncio.get_running_loop()
        self._stopping, self._hurry, self._freed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._room = asyncio.Semaphore(self.concurrency)
        self._free = self.concurrency + self.prefetch
        # Where it has more than run, it asks for a half at once, so that the other half can end meanwhile.
        self._most = (self._free + 1) // 2 if self.prefetch else self._free
        self._flusher: Optional[asyncio.Task[None]] = None
        self._control = _Link(self._connect)
        links = [_Link(self._connect) for _ in self.queues]
        receivers = [asyncio.create_task(self._receive(q, link)) for q, link in zip(self.queues, links)]
        keeper = asyncio.create_task(self._keep())
        stopping = asyncio.create_task(self._stopping.wait())
        signals = self._catch_signals()
        log.info("serving %s, %d at once", ", ".join(self.queues), self.concurrency)
        try:
            ends: list[asyncio.Task[Any]] = [stopping, *receivers]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stopping.set()
            self._freed.set()
            await self._finish(links, receivers)
            for task in (keeper, stopping):
                task.cancel()
            for link in (*links, self._control):
                await link.close()
            for number in signals:
                self._loop.remove_signal_handler(number)
        for receiver in receivers:
            receiver.result()  # raises what ended it, if anything did

    # ---- beginning and ending ----

    def _catch_signals(self) -> list[signal.Signals]:
        caught = []
        for number in (signal.SIGTERM, signal.SIGINT):
            # Not possible outside of the main thread, and on Windows.
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                self._loop.add_signal_handler(number, self._stop)
                caught.append(number)
        return caught

    def _stop(self) -> None:
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()
        self._freed.set()

    async def _finish(self, links: list[_Link], receivers: list[asyncio.Task[None]]) -> None:
        for link in links:
            await link.cancel()
        await asyncio.wait(receivers)
        await self._give_back([job for job in self._hand if not job._running])
        tasks = [job._task for job in self._hand if job._task]
        if tasks:
            log.info("stopping: %d jobs have %g s to end", len(tasks), self.grace)
            hurry = asyncio.create_task(self._hurry.wait())
            ended = asyncio.gather(*tasks, return_exceptions=True)
            either: list[asyncio.Future[Any]] = [ended, hurry]
            await asyncio.wait(either, timeout=self.grace, return_when=asyncio.FIRST_COMPLETED)
            hurry.cancel()
        await self._give_back(list(self._hand))
        for connection in (*self._idle, *self._idle_async):
            connection.pgconn.finish()

    async def _give_back(self, jobs: list[Job]) -> None:
        for job in jobs:
            job._abort()
            if job._task and not job._running:
                job._task.cancel()
        releases = [self._control.query(RELEASE, (job.id, job.lease, None)) for job in jobs]
        try:
            await asyncio.wait_for(asyncio.gather(*releases, return_exceptions=True), 5)
        except asyncio.TimeoutError:
            log.warning("could not release all jobs: their leases end with the session or their time")

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(self._conninfo, **self._connect_with)

    # ---- receiving ----

    async def _receive(self, queue: str, link: _Link) -> None:
        proven, failures = False, 0
        while not self._stopping.is_set():
            try:
                await self._take(queue, link)
                proven, failures = True, 0
            except (psycopg.Error, asyncio.TimeoutError) as error:
                if self._stopping.is_set():
                    break
                if not proven:
                    raise  # a wrong address, role or queue is said at once
                if isinstance(error, asyncio.TimeoutError) or getattr(error, "sqlstate", "") == "25006":
                    await link.close()  # a dead host, or a standby: look for the primary
                if link.lost and self.lease is None:
                    for job in [job for job in self._hand if job._link is link]:
                        self._lose(job)
                log.warning("queue %s: %s; trying again", queue, error_text(error))
                await self._pause(failures)
                failures += 1

    async def _pause(self, failures: int) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), _backoff(failures))

    async def _take(self, queue: str, link: _Link) -> None:
        """Takes what there is for the free places, or waits for a job. Several queues share the
        places: each first takes without waiting. What a wait brings after the last place was taken
        is given back, so that no queue blocks another."""
        while not self._free and not self._stopping.is_set():
            self._freed.clear()
            await self._freed.wait()
        if self._stopping.is_set():
            return
        alone = len(self.queues) == 1
        reserved = min(self._free, self._most)
        self._free -= reserved
        try:
            jobs = await self._call_receive(queue, link, reserved, self.wait if alone else 0.0)
        finally:
            self._free += reserved
            self._freed.set()
        if not jobs and not alone and not self._stopping.is_set():
            jobs = await self._call_receive(queue, link, 1, self.wait)
        surplus = jobs[self._free :]
        for job in jobs[: self._free]:
            self._free -= 1
            self._hand[job] = None
            job._task = asyncio.create_task(self._run(job))
        if surplus:
            await self._give_back(surplus)

    async def _call_receive(self, queue: str, link: _Link, n: int, wait: float) -> list[Job]:
        kinds = None if None in self._handlers else [kind for kind in self._handlers if kind]
        values = {"queue": queue, "n": n, "wait": timedelta(seconds=wait), "lease": self.lease, "kinds": kinds}
        rows = await asyncio.wait_for(link.query(RECEIVE, values), wait + PATIENCE)
        until = self._loop.time() + self.lease.total_seconds() if self.lease else float("inf")
        jobs: list[Job] = []
        for row in rows:
            handler = self._handler(row["kind"])
            cls = AsyncJob if handler.is_async else Job
            jobs.append(cls(**row, _worker=self, _link=link, _until=until))
        return jobs

    def _handler(self, kind: Optional[str]) -> _Handler:
        return self._handlers.get(kind) or self._handlers[None]

    # ---- running ----

    async def _run(self, job: Job) -> None:
        try:
            await self._room.acquire()
            job._has_room = job._running = True
            await self._attempt(job)
        except asyncio.CancelledError:
            log.info("job %s was stopped", job.id)  # given back, or no more ours
        except Exception:
            log.exception("job %s: its end could not be told", job.id)
        finally:
            self._leave(job)
            self._hand.pop(job, None)
            self._free += 1
            self._freed.set()

    def _leave(self, job: Job) -> None:
        """Another job may run."""
        if job._has_room:
            job._has_room = False
            self._room.release()

    async def _attempt(self, job: Job) -> None:
        try:
            if self._stopping.is_set():
                raise Release()
            if not await self._call(self._handler(job.kind), job):
                # To say so changes nothing where the lease was lost, and ends what a handler rolled back.
                raise LeaseLost("the lease was lost, or the handler rolled back")
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if isinstance(error, Release) or getattr(error, "sqlstate", None) in SERVER_GOES:
                await self._tell(RELEASE, job, getattr(error, "delay", None))
            else:
                await self._nack(job, error)

    async def _call(self, handler: _Handler, job: Job) -> bool:
        """Runs the handler and acknowledges. False: the lease was lost."""
        function = handler.function
        if handler.transaction:
            if handler.is_async:
                return await self._transact_async(function, job)
            return bool(await _in_thread(self._transact, function, job))
        result = await (function(job) if handler.is_async else _in_thread(function, job))
        self._leave(job)  # many ends are then told together
        return await self._ack(job, result)

    def _transact(self, function: Callable[..., Any], job: Job) -> bool:
        connection = _pop_alive(self._idle) or psycopg.connect(self._conninfo, **self._connect_with)
        acked = False
        with _lent(connection, self._idle), connection.transaction():
            values = (job.id, job.lease, _dump(function(job, connection)))
            job._ending = True
            with connection.cursor(row_factory=tuple_row) as cursor:
                acked = bool(cursor.execute(ACK, values).fetchall()[0][0])
            if not acked:
                raise psycopg.Rollback()
        return acked

    async def _transact_async(self, function: Callable[..., Any], job: Job) -> bool:
        connection = _pop_alive(self._idle_async) or await self._connect()
        acked = False
        with _lent(connection, self._idle_async):
            async with connection.transaction():
                values = (job.id, job.lease, _dump(await function(job, connection)))
                job._ending = True
                async with connection.cursor(row_factory=tuple_row) as cursor:
                    acked = bool((await (await cursor.execute(ACK, values)).fetchall())[0][0])
                if not acked:
                    raise psycopg.Rollback()
        return acked

    # ---- ending jobs ----

    async def _ack(self, job: Job, result: Any) -> bool:
        acked: asyncio.Future[bool] = self._loop.create_future()
        self._acks.append((job, _dump(result), acked))
        job._ending = True
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        return await acked

    async def _flush(self) -> None:
        """Acknowledges together all that end while the connection is busy: one COMMIT."""
        while self._acks:
            batch, self._acks = self._acks, []
            await self._send_acks(batch)

    async def _send_acks(self, batch: list[tuple[Job, Optional[str], asyncio.Future[bool]]]) -> None:
        jobs = [job for job, _, _ in batch]
        columns = [[job.id for job in jobs], [job.lease for job in jobs], [result for _, result, _ in batch]]
        error: Optional[BaseException] = None
        try:
            acked = {row["id"] for row in await self._patiently(jobs, ACK_MANY, columns)}
        except psycopg.DataError as refused:
            if len(batch) > 1:
                for one in batch:  # find the one whose result the server does not take
                    await self._send_acks([one])
                return
            error = refused
        except psycopg.Error as failed:
            error = failed
        for job, _, future in batch:
            if future.done():
                continue  # the job was given back meanwhile
            if error:
                future.set_exception(error)
            else:
                future.set_result(job.id in acked)

    async def _nack(self, job: Job, error: BaseException) -> None:
        text, fail = error_text(error), isinstance(error, Fail)
        delay = error.delay if isinstance(error, RetryIn) else None
        expected = isinstance(error, (RetryIn, Fail, LeaseLost))
        log.warning("job %s failed: %s", job.id, text, exc_info=None if expected else error)
        try:
            await self._tell(NACK, job, text, delay, fail)
        except psycopg.DataError:  # a character that the database's encoding does not have
            await self._tell(NACK, job, text.encode("ascii", "backslashreplace").decode(), delay, fail)

    async def _tell(self, sql: str, job: Job, *values: Any) -> bool:
        """Says something of a job. False: the lease is lost."""
        return bool((await self._patiently([job], sql, (job.id, job.lease, *values)))[0]["held"])

    async def _patiently(self, jobs: list[Job], sql: str, values: Any) -> list[Row]:
        """Tries over lost connections until the server has answered or the leases are gone."""
        failures = 0
        while True:
            try:
                return await self._control.query(sql, values)
            except CONNECTION_LOST as error:
                if all(job.stop.is_set() for job in jobs):
                    raise
                log.warning("%d jobs: %s; trying again", len(jobs), error_text(error))
                await asyncio.sleep(_backoff(failures))
                failures += 1

    # ---- keeping leases ----

    async def _keep(self) -> None:
        """Extends timed leases; of either kind of lease learns here that it is lost."""
        lease = self.lease or timedelta(seconds=15)
        period = lease.total_seconds() / 3
        while True:
            await asyncio.sleep(period)
            jobs = {(job.id, job.lease): job for job in self._hand if not job._ending}
            if not jobs:
                continue
            now = self._loop.time()
            values = (lease, [key[0] for key in jobs], [key[1] for key in jobs])
            try:
                rows = await asyncio.wait_for(self._control.query(EXTEND, values), period)
            except (psycopg.Error, asyncio.TimeoutError) as error:
                log.warning("could not extend leases: %s", error_text(error))
                rows = []
            for row in rows:
                job = jobs[row["id"], row["lease"]]
                if not row["held"]:
                    self._lose(job)
                elif self.lease is not None:
                    job._until = now + period * 3
            for job in jobs.values():
                if job._until <= self._loop.time():
                    self._lose(job)

    def _lose(self, job: Job) -> None:
        if job in self._hand and not job.stop.is_set():
            log.warning("job %s: the lease was lost, its handler should stop", job.id)
            job._abort()


def _backoff(failures: int) -> float:
    return min(10.0, 0.1 * 2.0 ** min(failures, 10)) * random.uniform(0.5, 1.0)


def _dump(result: Any) -> Optional[str]:
    return None if result is None else json.dumps(result)


def _pop_alive(idle: list[Any]) -> Any:
    """An open connection that was used before, or None."""
    with contextlib.suppress(IndexError):
        while True:
            connection = idle.pop()
            with contextlib.suppress(psycopg.OperationalError):
                connection.pgconn.consume_input()  # takes a last message, if the server sent one
                connection.pgconn.consume_input()  # raises if the server closed
                return connection
            connection.pgconn.finish()
    return None


@contextlib.contextmanager
def _lent(connection: Any, idle: list[Any]) -> Iterator[None]:
    """Puts the connection among the idle ones when the block has ended, if it is still good."""
    try:
        yield
    finally:
        if connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            idle.append(connection)
        else:
            connection.pgconn.finish()


async def _in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls it in a thread that does not keep the process alive, unlike asyncio's own."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[tuple[Any, Optional[BaseException]]] = loop.create_future()

    def settle(outcome: tuple[Any, Optional[BaseException]]) -> None:
        if not ended.done():
            ended.set_result(outcome)

    def work() -> None:
        outcome: tuple[Any, Optional[BaseException]]
        try:
            outcome = function(*arguments), None
        except BaseException as error:
            outcome = None, error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, outcome)

    threading.Thread(target=work, daemon=True).start()
    result, raised = await ended
    if raised is not None:
        raise raised
    return result
