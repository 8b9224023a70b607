//! When a worker tries again what somebody else had locked.
//!
//! A row that was passed since a transaction of somebody's had it may be free at any time: nobody
//! tells of a rollback. So whoever passed one looks again after 50 ms, and as long as it is still
//! held after twice the time each time, up to a second. A worker that passes none pays nothing.

use crate::pg::datum::Micros;

/// The first pause and the longest.
const FIRST: Micros = 50_000;
const MOST: Micros = 1_000_000;

/// See the module.
#[derive(Default)]
pub(super) struct Passed {
    /// When to try again; 0: nothing was passed.
    at: Micros,
    /// How long it waits next time, if it is passed again.
    pause: Micros,
}

impl Passed {
    /// Somebody has a row that was to be taken.
    pub(super) fn missed(&mut self, now: Micros) {
        if self.at == 0 {
            let pause = self.pause.max(FIRST);
            self.at = now.saturating_add(pause);
            self.pause = pause.saturating_mul(2).min(MOST);
        }
    }

    /// Whether it is time to try again; what is held then has to be noted anew.
    pub(super) fn take_turn(&mut self, now: Micros) -> bool {
        if self.at == 0 {
            return false;
        }
        // Also if the clock was set back.
        if (1..=MOST).contains(&self.at.saturating_sub(now)) {
            return false;
        }
        self.at = 0;
        true
    }

    /// How long a worker without work sleeps because of it; `None`: as long as any. The next row
    /// that is passed, once all are free, waits for a short time again.
    pub(super) fn rest_ms(&mut self, now: Micros) -> Option<i64> {
        if self.at == 0 {
            self.pause = 0;
            return None;
        }
        Some(self.at.saturating_sub(now).max(0) / 1000 + 1)
    }
}
