"""What may have happened: the model that a torture run is judged by.

The actors tell the model what they asked for and how their transactions ended. At the end `facts.py` reads
what the database says, and `judge()` compares. Nothing here talks to a server, so `test_model.py` can give
the model any history.

Each transaction of an actor leaves a row in `torture.markers`, so a transaction whose COMMIT was answered by
a broken connection is no riddle: it was committed if its marker is there. Each job carries a number of ours
(`n`) in its payload or its command, so it is found however it was enqueued.

A promise says how often the effect of a job may stand in `torture.effects`:

    once      as often as the job completed, 0 or 1: handlers, and consumers that ack in the transaction of their work
    command   completed: at least once, and with one attempt exactly once; else at most once with one attempt
    loose     completed: at least once: consumers that ack in another transaction
    none      not judged
"""

from collections import defaultdict, deque
from dataclasses import dataclass, field

OPEN, COMMITTED, ROLLED_BACK, UNKNOWN = "open", "committed", "rolled back", "unknown"

# What may happen to any attempt while the chaos goes on: its process or its consumer died, its lease or its
# time ran out, it was cancelled, it met another transaction, the disk was full, the server went down.
MARGIN = 6  # seconds: more than any jump of the server's clock
EVENTS_OF_CHAOS = {"57P01", "57P02", "57014", "57P05", "08006", "40000", "40001", "40P01", "53100", "53200"}


@dataclass
class Tx:
    number: int
    actor: str
    state: str = OPEN
    confirmed: float | None = None  # when the answer to COMMIT had arrived, by the clock that the server uses

    def committed(self, now):
        self.state, self.confirmed = COMMITTED, now

    def rolled_back(self):
        self.state = ROLLED_BACK

    def unknown(self):
        self.state = UNKNOWN


@dataclass
class Job:
    n: int
    tx: Tx
    queue: str
    owner: str
    promise: str = "once"
    id: int | None = None
    added: bool = True  # False: rolled back to a savepoint, or its unique key was taken
    group_key: str | None = None
    after: tuple = ()  # numbers of jobs
    after_failed: str = "cancel"
    errors: frozenset = frozenset()  # SQLSTATEs with which its attempts are meant to fail
    fatal: frozenset = frozenset()  # those of them that end it whatever attempts are left
    snoozes: int = 0
    expires: bool = False
    may_vanish: bool = False  # somebody may delete it


@dataclass
class Row:
    """A job as the database shows it at the end, in my_queue or in the history."""

    n: int
    id: int
    ended: bool
    queue: str
    owner: str
    status: str
    attempts: int
    max_attempts: int
    started_at: float | None
    finished_at: float | None
    group_key: str | None = None
    origin: str | None = None
    errors: tuple = ()  # SQLSTATEs, one for each failed attempt


@dataclass
class Facts:
    markers: set
    rows: list
    effects: dict  # (n, what): how many rows
    left: list = field(default_factory=list)  # jobs without a number of ours that have not ended, in words


@dataclass
class Violation:
    check: str
    text: str
    jobs: list = field(default_factory=list)


@dataclass
class Limits:
    """What a queue promises of its jobs' times."""

    concurrency: int | None = None
    per_key: int | None = None
    fifo: bool = False
    most_starts: int | None = None  # rate + burst - 1
    period: float | None = None
    rate_per_key: bool = False


