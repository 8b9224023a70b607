//! The buckets of queues and of keys, found by their hash.

use super::{Limit, Micros};
use crate::logic::pool::Oid;

/// So many queues with a rate of their own have room, whatever keys there are.
pub const QUEUES: usize = 256;

/// The longest time for which a full table is not looked through again.
const FULL: Micros = 1_000_000;

/// Whose starts a bucket counts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(C)]
pub struct Key {
    /// The database.
    pub database: Oid,
    /// The queue's number.
    pub queue: i32,
    /// Whose jobs; 0: those of all roles.
    pub owner: Oid,
    /// One for each key of jobs, not one for the queue.
    pub is_keyed: bool,
    /// Of which key.
    pub hash: u64,
}

impl Key {
    fn spread(&self) -> u64 {
        let place = u64::from(self.database) << 32 | u64::from(self.queue.unsigned_abs());
        let mixed = (self.hash ^ place.rotate_left(17) ^ u64::from(self.owner).rotate_left(47))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    }
}

/// A bucket. Zero bytes are a free entry.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Entry {
    key: Key,
    /// The settings that it was asked with last; a spacing of 0: the entry is free.
    limit: Limit,
    /// When the next one may start.
    next: Micros,
    /// When the last one started.
    last: Micros,
    /// The next entry of the chain, from 1; 0: none.
    link: u32,
    /// The first entry of the chain of this number, from 1; 0: none.
    first: u32,
}

#[cfg(test)]
impl Entry {
    pub(super) fn free() -> Entry {
        let (database, queue, owner, is_keyed, hash) = (0, 0, 0, false, 0);
        Entry {
            key: Key {
                database,
                queue,
                owner,
                is_keyed,
                hash,
            },
            limit: Limit {
                spacing: 0,
                slack: 0,
                period: 0,
            },
            next: 0,
            last: 0,
            link: 0,
            first: 0,
        }
    }
}

/// What stands before the entries in shared memory. Zero bytes are its first state.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Head {
    /// Since when every start is known; 0: nobody has asked yet.
    whole_since: Micros,
    /// Entries behind this were never used.
    used: usize,
    /// Entries of keys.
    keys: usize,
    /// Where the next search for an entry to be reused begins.
    hand: usize,
    /// Every bucket that was forgotten had rested by then.
    forgotten: Micros,
    /// There is no room for another key before this time.
    full_until: Micros,
}

/// The shared memory of buckets, opened under its lock.
pub struct Buckets<'a> {
    /// What stands before the entries.
    pub head: &'a mut Head,
    /// [`QUEUES`] and as many as `my_worker.max_rate_keys` says.
    pub entries: &'a mut [Entry],
}

/// How a bucket stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    /// So many may start at once.
    pub count: usize,
    /// When the next one may start.
    pub next: Micros,
    /// There is no room for its bucket before that.
    pub no_room: bool,
}

/// What became of the wish to start some.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Started {
    /// So many started
    pub count: usize,
    /// at that time.
    pub at: Micros,
    /// When the next one may start.
    pub next: Micros,
}

