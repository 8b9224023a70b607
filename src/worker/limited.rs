//! What a worker's last look has left since a queue's rate holds it back.
//!
//! Such jobs are nobody's work before their time: the worker that idles and watches for its lane
//! (`logic::pool`) sleeps to it, and looks then.

use std::cell::Cell;

use crate::pg::clock;
use crate::pg::datum::Micros;
use crate::queue::rates::NEAR;

/// Woken so long before its time, a worker is ready in time.
const EARLY_MS: i64 = 1;

/// See the module.
#[derive(Default)]
pub(super) struct Limited {
    /// When the first of them may start; 0: there is none.
    next: Cell<Micros>,
    /// When that was noted.
    noted: Cell<Micros>,
}

impl Limited {
    /// A look begins.
    pub(super) fn forget(&self) {
        self.next.set(0);
    }

    /// It has left something that may start at `time`; 0: nothing.
    pub(super) fn until(&self, time: Micros) {
        let known = self.next.get();
        if time != 0 && (known == 0 || time < known) {
            self.next.set(time);
            self.noted.set(clock::now());
        }
    }

    /// When the first of what was left may start; 0: nothing was left.
    pub(super) fn next(&self) -> Micros {
        self.next.get()
    }

    /// Whether it is time to look again. Also if the clock was set back.
    pub(super) fn take_turn(&self, now: Micros) -> bool {
        let next = self.next.get();
        let is_due = next != 0 && (next.saturating_sub(now) <= NEAR || now < self.noted.get());
        if is_due {
            self.forget();
        }
        is_due
    }

    /// How long to sleep to it.
    pub(super) fn rest_ms(&self, now: Micros) -> i64 {
        (self.next.get().saturating_sub(now) / 1000 - EARLY_MS).max(0)
    }
}
