#!/usr/bin/env python3
"""Writes golden.txt: what an independent cron library says is due next.

    pip install croniter tzdata
    python3 tests/cron/golden.py > tests/cron/golden.txt

Each expression is asked about from 20 instants in three zones. croniter gives the answer. A
second, slow answer comes from `Slow` below, which tries every reading of every day and
follows the rules in the header of src/logic/cron.rs. Where the two differ, the difference must
be one of the two documented ones, else the script stops:

repeat  croniter runs an expression of particular hours in both passes of a repeated hour; ours
        runs in the first pass only
second  croniter moves a skipped 02:30:15 to 03:00:15; ours to 03:00:00, the jump itself

The file then has our answer, with a `!` behind it. A test of src/logic/golden.rs reads it.

tests/t/032_schedules_golden.pl asks croniter anew, about expressions that nobody has seen:

    golden.py ask 200 SEED      croniter's answers: expression|zone|instant|seconds
    golden.py judge < answers   the same lines with the server's answer behind: prints those that differ
                                in another way than the documented ones, then how many agree
"""
import datetime as dt
import functools
import importlib.metadata
import random
import sys
import zoneinfo

import croniter

UTC = dt.timezone.utc
ZONES = ["UTC", "Europe/Berlin", "America/New_York"]
NAMED = ("repeat", "second")

# Odd seconds, month and year ends, leap days, and both sides of each change of clocks.
INSTANTS = """
2024-02-28T23:59:59 2024-02-29T12:00:00 2024-03-10T06:45:10 2024-10-27T00:15:00
2024-11-03T05:20:00 2024-12-31T23:59:30 2025-01-31T08:01:02 2025-03-09T05:00:00
2025-03-09T06:59:00 2025-03-30T00:10:00 2025-03-30T00:59:59 2025-03-30T01:00:00
2025-06-13T12:34:56 2025-10-26T00:00:00 2025-10-26T00:45:00 2025-10-26T01:10:00
2025-11-02T05:59:59 2025-11-02T06:05:00 2026-02-27T00:00:00 2027-07-04T16:00:00
""".split()

CURATED = """
* * * * *; */2 * * * *; */5 * * * *; */7 * * * *; */10 * * * *; */15 * * * *; */30 * * * *
*/59 * * * *; 0 * * * *; 1 * * * *; 30 * * * *; 59 * * * *; 0,30 * * * *; 5,10,15,50-55 * * * *
10-50/10 * * * *; 5/15 * * * *; 0-59/20 * * * *; 7-11 * * * *; 0 0 * * *; 0 1 * * *; 0 2 * * *
0 3 * * *; 30 0 * * *; 30 1 * * *; 30 2 * * *; 59 1 * * *; 59 2 * * *; 1 3 * * *; 15,45 2 * * *
*/10 1 * * *; */10 2 * * *; * 2 * * *; * 1 * * *; 0 1-3 * * *; 30 1-3 * * *; 0 2,3 * * *
0,30 1,2 * * *; 0 */2 * * *; 0 */3 * * *; 30 */2 * * *; 0 1/2 * * *; 0 */4 * * *; 0 */6 * * *
0 */12 * * *; 15 */5 * * *; 0 0-23 * * *; 0 */1 * * *; 0 9-17 * * *; 0 9-17/2 * * *
*/20 9-17 * * mon-fri; 30 8 * * mon-fri; 0 22 * * 1-5; 5 4 * * sun; 0 0 * * 0; 0 0 * * 7
0 0 * * 0,7; 0 0 * * 1; 0 0 * * 5-7; 0 0 * * 6-7; 0 0 * * sat,sun; 0 0 * * fri-mon
0 0 * * sat-sun; 0 0 * * MON,WED,FRI; 0 12 * * tue-thu; 0 0 * * */2; 0 0 * * */3; 0 0 * * 1/2
0 0 * * 1-5/2; 0 0 1 * *; 0 0 15 * *; 0 0 29 * *; 0 0 30 * *; 0 0 31 * *; 0 0 1,15 * *
0 0 1-7 * *; 0 0 */2 * *; 0 0 */5 * *; 0 0 */10 * *; 0 0 2/7 * *; 0 0 10-20/5 * *; 0 0 L * *
30 23 L * *; 0 0 1,L * *; 0 0 15,L * *; 0 0 L 2 *; 0 0 L 4,6,9,11 *; 0 2 L 3,10 *; 0 0 L * 1
0 0 28-L * *; 0 0 28-31 * *; 0 0 29 2 *; 0 0 30 2 *; 0 0 31 2 *; 0 0 31 4,6,9,11 *; 0 0 1 1 *
0 0 31 12 *; 59 23 31 12 *; 0 0 25 dec *; 0 0 4 7 *; 0 0 * 2 *; 0 0 1 */3 *; 0 0 1 */2 *
0 0 1 2/4 *; 0 0 1 jan,apr,jul,oct *; 0 0 1 1-6 *; 0 0 1 jun-aug *; 0 0 1 NOV-feb *; 0 0 1 1-12/5 *
* * * jan *; */15 * * mar,oct sun; 30 2 * 3 0; 30 2 * 10,11 sun; 0 0 13 * 5; 0 0 13 * fri
0 0 1 * 1; 0 0 1-7 * mon; 0 0 8-14 * tue; 0 12 1,15 * wed; 0 0 31 * 0; 0 0 */2 * 1; 0 0 */10 * 1-5
0 0 1 1 0; 0 0 29 2 1; 0 0 30 2 1; 0 0 1-31 * 1; 0 0 */6 * 1-7; 0 0 */1 * 5; 0 0 */1 * */2
0 0 * * 0-6; 0 0 * * 0-7; 0 0 ? * 1; 0 0 1 * ?
0 0 ? * ?; 0 0 1 jan sun; 0 6 * 6-8 mon-fri; 0 0,12 * * *; 0 0,6,12,18 * * *; 23 0-20/2 * * *
0 4 8-14 * *; 5 0 * 8 *; 15 14 1 * *; 0 22 * * 1-5; 0 0,12 1 */2 *; 0 5 31 3,5,7 *; 45 1 * * *
15 2 9 3 *; 15 2 30 3 *; 30 1 2 11 *; 30 2 26 10 *; 0 3 30 3 *; 59 23 * * 6
@hourly; @daily; @midnight; @weekly; @monthly; @yearly; @annually; @Daily
* * * * * *; */2 * * * * *; */10 * * * * *; */15 * * * * *; */25 * * * * *; 0 * * * * *
30 * * * * *; 59 59 * * * *; 0 0 * * * *; 0 0 0 * * *; 15 30 * * * *; 15 30 1 * * *; 0 30 2 * * *
15 30 2 * * *; */20 */20 2 * * *; * * 2 * * *; * 30 1 * * *; 1-5 0 0 1 * *; 0,30 * 9-17 * * 1-5
30 */10 * * * mon; 10/20 * * * * *; 59 59 23 31 12 *; 0 0 0 29 2 *; 0 0 0 L * *; 0 0 0 1 1 ?
5,55 0 3 * * sun; 0-10/5 15 10 ? * 6
"""


