//! A look for candidates in a queue that goes by keys, or whose keys have a rate each: each key is asked for once a look,
//! whatever the number of its jobs, and keys that were given back, or whose time has come, are looked at by themselves,
//! wherever their jobs stand (`stirred`).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use crate::logic::keys::KeyId;
use crate::logic::keys::passed::{Passed, Room};
use crate::logic::keys::verdict::Verdict;
use crate::logic::low_water::Place;
use crate::pg::datum::{self, Micros};
use crate::pg::error::Result;
use crate::pg::local::Local;
use crate::pg::table::Row;

use super::column;
use super::key_tables::{GroupKey, Head, KeyTables, KeysOf, unaccounted};
use super::rates::Pace;

/// What this process remembers of keys.
static ROOM: Local<Option<Room>> = Local::new(None);

/// No keys yet, of a queue of this process.
pub fn none_passed() -> Passed {
    ROOM.with(|room| Passed::within(room.get_or_insert_with(Room::default)))
}

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
    pub(super) tables: &'a KeyTables,
    pub(super) of: &'a KeysOf<'a>,
    held: &'a HeldKeys,
    /// The keys whose jobs the marks may pass.
    pub(super) passed: &'a RefCell<Passed>,
    /// Of a key only as many jobs as may run at once: each is taken by itself, and not one after the other.
    pub(super) at_once: bool,
    pub(super) known: HashMap<KeyId, Known>,
    /// The rate holds back jobs without a key, and that is remembered.
    keyless_rest: bool,
    /// The key of the job that was passed last, which most often has the next one, too, and the only one of its
    /// jobs that may start.
    last: Option<(Rc<[u8]>, i64)>,
    /// How many jobs were passed.
    count: &'a Cell<usize>,
}

pub(super) struct Known {
    pub(super) key: GroupKey,
    pub(super) verdict: Verdict,
    /// Its rate holds it back until then; 0: it does not.
    until: Micros,
    /// Its jobs may be passed by the marks.
    is_remembered: Option<bool>,
}

impl Known {
    fn new(key: GroupKey) -> Self {
        Known {
            key,
            verdict: Verdict::Nothing,
            until: 0,
            is_remembered: None,
        }
    }
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
            keyless_rest: false,
            last: None,
            count,
        }
    }

    /// Whether a job that is due, and could run, may start.
    pub fn may_start(&mut self, row: &Row, place: Place, pace: &mut Pace) -> Result<Turn> {
        let turn = self.turn(row, place, pace)?;
        if !matches!(turn, Turn::Now(_)) {
            return Ok(turn);
        }
        Ok(match self.pace(row, place, pace)? {
            Turn::Now(_) => turn,
            held => held,
        })
    }

    /// Whether it may by its key.
    pub fn turn(&mut self, row: &Row, place: Place, pace: &Pace) -> Result<Turn> {
        let turn = self.find_turn(row, place, pace.keeps(place.id))?;
        self.count(&turn);
        Ok(turn)
    }

    /// Whether a job whose turn it is may by its rate.
    pub fn pace(&mut self, row: &Row, place: Place, pace: &mut Pace) -> Result<Turn> {
        let Some(next) = pace.ask(row)? else {
            return Ok(Turn::Now(None));
        };
        let turn = match self.of.of_row(row)? {
            None => {
                let mut passed = self.passed.borrow_mut();
                self.keyless_rest = passed.remember(KeyId::WITHOUT, &None, place, next);
                match self.keyless_rest {
                    true => Turn::Passed,
                    false => Turn::Later,
                }
            }
            Some(key) => {
                let id = key.id;
                let known = self.known.entry(id).or_insert_with(|| Known::new(key));
                known.until = next;
                self.pass(id, place)
            }
        };
        self.count(&turn);
        Ok(turn)
    }

    fn count(&self, turn: &Turn) {
        let passed = usize::from(matches!(turn, Turn::Passed));
        self.count.set(self.count.get().saturating_add(passed));
    }

    /// `starts`: its rate has let it start before.
    fn find_turn(&mut self, row: &Row, place: Place, starts: bool) -> Result<Turn> {
        let Some(text) = row.get(column::GROUP_KEY) else {
            return Ok(match self.keyless_rest && !starts {
                true => Turn::Passed,
                false => Turn::Now(None),
            });
        };
        if let Some((last, only)) = &self.last
            && *only != place.id
            && !starts
            && datum::text_is(text, last)
        {
            return Ok(Turn::Passed);
        }
        let id = self.of.number(text)?;
        if self.of.rule.binds()
            && !self.known.contains_key(&id)
            && let Some(key) = self.of.of_row(row)?
        {
            self.ask(key)?;
        }
        let Some(known) = self.known.get_mut(&id) else {
            return Ok(Turn::Now(None));
        };
        if known.until != 0 && !starts {
            return Ok(self.pass(id, place));
        }
        if !self.of.rule.binds() {
            return Ok(Turn::Now(None));
        }
        if known.verdict.lets(place.id, self.at_once) {
            return Ok(Turn::Now(Some(known.key.clone())));
        }
        Ok(self.pass(id, place))
    }

    /// A job of a key may not start now.
    fn pass(&mut self, id: KeyId, place: Place) -> Turn {
        let Some(known) = self.known.get_mut(&id) else {
            return Turn::Later;
        };
        let text = &known.key.text;
        let remember = || {
            let mut passed = self.passed.borrow_mut();
            passed.remember(id, &Some(Rc::clone(text)), place, known.until)
        };
        if !*known.is_remembered.get_or_insert_with(remember) {
            return Turn::Later;
        }
        let only = match known.verdict {
            _ if known.until != 0 => Some(i64::MIN),
            Verdict::Nothing => Some(i64::MIN),
            Verdict::Only(first) => Some(first),
            Verdict::Behind(_) | Verdict::Room(_) => None,
        };
        if let Some(only) = only {
            self.last = Some((Rc::clone(&known.key.text), only));
        }
        Turn::Passed
    }

    /// Asks about a key, once; answers what was found of its first job.
    pub(super) fn ask(&mut self, key: GroupKey) -> Result<Head> {
        let (verdict, head) = match self.of.rule.binds() {
            true => self.judge(&key)?,
            false => (Verdict::Room(usize::MAX), Head::Waits(0)),
        };
        let id = key.id;
        let known = Known {
            verdict,
            ..Known::new(key)
        };
        self.known.insert(id, known);
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
}
