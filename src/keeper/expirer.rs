//! The expirer: ends jobs that were not started before they expired, some at a time.
//!
//! Jobs that run, or that somebody has locked, stay. They are looked at again after a while, and when they wait
//! again, which their row announces.

use super::fence::{Dealt, LeftOut};
use super::{STEP, not_to_take};
use crate::logic::consumers::sooner;
use crate::pg::catalog;
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
/// How soon a look comes back for jobs that somebody has; each time after twice as long, up to the longest.
const SOON: Micros = 500_000;
const LONGEST: Micros = 30_000_000;

/// See the module.
pub struct Expirer {
    database: Oid,
    wanted: bool,
    /// Behind which job the round that is under way reads on.
    from: Option<Place>,
    /// The round has met jobs that somebody has.
    held: bool,
    /// How long the next look for these waits.
    pause: Micros,
    /// When the next job expires; 0: none does, or it is not known before the round ends.
    pub next: Micros,
}

impl Expirer {
    pub fn new(database: Oid) -> Self {
        Expirer {
            database,
            wanted: false,
            from: None,
            held: false,
            pause: SOON,
            next: 0,
        }
    }

    /// A round begins anew.
    pub fn want(&mut self) {
        self.wanted = true;
        self.from = None;
        self.held = false;
        self.next = 0;
    }

    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Ends some.
    pub fn step(&mut self, left_out: &mut LeftOut) -> Result<()> {
        let now = clock::now();
        let from = self.from;
        let found = xact::transaction(|| match catalog::hold_extension()? {
            Some(extension) => expiry::look(&extension, from, now, MOST, ENTRIES),
            None => Ok(Expired {
                jobs: Vec::new(),
                unread: None,
                next: 0,
            }),
        })?;
        let running = not_to_take(self.database);
        let mut jobs = Vec::with_capacity(found.jobs.len());
        for (_, job) in found.jobs {
            match running.binary_search(&job) {
                Ok(_) => self.held = true,
                Err(_) => jobs.push(job),
            }
        }
        self.end(&jobs, left_out)?;
        self.from = found.unread;
        self.wanted = found.unread.is_some();
        if !self.wanted {
            self.finish(now, found.next);
        }
        Ok(())
    }

    /// The round is over.
    fn finish(&mut self, now: Micros, next: Micros) {
        self.next = if next == Micros::MAX { 0 } else { next };
        self.pause = match self.held {
            true => (self.pause * 2).min(LONGEST),
            false => SOON,
        };
        if self.held {
            self.next = sooner(self.next, now.saturating_add(self.pause));
        }
    }

    /// In one transaction; if one of them cannot be ended, each in its own.
    fn end(&mut self, jobs: &[i64], left_out: &mut LeftOut) -> Result<()> {
        if jobs.is_empty() {
            return Ok(());
        }
        let began = clock::now();
        let mut held = false;
        let together = xact::transaction(|| {
            for job in jobs {
                held |= end_one(*job)? == Dealt::Later;
            }
            Ok(())
        });
        if together.is_err() {
            for job in jobs {
                held |= left_out.deal(*job, || end_one(*job))? == Dealt::Later;
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

/// Ends a job that still waits, and has expired.
fn end_one(job: i64) -> Result<Dealt> {
    let Some(extension) = catalog::hold_extension()? else {
        return Ok(Dealt::Done);
    };
    let live = match single::take(&extension, job)? {
        Taken::Live(live) if live.is_claimed || live.lease.is_some() => return Ok(Dealt::Later),
        Taken::Live(live) => live,
        Taken::Gone => return Ok(Dealt::Done),
        Taken::Locked => return Ok(Dealt::Later),
    };
    // With the row locked nobody starts it any more.
    if consumers::of_job(extension.jobs, job).is_some() {
        return Ok(Dealt::Later);
    }
    if live.expires_at.is_none_or(|at| at > clock::now()) {
        return Ok(Dealt::Done);
    }
    let error = expiry::error();
    let written = end::write(&extension, &live.end_of(false), How::CancelledFor(&error))?;
    written.tell_at_commit()?;
    Ok(Dealt::Done)
}
