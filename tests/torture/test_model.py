"""The model on histories made by hand: what is fine passes, and each wrong is found.

    python3 -m unittest discover -s tests/torture
"""

import unittest

from leaks import Memory
from model import Facts, Limits, Model, Row


class Case(unittest.TestCase):
    def setUp(self):
        self.model = Model()
        self.facts = Facts(set(), [], {})
        self.limits = {}

    def tx(self, number=1, state="committed", there=None, at=1.0):
        tx = self.model.begin("somebody", number)
        {"committed": lambda: tx.committed(at), "rolled back": tx.rolled_back, "unknown": tx.unknown}[state]()
        if there if there is not None else state == "committed":
            self.facts.markers.add(number)
        return tx

    def job(self, n, tx=None, row=True, effects=1, **about):
        """A job that was enqueued and completed, unless `about` says otherwise."""
        fields = {"status": "completed", "attempts": 1, "max_attempts": 5, "started_at": 10.0 * n, "finished_at": 10.0 * n + 1,
                  "origin": None, "errors": (), "ended": True}
        fields |= {name: about.pop(name) for name in list(about) if name in fields and name != "errors"}
        fields["errors"] = about.pop("failed_with", ())
        job = self.model.job(n, tx or self.tx(1000 + n), about.pop("queue", "q"), "alice", **about)
        if row:
            self.facts.rows.append(Row(n=n, id=n, queue=job.queue, owner="alice", group_key=job.group_key, **fields))
        if effects:
            self.facts.effects[n, "done"] = effects
        return job

    def found(self):
        return [violation.check for _name, violations in self.model.judge(self.facts, self.limits) for violation in violations]

    def is_fine(self):
        self.assertEqual(self.found(), [])

    def is_wrong(self, check):
        self.assertEqual(set(self.found()), {check})


class Clocks(Case):
    def test_what_was_noted_near_a_jump_is_not_judged_by_its_time(self):
        self.limits["q"] = Limits(concurrency=1)
        for n in (1, 2, 3):
            self.job(n, started_at=100.0, finished_at=101.0)
        self.model.clock_moves(103.0)
        self.model.clock_is_right(104.0)
        self.is_fine()

    def test_what_was_noted_long_before_or_after_a_jump_is(self):
        self.limits["q"] = Limits(concurrency=1)
        for n, at in ((1, 100.0), (2, 100.0), (3, 150.0), (4, 150.0)):
            self.job(n, started_at=at, finished_at=at + 1)
        self.model.clock_moves(120.0)
        self.model.clock_is_right(121.0)
        self.is_wrong("limit")


class Transactions(Case):
    def test_a_committed_job_that_completed_once_is_fine(self):
        self.job(1)
        self.is_fine()

    def test_a_committed_transaction_must_be_there(self):
        self.job(1, self.tx(there=False), row=False, effects=0)
        self.is_wrong("durable")

    def test_a_rolled_back_one_must_not(self):
        self.tx(state="rolled back", there=True)
        self.is_wrong("durable")

    def test_an_unknown_one_may_be_there_with_its_jobs(self):
        self.job(1, self.tx(state="unknown", there=True))
        self.is_fine()

    def test_or_not_without_them(self):
        self.job(1, self.tx(state="unknown"), row=False, effects=0)
        self.is_fine()

    def test_but_not_half(self):
        self.job(1, self.tx(state="unknown"))
        self.is_wrong("accounted")

    def test_a_lost_job(self):
        self.job(1, row=False, effects=0)
        self.is_wrong("accounted")

    def test_a_lost_job_that_somebody_may_have_deleted(self):
        self.job(1, row=False, effects=0, may_vanish=True)
        self.is_fine()

    def test_a_job_of_a_savepoint_that_was_rolled_back(self):
        self.job(1, added=False, row=False, effects=0)
        self.is_fine()

    def test_which_is_there_all_the_same(self):
        self.job(1, added=False)
        self.is_wrong("accounted")

    def test_a_job_in_my_queue_and_in_the_history(self):
        self.job(1, effects=0)
        self.facts.rows.append(self.facts.rows[0])
        self.is_wrong("accounted")


