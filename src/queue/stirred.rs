//! Keys whose jobs a process has passed by, and of which one may start now: the key was given back, or its time has
//! come. Their jobs are found by a descent each, wherever they stand, and take their places among those that a walk finds.

use crate::logic::keys::passed::Found as What;
use crate::logic::keys::verdict::Verdict;
use crate::logic::low_water::{LowWater, Place};
use crate::pg::datum::{self, Micros};
use crate::pg::error::Result;
use crate::pg::table::{Row, Table};

use super::column;
use super::job::{self, Found};
use super::key_look::KeyLook;
use super::key_tables::{GroupKey, Head};
use super::rates::{NEAR, Pace};
use super::walk::{Patience, Walk, walk_due};

/// So many jobs of a key that are not for the look are stepped over.
const MISSED: usize = 64;

/// Whether this process can take a job that is due.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It can.
    Yes,
    /// It cannot.
    No,
    /// Not now, and nobody tells when.
    Taken,
    /// It stands before the look: this process has taken it, or one behind it.
    Before,
}

/// What a look wants.
#[derive(Clone, Copy)]
pub struct Wish {
    /// Jobs that are due by then,
    pub now: Micros,
    /// up to so many.
    pub limit: usize,
}

/// What became of a job that is due.
enum Visit {
    /// It is a candidate.
    Found,
    /// This process cannot take it, or may not by its key.
    No,
    /// It is not for this look: somebody has it, or it stands before the look.
    Missed(Fit),
    /// Its rate holds it back until then.
    Held(Micros),
}

/// What was found of the keys so far.
struct Finding<'l, F, V> {
    wish: Wish,
    pace: &'l mut Pace,
    fits: V,
    found: Vec<F>,
    /// Where the first job of the key stands.
    first: Option<Place>,
    /// So many of its jobs were stepped over that are not for this look.
    missed: usize,
}

impl<F: Found, V: FnMut(&Row, Place) -> Result<Fit>> Finding<'_, F, V> {
    fn is_full(&self) -> bool {
        self.found.len() >= self.wish.limit
    }

    /// `lets`: whether its key lets it start.
    fn visit(
        &mut self,
        row: &Row,
        place: Place,
        key: Option<&GroupKey>,
        lets: impl FnOnce() -> bool,
    ) -> Result<Visit> {
        match (self.fits)(row, place)? {
            Fit::Yes => {}
            Fit::No => return Ok(Visit::No),
            fit => {
                self.miss(place);
                return Ok(Visit::Missed(fit));
            }
        }
        self.first.get_or_insert(place);
        if !lets() {
            return Ok(Visit::No);
        }
        if let Some(next) = self.pace.ask(row)? {
            return Ok(Visit::Held(next));
        }
        let mut job = F::read(row, place)?;
        if let Some(key) = key {
            job.set_key(key.clone());
        }
        self.found.push(job);
        Ok(Visit::Found)
    }

    fn miss(&mut self, place: Place) {
        self.first.get_or_insert(place);
        self.missed = self.missed.saturating_add(1);
    }

    /// Among jobs that start in any order: what there is to say of the key; `None`: on with its next job.
    fn judge(&mut self, visit: Visit, place: Place) -> Option<What> {
        match visit {
            Visit::Found => self.is_full().then_some(What::Stirred),
            Visit::No => None,
            Visit::Missed(_) => (self.missed >= MISSED).then_some(What::Stirred),
            // Behind it may stand one that was allowed before.
            Visit::Held(_) if self.pace.keeps_some() && self.missed < MISSED => {
                self.miss(place);
                None
            }
            Visit::Held(next) => Some(What::RestsUntil(next)),
        }
    }

    /// All jobs of the key were visited.
    fn at_the_end(&self, is_there: bool) -> What {
        match (self.missed, is_there) {
            (0, false) => What::Gone,
            (0, true) => What::Rests,
            _ => What::Stirred,
        }
    }
}

