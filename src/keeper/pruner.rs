//! The pruner: forgets finished jobs that are older than their queue keeps them.
//!
//! Once, and whenever a queue keeps less than before, it goes through the pages of the history, each
//! read once (a *full pass*). In between it knows up to when the jobs of each retention are forgotten
//! (the *marks*), so that each minute only those are looked for, by the index on the time, that have
//! expired since. Both go in steps that are sized by how long the last one took.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::STEP;
use crate::pg::catalog;
use crate::pg::datum::Micros;
use crate::pg::error::{PgError, Result};
use crate::pg::log::{self, Level};
use crate::pg::{clock, xact};
use crate::queue::prune::{self, PAGE, Retentions, WEEK};

/// How often history is looked through.
const EVERY: Micros = 60_000_000;
/// How often all of it, for what was locked when its time had come.
const FULL_EVERY: Micros = 24 * 3_600_000_000;
/// The places of rows and the time of one step, at first and at most.
const PLACES: i64 = 16 * PAGE;
const MOST_PLACES: i64 = 1024 * PAGE;
const SLICE: Micros = 1_000_000;
/// A step by time that forgets fewer rows is not worth cutting smaller.
const FEW: usize = 1000;

/// What there is to go through.
#[derive(Default)]
struct Work {
    /// As of when.
    now: Micros,
    queues: Retentions,
    /// A full pass: the next place of a row, and the first that is not part of it.
    places: Option<[i64; 2]>,
    /// Else the times that have expired since: from, to.
    windows: VecDeque<[Micros; 2]>,
    /// The log has heard that something cannot be deleted.
    said: bool,
}

/// See the module.
pub struct Pruner {
    /// When it began last; 0: never.
    began: Micros,
    wanted: bool,
    work: Option<Work>,
    /// By how long jobs are kept: up to when they are forgotten.
    marks: BTreeMap<Micros, Micros>,
    /// What queues kept when those were set.
    known: BTreeMap<Vec<u8>, Micros>,
    /// When the last full pass was; 0: never.
    full: Micros,
    place_step: i64,
    slice: Micros,
}

impl Default for Pruner {
    fn default() -> Self {
        Pruner {
            began: 0,
            wanted: false,
            work: None,
            marks: BTreeMap::new(),
            known: BTreeMap::new(),
            full: 0,
            place_step: PLACES,
            slice: SLICE,
        }
    }
}

impl Pruner {
    /// A look is under way: it may be time again.
    pub fn want(&mut self, now: Micros) {
        // Also if the clock was set back.
        self.wanted |= self.began == 0 || !(0..EVERY).contains(&now.saturating_sub(self.began));
    }

    pub fn is_wanted(&self) -> bool {
        self.wanted || self.work.is_some()
    }

    /// One step.
    pub fn step(&mut self) -> Result<()> {
        let Some(mut work) = self.work.take() else {
            return self.begin();
        };
        let began = clock::now();
        if let Some([from, to]) = work.places {
            let until = from.saturating_add(self.place_step).min(to);
            let left = match prune_places(&work, [from, until]) {
                Ok(_) => {
                    self.fit_places(clock::now().saturating_sub(began));
                    until
                }
                Err(error) if error.passes() => {
                    self.work = Some(work);
                    return Err(error);
                }
                Err(error) => self.after_error(&mut work, &error, [from, until])?,
            };
            work.places = (left < to).then_some([left, to]);
            if work.places.is_none() {
                self.set_marks(&work);
                return Ok(());
            }
        } else if let Some([from, to]) = work.windows.pop_front() {
            let mut until = from.saturating_add(self.slice).min(to);
            match prune_window(&work, [from, until]) {
                Ok(gone) => self.fit_slice(gone, clock::now().saturating_sub(began)),
                Err(error) if error.passes() => {
                    work.windows.push_front([from, to]);
                    self.work = Some(work);
                    return Err(error);
                }
                Err(error) => until = self.after_error_in_time(&mut work, &error, [from, until])?,
            }
            if until < to {
                work.windows.push_front([until, to]);
            }
        }
        if work.places.is_none() && work.windows.is_empty() {
            self.set_marks(&work);
        } else {
            self.work = Some(work);
        }
        Ok(())
    }

