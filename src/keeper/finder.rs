//! The finder of due work: makes the lanes of roles with due jobs pending, wakes their workers, and
//! knows when the next job is due.
//!
//! A pass goes through owners and their queues, a bounded look each. Where a look could not tell
//! within its bounds whether something is due that nobody has announced, the finder walks on through
//! that queue in later steps, behind everything else, when somebody asked or a nap is over.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use super::ender::Ender;
use super::{STEP, not_to_take};
use crate::logic::keys::passed::Passed;
use crate::logic::low_water::Place;
use crate::pg::catalog::{self, Extension};
use crate::pg::datum::{self, Micros, Oid};
use crate::pg::error::{PgError, Result};
use crate::pg::table::Row;
use crate::pg::{clock, xact};
use crate::queue::bar::bar;
use crate::queue::claim;
use crate::queue::due::{Due, Seen, Visit, earlier};
use crate::queue::ids;
use crate::queue::key_look::{HeldKeys, KeyLook, Turn};
use crate::queue::keys::{self, KeysOf};
use crate::queue::queues::{self, Queue};
use crate::queue::rates::Pace;
use crate::shared::{self, SHARED};

/// Entries that one step of a walk reads.
const WALK: i64 = 3000;
/// The most queues of roles that wait to be walked through; a later look finds the others.
const WALKS: usize = 1000;

/// A queue of a role that is walked through to its end.
struct Walk {
    owner: Oid,
    queue: Vec<u8>,
    from: Place,
    /// A nap is over, so it is also for what nobody has announced.
    napped: bool,
}

/// See the module.
pub struct Finder {
    database: Oid,
    /// When the next job is due; 0: none is, or not known before the pass ends.
    pub next: Micros,
    /// A pass shall begin.
    wanted: bool,
    /// It shall also find what nobody has announced.
    thorough: bool,
    /// A nap is over, in which things may have changed that nobody tells of.
    napped: bool,
    /// A pass is under way, behind this owner.
    pass: Option<Option<Oid>>,
    /// What the pass has found so far.
    earliest: Micros,
    walks: VecDeque<Walk>,
    /// What came of looking at one role's jobs, to be logged.
    pub failed: Option<PgError>,
}

impl Finder {
    pub fn new(database: Oid) -> Self {
        Finder {
            database,
            next: 0,
            wanted: false,
            thorough: false,
            napped: false,
            pass: None,
            earliest: 0,
            walks: VecDeque::new(),
            failed: None,
        }
    }

    /// A pass shall follow; a thorough one also looks for what nobody has announced. `napped`: not because
    /// somebody asks.
    pub fn want(&mut self, thorough: bool, napped: bool) {
        self.wanted = true;
        self.napped |= napped;
        self.thorough |= thorough;
        self.next = 0;
    }

    pub fn is_wanted(&self) -> bool {
        self.wanted || self.pass.is_some() || !self.walks.is_empty()
    }

    /// One step; false if the extension is gone.
    pub fn step(&mut self, ender: &mut Ender) -> Result<bool> {
        if self.pass.is_none() && self.wanted {
            self.begin();
        }
        match self.pass {
            Some(after) => self.go_on(after, ender),
            None => self.walk_on(ender),
        }
    }

    /// A pass begins. A lane whose worker could not start is only asked for again if the pass finds
    /// a job that may run.
    fn begin(&mut self) {
        self.wanted = false;
        self.pass = Some(None);
        self.earliest = 0;
        let database = self.database;
        SHARED.write(|state| {
            for lane in state.lanes.iter_mut().filter(|l| l.database == database) {
                lane.pending &= lane.failures == 0;
                lane.told = false;
            }
        });
        catalog::forget_extension();
    }

    /// Looks at some owners. An error costs the owner at whom it came up his look.
    fn go_on(&mut self, after: Option<Oid>, ender: &mut Ender) -> Result<bool> {
        let began = clock::now();
        let mut at = after;
        let result = xact::transaction(|| {
            let extension = match catalog::hold_extension()? {
                Some(extension) if extension.is_current() => extension,
                _ => return Ok(None),
            };
            if at.is_none() {
                ids::mend(&extension)?;
            }
            let due = Due::open(&extension)?;
            // One at least, however long it took to come here: a step that takes none begins again for ever.
            let more = loop {
                match due.next_owner(at)? {
                    // An index that does not go on is damaged: the pass ends, and says nothing new.
                    Some(owner) if at.is_some_and(|at| owner <= at) => break false,
                    Some(owner) => {
                        at = Some(owner);
                        self.look_at(&extension, &due, owner, ender)?;
                    }
                    None => break false,
                }
                if !(0..STEP).contains(&clock::now().saturating_sub(began)) {
                    break true;
                }
            };
            due.close()?;
            Ok(Some(more))
        });
        match result {
            Ok(Some(true)) => self.pass = Some(at),
            Ok(Some(false)) => self.end(),
            Ok(None) => return Ok(false),
            Err(error) if at == after => {
                self.pass = None;
                self.wanted = true;
                return Err(error);
            }
            Err(error) => {
                self.pass = Some(at);
                self.failed = Some(error);
            }
        }
        Ok(true)
    }

