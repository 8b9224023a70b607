//! When the keeper looks for what nobody announces: after each nap, unless no transaction of the server has changed
//! anything since the last look; and once the clock was set back, as what was due by it may not be due any more.

use crate::logic::jumps::Jumps;
use crate::pg::datum::Micros;
use crate::pg::{catalog, clock};
use crate::settings;

/// See the module.
#[derive(Default)]
pub struct Naps {
    /// Transactions of the server that had completed at the last look for what nobody announces.
    seen: u64,
    /// When the last nap ended, by such a look or by finding that nothing has changed.
    last: Micros,
    clock: Jumps,
}

impl Naps {
    /// The longest sleep between two looks.
    pub fn longest() -> Micros {
        Micros::from(settings::NAPTIME.get()) * 1_000_000
    }

    /// The next turn looks at once.
    pub fn forget(&mut self) {
        (self.last, self.seen) = (0, 0);
    }

    /// At each turn: whether a nap is over in which the server changed, or the clock was set back.
    pub fn are_over(&mut self, now: Micros) -> bool {
        if self.clock.set_back(now, clock::steady()).is_some() {
            self.forget();
        }
        // A nap that lies ahead: the clock was set back before this process knew it.
        if (0..Naps::longest()).contains(&now.saturating_sub(self.last)) {
            return false;
        }
        self.last = now;
        catalog::completed_transactions() != self.seen
    }

    /// A look for what nobody announces begins. Answers how many transactions have completed.
    pub fn look(&mut self, now: Micros) -> u64 {
        (self.last, self.seen) = (now, catalog::completed_transactions());
        self.seen
    }

    /// How many had at the last look.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// When the next one is over.
    pub fn next(&self, now: Micros) -> Micros {
        let (longest, next) = (Naps::longest(), self.last.saturating_add(Naps::longest()));
        next.min(now.saturating_add(longest))
    }
}