    /// Finds out what there is to do.
    fn begin(&mut self) -> Result<()> {
        self.wanted = false;
        let now = clock::now();
        self.began = now;
        let read = xact::transaction(|| match catalog::hold_extension()? {
            Some(extension) => prune::retentions(&extension).map(Some),
            None => Ok(None),
        })?;
        let Some((queues, pages)) = read else {
            return Ok(());
        };
        let marks = classes(&queues);
        let mut work = Work {
            now,
            ..Work::default()
        };
        if self.needs_full_pass(&queues, &marks, now) {
            self.full = now;
            work.places = Some([0, pages.saturating_mul(PAGE)]);
        } else {
            let window = |kept: &Micros| {
                let from = self.marks.get(kept).copied()?;
                let to = now.saturating_sub(*kept);
                (from < to).then_some([from, to])
            };
            work.windows = marks.iter().filter_map(window).collect();
        }
        work.queues = queues;
        self.work = Some(work);
        Ok(())
    }

    /// Whether something may have expired that no window shows.
    fn needs_full_pass(
        &self,
        queues: &Retentions,
        classes: &BTreeSet<Micros>,
        now: Micros,
    ) -> bool {
        let kept_before = |name: &[u8]| self.known.get(name).copied().unwrap_or(WEEK);
        let shortened = queues.iter().any(|(name, kept)| *kept < kept_before(name));
        let gone = |name: &Vec<u8>| !queues.iter().any(|(known, _)| known == name);
        let lost = self
            .known
            .iter()
            .any(|(name, kept)| *kept > WEEK && gone(name));
        let mark = |kept: &Micros| self.marks.get(kept).copied();
        let unmarked = classes.iter().any(|kept| match mark(kept) {
            Some(mark) => mark > now.saturating_sub(*kept),
            None => true,
        });
        let again = !(0..FULL_EVERY).contains(&now.saturating_sub(self.full));
        self.full == 0 || shortened || lost || unmarked || again
    }

    /// All that had expired is forgotten.
    fn set_marks(&mut self, work: &Work) {
        let classes = classes(&work.queues);
        let mark = |kept: Micros| (kept, work.now.saturating_sub(kept));
        self.marks = classes.into_iter().map(mark).collect();
        self.known = work.queues.iter().cloned().collect();
    }

    fn fit_places(&mut self, took: Micros) {
        if took > STEP {
            self.place_step = (self.place_step / 2).max(1);
        } else if took < STEP / 3 {
            self.place_step = (self.place_step * 2).min(MOST_PLACES);
        }
    }

    fn fit_slice(&mut self, gone: usize, took: Micros) {
        if took > STEP && gone > FEW {
            self.slice = (self.slice / 2).max(1);
        } else if took < STEP / 3 || gone < FEW / 2 {
            self.slice = self.slice.saturating_mul(2).min(EVERY * 60);
        }
    }

    /// A row that cannot be deleted: smaller steps come closer to it, and it is passed. Answers the
    /// place to go on with.
    fn after_error(
        &mut self,
        work: &mut Work,
        error: &PgError,
        [from, until]: [i64; 2],
    ) -> Result<i64> {
        if until.saturating_sub(from) > 1 {
            self.place_step = (until.saturating_sub(from) / 8).max(1);
            return Ok(from);
        }
        work.say(error)?;
        Ok(until)
    }

    /// The same of a step by time.
    fn after_error_in_time(
        &mut self,
        work: &mut Work,
        error: &PgError,
        [from, until]: [Micros; 2],
    ) -> Result<Micros> {
        if until.saturating_sub(from) > 1 {
            self.slice = (until.saturating_sub(from) / 8).max(1);
            return Ok(from);
        }
        work.say(error)?;
        Ok(until)
    }
}

impl Work {
    /// Says once that something was not forgotten.
    fn say(&mut self, error: &PgError) -> Result<()> {
        if std::mem::replace(&mut self.said, true) {
            return Ok(());
        }
        let code = error.sqlstate.text();
        let text = format!("some finished jobs could not be forgotten, SQLSTATE {code}");
        log::report(Level::Log, &text)
    }
}

fn prune_places(work: &Work, part: [i64; 2]) -> Result<usize> {
    xact::transaction(|| match catalog::hold_extension()? {
        Some(extension) => prune::places(&extension, &work.queues, work.now, part),
        None => Ok(0),
    })
}

fn prune_window(work: &Work, part: [Micros; 2]) -> Result<usize> {
    xact::transaction(|| match catalog::hold_extension()? {
        Some(extension) => prune::window(&extension, &work.queues, work.now, part),
        None => Ok(0),
    })
}

/// The different times for which jobs are kept. What is not completed is kept for a week at least,
/// and so is what no queue keeps.
fn classes(queues: &Retentions) -> BTreeSet<Micros> {
    let each = queues.iter().flat_map(|(_, kept)| [*kept, WEEK.max(*kept)]);
    // Of what is not kept at all nothing is there.
    each.chain([WEEK]).filter(|kept| *kept > 0).collect()
}
