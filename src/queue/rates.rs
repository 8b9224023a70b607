//! The rate of a queue: which of its jobs may start, and when.
//!
//! What a look finds is counted against what may start by then ([`Pace`]), so that no row is locked in vain.
//! A start itself is asked for when the job's row is locked ([`start`]); its time is the job's `started_at`.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use crate::logic::consumers::sooner;
use crate::logic::keys::{KeyId, Numbers};
use crate::logic::rates::{Key, Limit, Rate};
use crate::pg::datum::{self, Datum, Micros, Oid};
use crate::pg::error::Result;
use crate::pg::table::Row;
use crate::pg::{bgworker, clock};
use crate::shared::{self, rates};

use super::column;
use super::queues::Queue;

/// A start that is so near is waited for where one is, rather than by another look.
pub const NEAR: Micros = 2_000;
/// So far ahead a look counts what may start, where starts follow each other so fast that each is near.
const AHEAD: Micros = 20_000;
/// So many keys a look tells apart; with more it forgets some, and asks once more.
const MOST_KEYS: usize = 50_000;

/// The bucket of the queue itself.
fn of_queue(queue: i32) -> Key {
    Key {
        database: bgworker::my_database(),
        queue,
        owner: 0,
        is_keyed: false,
        hash: 0,
    }
}

/// The bucket of a key. The jobs of an owner that have none share one.
fn of_key(queue: i32, owner: Oid, group_key: Option<Datum<'_>>) -> Result<Key> {
    match group_key {
        Some(text) => datum::with_text(text, |text| of_text(queue, owner, Some(text))),
        None => Ok(of_text(queue, owner, None)),
    }
}

fn of_text(queue: i32, owner: Oid, group_key: Option<&[u8]>) -> Key {
    let mut hasher = DefaultHasher::new();
    group_key.hash(&mut hasher);
    Key {
        owner,
        is_keyed: true,
        hash: hasher.finish(),
        ..of_queue(queue)
    }
}

fn bucket(queue: &Queue, rate: &Rate, owner: Oid, group_key: Option<Datum<'_>>) -> Result<Key> {
    match rate.per_key {
        true => of_key(queue.id, owner, group_key),
        false => Ok(of_queue(queue.id)),
    }
}

/// The number of a key among those that processes have passed by.
fn number(queue: &Queue, owner: Oid, group_key: Option<Datum<'_>>) -> Result<KeyId> {
    let numbers = || Numbers::of(bgworker::my_database(), &queue.name, owner);
    group_key.map_or(Ok(KeyId::WITHOUT), |text| {
        datum::with_text(text, |text| numbers().number(text))
    })
}

/// What a look may take of a queue.
#[derive(Default)]
pub struct Pace {
    limited: Option<Limited>,
    /// Jobs that may start, whatever the rate says: it has allowed them before.
    allowed: Vec<i64>,
    /// When the first of what is held back may start; 0: nothing is.
    pub next: Micros,
}

struct Limited {
    queue: i32,
    rate: Rate,
    owner: Oid,
    /// How many may start: of the queue, or of each key that was asked for.
    left: HashMap<Key, (usize, Micros)>,
}

impl Pace {
    /// Of this role's jobs of a queue.
    pub fn new(queue: &Queue, owner: Oid) -> Pace {
        let limited = queue.rate.map(|rate| Limited {
            queue: queue.id,
            rate,
            owner,
            left: HashMap::new(),
        });
        Pace {
            limited,
            allowed: Vec::new(),
            next: 0,
        }
    }

    /// These jobs may start anyway.
    pub fn with_allowed(mut self, jobs: impl Iterator<Item = i64>) -> Pace {
        self.allowed.extend(jobs);
        self
    }

