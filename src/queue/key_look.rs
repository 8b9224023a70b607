//! A look for candidates in a queue that goes by keys: each key is asked for once a look, whatever the number of
//! its jobs, and keys that were given back are looked at by themselves, wherever their jobs stand.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use crate::logic::keys::KeyId;
use crate::logic::keys::passed::Passed;
use crate::logic::keys::verdict::Verdict;
use crate::logic::low_water::Place;
use crate::pg::datum::{self, Micros};
use crate::pg::error::Result;
use crate::pg::table::Row;

use super::claim::{self, Found};
use super::column;
use super::group_keys::{GroupKey, Head, KeyTables, KeysOf, unaccounted};

/// What shared memory said of keys before the look took its snapshot.
#[derive(Default)]
pub struct HeldKeys {
    /// The keys that others hold, once for each of them.
    pub others: Vec<KeyId>,
    /// Those that this process holds.
    pub own: Vec<KeyId>,
}

/// One look.
pub struct KeyLook<'a> {
    tables: &'a KeyTables,
    of: &'a KeysOf<'a>,
    held: &'a HeldKeys,
    /// The keys whose jobs the marks may pass.
    passed: &'a RefCell<Passed>,
    /// Of a key only as many jobs as may run at once: each is taken by itself, and not one after the other.
    at_once: bool,
    known: HashMap<KeyId, Known>,
    /// The key of the job that was passed last, which most often has the next one, too, and the only one of its
    /// jobs that may start.
    last: Option<(Rc<[u8]>, i64)>,
    /// How many jobs were passed.
    count: &'a Cell<usize>,
}

struct Known {
    key: GroupKey,
    verdict: Verdict,
    /// Its jobs may be passed by the marks.
    is_remembered: Option<bool>,
}

/// What becomes of a job that the look comes upon.
pub enum Turn {
    /// It is a candidate.
    Now(Option<GroupKey>),
    /// The marks may pass it: somebody tells when it may start.
    Passed,
    /// It is to be found again.
    Later,
}

impl<'a> KeyLook<'a> {
    /// A look under the snapshot that is active then.
    pub fn new(
        tables: &'a KeyTables,
        of: &'a KeysOf<'a>,
        held: &'a HeldKeys,
        passed: &'a RefCell<Passed>,
        at_once: bool,
        count: &'a Cell<usize>,
    ) -> Self {
        KeyLook {
            tables,
            of,
            held,
            passed,
            at_once,
            known: HashMap::new(),
            last: None,
            count,
        }
    }

    /// Whether a job that is due, and could run, may start.
    pub fn turn(&mut self, row: &Row, place: Place) -> Result<Turn> {
        let turn = self.find_turn(row, place)?;
        let passed = usize::from(matches!(turn, Turn::Passed));
        self.count.set(self.count.get().saturating_add(passed));
        Ok(turn)
    }

    fn find_turn(&mut self, row: &Row, place: Place) -> Result<Turn> {
        let Some(text) = row.get(column::GROUP_KEY) else {
            return Ok(Turn::Now(None));
        };
        if let Some((last, only)) = &self.last
            && *only != place.id
            && datum::text_is(text, last)
        {
            return Ok(Turn::Passed);
        }
        let id = self.of.number(text)?;
        if !self.known.contains_key(&id)
            && let Some(key) = self.of.of_row(row)?
        {
            self.ask(key)?;
        }
        let Some(known) = self.known.get_mut(&id) else {
            return Ok(Turn::Later);
        };
        if known.verdict.lets(place.id, self.at_once) {
            return Ok(Turn::Now(Some(known.key.clone())));
        }
        let remember = || self.passed.borrow_mut().remember(id, &known.key.text);
        if !*known.is_remembered.get_or_insert_with(remember) {
            return Ok(Turn::Later);
        }
        let only = match known.verdict {
            Verdict::Nothing => Some(i64::MIN),
            Verdict::Only(first) => Some(first),
            Verdict::Behind(_) | Verdict::Room(_) => None,
        };
        if let Some(only) = only {
            self.last = Some((Rc::clone(&known.key.text), only));
        }
        Ok(Turn::Passed)
    }

    /// Asks about a key, once; answers what was found of its first job.
    fn ask(&mut self, key: GroupKey) -> Result<Head> {
        let (verdict, head) = self.judge(&key)?;
        let known = Known {
            verdict,
            is_remembered: None,
            key: key.clone(),
        };
        self.known.insert(key.id, known);
        Ok(head)
    }

