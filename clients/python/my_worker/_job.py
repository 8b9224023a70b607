"""What a handler is given, and what it may raise to say how its attempt ended."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Optional, Union

import psycopg

if TYPE_CHECKING:
    from ._worker import Worker

PROGRESS = "SELECT my_worker.progress(%s::bigint, %s::bigint, %s::real, %s::text) AS held"
Delay = Union[timedelta, float]  # a number counts seconds


def interval(delay: Optional[Delay]) -> Optional[timedelta]:
    return timedelta(seconds=delay) if isinstance(delay, (int, float)) else delay


class RetryIn(Exception):
    """The attempt failed: try again after this delay, not after the queue's backoff."""

    def __init__(self, delay: Delay, reason: str = "asked to be retried") -> None:
        super().__init__(reason)
        self.delay = interval(delay)


class Fail(Exception):
    """The job failed for good: no more attempts."""


class Release(Exception):
    """Give the job back, to be taken again after the delay: no attempt is charged."""

    def __init__(self, delay: Optional[Delay] = None) -> None:
        super().__init__("released")
        self.delay = interval(delay)


class LeaseLost(Exception):
    """The job is no longer this worker's: cancelled, timed out, or the lease has ended."""


@dataclass(eq=False)
class Job:
    """One attempt of one job. Its repr does not show the payload."""

    id: int
    lease: int
    queue: str
    kind: Optional[str]
    payload: Any = field(repr=False)
    headers: Any = field(repr=False)
    attempt: int
    max_attempts: int
    priority: int
    run_at: datetime
    created_at: datetime
    owner: str
    group_key: Optional[str]
    stop: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set when the handler should stop: the lease is lost, or the worker's grace has passed."""
    _worker: Worker = field(default=None, repr=False)  # type: ignore[assignment]
    _link: Any = field(default=None, repr=False)
    _task: Optional[asyncio.Task[None]] = field(default=None, repr=False)
    _until: float = field(default=0.0, repr=False)
    _running: bool = field(default=False, repr=False)
    _has_room: bool = field(default=False, repr=False)
    _ending: bool = field(default=False, repr=False)

    def progress(self, percent: float, message: Optional[str] = None) -> bool:
        """Shows in `my_worker.jobs` how far the job is. False: the lease is lost."""
        report = self._worker._tell(PROGRESS, self, percent, message)
        return asyncio.run_coroutine_threadsafe(report, self._worker._loop).result()

    def _abort(self) -> None:
        self.stop.set()


class AsyncJob(Job):
    """What an `async def` handler is given: it is cancelled when it should stop."""

    async def progress(self, percent: float, message: Optional[str] = None) -> bool:  # type: ignore[override]
        """Shows in `my_worker.jobs` how far the job is. False: the lease is lost."""
        return await self._worker._tell(PROGRESS, self, percent, message)

    def _abort(self) -> None:
        self.stop.set()
        if self._task and not self._ending:
            self._task.cancel()


def error_text(error: BaseException) -> str:
    """What the job's `errors` say. Of a database error neither detail nor context: they may quote
    rows, and so the payload."""
    text, name = str(error), type(error).__name__
    if isinstance(error, psycopg.Error) and error.sqlstate:
        text, name = error.diag.message_primary or "", f"{name} ({error.sqlstate})"
    if isinstance(error, (RetryIn, Fail)):
        name = ""
    text = ": ".join(part for part in (name, text) if part) or "failed"
    return text.replace("\0", "").encode("utf-8", "replace").decode()[:1000]
