//! The ender: fails the due jobs of roles that may have no session, some at a time. Those that wait
//! for other consumers, or in a paused queue, stay.

use std::collections::VecDeque;

use super::fence::{Dealt, LeftOut};
use super::{STEP, not_to_take};
use crate::logic::low_water::Place;
use crate::pg::bgworker;
use crate::pg::catalog::{self, Extension};
use crate::pg::datum::{self, Micros, Oid};
use crate::pg::error::{PgError, Result};
use crate::pg::log::{self, Level};
use crate::pg::{clock, xact};
use crate::queue::bar::bar;
use crate::queue::claim;
use crate::queue::due::{Due, Visit};
use crate::queue::end::{self, How, Said};
use crate::queue::queues;
use crate::queue::single::{self, Taken};

/// Jobs that one step ends, and entries that it reads for them.
const MOST: usize = 100;
const ENTRIES: i64 = 3000;
/// How often the log hears of it.
const LOG_EVERY: Micros = 1_000_000;

/// A queue of a role whose jobs are to end.
struct Condemned {
    owner: Oid,
    queue: Vec<u8>,
    reason: PgError,
    /// From where on; `None`: from the start.
    from: Option<Place>,
}

/// See the module.
#[derive(Default)]
pub struct Ender {
    condemned: VecDeque<Condemned>,
    /// How many ended since the log heard of it, and why.
    ended: Vec<(PgError, u64)>,
    logged: Micros,
}

impl Ender {
    /// Has the due jobs of a role's queue ended.
    pub fn add(&mut self, owner: Oid, queue: &[u8], reason: &PgError) {
        let mut all = self.condemned.iter();
        if !all.any(|known| known.owner == owner && known.queue == queue) {
            self.condemned.push_back(Condemned {
                owner,
                queue: queue.to_vec(),
                reason: reason.clone(),
                from: None,
            });
        }
    }

    pub fn is_wanted(&self) -> bool {
        !self.condemned.is_empty()
    }

    /// Ends some jobs; the queues take turns.
    pub fn step(&mut self, left_out: &mut LeftOut) -> Result<()> {
        let Some(mut condemned) = self.condemned.pop_front() else {
            return Ok(());
        };
        let (mut jobs, mut unread) = (Vec::new(), None);
        xact::transaction(|| {
            let Some(extension) = catalog::hold_extension()? else {
                return Ok(());
            };
            // It may log in by now.
            if bar(condemned.owner)?.is_some() {
                unread = find(&extension, &condemned, left_out, &mut jobs)?;
            }
            Ok(())
        })?;
        let all_at_once = || self.end_all(&jobs, &condemned.reason);
        let (ended, stopped) = match xact::transaction(all_at_once) {
            Ok(ended) => (ended, None),
            Err(_) => self.end_each(&jobs, &condemned.reason, left_out)?,
        };
        self.note(&condemned.reason, ended);
        condemned.from = stopped.or(unread);
        // What somebody has locked a later look comes back for.
        if condemned.from.is_some() {
            self.condemned.push_back(condemned);
        }
        if !(0..LOG_EVERY).contains(&clock::now().saturating_sub(self.logged)) {
            self.log()?;
        }
        Ok(())
    }

    /// In one transaction; how many have failed.
    fn end_all(&self, jobs: &[(i64, Place)], reason: &PgError) -> Result<u64> {
        let mut ended = 0;
        for (job, _) in jobs {
            ended += u64::from(end(*job, reason)?.1);
        }
        Ok(ended)
    }

    /// Each in a transaction of its own, as one of them cannot be ended: one at least, however long the
    /// others took together. Also where it stopped, if it took too long.
    fn end_each(
        &self,
        jobs: &[(i64, Place)],
        reason: &PgError,
        left_out: &mut LeftOut,
    ) -> Result<(u64, Option<Place>)> {
        let mut ended = 0;
        let began = clock::now();
        for (index, (job, place)) in jobs.iter().enumerate() {
            let is_late = !(0..2 * STEP).contains(&clock::now().saturating_sub(began));
            if is_late && index > 0 {
                return Ok((ended, Some(*place)));
            }
            left_out.deal(*job, || {
                let (dealt, failed) = end(*job, reason)?;
                ended += u64::from(failed);
                Ok(dealt)
            })?;
        }
        Ok((ended, None))
    }

    fn note(&mut self, reason: &PgError, ended: u64) {
        if ended == 0 {
            return;
        }
        let mut known = self.ended.iter_mut();
        match known.find(|(known, _)| known.message == reason.message) {
            Some((_, count)) => *count += ended,
            None => self.ended.push((reason.clone(), ended)),
        }
    }

    /// Says how many jobs have ended since it was said last.
    pub fn log(&mut self) -> Result<()> {
        self.logged = clock::now();
        for (reason, count) in std::mem::take(&mut self.ended) {
            let jobs = if count == 1 { "job" } else { "jobs" };
            let why = reason.summary();
            log::report(Level::Log, &format!("{count} {jobs} failed: {why}"))?;
        }
        Ok(())
    }
}

/// The next jobs to end, and where to read on.
fn find(
    extension: &Extension,
    condemned: &Condemned,
    left_out: &LeftOut,
    jobs: &mut Vec<(i64, Place)>,
) -> Result<Option<Place>> {
    let queue = queues::find(extension, datum::text_datum(&condemned.queue)?)?;
    let Some(queue) = queue.filter(|queue| !queue.paused) else {
        return Ok(None);
    };
    let avoid = not_to_take(bgworker::my_database());
    let due = Due::open(extension)?;
    let (now, mut budget) = (clock::now(), ENTRIES);
    let (owner, from) = (condemned.owner, condemned.from);
    let mut last = None;
    let walked = due.walk(owner, &queue, now, from, &mut budget, |row, place| {
        if claim::is_runnable(row, &queue)
            && avoid.binary_search(&place.id).is_err()
            && !left_out.has(place.id)
        {
            jobs.push((place.id, place));
        }
        if jobs.len() < MOST {
            return Ok(Visit::On);
        }
        last = Some(place);
        Ok(Visit::Enough)
    })?;
    due.close()?;
    Ok(walked.unread.or(last.map(Place::next)))
}

/// Ends one job, and whether it has failed by that.
fn end(job: i64, reason: &PgError) -> Result<(Dealt, bool)> {
    let Some(extension) = catalog::hold_extension()? else {
        return Ok((Dealt::Done, false));
    };
    let live = match single::take(&extension, job)? {
        Taken::Live(live) if !live.is_claimed => live,
        Taken::Live(_) | Taken::Gone => return Ok((Dealt::Done, false)),
        Taken::Locked => return Ok((Dealt::Later, false)),
    };
    let how = How::FailedForGood(reason, Said::No);
    let written = end::write(&extension, &live.end_of(true), how)?;
    Ok((Dealt::Done, written.tell_at_commit()?.is_some()))
}