    /// Which jobs of a key may start, and in a fifo queue its first one.
    fn judge(&self, key: &GroupKey) -> Result<(Verdict, Head)> {
        let rule = self.of.rule;
        let others = self.held.others.iter().filter(|held| **held == key.id);
        let others = others.count();
        let is_own = !self.at_once && self.held.own.contains(&key.id);
        // What the answer is if somebody has it: the table need not be asked then.
        let unknown = Head::Blocked(0);
        if others >= rule.most && !is_own {
            return Ok((Verdict::Nothing, unknown));
        }
        let tables = self.tables;
        let at_work = tables.at_work(self.of, &key.text)?;
        if rule.is_fifo {
            if !at_work.is_empty() {
                return Ok((Verdict::Nothing, unknown));
            }
            let head = tables.head(self.of, &key.text)?;
            let first = match head {
                Head::Waits(id) => Some(id),
                Head::Blocked(_) | Head::None => None,
            };
            return Ok((Verdict::of_first(first), head));
        }
        if is_own {
            return Ok((Verdict::Room(usize::MAX), Head::Waits(0)));
        }
        let others = others.saturating_add(unaccounted(tables.table, &at_work));
        let verdict = Verdict::of_room(rule, others, self.at_once);
        Ok(match verdict {
            Verdict::Nothing => (verdict, unknown),
            _ => (verdict, Head::Waits(0)),
        })
    }

    /// The candidates among the jobs of keys that were given back, wherever they stand: up to `limit`, in order.
    /// `fits`: whether this process can take a job that is due; `None`: not now, but nobody tells when.
    pub fn stirred<F: Found>(
        &mut self,
        now: Micros,
        limit: usize,
        mut fits: impl FnMut(&Row, Place) -> Result<Option<bool>>,
    ) -> Result<Vec<F>> {
        let mut found = Vec::new();
        let stirred = self.passed.borrow().stirred();
        for (id, text) in stirred {
            if found.len() >= limit {
                break;
            }
            let key = GroupKey { id, text };
            let head = self.ask(key.clone())?;
            let before = found.len();
            let state = match head {
                Head::Waits(from) if self.of.rule.is_fifo => {
                    self.take_run(&key, from, now, limit, &mut fits, &mut found)?
                }
                Head::Waits(_) => self.take_in_order(&key, now, limit, &mut fits, &mut found)?,
                Head::Blocked(_) => State::Rests,
                Head::None => State::Gone,
            };
            let mut passed = self.passed.borrow_mut();
            match state {
                State::Rests if found.len() == before => passed.settle(id),
                State::Gone if found.len() == before => passed.forget(id),
                _ => {}
            }
        }
        found.sort_by_key(F::place);
        Ok(found)
    }

    /// In a fifo queue: the first job of a key, and those behind it as far as they are due.
    fn take_run<F: Found>(
        &mut self,
        key: &GroupKey,
        from: i64,
        now: Micros,
        limit: usize,
        fits: &mut impl FnMut(&Row, Place) -> Result<Option<bool>>,
        found: &mut Vec<F>,
    ) -> Result<State> {
        let tables = self.tables;
        let mut state = State::Rests;
        let mut last: Option<Place> = None;
        tables.waiting_from(self.of, &key.text, from, |_| {
            let place = claim::place(&tables.row);
            if place.run_at > now || last.is_some_and(|last| place < last) {
                return Ok(false);
            }
            match fits(&tables.row, place)? {
                Some(true) => {}
                Some(false) => return Ok(false),
                None => {
                    state = State::Stays;
                    return Ok(false);
                }
            }
            let mut job = F::read(&tables.row, place)?;
            job.set_key(key.clone());
            found.push(job);
            last = Some(place);
            Ok(!self.at_once && found.len() < limit)
        })?;
        // The walk comes upon none that goes before these.
        if let (Some(_), Some(known)) = (last, self.known.get_mut(&key.id)) {
            known.verdict = Verdict::Nothing;
        }
        Ok(state)
    }

    /// Else: jobs of a key in the order of the claim.
    fn take_in_order<F: Found>(
        &mut self,
        key: &GroupKey,
        now: Micros,
        limit: usize,
        fits: &mut impl FnMut(&Row, Place) -> Result<Option<bool>>,
        found: &mut Vec<F>,
    ) -> Result<State> {
        let tables = self.tables;
        let mut state = State::Gone;
        let mut above = None;
        let Some(known) = self.known.get_mut(&key.id) else {
            return Ok(State::Stays);
        };
        loop {
            let mut later = None;
            tables.waiting_in_order(self.of, &key.text, above, || {
                let place = claim::place(&tables.row);
                if state == State::Gone {
                    state = State::Rests;
                }
                if place.run_at > now {
                    // The rest of this priority is due later still.
                    later = Some(place.priority);
                    return Ok(false);
                }
                match fits(&tables.row, place)? {
                    Some(true) if known.verdict.lets(place.id, self.at_once) => {
                        let mut job = F::read(&tables.row, place)?;
                        job.set_key(key.clone());
                        found.push(job);
                    }
                    Some(_) => {}
                    None => state = State::Stays,
                }
                Ok(found.len() < limit && known.verdict != Verdict::Nothing)
            })?;
            match later {
                Some(priority) => above = Some(priority),
                None => return Ok(state),
            }
        }
    }
}

/// What is known of a key of which no job was taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing of it can start before somebody says so, or a job comes due.
    Rests,
    /// It has no job that waits.
    Gone,
    /// Nobody tells when.
    Stays,
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
