//! Entries of fixed number, found by their keys: chains by hash, so that a search is short however many there are.
//! Where all are in use, the one that was used longest ago gives way.

use super::Hint;

/// A key in shared memory.
pub trait Key: Copy + Eq {
    /// Spread evenly.
    fn hash(&self) -> u64;
}

/// A number that depends on all of these.
pub fn mix(parts: [u32; 3]) -> u64 {
    parts.into_iter().fold(0x9e37_79b9_7f4a_7c15, |hash, part| {
        let hash = (hash ^ u64::from(part)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash ^ (hash >> 29)
    })
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Place<K> {
    key: K,
    /// The next one of the chain, from 1; 0: none.
    next: u16,
    is_used: bool,
    /// When it was used last, in turns.
    turn: u64,
}

/// Which entry is whose. Zero bytes are the first state.
#[repr(C)]
pub struct Places<K, const N: usize> {
    /// The first place of each chain, from 1; 0: none.
    chains: [u16; N],
    places: [Place<K>; N],
    /// Places behind this were never used since all were freed.
    reached: u32,
    /// How many are in use.
    count: u32,
    /// Goes up with each use.
    turn: u64,
}

impl<K: Key, const N: usize> Places<K, N> {
    /// As many as a chain's links can name.
    const FITS: () = assert!(N > 0 && N < u16::MAX as usize);

    #[cfg(test)]
    pub(super) fn empty(key: K) -> Self {
        Places {
            chains: [0; N],
            places: [Place {
                key,
                next: 0,
                is_used: false,
                turn: 0,
            }; N],
            reached: 0,
            count: 0,
            turn: 0,
        }
    }

    /// How many are in use.
    pub(super) fn count(&self) -> usize {
        self.count as usize
    }

    /// Where a key stands; it counts as used now. `hint`: where it may.
    pub(super) fn find(&mut self, key: &K, hint: Hint) -> Option<usize> {
        let is_it = |place: &Place<K>| place.is_used && place.key == *key;
        let index = match self.places.get(hint).is_some_and(is_it) {
            true => hint,
            false => self.search(key)?,
        };
        self.turn = self.turn.saturating_add(1);
        self.places.get_mut(index)?.turn = self.turn;
        Some(index)
    }

    fn search(&self, key: &K) -> Option<usize> {
        let mut link = *self.chains.get(chain_of(key, N))?;
        while let Some(index) = usize::from(link).checked_sub(1) {
            let place = self.places.get(index)?;
            if place.key == *key {
                return Some(index);
            }
            link = place.next;
        }
        None
    }

    /// A place for another key: a free one, else that of the key that is answered, which gives way.
    pub(super) fn choose(&mut self) -> (usize, Option<K>) {
        let () = Self::FITS;
        let reached = self.reached as usize;
        if reached < N {
            self.reached = self.reached.saturating_add(1);
            return (reached, None);
        }
        let places = self.places.iter().enumerate();
        match places.min_by_key(|(_, place)| (place.is_used, place.turn)) {
            Some((index, place)) => (index, place.is_used.then_some(place.key)),
            None => (0, None),
        }
    }

    /// Puts a key at a place that was chosen for it.
    pub(super) fn put(&mut self, index: usize, key: K) {
        self.free(index);
        self.turn = self.turn.saturating_add(1);
        let (Some(place), Some(chain)) = (
            self.places.get_mut(index),
            self.chains.get_mut(chain_of(&key, N)),
        ) else {
            return;
        };
        *place = Place {
            key,
            next: std::mem::replace(chain, index.saturating_add(1) as u16),
            is_used: true,
            turn: self.turn,
        };
        self.count = self.count.saturating_add(1);
    }

    /// Frees a place, if it is in use.
    pub(super) fn free(&mut self, index: usize) {
        let Some(gone) = self.places.get_mut(index).filter(|place| place.is_used) else {
            return;
        };
        gone.is_used = false;
        let (key, next, itself) = (gone.key, gone.next, index.saturating_add(1) as u16);
        self.count = self.count.saturating_sub(1);
        let Some(chain) = self.chains.get_mut(chain_of(&key, N)) else {
            return;
        };
        if *chain == itself {
            *chain = next;
            return;
        }
        let mut link = *chain;
        while let Some(before) = usize::from(link).checked_sub(1) {
            let Some(place) = self.places.get_mut(before) else {
                return;
            };
            if place.next == itself {
                place.next = next;
                return;
            }
            link = place.next;
        }
    }

    /// Frees all.
    pub(super) fn clear(&mut self) {
        for place in self.places.iter_mut().take(self.reached as usize) {
            place.is_used = false;
        }
        self.chains = [0; N];
        self.reached = 0;
        self.count = 0;
    }

    /// The key at a place.
    pub(super) fn get(&self, index: usize) -> Option<&K> {
        let place = self.places.get(index).filter(|place| place.is_used);
        place.map(|place| &place.key)
    }

    /// The places in use, with their keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &K)> {
        let reached = self.places.iter().take(self.reached as usize);
        let used = reached.enumerate().filter(|(_, place)| place.is_used);
        used.map(|(index, place)| (index, &place.key))
    }
}

fn chain_of<K: Key>(key: &K, chains: usize) -> usize {
    key.hash().checked_rem(chains as u64).unwrap_or(0) as usize
}

#[cfg(test)]
mod tests {
    use super::super::Whose;
    use super::*;
    use crate::logic::testing::Rng;

    fn of(queue: i32) -> Whose {
        Whose {
            database: 5,
            queue,
            role: 1,
        }
    }

    #[test]
    fn keys_are_found_whatever_came_and_went() {
        let mut rng = Rng::new(3);
        let mut places: Places<Whose, 16> = Places::empty(of(0));
        let mut known: Vec<(Whose, usize)> = Vec::new();
        for _ in 0..20_000 {
            let whose = of(rng.range(1, 40) as i32);
            let found = places.find(&whose, rng.range(0, 20) as usize);
            let expected = known.iter().find(|(key, _)| *key == whose);
            assert_eq!(found, expected.map(|(_, index)| *index));
            match (found, rng.range(0, 9)) {
                (Some(index), 0..4) => {
                    places.free(index);
                    known.retain(|(_, at)| *at != index);
                }
                (None, 1..) => {
                    let (index, gives_way) = places.choose();
                    assert_eq!(gives_way.is_some(), known.len() == 16);
                    known.retain(|(_, at)| *at != index);
                    places.put(index, whose);
                    known.push((whose, index));
                }
                _ if rng.range(0, 999) == 0 => {
                    places.clear();
                    known.clear();
                }
                _ => {}
            }
            assert_eq!(places.count(), known.len());
            let mut all: Vec<_> = places.iter().map(|(index, key)| (*key, index)).collect();
            all.sort_by_key(|(key, _)| key.queue);
            known.sort_by_key(|(key, _)| key.queue);
            assert_eq!(all, known);
        }
    }
}
