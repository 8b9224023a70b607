//! How the calls of each handler ended, one entry for each role that owns such jobs. When there are more than
//! places, the one that was called longest ago gives way.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::Hint;
use super::places::{self, Places};
use crate::logic::Micros;
use crate::logic::counters::{Ending, Mark, Times};
use crate::logic::pool::Text;

/// How many there is room for.
pub const HANDLERS: usize = 512;

/// Bytes of a handler's name that are kept: two identifiers in quotes and the argument types fit.
pub const NAME_BYTES: usize = 190;

/// What a job runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Runs {
    /// A function.
    Handler = 0,
    /// An SQL command.
    Command,
    /// Nothing in the server: a consumer does it.
    Consumer,
}

/// What was called, worked out before the lock is taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Called {
    runs: Runs,
    hash: u64,
    name: Vec<u8>,
}

impl Called {
    /// Of that name, none for commands and consumers. `clip`: how much of it is whole characters, up to so many
    /// bytes.
    pub fn new(runs: Runs, name: &[u8], clip: impl FnOnce(&[u8], usize) -> usize) -> Called {
        let mut hasher = DefaultHasher::new();
        (runs, name).hash(&mut hasher);
        Called {
            runs,
            hash: hasher.finish(),
            name: name
                .get(..clip(name, NAME_BYTES))
                .unwrap_or_default()
                .to_vec(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Key {
    database: u32,
    owner: u32,
    hash: u64,
}

impl places::Key for Key {
    fn hash(&self) -> u64 {
        places::mix([self.database, self.owner, 0]) ^ self.hash
    }
}

/// What was counted of a handler's calls for one role.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Handler {
    /// What such a job runs.
    pub runs: Runs,
    name: Text<NAME_BYTES>,
    /// Attempts that have ended.
    pub calls: i64,
    /// Those that failed.
    pub failures: i64,
    /// When the last one ended.
    pub called_at: Micros,
    /// From start to end, of each execution.
    pub run: Times,
}

impl Handler {
    /// Nothing counted.
    pub const NONE: Handler = Handler {
        runs: Runs::Handler,
        name: Text::EMPTY,
        calls: 0,
        failures: 0,
        called_at: 0,
        run: Times::NONE,
    };

    /// Its name; `None` for commands and consumers.
    pub fn name(&self) -> Option<&[u8]> {
        self.name.some()
    }

    /// Takes in the calls of another role.
    pub fn merge(&mut self, other: &Handler) {
        self.calls = self.calls.saturating_add(other.calls);
        self.failures = self.failures.saturating_add(other.failures);
        self.called_at = self.called_at.max(other.called_at);
        self.run.merge(&other.run);
    }

    fn add_end(&mut self, end: Ending, count: i64, now: Micros) {
        let failed = matches!(end, Ending::Failed | Ending::Retried);
        self.calls = self.calls.saturating_add(count);
        let failures = if failed { count } else { 0 };
        self.failures = self.failures.saturating_add(failures);
        self.called_at = now;
    }
}

/// See above. Zero bytes are the first state.
#[repr(C)]
pub struct Handlers {
    gave_way: u64,
    places: Places<Key, HANDLERS>,
    entries: [Handler; HANDLERS],
}

impl Handlers {
    #[cfg(test)]
    pub(super) fn empty() -> Handlers {
        let nobody = Key {
            database: 0,
            owner: 0,
            hash: 0,
        };
        Handlers {
            gave_way: 0,
            places: Places::empty(nobody),
            entries: [Handler::NONE; HANDLERS],
        }
    }

    /// Counts executions.
    pub fn count(
        &mut self,
        (database, owner): (u32, u32),
        called: &Called,
        marks: &[Mark],
        now: Micros,
        hint: &mut Hint,
    ) {
        let counted = || marks.iter().filter(|mark| mark.end() != Ending::Snoozed);
        if counted().next().is_none() {
            return;
        }
        if let Some(entry) = self.of(database, owner, called, hint) {
            for mark in counted() {
                entry.add_end(mark.end(), 1, now);
                entry.run.add_run(mark);
            }
        }
    }

    /// Counts attempts that ended by a death, or before anything was called. Only failures are calls.
    pub fn count_ends(
        &mut self,
        (database, owner): (u32, u32),
        called: &Called,
        (end, count): (Ending, i64),
        now: Micros,
    ) {
        if matches!(end, Ending::Failed | Ending::Retried)
            && let Some(entry) = self.of(database, owner, called, &mut 0)
        {
            entry.add_end(end, count, now);
        }
    }

    fn of(
        &mut self,
        database: u32,
        owner: u32,
        called: &Called,
        hint: &mut Hint,
    ) -> Option<&mut Handler> {
        if database == 0 {
            return None;
        }
        let key = Key {
            database,
            owner,
            hash: called.hash,
        };
        let known = self.places.find(&key, *hint);
        let index = match known {
            Some(index) => index,
            None => self.take_place(key, called)?,
        };
        *hint = index;
        self.entries.get_mut(index)
    }

    fn take_place(&mut self, key: Key, called: &Called) -> Option<usize> {
        let (index, gives_way) = self.places.choose();
        let lost = u64::from(gives_way.is_some());
        self.gave_way = self.gave_way.saturating_add(lost);
        let entry = self.entries.get_mut(index)?;
        *entry = Handler::NONE;
        entry.runs = called.runs;
        entry.name.set(&called.name);
        self.places.put(index, key);
        Some(index)
    }

    pub(super) fn forget(&mut self, database: u32) {
        for index in 0..HANDLERS {
            let key = self.places.get(index);
            if key.is_some_and(|key| key.database == database) {
                self.places.free(index);
            }
        }
    }

    /// How many have given way since the server's start.
    pub fn gave_way(&self) -> u64 {
        self.gave_way
    }

    /// The databases that have an entry, some of them more than once.
    pub fn databases(&self) -> impl Iterator<Item = u32> {
        self.places.iter().map(|(_, key)| key.database)
    }

    /// The entries of a database: place and role.
    pub fn of_database(&self, database: u32) -> impl Iterator<Item = (usize, u32)> {
        let places = self.places.iter();
        let found = places.filter(move |(_, key)| key.database == database);
        found.map(|(index, key)| (index, key.owner))
    }

    /// The entry at that place, if it is still of that database and role.
    pub fn get(&self, index: usize, database: u32, owner: u32) -> Option<&Handler> {
        let key = self.places.get(index)?;
        let is_it = (key.database, key.owner) == (database, owner);
        self.entries.get(index).filter(|_| is_it)
    }
}