    fn end(&mut self) {
        self.pass = None;
        self.thorough = self.wanted && self.thorough;
        self.napped = self.wanted && self.napped;
        self.next = self.earliest;
        let (database, next) = (self.database, self.next);
        if next != 0 {
            // So that a commit which announces a later time wakes nobody.
            SHARED
                .change(|state| state.due_at(database, next))
                .is_awake();
        }
    }

    /// Looks at the jobs of a role: asks for a worker if some are due, or has them ended if it may
    /// have no session.
    fn look_at(
        &mut self,
        extension: &Extension,
        due: &Due,
        owner: Oid,
        ender: &mut Ender,
    ) -> Result<()> {
        let barred = bar(owner)?;
        let avoid = not_to_take(self.database);
        let mut after = None;
        let (mut runs, mut held_up) = (None, false);
        while let Some(name) = due.next_queue(owner, after.as_deref())? {
            if after.as_ref() == Some(&name) {
                // A damaged index.
                break;
            }
            let known = queues::find(extension, datum::text_datum(&name)?)?;
            if let Some(queue) = known.filter(|queue| !queue.paused) {
                let pace = match barred {
                    Some(_) => Pace::default(),
                    None => Pace::new(&queue, owner),
                };
                let (seen, run_at) = self.look_within(due, owner, &queue, &avoid, pace, runs)?;
                self.earliest = earlier(self.earliest, seen.next);
                match (&barred, seen.unread) {
                    (Some(reason), unread) if seen.is_due || unread.is_some() => {
                        ender.add(owner, &name, reason);
                    }
                    (None, Some(from)) if self.thorough => {
                        self.add_walk(owner, &name, from);
                        held_up |= !self.napped && queue.tells_keys();
                    }
                    (None, _) if seen.is_due => runs = Some(run_at),
                    _ => {}
                }
            }
            after = Some(name);
        }
        if let Some(run_at) = runs {
            self.ask_for_worker(owner, run_at);
        } else if held_up {
            self.look_on(owner);
        }
        Ok(())
    }

    /// Looks at one role's queue. What its rate holds back is due when it may start, unless somebody sees to it.
    /// Also back to which time marks have to step for what was found, and for others that were found at `known`.
    fn look_within(
        &self,
        due: &Due,
        owner: Oid,
        queue: &Queue,
        avoid: &[i64],
        mut pace: Pace,
        known: Option<Micros>,
    ) -> Result<(Seen, Micros)> {
        let is_limited = pace.most(1).0 == 0;
        let starter = Starter::new(owner, queue, avoid, pace);
        let mut look = starter.look(due)?;
        let mut seen = due.look(owner, queue, clock::now(), |row, place| {
            look.starts(row, place)
        })?;
        if is_limited && !seen.is_due && seen.unread.is_none() {
            return Ok((seen, Micros::MIN));
        }
        if is_limited {
            (seen.is_due, seen.unread) = (false, None);
        }
        seen.next = earlier(seen.next, self.unexpected(owner, starter.next()));
        Ok((seen, look.found(known)))
    }

    /// That time, unless a worker or the launcher sees to what may start then.
    fn unexpected(&self, owner: Oid, next: Micros) -> Micros {
        let database = self.database;
        let expected = SHARED.read(|state| state.is_expected(database, owner, next));
        if expected == Some(true) { 0 } else { next }
    }

    fn add_walk(&mut self, owner: Oid, queue: &[u8], from: Place) {
        let same = |walk: &Walk| walk.owner == owner && walk.queue == queue;
        if self.walks.len() < WALKS && !self.walks.iter().any(same) {
            self.walks.push_back(Walk {
                owner,
                queue: queue.to_vec(),
                from,
                napped: self.napped,
            });
        }
    }

    /// It may be a job whose COMMIT nobody announced: marks step back to that time.
    fn ask_for_worker(&self, owner: Oid, run_at: Micros) {
        let database = self.database;
        shared::tell(|state| state.demand(database, owner, run_at, 0));
    }

    /// Jobs of keys that are held up stand before others, perhaps many: workers know how many.
    fn look_on(&self, owner: Oid) {
        let database = self.database;
        shared::tell(|state| state.look_on(database, owner));
    }

