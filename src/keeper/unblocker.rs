//! The unblocker: releases jobs that come after others once these have ended, or cancels them.
//!
//! It is told which jobs were enqueued so, and which have ended that others may come after (`pool::News`), and looks
//! at their rows at once. What nobody told, as COMMIT PREPARED or what came before this process began, it finds by
//! a sweep through all rows of `_dependencies`, a chore. Both go in bounded steps, and those that are told take turns.

use std::collections::{BTreeSet, VecDeque};

use super::STEP;
use super::fence::{Dealt, LeftOut};
use crate::pg::catalog::{self, Extension};
use crate::pg::datum::{Micros, Oid};
use crate::pg::error::Result;
use crate::pg::{clock, guc, xact};
use crate::queue::fate::{self, Ended, Fate, Seen};
use crate::queue::release::{self, Known};
use crate::shared::{About, NEWS, SHARED};

/// Rows that one step reads, and jobs that it cancels.
const MOST: usize = 256;
const CANCELS: usize = 64;
/// The most ranges that wait; of more, everything is looked at.
const RANGES: usize = 4 * NEWS;
/// The most jobs of which it remembers what they wait for.
const REMEMBERED: usize = 100_000;
/// A sweep rests so many times as long as it took.
const REST: Micros = 20;
/// How soon it comes back for jobs that somebody has locked; each time after twice as long, up to the longest.
const SOON: Micros = 20_000;
const LONGEST: Micros = 1_000_000;

/// A range of ids to be looked at.
struct Range {
    about: About,
    /// Where to begin: for ended jobs the id, and behind which job that waits; for others behind that row.
    from: (i64, i64),
    to: i64,
}

/// See the module.
pub struct Unblocker {
    database: Oid,
    ranges: VecDeque<Range>,
    /// The sweep that is under way, when it began, and whether it has met any row.
    sweep: Option<(Range, Micros, bool)>,
    is_sweep_wanted: bool,
    /// Before this time no other one begins.
    sweep_at: Micros,
    known: Known,
    /// Jobs that somebody had locked, when to look at them again, and how long that was put off.
    locked: BTreeSet<i64>,
    again: Micros,
    pause: Micros,
}

impl Unblocker {
    pub fn new(database: Oid) -> Self {
        Unblocker {
            database,
            ranges: VecDeque::new(),
            sweep: None,
            is_sweep_wanted: true,
            sweep_at: 0,
            known: Known::new(),
            locked: BTreeSet::new(),
            again: 0,
            pause: SOON,
        }
    }

    /// There are news.
    pub fn hear(&mut self) {
        // Room for all before the lock: nothing allocates under it.
        let mut news = Vec::with_capacity(NEWS);
        let database = self.database;
        let lost = SHARED.write(|state| state.take_news(database, &mut news));
        self.is_sweep_wanted |= lost == Some(true);
        for one in news {
            let behind = match one.about {
                About::Blocked => one.from.saturating_sub(1),
                About::Ended => one.from,
            };
            let second = match one.about {
                About::Blocked => i64::MAX,
                About::Ended => i64::MIN,
            };
            self.add(one.about, (behind, second), one.to);
        }
    }

    fn add(&mut self, about: About, from: (i64, i64), to: i64) {
        if self.ranges.len() < RANGES {
            self.ranges.push_back(Range { about, from, to });
        } else {
            self.is_sweep_wanted = true;
        }
    }

    /// Something may have ended that nobody told.
    pub fn want(&mut self) {
        self.is_sweep_wanted = true;
    }

    /// Whether there is something to do that others wait for.
    pub fn is_wanted(&self) -> bool {
        !self.ranges.is_empty() || self.is_due(self.again)
    }

    fn is_due(&self, time: Micros) -> bool {
        time != 0 && time <= clock::now()
    }

    /// Whether there is a sweep to go on with.
    pub fn is_sweeping(&self) -> bool {
        self.sweep.is_some() || self.is_sweep_wanted && self.sweep_at <= clock::now()
    }

    /// When it comes back for jobs that were locked, and when the next sweep may begin; 0: not by itself.
    pub fn next(&self) -> [Micros; 2] {
        let sweep = match self.is_sweep_wanted {
            true => self.sweep_at,
            false => 0,
        };
        [self.again, sweep]
    }

    /// Looks at a part of a range.
    pub fn step(&mut self, left_out: &mut LeftOut) -> Result<()> {
        if self.is_due(self.again) {
            self.again = 0;
            for job in std::mem::take(&mut self.locked) {
                self.add(About::Blocked, (job.saturating_sub(1), i64::MAX), job);
            }
        }
        let Some(mut range) = self.ranges.pop_front() else {
            return Ok(());
        };
        let looked = self.look(&mut range, left_out);
        if !matches!(looked, Ok((false, _))) {
            self.ranges.push_back(range);
        }
        looked.map(|_| ())
    }

    /// Looks at a part of all.
    pub fn sweep(&mut self, left_out: &mut LeftOut) -> Result<()> {
        let now = clock::now();
        let (mut range, began, mut met) = match self.sweep.take() {
            Some(sweep) => sweep,
            None => {
                self.is_sweep_wanted = false;
                SHARED.peek(|unlocked| unlocked.dependents.tidy(self.database));
                let all = Range {
                    about: About::Blocked,
                    from: (i64::MIN, i64::MIN),
                    to: i64::MAX,
                };
                (all, now, false)
            }
        };
        match self.look(&mut range, left_out) {
            Ok((more, rows)) => {
                met |= rows > 0;
                if more {
                    self.sweep = Some((range, began, met));
                } else {
                    self.end_sweep(began, met);
                }
                Ok(())
            }
            Err(error) => {
                self.is_sweep_wanted = true;
                Err(error)
            }
        }
    }