impl KeyLook<'_> {
    /// The candidates among the jobs of keys of which one may start now, in order. `jobs`: the table, in the order of the claim,
    /// and a row to read into.
    pub fn stirred<F: Found>(
        &mut self,
        jobs: (&Table, &Row),
        wish: Wish,
        pace: &mut Pace,
        fits: impl FnMut(&Row, Place) -> Result<Fit>,
    ) -> Result<Vec<F>> {
        let soon = wish.now.saturating_add(NEAR);
        self.passed.borrow_mut().look(wish.now, soon);
        let mut finding = Finding {
            wish,
            pace,
            fits,
            found: Vec::new(),
            first: None,
            missed: 0,
        };
        let mut notes = Vec::new();
        let mut after = None;
        while !finding.is_full() {
            let next = self.passed.borrow().stirred(after);
            let Some((place, id, text)) = next else { break };
            after = Some((place, id));
            let before = finding.found.len();
            (finding.first, finding.missed) = (None, 0);
            let what = match text {
                Some(text) => self.look_at(GroupKey { id, text }, &mut finding)?,
                None => self.look_at_keyless(jobs, place, &mut finding)?,
            };
            let is_found = finding.found.len() > before;
            let what = if is_found { What::Stirred } else { what };
            notes.push((id, what, finding.first));
        }
        let mut passed = self.passed.borrow_mut();
        for (id, what, first) in notes {
            passed.note(id, what, first);
        }
        let mut found = finding.found;
        found.sort_by_key(F::place);
        Ok(found)
    }

    /// A look is at its end: what its rate holds back until a time is to be looked for then.
    pub fn end(&self, pace: &mut Pace) {
        pace.rests_until(self.passed.borrow().next());
    }

    fn look_at<F: Found, V: FnMut(&Row, Place) -> Result<Fit>>(
        &mut self,
        key: GroupKey,
        finding: &mut Finding<'_, F, V>,
    ) -> Result<What> {
        if let Some(until) = finding.pace.rests(Some(&key.text)) {
            return Ok(What::RestsUntil(until));
        }
        match self.ask(key.clone())? {
            Head::Waits(from) if self.of.rule.is_fifo => self.take_run(&key, from, finding),
            Head::Waits(_) => self.take_in_order(&key, finding),
            Head::Blocked(_) => Ok(What::Rests),
            Head::None => Ok(What::Gone),
        }
    }

    /// In a fifo queue: the first job of a key, and those behind it as far as they are due.
    fn take_run<F: Found, V: FnMut(&Row, Place) -> Result<Fit>>(
        &mut self,
        key: &GroupKey,
        from: i64,
        finding: &mut Finding<'_, F, V>,
    ) -> Result<What> {
        let tables = self.tables;
        let mut what = What::Rests;
        let mut last: Option<Place> = None;
        tables.waiting_from(self.of, &key.text, from, |_| {
            let place = job::place(&tables.row);
            if place.run_at > finding.wish.now || last.is_some_and(|last| place < last) {
                return Ok(false);
            }
            match finding.visit(&tables.row, place, Some(key), || true)? {
                Visit::Found => last = Some(place),
                Visit::No => return Ok(false),
                Visit::Missed(fit) => {
                    what = What::Stirred;
                    return Ok(fit == Fit::Before && finding.missed < MISSED);
                }
                Visit::Held(next) => what = What::RestsUntil(next),
            }
            Ok(last == Some(place) && !self.at_once && !finding.is_full())
        })?;
        // The walk comes upon none that goes before these.
        if let (Some(_), Some(known)) = (last, self.known.get_mut(&key.id)) {
            known.verdict = Verdict::Nothing;
        }
        Ok(what)
    }

    /// Else: jobs of a key in the order of the claim.
    fn take_in_order<F: Found, V: FnMut(&Row, Place) -> Result<Fit>>(
        &mut self,
        key: &GroupKey,
        finding: &mut Finding<'_, F, V>,
    ) -> Result<What> {
        let (tables, at_once) = (self.tables, self.at_once);
        let set = self.of.rule.binds().then_some(key);
        let (mut what, mut is_there) = (None, false);
        let mut above = None;
        let Some(known) = self.known.get_mut(&key.id) else {
            return Ok(What::Stirred);
        };
        loop {
            let mut later = None;
            tables.waiting_in_order(self.of, &key.text, above, || {
                is_there = true;
                let place = job::place(&tables.row);
                if place.run_at > finding.wish.now {
                    // The rest of this priority is due later still.
                    later = Some(place.priority);
                    return Ok(false);
                }
                let verdict = &mut known.verdict;
                let lets = || verdict.lets(place.id, at_once);
                let visit = finding.visit(&tables.row, place, set, lets)?;
                what = finding.judge(visit, place);
                Ok(what.is_none() && *verdict != Verdict::Nothing)
            })?;
            match later {
                Some(priority) => above = Some(priority),
                None => break,
            }
        }
        Ok(what.unwrap_or_else(|| finding.at_the_end(is_there)))
    }

    /// Jobs without a key, from the first one on that was passed by.
    fn look_at_keyless<F: Found, V: FnMut(&Row, Place) -> Result<Fit>>(
        &mut self,
        jobs: (&Table, &Row),
        from: Place,
        finding: &mut Finding<'_, F, V>,
    ) -> Result<What> {
        if let Some(until) = finding.pace.rests(None) {
            return Ok(What::RestsUntil(until));
        }
        let mut what = None;
        let name = datum::text_datum(self.of.queue)?;
        let (now, of) = (finding.wish.now, (self.of.owner, name));
        let (mut low, mut patience) = (LowWater::from(from), Patience::ENDLESS);
        walk_due(jobs, of, now, &mut low, &mut patience, |row, place| {
            if row.get(column::GROUP_KEY).is_none() {
                let visit = finding.visit(row, place, None, || true)?;
                what = finding.judge(visit, place);
            }
            Ok(match what {
                None => Walk::On,
                Some(_) => Walk::Enough,
            })
        })?;
        Ok(what.unwrap_or_else(|| finding.at_the_end(false)))
    }
}

/// Puts together what a walk has found, and what was found of keys that were given back.
pub fn merged<F: Found>(walked: Vec<F>, mut stirred: Vec<F>, limit: usize) -> Vec<F> {
    if stirred.is_empty() {
        return walked;
    }
    stirred.extend(walked);
    stirred.sort_by_key(F::place);
    stirred.dedup_by_key(|found| found.place().id);
    stirred.truncate(limit);
    stirred
}