class Effects(Case):
    def test_an_effect_twice(self):
        self.job(1, effects=2)
        self.is_wrong("effects")

    def test_completed_without_effect(self):
        self.job(1, effects=0)
        self.is_wrong("effects")

    def test_an_effect_of_a_failed_job(self):
        self.job(1, status="failed", attempts=5)
        self.is_wrong("effects")

    def test_an_effect_of_nobody(self):
        self.facts.effects[7, "done"] = 1
        self.is_wrong("effects")

    def test_snoozes_count(self):
        self.job(1, snoozes=2)
        self.facts.effects[1, "snooze"] = 2
        self.is_fine()
        self.facts.effects[1, "snooze"] = 3
        self.is_wrong("effects")

    def test_a_dead_letter_has_the_effect_of_a_letter_alone(self):
        self.job(1, effects=0, origin="orders", errors=frozenset({"P0001"}), failed_with=("P0001",))
        self.facts.effects[1, "letter"] = 1
        self.is_fine()
        self.facts.effects[1, "done"] = 1
        self.is_wrong("effects")

    def test_a_command_of_several_attempts_may_have_its_effect_again(self):
        self.job(1, promise="command", effects=2)
        self.is_fine()

    def test_one_of_one_attempt_may_not(self):
        self.job(1, promise="command", effects=2, max_attempts=1)
        self.is_wrong("effects")

    def test_a_command_that_was_killed_may_have_it_or_not(self):
        for n in (1, 2):
            self.job(n, promise="command", effects=n - 1, max_attempts=1, status="failed", failed_with=("57P02",))
        self.is_fine()

    def test_at_least_once(self):
        self.job(1, promise="loose", effects=3)
        self.is_fine()
        self.job(2, promise="loose", effects=0)
        self.is_wrong("effects")


class Ends(Case):
    def test_a_job_that_is_left(self):
        self.job(1, effects=0, ended=False, status="pending", finished_at=None)
        self.is_wrong("ended")

    def test_a_cancel_that_was_true_holds(self):
        job = self.job(1)
        self.model.cancelled(1, self.tx(2))
        self.model.tried_cancel.add(job.n)
        self.is_wrong("ends")

    def test_one_that_was_rolled_back_need_not(self):
        self.job(1)
        self.model.cancelled(1, self.tx(2, "rolled back"))
        self.is_fine()

    def test_nothing_is_cancelled_by_nobody(self):
        self.job(1, effects=0, status="cancelled")
        self.is_wrong("ends")

    def test_wait_says_the_truth(self):
        self.job(1)
        self.model.seen[1] = "failed"
        self.is_wrong("ends")

    def test_more_attempts_than_there_are(self):
        self.job(1, attempts=6)
        self.is_wrong("attempts")

    def test_a_failure_before_the_last_attempt(self):
        self.job(1, effects=0, status="failed", errors=frozenset({"P0001"}), failed_with=("P0001",))
        self.is_wrong("attempts")

    def test_a_failure_for_good(self):
        self.job(1, effects=0, status="failed", errors=frozenset({"MW001"}), fatal=frozenset({"MW001"}), failed_with=("MW001",))
        self.is_fine()

    def test_an_error_that_nothing_explains(self):
        self.job(1, attempts=2, failed_with=("XX000",))
        self.is_wrong("attempts")


class Leases(Case):
    def test_a_lease_is_lost_when_somebody_else_has_received_the_job(self):
        self.model.received(1, 1, 10, 1.0, 1.1)
        self.assertFalse(self.model.is_lost(1, 10))
        self.model.received(1, 1, 11, 2.0, 2.1)
        self.assertTrue(self.model.is_lost(1, 10))
        self.assertFalse(self.model.is_lost(1, 11))
        self.assertEqual(list(self.model.over), [(1, 1, 10)])

    def test_of_calls_at_the_same_time_nobody_knows_which_was_last(self):
        self.model.received(1, 1, 10, 1.0, 2.0)
        self.model.received(1, 1, 11, 1.5, 1.6)
        self.assertFalse(self.model.is_lost(1, 10) or self.model.is_lost(1, 11))
        self.assertEqual(list(self.model.over), [])