    /// How many of `most` jobs a look may take, whatever they are, and whether more might be taken by others; 0 if
    /// the queue is limited now.
    pub fn most(&mut self, most: usize) -> (usize, bool) {
        let Some(limited) = self.limited.as_ref().filter(|l| !l.rate.per_key) else {
            return (most, true);
        };
        let (left, next) = left(&of_queue(limited.queue), &limited.rate.limit, true);
        if left == 0 && !self.allowed.is_empty() {
            return (1, false);
        }
        if left == 0 {
            self.next = next;
        }
        (left.min(most), left > most)
    }

    /// Whether the rate has allowed that job to start before.
    pub fn keeps(&self, job: i64) -> bool {
        self.allowed.contains(&job)
    }

    /// Whether it has allowed some job.
    pub fn keeps_some(&self) -> bool {
        !self.allowed.is_empty()
    }

    /// Until when the job of this row is held back by the rate of its key, of a look that has asked for `most` before;
    /// `None`: it may start, and counts then.
    pub fn ask(&mut self, row: &Row) -> Result<Option<Micros>> {
        let Some(limited) = self.limited.as_mut().filter(|l| l.rate.per_key) else {
            return Ok(None);
        };
        if !self.allowed.is_empty() {
            let id = row.get(column::ID).map_or(0, datum::as_i64);
            if self.allowed.contains(&id) {
                return Ok(None);
            }
        }
        let key = of_key(limited.queue, limited.owner, row.get(column::GROUP_KEY))?;
        let (left, next) = limited.left(key);
        if let Some(rest) = left.checked_sub(1) {
            *left = rest;
            return Ok(None);
        }
        let next = (*next).max(1);
        self.rests_until(next);
        Ok(Some(next))
    }

    /// Until when all jobs of a key are held back by its rate; `None`: some may start. `None` as the key: those that have
    /// none.
    pub fn rests(&mut self, group_key: Option<&[u8]>) -> Option<Micros> {
        let limited = self.limited.as_mut().filter(|l| l.rate.per_key)?;
        if !self.allowed.is_empty() {
            return None;
        }
        let key = of_text(limited.queue, limited.owner, group_key);
        match limited.left(key) {
            (0, next) => Some((*next).max(1)),
            _ => None,
        }
    }

    /// Something is held back until then; 0: nothing is.
    pub fn rests_until(&mut self, time: Micros) {
        self.next = sooner(self.next, time);
    }
}

impl Limited {
    /// How many jobs of a key may start, and when the next one may once they have.
    fn left(&mut self, key: Key) -> &mut (usize, Micros) {
        if self.left.len() >= MOST_KEYS {
            self.left.clear();
        }
        let limit = self.rate.limit;
        let known = self.left.entry(key);
        known.or_insert_with(|| left(&key, &limit, false))
    }
}

/// How many may start soon, and when those may for which that is not soon enough.
fn left(key: &Key, limit: &Limit, ahead: bool) -> (usize, Micros) {
    let now = clock::now();
    let state = rates::peek(key, limit);
    if state.no_room || state.next > now.saturating_add(NEAR) {
        return (0, state.next);
    }
    let mut count = state.count.max(1);
    if ahead && limit.spacing <= NEAR {
        count = count.saturating_add(usize::try_from(AHEAD / limit.spacing).unwrap_or(0));
    }
    // Once these have started.
    (count, now.saturating_add(limit.spacing))
}

/// Whether a job may start.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// It has started then.
    At(Micros),
    /// Not before that time.
    Not(Micros),
}

/// Starts a job that is about to run; one that may start in a moment is waited for.
pub fn start(
    queue: &Queue,
    rate: &Rate,
    owner: Oid,
    group_key: Option<Datum<'_>>,
) -> Result<Start> {
    let key = bucket(queue, rate, owner, group_key)?;
    loop {
        let started = rates::start(&key, &rate.limit, None, 1);
        if started.count > 0 {
            return Ok(Start::At(started.at));
        }
        let rest = started.next.saturating_sub(started.at);
        if !(1..=NEAR).contains(&rest) {
            return Ok(Start::Not(started.next));
        }
        std::thread::sleep(Duration::from_micros(rest.unsigned_abs()));
    }
}

