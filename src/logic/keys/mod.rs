//! Keys of jobs: how many jobs of one `group_key` run at once, and in which order.
//!
//! A key is a database, a queue, an owner and a text. Shared memory knows it by a number ([`KeyId`]): two keys
//! with the same number hold each other up, and nothing worse.
//!
//! A process that runs a job, or has its lease, holds the job's key until its transaction has ended. Whoever
//! gives a key back says so ([`freed`]); a process remembers the keys whose jobs it has passed by
//! ([`passed`]), and looks for their next job then.

pub mod freed;
pub mod passed;
pub mod verdict;

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::pool::Oid;

/// The number of a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct KeyId(u64);

impl KeyId {
    /// No key, as zero bytes say.
    pub const NONE: KeyId = KeyId(0);
    /// Any key: which ones is not known.
    pub const ANY: KeyId = KeyId(u64::MAX);
    /// Jobs without a key, where they count as one.
    pub const WITHOUT: KeyId = KeyId(u64::MAX - 1);

    /// Whether it is a key at all.
    pub fn is_some(self) -> bool {
        self != KeyId::NONE
    }

    /// Spreads keys evenly.
    pub fn spread(self) -> u64 {
        self.0
    }

    #[cfg(test)]
    pub fn test(number: u64) -> KeyId {
        KeyId(number)
    }
}

/// Gives the keys of one queue and owner their numbers.
#[derive(Clone)]
pub struct Numbers(DefaultHasher);

impl Numbers {
    /// Of that queue.
    pub fn of(database: Oid, queue: &[u8], owner: Oid) -> Numbers {
        let mut hasher = DefaultHasher::new();
        (database, owner, queue).hash(&mut hasher);
        Numbers(hasher)
    }

    /// The number of the key with that text.
    pub fn number(&self, key: &[u8]) -> KeyId {
        let mut hasher = self.0.clone();
        hasher.write(key);
        KeyId(hasher.finish().clamp(1, u64::MAX - 2))
    }
}

/// What a queue asks for of the jobs of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    /// At most so many run at once.
    pub most: usize,
    /// They start in the order of their ids, each when those before it have ended.
    pub is_fifo: bool,
}

impl Rule {
    /// Nothing.
    pub const NONE: Rule = Rule {
        most: usize::MAX,
        is_fifo: false,
    };

    /// Whether it asks for anything.
    pub fn binds(&self) -> bool {
        *self != Rule::NONE
    }

    /// Of these settings of a queue; `None` if keys mean nothing there.
    pub fn of(per_key: Option<i32>, is_fifo: bool) -> Option<Rule> {
        let per_key = per_key.and_then(|most| usize::try_from(most).ok());
        match (per_key, is_fifo) {
            (_, true) => Some(Rule {
                most: 1,
                is_fifo: true,
            }),
            (Some(most), false) => Some(Rule {
                most: most.max(1),
                is_fifo: false,
            }),
            (None, false) => None,
        }
    }
}

/// The most keys that a process holds at a time: a batch that has so many ends.
pub const HELD: usize = 32;

/// The keys that a process holds. Zero bytes are none.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct HeldKeys {
    count: usize,
    keys: [KeyId; HELD],
}

impl HeldKeys {
    /// None.
    pub const NONE: HeldKeys = HeldKeys {
        count: 0,
        keys: [KeyId::NONE; HELD],
    };

    /// Which they are.
    pub fn list(&self) -> &[KeyId] {
        self.keys.get(..self.count).unwrap_or(&self.keys)
    }

    /// Whether this is one of them.
    pub fn has(&self, key: KeyId) -> bool {
        self.list().contains(&key)
    }

    /// Adds one; false if there is no room.
    pub fn add(&mut self, key: KeyId) -> bool {
        let Some(place) = self.keys.get_mut(self.count) else {
            return false;
        };
        *place = key;
        self.count = self.count.saturating_add(1);
        true
    }

    /// Takes one out.
    pub fn remove(&mut self, key: KeyId) {
        let Some(index) = self.list().iter().position(|held| *held == key) else {
            return;
        };
        self.count = self.count.saturating_sub(1);
        let last = self.keys.get(self.count).copied();
        if let (Some(place), Some(last)) = (self.keys.get_mut(index), last) {
            *place = last;
        }
    }

    /// Takes out all.
    pub fn clear(&mut self) {
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::{HELD, HeldKeys, KeyId, Numbers, Rule};

    #[test]
    fn keys_of_other_queues_and_owners_have_other_numbers() {
        let of = |database, queue: &[u8], owner, key: &[u8]| {
            Numbers::of(database, queue, owner).number(key)
        };
        let one = of(1, b"q", 10, b"k");
        assert_eq!(one, of(1, b"q", 10, b"k"));
        for other in [
            of(2, b"q", 10, b"k"),
            of(1, b"r", 10, b"k"),
            of(1, b"q", 11, b"k"),
            of(1, b"q", 10, b"kk"),
            of(1, b"qk", 10, b""),
            of(1, b"q", 10, b""),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn a_fifo_queue_runs_one_of_a_key() {
        let fifo = Some(Rule {
            most: 1,
            is_fifo: true,
        });
        assert_eq!(Rule::of(None, true), fifo);
        assert_eq!(Rule::of(Some(1), true), fifo);
        assert_eq!(Rule::of(None, false), None);
        assert_eq!(Rule::of(Some(3), false).map(|rule| rule.most), Some(3));
    }

    #[test]
    fn keys_are_added_and_taken_out() {
        let mut held = HeldKeys::NONE;
        for number in 1..=HELD as u64 {
            assert!(held.add(KeyId(number)));
        }
        assert!(!held.add(KeyId(1000)));
        held.remove(KeyId(3));
        held.remove(KeyId(3));
        assert!(!held.has(KeyId(3)) && held.has(KeyId(HELD as u64)));
        assert_eq!(held.list().len(), HELD - 1);
        held.clear();
        assert!(held.list().is_empty());
    }
}