class Order(Case):
    def test_a_job_before_the_one_it_comes_after(self):
        self.job(2)
        self.job(1, after=(2,))
        self.is_wrong("after")

    def test_a_job_after_it(self):
        self.job(1)
        self.job(2, after=(1,))
        self.is_fine()

    def test_a_job_that_ran_after_a_failure(self):
        self.job(1, effects=0, status="failed", attempts=5)
        self.job(2, after=(1,), after_failed="run")
        self.is_fine()
        self.job(3, after=(1,))
        self.is_wrong("after")

    def test_keys_in_order(self):
        self.limits["q"] = Limits(fifo=True)
        self.job(1, group_key="a")
        self.job(2, group_key="a")
        self.is_fine()

    def test_a_key_out_of_order(self):
        self.limits["q"] = Limits(fifo=True)
        self.job(1, group_key="a", started_at=30.0, finished_at=31.0)
        self.job(2, group_key="a")
        self.is_wrong("fifo")

    def test_unless_the_earlier_one_was_committed_later(self):
        self.limits["q"] = Limits(fifo=True)
        self.job(1, self.tx(1, at=25.0), group_key="a", started_at=30.0, finished_at=31.0)
        self.job(2, group_key="a")
        self.is_fine()


class Rates(Case):
    def run_at(self, *starts, length=1.0, **about):
        for n, start in enumerate(starts, 1):
            self.job(n, started_at=start, finished_at=start + length, **about)

    def test_two_at_once_where_two_may(self):
        self.limits["q"] = Limits(concurrency=2)
        self.run_at(1, 1.5, 2.2)
        self.is_fine()

    def test_three_at_once(self):
        self.limits["q"] = Limits(concurrency=2)
        self.run_at(1, 1.5, 1.7)
        self.is_wrong("limit")

    def test_one_begins_at_the_moment_at_which_another_ends(self):
        self.limits["q"] = Limits(concurrency=1)
        self.run_at(1, 2, 3)
        self.is_fine()

    def test_per_key_counts_each_key(self):
        self.limits["q"] = Limits(per_key=1)
        self.run_at(1, 1.5)
        self.is_fine()
        for row in self.facts.rows:
            row.group_key = "a"
        self.is_wrong("limit")

    def test_starts_in_a_window(self):
        self.limits["q"] = Limits(most_starts=2, period=1.0)
        self.run_at(1, 1.2, 2)
        self.is_fine()

    def test_one_more(self):
        self.limits["q"] = Limits(most_starts=2, period=1.0)
        self.run_at(1, 1.2, 1.99)
        self.is_wrong("rate")


class Sizes(unittest.TestCase):
    """What a keeper has is judged from half a minute on, and from its first fifty looks on."""

    def grown(self, kilobytes, apart, process=(17, "1")):
        memory = Memory()
        for number, size in enumerate(kilobytes):
            memory.note(process, "keeper", size, number * apart)
        return memory.judged()

    def test_flat(self):
        self.assertEqual((1, 0, []), self.grown([4000] + [6000] * 99, 0.5))

    def test_grows_on(self):
        self.assertEqual((1, 1500, ["keeper 17 has grown by 1500 kB"]), self.grown([4000] * 62 + [4750] * 20 + [5500] * 20, 0.5))

    def test_fetches_its_memory_late_where_looks_are_rare(self):
        self.assertEqual((1, 0, []), self.grown([4000] * 40 + [5500] * 40, 5))

    def test_lived_too_short(self):
        self.assertEqual((0, 0, []), self.grown([4000] * 50 + [6000], 0.5))

    def test_number_given_again(self):
        memory = Memory()
        for began in ("1", "2"):
            for number in range(100):
                memory.note((17, began), "keeper", 4000 if began == "1" else 6000, number * 0.5)
        self.assertEqual((2, 0, []), memory.judged())


if __name__ == "__main__":
    unittest.main()
