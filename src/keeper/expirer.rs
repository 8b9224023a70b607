//! The expirer: ends jobs that were not started before they expired, some at a time.
//!
//! Jobs that run, or that somebody has locked, stay. They are looked at again after a while, and when they wait
//! again, which their row announces. Now and then it tidies: rows of `_expiring` whose jobs have ended in time go.

use super::fence::{Dealt, LeftOut};
use super::{STEP, not_to_take};
use crate::logic::consumers::sooner;
use crate::pg::catalog::{self, Extension};
use crate::pg::datum::{Micros, Oid};
use crate::pg::error::Result;
use crate::pg::{clock, xact};
use crate::queue::end::{self, How};
use crate::queue::expiry::{self, Expired, Place};
use crate::queue::single::{self, Taken};
use crate::shared::consumers;

/// Jobs that one step ends, and entries that it reads for them.
const MOST: usize = 100;
const ENTRIES: i64 = 3000;
/// Rows that a step of the tidying looks at, and how long it rests when it is through: so many times as long as it
/// took, and at least that long.
const TIDIED: usize = 500;
const REST: Micros = 20;
const SHORTEST_REST: Micros = 60_000_000;
/// How soon a look comes back for jobs that somebody has; each time after twice as long, up to the longest.
const SOON: Micros = 500_000;
const LONGEST: Micros = 30_000_000;

/// See the module.
pub struct Expirer {
    database: Oid,
    /// A round shall begin, or go on.
    wanted: bool,
    /// Another one follows.
    again: bool,
    /// Behind which job the round that is under way reads on.
    from: Option<Place>,
    /// The round has met jobs that somebody has.
    held: bool,
    /// How long the next look for these waits.
    pause: Micros,
    /// When the next job expires; 0: none does, or it is not known before the round ends.
    pub next: Micros,
    /// Behind which row the tidying goes on, and when it began.
    tidying: Option<(Place, Micros)>,
    /// When it was through last, and how long it rests from then on.
    tidied: (Micros, Micros),
}

impl Expirer {
    pub fn new(database: Oid) -> Self {
        Expirer {
            database,
            wanted: false,
            again: false,
            from: None,
            held: false,
            pause: SOON,
            next: 0,
            tidying: None,
            tidied: (0, 0),
        }
    }

    /// Jobs may have expired; `thorough`: some may have ended in time, too.
    pub fn want(&mut self, thorough: bool) {
        // A round that is under way goes to its end first, or none might ever come there.
        self.again = self.from.is_some();
        self.wanted = true;
        self.next = 0;
        let now = clock::now();
        let (tidied, rest) = self.tidied;
        // Also if the clock was set back.
        let has_rested = !(0..rest).contains(&now.saturating_sub(tidied));
        if thorough && self.tidying.is_none() && has_rested {
            self.tidying = Some(((Micros::MIN, i64::MIN), now));
        }
    }

    pub fn is_wanted(&self) -> bool {
        self.wanted || self.tidying.is_some()
    }

    /// Ends some; when there are none, tidies a little.
    pub fn step(&mut self, left_out: &mut LeftOut) -> Result<()> {
        if !self.wanted {
            return self.tidy();
        }
        let now = clock::now();
        let from = self.from;
        let found = in_extension(Expired::none(), |extension| {
            expiry::look(extension, from, now, MOST, ENTRIES)
        })?;
        let running = not_to_take(self.database);
        let mut jobs = Vec::with_capacity(found.jobs.len());
        for place in found.jobs {
            match running.binary_search(&place.1) {
                Ok(_) => self.held = true,
                Err(_) => jobs.push(place),
            }
        }
        self.end(&jobs, left_out)?;
        self.from = found.unread;
        if found.unread.is_none() {
            self.finish(found.next);
        }
        Ok(())
    }

    /// The round is over.
    fn finish(&mut self, next: Micros) {
        self.wanted = std::mem::take(&mut self.again);
        self.next = next;
        let held = std::mem::take(&mut self.held);
        self.pause = match held {
            true => (self.pause * 2).min(LONGEST),
            false => SOON,
        };
        if held {
            self.next = sooner(self.next, clock::now().saturating_add(self.pause));
        }
    }

    fn tidy(&mut self) -> Result<()> {
        let Some((after, began)) = self.tidying.take() else {
            return Ok(());
        };
        let next = in_extension(None, |extension| expiry::tidy(extension, after, TIDIED))?;
        self.tidying = next.map(|next| (next, began));
        if next.is_none() {
            let now = clock::now();
            let rest = now.saturating_sub(began).max(0).saturating_mul(REST);
            self.tidied = (now, rest.max(SHORTEST_REST));
        }
        Ok(())
    }

    /// In one transaction; if one of them cannot be ended, each in its own.
    fn end(&mut self, jobs: &[Place], left_out: &mut LeftOut) -> Result<()> {
        if jobs.is_empty() {
            return Ok(());
        }
        let mut held = false;
        let together = xact::transaction(|| {
            for place in jobs {
                held |= end_one(*place)? == Dealt::Later;
            }
            Ok(())
        });
        if together.is_err() {
            let began = clock::now();
            for place in jobs {
                held |= left_out.deal(place.1, || end_one(*place))? == Dealt::Later;
                if !(0..2 * STEP).contains(&clock::now().saturating_sub(began)) {
                    // The others wait for the next round.
                    held = true;
                    break;
                }
            }
        }
        self.held |= held;
        Ok(())
    }
}

/// A transaction of ours, if the database still has the extension.
fn in_extension<T>(nothing: T, body: impl FnOnce(&Extension) -> Result<T>) -> Result<T> {
    xact::transaction(|| match catalog::hold_extension()? {
        Some(extension) => body(&extension),
        None => Ok(nothing),
    })
}

/// Ends a job that still waits, and has expired; its row is done with then.
fn end_one(place: Place) -> Result<Dealt> {
    let job = place.1;
    let Some(extension) = catalog::hold_extension()? else {
        return Ok(Dealt::Done);
    };
    let live = match single::take(&extension, job)? {
        Taken::Live(live) if live.is_claimed || live.lease.is_some() => return Ok(Dealt::Later),
        Taken::Live(live) => live,
        Taken::Gone => {
            // One that is there is not ours to end.
            if single::find(&extension, job)?.is_none() {
                expiry::forget(&extension, place)?;
            }
            return Ok(Dealt::Done);
        }
        Taken::Locked => return Ok(Dealt::Later),
    };
    // With the row locked nobody starts it any more.
    if consumers::of_job(extension.jobs, job).is_some() {
        return Ok(Dealt::Later);
    }
    let is_over = live.expires_at.is_some_and(|at| at <= clock::now());
    if !is_over && live.expires_at == Some(place.0) {
        // The clock was set back since it was found.
        return Ok(Dealt::Later);
    }
    if is_over {
        let error = expiry::error();
        let of = live.end_of(false);
        let written = end::write(&extension, &of, How::CancelledFor(&error))?;
        written.tell_at_commit()?;
    }
    // One that was put off has another row.
    expiry::forget(&extension, place)?;
    Ok(Dealt::Done)
}