class Model:
    def __init__(self):
        self.txs = []
        self.jobs = {}
        self.cancels = defaultdict(list)  # job: transactions in which cancel() was true
        self.tried_cancel = set()  # jobs for which cancel() was called, whatever it said
        self.revived = set()  # jobs for which retry() or redrive() was called
        self.seen = {}  # job: the status that wait() answered
        self.leases = defaultdict(list)  # job: (lease, when it was asked for, when it was there)
        self.over = deque(maxlen=50)  # (job, its id, a lease of it that is over)
        self.jumps = []  # [from, until]: when the server's clock was off, by that of the actors
        self.violations = []  # what actors have seen while it ran

    # ---- what the actors tell; each call is one step of the interpreter, so threads need no lock

    def begin(self, actor, number):
        tx = Tx(number, actor)
        self.txs.append(tx)
        return tx

    def job(self, n, tx, queue, owner, **about):
        job = Job(n, tx, queue, owner, **about)
        self.jobs[n] = job
        return job

    def cancelled(self, n, tx):
        self.cancels[n].append(tx)

    def received(self, n, id, lease, asked, answered):
        """`asked`, `answered`: when the call that received it began and ended."""
        for other, _asked, before in self.leases[n]:
            if asked > before:
                self.over.append((n, id, other))
        self.leases[n].append((lease, asked, answered))

    def is_lost(self, n, lease):
        """A call that began after this lease was given has received the job, so this one is over."""
        answered = next(answered for other, _asked, answered in self.leases[n] if other == lease)
        return any(asked > answered for _other, asked, _answered in self.leases[n])

    def clock_moves(self, at):
        self.jumps.append([at, float("inf")])

    def clock_is_right(self, at):
        self.jumps[-1][1] = at

    def is_right(self, *times):
        """Whether these times of the server are those of the actors. What was noted near a jump is not judged by its time."""
        known = [time for time in times if time is not None]
        return not known or all(max(known) < begin - MARGIN or min(known) > end + MARGIN for begin, end in self.jumps)

    def saw(self, check, text, jobs=()):
        self.violations.append(Violation(check, text, list(jobs)))

    # ---- the judgement

    def happened(self, tx, facts):
        return tx.number in facts.markers

    def judge(self, facts, limits):
        """Yields (check, violations) for each check."""
        rows = defaultdict(list)
        for row in facts.rows:
            rows[row.n].append(row)
        yield "transactions are there as their COMMIT was answered", list(self._durable(facts))
        yield "each committed job is there once, no other is", list(self._accounted(facts, rows))
        yield "every job has ended", list(self._ended(facts))
        yield "effects stand as often as promised", list(self._effects(facts, rows))
        yield "jobs end as they were told to", list(self._ends(facts, rows))
        yield "attempts fail for a known reason, and no more often than max_attempts", list(self._attempts(facts, rows))
        yield "jobs start after those that they come after", list(self._after(rows))
        for queue, limit in sorted(limits.items()):
            mine = [row for row in facts.rows if (row.origin or row.queue) == queue and row.n in self.jobs]
            yield f"{queue}: {name_of(limit)}", list(self._limit(mine, limit))

    def _durable(self, facts):
        for tx in self.txs:
            there = self.happened(tx, facts)
            if tx.state == COMMITTED and not there:
                yield Violation("durable", f"transaction {tx.number} of {tx.actor} was committed and is not there",
                                self._jobs_of(tx))
            if tx.state == ROLLED_BACK and there:
                yield Violation("durable", f"transaction {tx.number} of {tx.actor} was rolled back and is there",
                                self._jobs_of(tx))

    def _jobs_of(self, tx):
        return [job.n for job in self.jobs.values() if job.tx is tx]

    def _accounted(self, facts, rows):
        for job in list(self.jobs.values()):
            count = len(rows[job.n])
            expected = int(job.added and self.happened(job.tx, facts))
            if count == 0 and job.may_vanish:
                continue
            if count != expected:
                yield Violation("accounted", f"job {job.n} of a transaction that {'was' if expected else 'was not'} "
                                f"committed has {count} rows in my_queue and history", [job.n])
        for n in rows:
            if n not in self.jobs:
                yield Violation("accounted", f"a job {n} that nobody enqueued", [n])

    def _ended(self, facts):
        for row in facts.rows:
            if not row.ended:
                yield Violation("ended", f"job {row.n} is still {row.status} in {row.queue}", [row.n])
        for text in facts.left:
            yield Violation("ended", text)

    def _effects(self, facts, rows):
        for (n, _what), count in facts.effects.items():
            if n not in self.jobs and count:
                yield Violation("effects", f"{count} effects of a job {n} that nobody enqueued", [n])
        for job in list(self.jobs.values()):
            row = rows[job.n][0] if len(rows[job.n]) == 1 else None
            if row is None or not row.ended:
                if row is None and facts.effects.get((job.n, "done")) and not job.may_vanish:
                    yield Violation("effects", f"job {job.n} is nowhere and has effects", [job.n])
                continue
            text = wrong_effects(job, row, facts.effects)
            if text:
                yield Violation("effects", f"job {job.n} ({job.promise}) {row.status} after {row.attempts} attempts: {text}",
                                [job.n])

    def _ends(self, facts, rows):
        for job in list(self.jobs.values()):
            for row in rows[job.n][:1]:
                told = any(tx.state == COMMITTED for tx in self.cancels[job.n])
                revived = job.n in self.revived
                if told and not revived and row.ended and row.status != "cancelled":
                    yield Violation("ends", f"job {job.n} was cancelled and is {row.status}", [job.n])
                if row.status == "cancelled" and not self._may_be_cancelled(job, rows):
                    yield Violation("ends", f"job {job.n} is cancelled, and nobody has cancelled it", [job.n])
                if row.ended and not revived and self.seen.get(job.n, row.status) != row.status:
                    yield Violation("ends", f"wait() said {self.seen[job.n]} of job {job.n}, which is {row.status}", [job.n])

    def _may_be_cancelled(self, job, rows):
        if job.expires or job.n in self.tried_cancel:
            return True
        ends = [rows[other][0].status if rows[other] else None for other in job.after]
        return job.after_failed == "cancel" and (
            any(end in ("failed", "cancelled") for end in ends) or any(other in self.revived for other in job.after))

    def _attempts(self, facts, rows):
        for job in list(self.jobs.values()):
            for row in rows[job.n][:1]:
                if row.attempts > row.max_attempts:
                    yield Violation("attempts", f"job {job.n} had {row.attempts} of {row.max_attempts} attempts", [job.n])
                strange = [e for e in row.errors if e not in job.errors and e not in EVENTS_OF_CHAOS and e[:3] not in ("MW0",)]
                if strange:
                    yield Violation("attempts", f"job {job.n} failed with {', '.join(sorted(set(strange)))}", [job.n])
                if row.status == "failed" and row.attempts < row.max_attempts and not job.fatal & set(row.errors):
                    yield Violation("attempts", f"job {job.n} failed after {row.attempts} of {row.max_attempts} attempts", [job.n])

    def _after(self, rows):
        for job in list(self.jobs.values()):
            mine = rows[job.n][0] if rows[job.n] else None
            if not job.after or mine is None or mine.started_at is None or job.n in self.revived:
                continue
            for other in job.after:
                theirs = rows[other][0] if rows[other] else None
                if theirs is None or other in self.revived:
                    continue
                if not self.is_right(mine.started_at, theirs.finished_at):
                    continue
                if not theirs.ended or mine.started_at < theirs.finished_at:
                    yield Violation("after", f"job {job.n} started before job {other} had ended", [job.n, other])
                elif theirs.status != "completed" and job.after_failed == "cancel" and mine.status == "completed":
                    yield Violation("after", f"job {job.n} ran though job {other} is {theirs.status}", [job.n, other])

    # ---- limits, by the times that the history has of the last attempt of each job

    def _limit(self, rows, limit):
        # What was cancelled while it waited has the start of an attempt before.
        rows = [row for row in rows if self.is_right(row.started_at, row.finished_at)]
        ran = [row for row in rows if row.ended and row.started_at is not None and row.status != "cancelled"
               and row.started_at < row.finished_at]
        if limit.concurrency:
            yield from too_many(ran, limit.concurrency, "concurrency")
        if limit.per_key:
            for key, group in by_key(ran).items():
                yield from too_many(group, limit.per_key, f"per_key of {key}")
        if limit.fifo:
            for group in by_key(rows).values():
                yield from self._out_of_order(group)
        if limit.most_starts:
            for key, group in (by_key(ran, True) if limit.rate_per_key else {None: ran}).items():
                yield from too_fast(group, limit.most_starts, limit.period, key)

    def _out_of_order(self, group):
        """None starts before every earlier one of its key, that was committed by then, has ended."""
        group = sorted(group, key=lambda row: row.id)
        for place, later in enumerate(group):
            if later.started_at is None or later.status == "cancelled":
                continue
            for earlier in group[:place]:
                tx = self.jobs[earlier.n].tx
                there = tx.state == COMMITTED and tx.confirmed < later.started_at
                if there and earlier.n not in self.revived and (
                        not earlier.ended or later.started_at < earlier.finished_at):
                    yield Violation("fifo", f"job {later.n} of key {later.group_key} started before job {earlier.n} had ended",
                                    [earlier.n, later.n])