impl Buckets<'_> {
    /// Starts are known from now on, unless they are already. On a primary alone: what a former primary, or this
    /// server in its former life, has started is not known.
    pub fn begin(&mut self, now: Micros) {
        if self.head.whole_since == 0 {
            self.head.whole_since = now;
        }
    }

    fn chain(&self, key: &Key) -> usize {
        let count = self.entries.len().max(1) as u64;
        key.spread().checked_rem(count).unwrap_or(0) as usize
    }

    fn find(&self, key: &Key) -> Option<usize> {
        let mut number = self.entries.get(self.chain(key))?.first;
        while let Some(index) = (number as usize).checked_sub(1) {
            let entry = self.entries.get(index)?;
            if entry.key == *key {
                return Some(index);
            }
            number = entry.link;
        }
        None
    }

    /// When the next one of whoever has no bucket may start.
    fn next_of_unknown(&mut self, limit: &Limit, now: Micros) -> Micros {
        let since = match self.head.whole_since {
            0 => now,
            since => since,
        };
        let next = since.saturating_add(limit.spacing);
        let next = next.max(self.head.forgotten.saturating_sub(limit.slack));
        let within = limit.within_reach(next, now);
        if within != next {
            self.head.whole_since = now;
            self.head.forgotten = 0;
        }
        within
    }

    /// Takes note of other settings and of a clock that was set back.
    fn adapt(&mut self, index: usize, limit: &Limit, now: Micros) -> Micros {
        let Some(entry) = self.entries.get_mut(index) else {
            return now;
        };
        if entry.limit != *limit {
            // As if the last start had been the last of a burst by these.
            entry.limit = *limit;
            entry.next = entry.last.saturating_add(limit.spacing);
        }
        entry.next = limit.within_reach(entry.next, now);
        entry.next
    }

    /// How a bucket stands.
    pub fn peek(&mut self, key: &Key, limit: &Limit, now: Micros) -> State {
        let (next, no_room) = match self.find(key) {
            Some(index) => (self.adapt(index, limit, now), false),
            None if key.is_keyed && self.is_full(now) => (self.head.full_until, true),
            None => (self.next_of_unknown(limit, now), false),
        };
        let count = if no_room { 0 } else { limit.count(next, now) };
        State {
            count,
            next,
            no_room,
        }
    }

    /// Starts up to so many at the time `at`, which is now or was a moment ago. `now` is read under the lock: so it
    /// goes back only where the clock is set back.
    pub fn start(
        &mut self,
        key: &Key,
        limit: &Limit,
        (now, at): (Micros, Micros),
        wanted: usize,
    ) -> Started {
        self.begin(now);
        let state = self.peek(key, limit, now);
        let next = state.next;
        let mut started = Started { count: 0, next, at };
        let allowed = match state.no_room {
            true => 0,
            false => limit.count(next, at),
        };
        if allowed == 0 {
            return started;
        }
        let index = match self.find(key) {
            Some(index) => index,
            None => match self.add(key, now) {
                Some(index) => index,
                None => {
                    started.next = self.head.full_until.max(now.saturating_add(1));
                    return started;
                }
            },
        };
        if let Some(entry) = self.entries.get_mut(index) {
            started.count = wanted.min(allowed);
            let mut next = next;
            if started.count > 0 {
                // Each start after the first moves the next one by a spacing.
                let more = Micros::try_from(started.count).unwrap_or(Micros::MAX);
                let more = limit.spacing.saturating_mul(more.saturating_sub(1));
                next = limit.after(next, at).saturating_add(more);
                entry.last = at;
            }
            entry.limit = *limit;
            entry.next = next;
            started.next = next;
        }
        started
    }

    /// Takes back the last so many starts, which came to nothing, if nobody has asked since: `next` is what the
    /// answer said.
    pub fn give_back(&mut self, key: &Key, count: usize, next: Micros) {
        let Some(index) = self.find(key) else { return };
        if let Some(entry) = self.entries.get_mut(index)
            && entry.next == next
        {
            let count = Micros::try_from(count).unwrap_or(0);
            entry.next = next.saturating_sub(entry.limit.spacing.saturating_mul(count));
        }
    }

    /// Whether a key of that queue must wait at `now`.
    pub fn is_any_waiting(&self, database: Oid, queue: i32, now: Micros) -> bool {
        let used = self.entries.get(..self.head.used).unwrap_or_default();
        let mut ours = used
            .iter()
            .filter(|entry| entry.key.database == database && entry.key.queue == queue);
        ours.any(|entry| entry.key.is_keyed && entry.limit.spacing != 0 && entry.next > now)
    }

    fn room_for_keys(&self) -> usize {
        self.entries.len().saturating_sub(QUEUES)
    }

    /// Whether it is known that there is no room for another key.
    fn is_full(&self, now: Micros) -> bool {
        let left = self.head.full_until.saturating_sub(now);
        self.head.keys >= self.room_for_keys() && (1..=FULL).contains(&left)
    }

    /// An entry for a key that has none; `None` if there is no room.
    fn add(&mut self, key: &Key, now: Micros) -> Option<usize> {
        let keys_are_full = key.is_keyed && self.head.keys >= self.room_for_keys();
        let index = if !keys_are_full && self.head.used < self.entries.len() {
            let index = self.head.used;
            self.head.used = index.saturating_add(1);
            index
        } else {
            self.reuse(keys_are_full, now)?
        };
        let chain = self.chain(key);
        let link = self.entries.get(chain)?.first;
        let number = u32::try_from(index).ok()?.saturating_add(1);
        let entry = self.entries.get_mut(index)?;
        entry.key = *key;
        entry.link = link;
        self.entries.get_mut(chain)?.first = number;
        if key.is_keyed {
            self.head.keys = self.head.keys.saturating_add(1);
        }
        Some(index)
    }

    /// Frees an entry that has rested for so long that it says nothing.
    fn reuse(&mut self, of_keys: bool, now: Micros) -> Option<usize> {
        let count = self.head.used;
        let begin = self.head.hand.checked_rem(count).unwrap_or(0);
        let mut sooner = now.saturating_add(FULL);
        for index in (begin..count).chain(0..begin) {
            let entry = self.entries.get(index)?;
            if of_keys && !entry.key.is_keyed {
                continue;
            }
            let rested = entry.limit.rested_at(entry.next);
            if rested <= now {
                self.head.hand = index.saturating_add(1);
                self.head.forgotten = self.head.forgotten.max(rested);
                return self.unlink(index).map(|()| index);
            }
            sooner = sooner.min(rested);
        }
        if of_keys {
            self.head.full_until = sooner;
        }
        None
    }

    fn unlink(&mut self, index: usize) -> Option<()> {
        let number = u32::try_from(index).ok()?.saturating_add(1);
        let entry = *self.entries.get(index)?;
        let chain = self.chain(&entry.key);
        let first = self.entries.get(chain)?.first;
        if first == number {
            self.entries.get_mut(chain)?.first = entry.link;
        } else {
            let mut at = (first as usize).checked_sub(1)?;
            while self.entries.get(at)?.link != number {
                at = (self.entries.get(at)?.link as usize).checked_sub(1)?;
            }
            self.entries.get_mut(at)?.link = entry.link;
        }
        if entry.key.is_keyed {
            self.head.keys = self.head.keys.saturating_sub(1);
        }
        Some(())
    }
}