    fn end_sweep(&mut self, began: Micros, met: bool) {
        let now = clock::now();
        let took = now.saturating_sub(began).max(0);
        self.sweep_at = now.saturating_add(took.saturating_mul(REST));
        if !met {
            SHARED.peek(|unlocked| unlocked.dependents.end(self.database));
        }
    }

    /// Looks at the next rows of a range, which then begins behind them; true if there may be more. Also how many
    /// rows it met.
    fn look(&mut self, range: &mut Range, left_out: &mut LeftOut) -> Result<(bool, usize)> {
        if self.known.len() > REMEMBERED {
            self.known.clear();
        }
        let (mut next, mut rows, mut locked) = (None, 0, Vec::new());
        let together = xact::transaction(|| {
            let Some(extension) = catalog::hold_extension()? else {
                return Ok(());
            };
            let (ended, seen) = self.read(&extension, range)?;
            (next, rows) = (seen.unread, seen.rows);
            let applied = release::apply(&extension, &ended, &mut self.known)?;
            locked = applied.locked;
            if !applied.ends_any {
                // A release that a crash loses is made again; a job that it starts ends with a COMMIT that waits.
                guc::set_for_level(c"synchronous_commit", c"off")?;
            }
            Ok(())
        });
        if let Err(error) = together {
            self.known.clear();
            if error.passes() {
                return Err(error);
            }
            (next, rows) = self.look_at_each(range, left_out)?;
        }
        self.put_off(locked);
        if let Some(next) = next {
            range.from = next;
        }
        Ok((next.is_some(), rows))
    }

    /// The rows whose jobs have ended, as many as one step deals with.
    fn read(&mut self, extension: &Extension, range: &Range) -> Result<(Vec<Ended>, Seen)> {
        let mut seen = match range.about {
            About::Ended => fate::after_ended(extension, range.from, range.to, MOST)?,
            About::Blocked => fate::of_jobs(extension, range.from, range.to, MOST, |ids| {
                self.note(ids);
            })?,
        };
        let mut ended = std::mem::take(&mut seen.ended);
        // Each that is cancelled takes statements of its own.
        let badly = |one: &&Ended| one.fate != Fate::Well;
        if ended.len() > CANCELS && ended.iter().take(CANCELS).any(|one| badly(&one)) {
            ended.truncate(CANCELS);
            seen.unread = ended.last().map(|last| match range.about {
                About::Ended => (last.after, last.job),
                About::Blocked => (last.job, last.after),
            });
        }
        Ok((ended, seen))
    }

    /// Whoever ends one of these jobs tells. After this it is asked whether they have ended.
    fn note(&mut self, ids: &[i64]) {
        let database = self.database;
        let is_new = SHARED.peek(|unlocked| {
            let is_new = unlocked.dependents.begin(database);
            ids.iter()
                .for_each(|id| unlocked.dependents.add(database, *id));
            is_new
        });
        match &mut self.sweep {
            // A sweep that has met no row ends with all being forgotten.
            Some((_, _, met)) => *met = true,
            // What other rows name is to be added, too.
            None => self.is_sweep_wanted |= is_new == Some(true),
        }
    }

    /// Each job in a transaction of its own, as one of them cannot be released or cancelled.
    fn look_at_each(
        &mut self,
        range: &Range,
        left_out: &mut LeftOut,
    ) -> Result<(Option<(i64, i64)>, usize)> {
        let read = xact::transaction(|| match catalog::hold_extension()? {
            Some(extension) => self.read(&extension, range).map(Some),
            None => Ok(None),
        })?;
        let Some((ended, seen)) = read else {
            return Ok((None, 0));
        };
        let began = clock::now();
        let jobs: BTreeSet<i64> = ended.iter().map(|one| one.job).collect();
        let mut locked = Vec::new();
        for job in jobs {
            let of_job: Vec<Ended> = ended.iter().filter(|e| e.job == job).cloned().collect();
            let dealt = left_out.deal(job, || {
                let Some(extension) = catalog::hold_extension()? else {
                    return Ok(Dealt::Done);
                };
                let applied = release::apply(&extension, &of_job, &mut Known::new())?;
                Ok(if applied.locked.is_empty() {
                    Dealt::Done
                } else {
                    Dealt::Later
                })
            })?;
            if dealt == Dealt::Later || !(0..2 * STEP).contains(&clock::now().saturating_sub(began))
            {
                locked.push(job);
            }
        }
        self.put_off(locked);
        Ok((seen.unread, seen.rows))
    }

    /// Comes back for jobs that somebody has locked.
    fn put_off(&mut self, jobs: Vec<i64>) {
        if jobs.is_empty() {
            if self.locked.is_empty() {
                self.pause = SOON;
            }
            return;
        }
        self.locked.extend(jobs);
        if self.locked.len() > MOST {
            self.locked.clear();
            self.is_sweep_wanted = true;
            return;
        }
        if self.again == 0 {
            self.again = clock::now().saturating_add(self.pause);
            self.pause = (self.pause * 2).min(LONGEST);
        }
    }
}
