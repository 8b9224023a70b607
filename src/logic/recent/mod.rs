//! How jobs ended lately: by queue and minute of the last day, and by handler.
//!
//! A minute has two lives. While it is *open*, each queue and role that a job ended of has a [`Tally`] with
//! full histograms, in an array of fixed size. The first end of another minute *closes* it: each tally becomes a
//! short record, in which the empty buckets take no room, at the end of a ring of bytes, where the oldest
//! records give way. So a minute costs as much room as its jobs differ in their times, and one in which nothing
//! ends costs none. Where there are more queues than the array has places, the one that was idle for longest is
//! closed early, and a reader adds the records of one minute up.
//!
//! Roles are counted apart, so that a reader adds up those that it may see, and no others.

mod folded;
mod handlers;
mod open;
mod places;
mod record;
mod ring;

pub use folded::{Folded, Minutes};
pub use handlers::{Called, HANDLERS, Handler, Handlers, NAME_BYTES, Runs};
pub use open::{Open, PLACES, Whose};
pub use record::{Record, Tally};
pub use ring::{BYTES, Edges, Walk};

use super::Micros;
use super::counters::{Ending, Mark};
use ring::Ring;

/// A minute since 2000-01-01 00:00 UTC.
pub type Minute = i32;

/// How many minutes are shown: a day.
pub const DAY: Minute = 24 * 60;

const MICROS: Micros = 60_000_000;

/// The minute of a time.
pub fn minute_of(time: Micros) -> Minute {
    let minute = time.div_euclid(MICROS);
    minute.clamp(Micros::from(Minute::MIN), Micros::from(Minute::MAX)) as Minute
}

/// When a minute begins.
pub fn begin_of(minute: Minute) -> Micros {
    Micros::from(minute).saturating_mul(MICROS)
}

/// What stands before the ring's bytes in shared memory. Zero bytes are its first state.
#[repr(C)]
pub struct Head {
    /// Since when this memory is there.
    pub begun: Micros,
    /// The minute in which jobs end now.
    pub open: Open,
    /// Where the closed ones stand among the bytes.
    pub edges: Edges,
    /// See [`Handlers`].
    pub handlers: Handlers,
}

/// The shared memory, opened under its lock.
pub struct Recent<'a> {
    /// What stands before the bytes.
    pub head: &'a mut Head,
    /// The ring's.
    pub bytes: &'a mut [u8],
}

/// Where a process found its queue or handler last, so that it need not search again.
pub type Hint = usize;

/// How far back the minutes go, and what was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reach {
    /// All since this time is there.
    pub since: Micros,
    /// So many entries gave way.
    pub gave_way: u64,
}

impl Recent<'_> {
    /// Counts executions.
    pub fn count(&mut self, whose: Whose, marks: &[Mark], now: Micros, hint: &mut Hint) {
        if let Some(tally) = self.tally(whose, now, hint) {
            marks.iter().for_each(|mark| tally.add(mark));
        }
    }

    /// Counts ends without an execution.
    pub fn count_ends(&mut self, whose: Whose, end: Ending, count: i64, now: Micros) {
        if let Some(tally) = self.tally(whose, now, &mut 0) {
            tally.add_end(end, count);
        }
    }

    fn tally(&mut self, whose: Whose, now: Micros, hint: &mut Hint) -> Option<&mut Tally> {
        if whose.database == 0 || whose.queue == 0 {
            return None;
        }
        let mut ring = Ring {
            edges: &mut self.head.edges,
            bytes: self.bytes,
        };
        self.head.open.turn_to(minute_of(now), &mut ring);
        self.head.open.tally(whose, &mut ring, hint)
    }

    /// Forgets the open minute and the handlers of a database; the ring is left to [`Recent::forget_some`].
    pub fn forget(&mut self, database: u32) {
        self.head.open.forget(database);
        self.head.handlers.forget(database);
    }

    /// Forgets a database in a part of the ring, from a place that an earlier call has answered, first 0. Answers
    /// where to go on, `None` at the end.
    pub fn forget_some(&mut self, database: u32, from: u64) -> Option<u64> {
        let mut ring = Ring {
            edges: &mut self.head.edges,
            bytes: self.bytes,
        };
        ring.forget_some(database, from)
    }
}

impl Head {
    /// How far back the minutes go.
    pub fn reach(&self, now: Micros) -> Reach {
        let day = begin_of(minute_of(now).saturating_sub(DAY).saturating_add(1));
        let whole = self.edges.whole_since().map_or(day, begin_of);
        Reach {
            since: day.max(whole).max(self.begun),
            gave_way: self.edges.gave_way(),
        }
    }
}

#[cfg(test)]
mod tests;
