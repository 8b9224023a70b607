//! Keys that were given back a while ago, for processes that have passed jobs of them.

use super::KeyId;

/// So many are remembered: a process that missed more takes every key for free.
const RING: usize = 512;

/// The last ones, of all databases. Zero bytes are none.
#[repr(C)]
pub struct Freed {
    /// How many there were in all.
    count: u64,
    ring: [KeyId; RING],
}

/// How far a process has read.
#[derive(Clone, Copy, Default)]
pub struct Read(u64);

/// What was given back since a process has read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Since {
    /// Those that were added to the list.
    These,
    /// Any key may be free.
    All,
}

impl Freed {
    #[cfg(test)]
    pub fn empty() -> Freed {
        Freed {
            count: 0,
            ring: [KeyId::NONE; RING],
        }
    }

    /// A key was given back, or the first of its jobs has gone.
    pub fn add(&mut self, key: KeyId) {
        let index = self.count.checked_rem(RING as u64).unwrap_or(0);
        if let Some(place) = self.ring.get_mut(index as usize) {
            *place = key;
        }
        self.count = self.count.saturating_add(1);
    }

    /// Adds to `list`, which has room for [`Freed::ROOM`], what came since.
    pub fn since(&self, read: &mut Read, list: &mut Vec<KeyId>) -> Since {
        let from = std::mem::replace(&mut read.0, self.count);
        let missed = self.count.saturating_sub(from);
        if missed > RING as u64 || from > self.count {
            return Since::All;
        }
        for number in from..self.count {
            let index = number.checked_rem(RING as u64).unwrap_or(0);
            match self.ring.get(index as usize) {
                Some(key) if *key != KeyId::ANY => list.push(*key),
                _ => return Since::All,
            }
        }
        Since::These
    }

    /// The most that [`Freed::since`] adds.
    pub const ROOM: usize = RING;
}

#[cfg(test)]
mod tests {
    use super::{Freed, KeyId, RING, Read, Since};

    #[test]
    fn a_reader_learns_each_key_once() {
        let mut freed = Freed::empty();
        let (mut read, mut list) = (Read::default(), Vec::new());
        freed.add(KeyId(7));
        freed.add(KeyId(8));
        assert_eq!(freed.since(&mut read, &mut list), Since::These);
        assert_eq!(list, [KeyId(7), KeyId(8)]);
        list.clear();
        assert_eq!(freed.since(&mut read, &mut list), Since::These);
        assert!(list.is_empty());
    }

    #[test]
    fn who_missed_too_many_takes_all_for_free() {
        let mut freed = Freed::empty();
        let (mut read, mut list) = (Read::default(), Vec::new());
        for number in 0..=RING as u64 {
            freed.add(KeyId(number + 1));
        }
        assert_eq!(freed.since(&mut read, &mut list), Since::All);
        freed.add(KeyId::ANY);
        assert_eq!(freed.since(&mut read, &mut list), Since::All);
    }
}
