//! The rerunner: lets jobs go that were added while another one with their unique key ran, where the end of that
//! one has not done so.
//!
//! It looks when it is asked, and at each look of the keeper, unless that takes long.

use super::STEP;
use super::fence::{Dealt, LeftOut};
use crate::pg::catalog;
use crate::pg::datum::Micros;
use crate::pg::error::{LOCK_NOT_AVAILABLE, Result, UNIQUE_VIOLATION};
use crate::pg::{clock, session, xact};
use crate::queue::rerun;
use crate::queue::reruns::Walk;
use crate::shared::SHARED;

/// Entries of the index that a step reads.
const ENTRIES: i64 = 1000;
/// How long it rests where nobody asks, as a multiple of the time that it took, and at the most.
const SPARING: Micros = 200;
const MOST: Micros = 600_000_000;
/// How soon it looks again for one that somebody has locked, and at the latest.
const SOON: Micros = 10_000;
const LATEST: Micros = 1_000_000;

/// See the module.
#[derive(Default)]
pub struct Rerunner {
    walk: Option<Walk>,
    /// How many looks had been asked for at the last one; `None`: there was none.
    asked: Option<u64>,
    /// When the last walk began, and how long it took.
    began: Micros,
    took: Micros,
    /// When to look again for what somebody had locked; 0: nobody had.
    pub next: Micros,
    pause: Micros,
}

impl Rerunner {
    /// A look of the keeper begins.
    pub fn want(&mut self, now: Micros) {
        let asked = SHARED.read(|state| state.reruns.asked()).unwrap_or(0);
        let age = now.saturating_sub(self.began);
        let rest = self.took.saturating_mul(SPARING).min(MOST);
        let again = self.next != 0 && self.next <= now;
        if self.asked != Some(asked) || again || !(0..rest).contains(&age) {
            self.asked = Some(asked);
            (self.began, self.took, self.next) = (now, 0, 0);
            self.walk = Some(Walk::default());
        }
    }

    pub fn is_wanted(&self) -> bool {
        self.walk.is_some()
    }

    /// Reads some, or lets some go.
    pub fn step(&mut self, left_out: &mut LeftOut) -> Result<()> {
        let began = clock::now();
        let Some(mut walk) = self.walk.take() else {
            return Ok(());
        };
        if walk.forgotten.is_empty() && !walk.is_done {
            xact::transaction(|| match catalog::hold_extension()? {
                Some(extension) => walk.go_on(&extension, ENTRIES),
                None => {
                    walk.is_done = true;
                    Ok(())
                }
            })?;
        }
        while let Some(job) = walk.forgotten.pop() {
            if left_out.has(job) {
                continue;
            }
            walk.locked |= left_out.deal(job, || let_go(job))? == Dealt::Later;
            if !(0..STEP).contains(&clock::now().saturating_sub(began)) {
                break;
            }
        }
        let now = clock::now();
        self.took = self.took.saturating_add(now.saturating_sub(began).max(0));
        if !walk.is_done || !walk.forgotten.is_empty() {
            self.walk = Some(walk);
            return Ok(());
        }
        self.pause = match walk.locked {
            true => self.pause.saturating_mul(2).clamp(SOON, LATEST),
            false => 0,
        };
        if walk.locked {
            self.next = now.saturating_add(self.pause);
        }
        Ok(())
    }
}

/// Lets a job go. A row that somebody inserts with its key at this moment may keep it from that: whoever that
/// is, he is not waited for.
fn let_go(job: i64) -> Result<Dealt> {
    let Some(extension) = catalog::hold_extension()? else {
        return Ok(Dealt::Done);
    };
    session::accept_cancels();
    let released = xact::subtransaction(|| rerun::release(&extension, job));
    session::hold_cancels();
    match released {
        Ok(true) => Ok(Dealt::Done),
        Ok(false) => Ok(Dealt::Later),
        Err(error) if matches!(error.sqlstate, LOCK_NOT_AVAILABLE | UNIQUE_VIOLATION) => {
            Ok(Dealt::Later)
        }
        Err(error) => Err(error),
    }
}