def wrong_effects(job, row, effects):
    """What is wrong with the effects of an ended job, or None."""
    done = effects.get((job.n, "done"), 0)
    if job.promise == "once":
        # A job that failed for good and ended in its dead-letter queue has not done its own work.
        expected = int(row.status == "completed" and row.origin is None)
        if done != expected:
            return f"{done} effects, not {expected}"
        snoozed = effects.get((job.n, "snooze"), 0)
        if snoozed > job.snoozes or (row.status == "completed" and row.origin is None and snoozed < job.snoozes):
            return f"{snoozed} effects of runs that snoozed, not {job.snoozes}"
        letters = effects.get((job.n, "letter"), 0)
        expected = int(row.status == "completed" and row.origin is not None)
        if letters != expected:
            return f"{letters} effects as a dead letter, not {expected}"
    elif job.promise == "command":
        if row.status == "completed" and done < 1:
            return "no effect"
        if row.max_attempts == 1 and done > 1:
            return f"{done} effects of one attempt"
    elif job.promise == "loose":
        if row.status == "completed" and done < 1:
            return "no effect"
    return None


def name_of(limit):
    names = []
    if limit.concurrency:
        names.append(f"never more than {limit.concurrency} at once")
    if limit.per_key:
        names.append(f"never more than {limit.per_key} of a key at once")
    if limit.fifo:
        names.append("each key in order")
    if limit.most_starts:
        names.append(f"never more than {limit.most_starts} starts in {limit.period:g} s" + (" of a key" if limit.rate_per_key else ""))
    return ", ".join(names)