    /// A step through a queue that was left unread; the queues take turns.
    fn walk_on(&mut self, ender: &mut Ender) -> Result<bool> {
        let Some(mut walk) = self.walks.pop_front() else {
            return Ok(true);
        };
        let mut barred: Option<PgError> = None;
        let (mut is_due, mut run_at, mut by_key) = (false, Micros::MIN, false);
        let result = xact::transaction(|| {
            let Some(extension) = catalog::hold_extension()? else {
                return Ok(None);
            };
            let queue = queues::find(&extension, datum::text_datum(&walk.queue)?)?;
            let Some(queue) = queue.filter(|queue| !queue.paused) else {
                return Ok(None);
            };
            barred = bar(walk.owner)?;
            let avoid = not_to_take(self.database);
            let due = Due::open(&extension)?;
            let (now, from, mut budget) = (clock::now(), Some(walk.from), WALK);
            let pace = match barred {
                Some(_) => Pace::default(),
                None => Pace::new(&queue, walk.owner),
            };
            let starter = Starter::new(walk.owner, &queue, &avoid, pace);
            let mut look = starter.look(&due)?;
            let walked = due.walk(walk.owner, &queue, now, from, &mut budget, |row, place| {
                is_due = look.starts(row, place)?;
                Ok(if is_due { Visit::Enough } else { Visit::On })
            })?;
            run_at = look.found(None);
            by_key = queue.tells_keys();
            drop(look);
            due.close()?;
            self.next = earlier(self.next, walked.next);
            self.next = earlier(self.next, self.unexpected(walk.owner, starter.next()));
            Ok(walked.unread)
        });
        let unread = match result {
            Ok(unread) => unread,
            Err(error) => {
                self.failed = Some(error);
                return Ok(true);
            }
        };
        match (barred, is_due, unread) {
            (Some(reason), true, _) => ender.add(walk.owner, &walk.queue, &reason),
            // Who asked has told of all that is new.
            (None, true, _) if by_key && !walk.napped => self.look_on(walk.owner),
            (None, true, _) => self.ask_for_worker(walk.owner, run_at),
            (None, false, Some(from)) => {
                walk.from = from;
                self.walks.push_back(walk);
            }
            _ => {}
        }
        Ok(true)
    }
}

/// Tells which due jobs of a role's queue may start. A job that waits for its key is none: whoever gives the key
/// back wakes a worker.
struct Starter<'q> {
    queue: &'q Queue,
    /// Jobs that run or are not to be taken, sorted.
    avoid: &'q [i64],
    keys: Option<(KeysOf<'q>, HeldKeys)>,
    passed: RefCell<Passed>,
    count: Cell<usize>,
    /// What its rate allows.
    pace: RefCell<Pace>,
}

struct Look<'a> {
    of: &'a Starter<'a>,
    keys: Option<KeyLook<'a>>,
    /// When the job was due that was found.
    run_at: Micros,
}

impl<'q> Starter<'q> {
    fn new(owner: Oid, queue: &'q Queue, avoid: &'q [i64], pace: Pace) -> Self {
        let keys = KeysOf::new(queue, owner).map(|of| {
            let held = keys::held(&of, None);
            (of, held)
        });
        Starter {
            queue,
            avoid,
            keys,
            passed: RefCell::default(),
            count: Cell::default(),
            pace: RefCell::new(pace),
        }
    }

    /// When the first of what the rate holds back may start; 0: nothing is.
    fn next(&self) -> Micros {
        self.pace.borrow().next
    }

    fn look<'a>(&'a self, due: &'a Due) -> Result<Look<'a>> {
        let keys = match (&self.keys, due.keys(self.queue)?) {
            (Some((of, held)), Some(tables)) => {
                let passed = (&self.passed, &self.count);
                Some(KeyLook::new(tables, of, held, passed.0, false, passed.1))
            }
            _ => None,
        };
        Ok(Look {
            of: self,
            keys,
            run_at: Micros::MIN,
        })
    }
}

impl Look<'_> {
    fn starts(&mut self, row: &Row, place: Place) -> Result<bool> {
        let could = claim::is_runnable(row, self.of.queue)
            && self.of.avoid.binary_search(&place.id).is_err();
        let has_turn = match &mut self.keys {
            Some(keys) if could => {
                let pace = self.of.pace.borrow();
                matches!(keys.turn(row, place, &pace)?, Turn::Now(_))
            }
            _ => could,
        };
        let starts = has_turn && self.of.pace.borrow_mut().ask(row)?.is_none();
        if starts && self.of.queue.tells_keys() {
            self.run_at = place.run_at;
        }
        Ok(starts)
    }

    /// Back to which time marks have to step for the job that was found, and for others that were found at `known`.
    /// In a queue that tells keys apart all before it are held up, perhaps many.
    fn found(&self, known: Option<Micros>) -> Micros {
        known.map_or(self.run_at, |known| known.min(self.run_at))
    }
}