def random_field(rng, low, high, star):
    kind = rng.random()
    if kind < star:
        return "*"
    if kind < star + 0.1:
        return f"*/{rng.randint(2, max(2, high // 2))}"
    first = rng.randint(low, high)
    if kind < star + 0.25 and first < high:
        step = rng.choice(["", "", f"/{rng.randint(2, 5)}"])
        return f"{first}-{rng.randint(first + 1, high)}{step}"
    if kind < star + 0.4:
        return ",".join(str(rng.randint(low, high)) for _ in range(rng.randint(2, 4)))
    return str(first)


def random_expression(rng):
    second = [random_field(rng, 0, 59, 0.3)] if rng.random() < 0.25 else []
    minute, hour = random_field(rng, 0, 59, 0.2), random_field(rng, 0, 23, 0.35)
    dom, month = random_field(rng, 1, 31, 0.6), random_field(rng, 1, 12, 0.7)
    return " ".join(second + [minute, hour, dom, month, random_field(rng, 0, 7, 0.6)])


def expressions(count, seed):
    listed = [e.strip() for e in CURATED.replace("\n", ";").split(";") if e.strip()]
    listed = list(dict.fromkeys(listed))
    rng = random.Random(seed)
    while len(listed) < count:
        expression = random_expression(rng)
        if expression not in listed:
            listed.append(expression)
    return listed


def ask_croniter(expression, start, zone):
    it = croniter.croniter(expression, start.astimezone(zone), second_at_beginning=True)
    try:
        return int(it.get_next(dt.datetime).timestamp())
    except croniter.CroniterBadDateError:
        return None