def by_key(rows, all_keys=False):
    groups = defaultdict(list)
    for row in rows:
        if row.group_key is not None or all_keys:
            groups[row.owner, row.group_key].append(row)
    return groups


def too_many(rows, most, what):
    """Times between start and end overlap in more than `most` rows: these surely ran at once."""
    events = sorted([(row.started_at, 1, row) for row in rows] + [(row.finished_at, 0, row) for row in rows],
                    key=lambda event: event[:2])
    running = {}
    for _at, begins, row in events:
        if not begins:
            running.pop(row.n, None)
            continue
        running[row.n] = row
        if len(running) > most:
            times = ", ".join(f"{one.id} {one.started_at:.6f}-{one.finished_at:.6f}" for one in running.values())
            yield Violation("limit", f"{len(running)} jobs at once, {what} is {most}: {times}", list(running))
            return


def too_fast(rows, most, period, key):
    starts = sorted(rows, key=lambda row: row.started_at)
    for first, last in zip(starts, starts[most:]):
        # Times are doubles here, exact to a microsecond at best.
        if last.started_at - first.started_at < period - 2e-6:
            within = [row.n for row in starts if first.started_at <= row.started_at <= last.started_at]
            yield Violation("rate", f"{len(within)} starts within {last.started_at - first.started_at:.6f} s" +
                            (f" of key {key}" if key else ""), within)
            return
