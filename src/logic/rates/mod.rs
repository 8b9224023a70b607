//! How fast the jobs of a queue may start.
//!
//! A bucket knows one number, the earliest time of its next start. Starts are spaced by
//! `rate_period / rate`; after a rest up to `burst` may follow each other at once. A start at time t moves
//! the next one to `max(next, t - (burst - 1) * spacing) + spacing`. From that follows, whatever the order in
//! which processes read the clock and ask: of n starts the last is at least (n - burst) spacings behind the
//! first, so a window of `rate_period` has at most `rate + burst - 1`.
//!
//! A bucket that has rested for so long that `burst` starts are allowed knows nothing that matters, so it may
//! be forgotten. Whoever has no bucket has therefore rested, except for starts before the server's life
//! began: then a start may just have happened.

mod table;

pub use table::{Buckets, Entry, Head, Key, QUEUES, Started, State};

use super::Micros;

/// What a queue's settings say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Limit {
    /// The time between two starts, rounded up.
    pub spacing: Micros,
    /// How much of it may be made up for after a rest: `(burst - 1)` spacings.
    pub slack: Micros,
    /// `rate_period`
    pub period: Micros,
}

impl Limit {
    /// So many starts a period, and so many at once.
    pub fn new(rate: i32, period: Micros, burst: i32) -> Limit {
        let rate = Micros::from(rate.max(1));
        let period = period.max(1);
        let whole = period.checked_div(rate).unwrap_or(period);
        let rest = period.checked_rem(rate).unwrap_or(0);
        let spacing = whole.saturating_add(Micros::from(rest > 0)).max(1);
        let more = Micros::from(burst.max(1)).saturating_sub(1);
        Limit {
            spacing,
            slack: spacing.saturating_mul(more),
            period,
        }
    }

    /// When the next one may start after a start at `t`.
    fn after(&self, next: Micros, t: Micros) -> Micros {
        next.max(t.saturating_sub(self.slack))
            .saturating_add(self.spacing)
    }

    /// `next`, or if that is further ahead than a period, what it would be had a start just happened: the
    /// clock was set back.
    fn within_reach(&self, next: Micros, now: Micros) -> Micros {
        if next.saturating_sub(now) > self.period {
            now.saturating_add(self.spacing)
        } else {
            next
        }
    }

    /// How many may have started by `now`, all of them at that time, if the next one may start at `next`.
    fn count(&self, next: Micros, now: Micros) -> usize {
        let first = next.max(now.saturating_sub(self.slack));
        if first > now {
            return 0;
        }
        let more = now.saturating_sub(first).checked_div(self.spacing);
        usize::try_from(more.unwrap_or(0)).map_or(usize::MAX, |more| more.saturating_add(1))
    }

    /// When all is as if nothing had ever started.
    fn rested_at(&self, next: Micros) -> Micros {
        next.saturating_add(self.slack)
    }
}

/// The rate of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// So many starts
    pub rate: i32,
    /// in that time.
    pub period: Micros,
    /// As the buckets know it.
    pub limit: Limit,
    /// It is that of each key.
    pub per_key: bool,
}

impl Rate {
    /// Of these settings.
    pub fn new(rate: i32, period: Micros, burst: i32, per_key: bool) -> Rate {
        Rate {
            rate,
            period,
            limit: Limit::new(rate, period, burst),
            per_key,
        }
    }

    /// As messages say it.
    pub fn describe(&self) -> String {
        describe(self.rate, self.period)
    }
}

/// A rate as messages say it: `10 per 1 s`.
fn describe(rate: i32, period: Micros) -> String {
    const UNITS: [(Micros, &str); 6] = [
        (86_400_000_000, "d"),
        (3_600_000_000, "h"),
        (60_000_000, "min"),
        (1_000_000, "s"),
        (1_000, "ms"),
        (1, "us"),
    ];
    let fits = |(unit, _): &&(Micros, &str)| period.checked_rem(*unit) == Some(0);
    let (unit, name) = UNITS.iter().find(fits).copied().unwrap_or((1, "us"));
    let count = period.checked_div(unit).unwrap_or(period);
    format!("{rate} per {count} {name}")
}

#[cfg(test)]
mod tests;