class Slow:
    """Tries every reading of every day. Only the expansion of the fields is croniter's."""

    def __init__(self, expression, zone):
        fields, _ = croniter.croniter.expand(expression, second_at_beginning=True)
        minutes, hours, self.days, self.months, self.weekdays = fields[:5]
        seconds = fields[5] if len(fields) > 5 else [0]
        full = lambda values, size: range(size) if "*" in values else sorted(set(values))
        self.all_hours = len(full(hours, 24)) == 24
        self.times = [(h, m, s) for h in full(hours, 24) for m in full(minutes, 60)
                      for s in full(seconds, 60)]
        self.zone = zone

    def covers(self, day):
        if "*" not in self.months and day.month not in self.months:
            return False
        last = (day + dt.timedelta(days=1)).day == 1
        by_date = day.day in self.days or ("l" in self.days and last)
        by_weekday = day.isoweekday() % 7 in self.weekdays
        if "*" in self.days:
            return "*" in self.weekdays or by_weekday
        return by_date if "*" in self.weekdays else by_date or by_weekday

    def next(self, start):
        here = start.astimezone(self.zone).replace(tzinfo=None)
        day = here.date()
        best, end, stop = None, None, day + dt.timedelta(days=3660)
        while day <= stop and (end is None or day <= end.date()):
            for h, m, s in self.times if self.covers(day) else []:
                reading = dt.datetime(day.year, day.month, day.day, h, m, s)
                if reading < here - NEAR:
                    continue
                if end and reading > end:
                    break
                for at in instants(reading, self.zone, self.all_hours):
                    if at > start and (best is None or at < best):
                        best, end = at, reading + NEAR
            day += dt.timedelta(days=1)
        return int(best.timestamp()) if best else None


# Clocks change by less than this: readings further apart are instants in the same order.
NEAR = dt.timedelta(minutes=90)


@functools.cache
def instants(reading, zone, all_hours):
    """The instants at which a reading is due."""
    found = []
    for fold in (0, 1):
        at = reading.replace(tzinfo=zone, fold=fold).astimezone(UTC)
        if at.astimezone(zone).replace(tzinfo=None, fold=0) == reading and at not in found:
            found.append(at)
    if not found and not all_hours:
        return [jump(reading, zone)]
    return found if all_hours else found[:1]


def jump(reading, zone):
    """The instant at which the clock passes a reading that it skips."""
    at = reading.replace(tzinfo=UTC, minute=0, second=0) - dt.timedelta(days=1)
    while at.astimezone(zone).replace(tzinfo=None) <= reading:
        at += dt.timedelta(minutes=15)
    return at


def difference(theirs, ours, zone):
    """Names the documented difference between the two answers."""
    local = dt.datetime.fromtimestamp(theirs, zone)
    other = dt.datetime.fromtimestamp(ours, zone)
    repeated = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
    if repeated and local.fold == 1 and theirs < ours:
        return "repeat"
    if 0 < theirs - ours < 60 and other.utcoffset() > (other - dt.timedelta(hours=2)).utcoffset():
        return "second"
    return None


def answer(expression, start, zone, slow, seen):
    theirs, ours = ask_croniter(expression, start, zone), slow.next(start)
    if theirs == ours:
        return "-" if ours is None else str(ours - int(start.timestamp()))
    name = difference(theirs, ours, zone) if theirs and ours else None
    if name is None:
        sys.exit(f"{expression} from {start} in {zone}: croniter {theirs}, ours {ours}")
    seen[name] += 1
    return f"{ours - int(start.timestamp())}!"


def ask(count, seed):
    starts = [dt.datetime.fromisoformat(text).replace(tzinfo=UTC) for text in INSTANTS]
    for number, expression in enumerate(expressions(250 + count, seed)[-count:]):
        name = ZONES[number % len(ZONES)]
        for start in starts:
            due = ask_croniter(expression, start, zoneinfo.ZoneInfo(name))
            begin = int(start.timestamp())
            print(expression, name, begin, "" if due is None else due - begin, sep="|")


def judge():
    agreed = 0
    for line in sys.stdin:
        expression, name, begin, theirs, ours = line.rstrip("\n").split("|")
        if theirs == ours:
            agreed += 1
        elif not (theirs and ours and
                  difference(int(begin) + int(theirs), int(begin) + int(ours), zoneinfo.ZoneInfo(name))):
            print("differs:", line.rstrip("\n"))
    print("agreed:", agreed)


def main(count=250, seed=1):
    starts = [dt.datetime.fromisoformat(text).replace(tzinfo=UTC) for text in INSTANTS]
    seen = dict.fromkeys(NAMED, 0)
    print("# Written by golden.py; see there. Seconds to the next due time, `-` for never,")
    print("# `!` where croniter differs. One line an expression and zone, one number an instant.")
    print("@", *(int(start.timestamp()) for start in starts))
    for expression in expressions(count, seed):
        print("=", expression)
        for name in ZONES:
            zone = zoneinfo.ZoneInfo(name)
            slow = Slow(expression, zone)
            print(*(answer(expression, start, zone, slow, seen) for start in starts))
    print(f"croniter {importlib.metadata.version('croniter')}: {seen}", file=sys.stderr)


if __name__ == "__main__":
    if sys.argv[1:2] == ["ask"]:
        ask(*map(int, sys.argv[2:]))
    elif sys.argv[1:2] == ["judge"]:
        judge()
    else:
        main(*map(int, sys.argv[1:]))