/// Starts that may come to nothing yet.
#[derive(Default)]
pub struct Lots(Vec<Lot>);

struct Lot {
    key: Key,
    /// As processes know it that have passed by its jobs.
    id: KeyId,
    count: usize,
    next: Micros,
}

impl Lots {
    /// Starts another job at `at`, when the first one has started, if it may.
    pub fn start(
        &mut self,
        queue: &Queue,
        rate: &Rate,
        owner: Oid,
        group_key: Option<Datum<'_>>,
        at: Micros,
    ) -> Result<Start> {
        let key = bucket(queue, rate, owner, group_key)?;
        let started = rates::start(&key, &rate.limit, Some(at), 1);
        if started.count == 0 {
            return Ok(Start::Not(started.next));
        }
        match self.0.iter_mut().find(|lot| lot.key == key) {
            Some(lot) => {
                lot.count += 1;
                lot.next = started.next;
            }
            None => self.0.push(Lot {
                key,
                id: number(queue, owner, group_key)?,
                count: 1,
                next: started.next,
            }),
        }
        Ok(Start::At(at))
    }

    /// All but these have come to nothing.
    pub fn keep<'k>(
        self,
        queue: &Queue,
        rate: &Rate,
        owner: Oid,
        kept: impl Iterator<Item = Option<Datum<'k>>>,
    ) -> Result<()> {
        let Lots(mut lots) = self;
        for group_key in kept {
            let key = bucket(queue, rate, owner, group_key)?;
            if let Some(lot) = lots.iter_mut().find(|lot| lot.key == key) {
                lot.count = lot.count.saturating_sub(1);
            }
        }
        let database = bgworker::my_database();
        for lot in lots.iter().filter(|lot| lot.count > 0) {
            rates::give_back(&lot.key, lot.count, lot.next);
            if rate.per_key {
                shared::tell(|state| state.free_key(database, owner, lot.id));
            }
        }
        Ok(())
    }
}

/// Why a job may not start yet.
pub struct Reason {
    /// When it may.
    pub next: Micros,
    /// There is no room for another key.
    no_room: bool,
    rate: Rate,
}

impl Reason {
    /// Whether it may in a moment.
    pub fn is_near(&self) -> bool {
        self.next <= clock::now().saturating_add(NEAR)
    }

    /// What is said of its queue.
    pub fn words(&self) -> String {
        let rate = self.rate.describe();
        match (self.no_room, self.rate.per_key) {
            (true, _) => {
                "has more keys at work than there is room for (my_worker.max_rate_keys)".into()
            }
            (false, true) => format!("is limited to {rate} for each key"),
            (false, false) => format!("is limited to {rate}"),
        }
    }
}

/// Why a role's job of that key may not start yet, if that is for its queue's rate.
pub fn reason(queue: &Queue, owner: Oid, group_key: Option<Datum<'_>>) -> Result<Option<Reason>> {
    let Some(rate) = queue.rate else {
        return Ok(None);
    };
    let key = bucket(queue, &rate, owner, group_key)?;
    let state = rates::peek(&key, &rate.limit);
    let (next, no_room) = (state.next, state.no_room);
    Ok((state.count == 0).then_some(Reason {
        next,
        no_room,
        rate,
    }))
}

/// When a role's job of that key may start, if that is not soon; else 0.
pub fn held_until(queue: &Queue, owner: Oid, group_key: Option<Datum<'_>>) -> Result<Micros> {
    let reason = reason(queue, owner, group_key)?;
    Ok(reason
        .filter(|reason| !reason.is_near())
        .map_or(0, |reason| reason.next))
}

/// Whether a queue's next start, or that of one of its keys, lies in the future.
pub fn is_limited(queue: &Queue) -> bool {
    match queue.rate {
        None => false,
        Some(rate) if rate.per_key => rates::is_any_waiting(bgworker::my_database(), queue.id),
        Some(rate) => rates::peek(&of_queue(queue.id), &rate.limit).count == 0,
    }
}
