//! Which due times of a schedule to enqueue now.
//!
//! The caller reads a schedule's row, asks [`plan`], and in one transaction enqueues the due
//! times it names and stores its `next_run_at`. So each due time is enqueued once, whatever
//! crashes in between.
//!
//! **Late.** A look is on time if the first outstanding due time is at most `grace` old; then all
//! outstanding ones are enqueued. Otherwise the server was down, the schedule was blocked or the
//! clock jumped forward, and `catchup` decides about all that is outstanding: `none` drops it,
//! `one` enqueues the latest, `all` enqueues each, the latest [`MAX_CATCHUP`] at most.
//!
//! **Unfinished.** If jobs of the schedule are unfinished at the time of the look, `overlap`
//! decides: `skip` drops what would be enqueued, `allow` enqueues it, `queue` enqueues it as long
//! as no more than [`MAX_CATCHUP`] jobs wait. That those run one after the other is the caller's
//! part. What `all` enqueues in one look does not count as its own overlap.
//!
//! **Clock set back.** Nothing at or before the last enqueued due time is enqueued again: the
//! schedule waits until the clock has caught up.

use super::rule::{self, Rule};
use super::zone::Zone;
use super::{MICROS_PER_SEC, Micros, Timestamp};

/// The most due times that one look enqueues, and the most unfinished jobs under `queue`.
pub const MAX_CATCHUP: usize = 1000;

/// What to do with due times that were missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Catchup {
    /// Drop them.
    None,
    /// Run the latest.
    One,
    /// Run each, up to [`MAX_CATCHUP`].
    All,
}

/// What to do if the last run is unfinished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// Leave this run out.
    Skip,
    /// Run it after the unfinished one.
    Queue,
    /// Run it beside the unfinished one.
    Allow,
}

impl Catchup {
    /// The names in SQL, for a hint.
    pub const NAMES: &'static str = "none, one, all";

    /// The policy of that name.
    pub fn from_name(name: &[u8]) -> Option<Catchup> {
        match name {
            b"none" => Some(Catchup::None),
            b"one" => Some(Catchup::One),
            b"all" => Some(Catchup::All),
            _ => None,
        }
    }
}

impl Overlap {
    /// The names in SQL, for a hint.
    pub const NAMES: &'static str = "skip, queue, allow";

    /// The policy of that name.
    pub fn from_name(name: &[u8]) -> Option<Overlap> {
        match name {
            b"skip" => Some(Overlap::Skip),
            b"queue" => Some(Overlap::Queue),
            b"allow" => Some(Overlap::Allow),
            _ => None,
        }
    }
}

/// A schedule as it stands.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// The stored `next_run_at`. It counts as due even if the rule does not name it.
    pub next_run_at: Timestamp,
    /// The last due time that was enqueued, if any.
    pub last_due: Option<Timestamp>,
    /// How many jobs of this schedule are unfinished.
    pub unfinished: u64,
    /// What to do with missed due times.
    pub catchup: Catchup,
    /// What to do while jobs are unfinished.
    pub overlap: Overlap,
    /// How late a due time may be and still count as on time.
    pub grace: Micros,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The due times to enqueue a job for, in order.
    pub enqueue: Vec<Timestamp>,
    /// Whether due times were left out, by either policy.
    pub left_out: bool,
    /// The new `next_run_at`: later than `now` and than all that was enqueued. None: the rule
    /// has no further due time.
    pub next_run_at: Option<Timestamp>,
}

impl Plan {
    /// Enqueues nothing before that time.
    pub fn wait_until(next: Timestamp) -> Self {
        Plan {
            enqueue: Vec::new(),
            left_out: false,
            next_run_at: Some(next),
        }
    }
}

/// Decides what to enqueue at `now`.
///
/// Takes a bounded number of calls of the rule: about forty for each due time enqueued.
pub fn plan(look: &Look, rule: &Rule, zone: &dyn Zone, now: Timestamp) -> Plan {
    let last = look.last_due.unwrap_or(Timestamp::MIN);
    if look.next_run_at > now {
        return waiting(look, rule, zone, last);
    }
    let late = look.next_run_at < now.saturating_sub(look.grace.max(0));
    let wanted = match look.catchup {
        Catchup::None if late => 0,
        Catchup::One if late => 1,
        _ => MAX_CATCHUP,
    };
    let wanted = wanted.min(room(look));
    // One more than wanted tells whether any is left out.
    let mut dues = latest_dues(
        look.next_run_at,
        last,
        rule,
        zone,
        now,
        wanted.saturating_add(1),
    );
    let left_out = dues.len() > wanted;
    dues.truncate(wanted);
    dues.reverse();
    Plan {
        enqueue: dues,
        left_out,
        next_run_at: rule.next_after(now.max(last), zone),
    }
}

/// Not due yet. A `next_run_at` at or before the last due time is moved on.
fn waiting(look: &Look, rule: &Rule, zone: &dyn Zone, last: Timestamp) -> Plan {
    let stored = look.next_run_at;
    let next_run_at = if stored > last {
        Some(stored)
    } else {
        rule.next_after(last, zone)
    };
    Plan {
        enqueue: Vec::new(),
        left_out: false,
        next_run_at,
    }
}

/// How many due times may be enqueued beside the unfinished jobs.
fn room(look: &Look) -> usize {
    let unfinished = usize::try_from(look.unfinished).unwrap_or(usize::MAX);
    match look.overlap {
        _ if unfinished == 0 => MAX_CATCHUP,
        Overlap::Skip => 0,
        Overlap::Queue => MAX_CATCHUP.saturating_sub(unfinished),
        Overlap::Allow => MAX_CATCHUP,
    }
}

/// The latest due times, newest first, at most `max`: those in (first, now] that the rule names,
/// and `first` itself, all after `last`.
fn latest_dues(
    first: Timestamp,
    last: Timestamp,
    rule: &Rule,
    zone: &dyn Zone,
    now: Timestamp,
    max: usize,
) -> Vec<Timestamp> {
    let mut dues = Vec::new();
    let mut until = now;
    while dues.len() < max {
        let Some(due) = latest_due(rule, zone, first.max(last), until) else {
            break;
        };
        dues.push(due);
        until = due.saturating_sub(1);
    }
    if dues.len() < max && first > last && rule::in_range(first) {
        dues.push(first);
    }
    dues
}

/// The latest due time in (low, until].
///
/// Looks back from `until` over a span that doubles until it holds a due time, then halves the
/// span, so rare and frequent schedules cost about the same.
fn latest_due(rule: &Rule, zone: &dyn Zone, low: Timestamp, until: Timestamp) -> Option<Timestamp> {
    let in_time = |t: Timestamp, end| rule.next_after(t, zone).filter(|due| *due <= end);
    let mut span = MICROS_PER_SEC;
    let mut known = loop {
        let from = until.saturating_sub(span).max(low);
        if let Some(due) = in_time(from, until) {
            break due;
        }
        // From minus infinity on there is no end to looking back.
        if from <= low || span == Micros::MAX {
            return None;
        }
        span = span.saturating_mul(2);
    };
    let mut until = until;
    while let Some(due) = in_time(known, until) {
        // There is a later one: the latest is in [due, until].
        known = due;
        let middle = known.midpoint(until);
        match in_time(middle, until) {
            Some(due) => known = due,
            None => until = middle,
        }
    }
    Some(known)
}

#[cfg(test)]
mod tests;
