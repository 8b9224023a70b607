//! Which jobs others may come after, without a lock: asked for each job that ends.
//!
//! A filter answers "no" only where that is sure. The keeper of a database alone adds to it, before it looks
//! whether the job has ended; whoever ends a job asks after its COMMIT. So either the keeper sees the end, or
//! the filter is asked after the job was added. Nothing is ever taken out of a filter: the keeper clears it as a
//! whole and adds all again.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

use super::Oid;

/// So many databases have one at a time. In the others each job that ends is told.
const FILTERS: usize = 8;
/// Its length in words of 64 bits.
const WORDS: usize = if cfg!(test) { 16 } else { 2048 };

/// The filter of a database.
#[derive(Debug)]
#[repr(C)]
struct Filter {
    /// The database; 0: none.
    owner: AtomicU32,
    bits: [AtomicU64; WORDS],
}

/// All of them. Zero bytes are the first state.
#[derive(Debug)]
#[repr(C)]
pub struct Filters {
    /// How many databases have one.
    used: AtomicU32,
    /// Some database found none.
    short: AtomicBool,
    all: [Filter; FILTERS],
}

/// Two places for an id, by the finalizer of splitmix64.
fn places(id: i64) -> [usize; 2] {
    let mut hash = (id as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    let bits = (WORDS as u64).saturating_mul(64);
    [
        hash.checked_rem(bits).unwrap_or(0) as usize,
        (hash >> 32).checked_rem(bits).unwrap_or(0) as usize,
    ]
}

impl Filter {
    fn word(&self, place: usize) -> Option<(&AtomicU64, u64)> {
        Some((self.bits.get(place >> 6)?, 1 << (place & 63)))
    }
}

impl Filters {
    fn of(&self, database: Oid) -> Option<&Filter> {
        let mut all = self.all.iter();
        all.find(|filter| filter.owner.load(Ordering::SeqCst) == database)
    }

    /// After the COMMIT of ends in a database: whom others may come after; `None`: nobody, whoever it is.
    pub fn asked(&self, database: Oid) -> Option<Asked<'_>> {
        fence(Ordering::SeqCst);
        if self.used.load(Ordering::SeqCst) == 0 && !self.short.load(Ordering::SeqCst) {
            return None;
        }
        match self.of(database) {
            Some(filter) => Some(Asked(Some(filter))),
            None if self.short.load(Ordering::SeqCst) => Some(Asked(None)),
            None => None,
        }
    }

    /// For the keeper: its database has one from here on, or where there is none left, all are told. True if it is
    /// new, and nothing was added yet.
    pub fn begin(&self, database: Oid) -> bool {
        if self.of(database).is_some() {
            return false;
        }
        let (set, get) = (Ordering::SeqCst, Ordering::SeqCst);
        let free = |filter: &&Filter| {
            let owner = &filter.owner;
            owner.compare_exchange(0, database, set, get).is_ok()
        };
        let is_new = self.all.iter().any(|filter| free(&filter));
        match is_new {
            true => {
                self.used.fetch_add(1, Ordering::SeqCst);
            }
            false => self.short.store(true, Ordering::SeqCst),
        }
        is_new
    }

    /// For the keeper: others may come after this job.
    pub fn add(&self, database: Oid, id: i64) {
        if let Some(filter) = self.of(database) {
            for (word, bit) in places(id).into_iter().filter_map(|at| filter.word(at)) {
                word.fetch_or(bit, Ordering::SeqCst);
            }
        }
        fence(Ordering::SeqCst);
    }

    /// For the keeper, which adds all again: clears a filter of which more than a quarter is set.
    pub fn tidy(&self, database: Oid) {
        let Some(filter) = self.of(database) else {
            return;
        };
        let ones = |word: &AtomicU64| u64::from(word.load(Ordering::Relaxed).count_ones());
        let set: u64 = filter.bits.iter().map(ones).sum();
        if set > (WORDS as u64).saturating_mul(16) {
            filter
                .bits
                .iter()
                .for_each(|word| word.store(0, Ordering::SeqCst));
        }
    }

    /// For the keeper: no job of its database comes after another one.
    pub fn end(&self, database: Oid) {
        let Some(filter) = self.of(database).filter(|_| database != 0) else {
            return;
        };
        self.used.fetch_sub(1, Ordering::SeqCst);
        filter
            .bits
            .iter()
            .for_each(|word| word.store(0, Ordering::SeqCst));
        filter.owner.store(0, Ordering::SeqCst);
    }
}

/// The filter of a database, or none where all are to be told.
pub struct Asked<'a>(Option<&'a Filter>);

impl Asked<'_> {
    /// Whether others may come after this job.
    pub fn has(&self, id: i64) -> bool {
        let Some(filter) = self.0 else { return true };
        let mut words = places(id).into_iter().filter_map(|at| filter.word(at));
        words.all(|(word, bit)| word.load(Ordering::SeqCst) & bit != 0)
    }
}

#[cfg(test)]
impl Filters {
    /// As the server makes them.
    pub(super) fn empty() -> Filters {
        let filter = |_| Filter {
            owner: AtomicU32::new(0),
            bits: std::array::from_fn(|_| AtomicU64::new(0)),
        };
        Filters {
            used: AtomicU32::new(0),
            short: AtomicBool::new(false),
            all: std::array::from_fn(filter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_found_and_little_else() {
        let filters = Filters::empty();
        assert!(filters.asked(5).is_none());
        assert!(filters.begin(5) && !filters.begin(5));
        (0..20).for_each(|n| filters.add(5, n * 7919));
        let asked = filters.asked(5).unwrap();
        assert!((0..20).all(|n| asked.has(n * 7919)));
        let others = (0..1000).filter(|n| asked.has(n * 7919 + 1)).count();
        assert!(others < 50, "{others}");
        assert!(filters.asked(6).is_none());
    }

    #[test]
    fn a_database_that_gives_its_filter_back_tells_nothing() {
        let filters = Filters::empty();
        filters.begin(5);
        filters.add(5, 1);
        filters.end(5);
        filters.end(5);
        assert!(filters.asked(5).is_none());
        filters.begin(6);
        assert!(!filters.asked(6).unwrap().has(1));
        assert!(filters.asked(5).is_none());
    }

    #[test]
    fn where_there_are_no_more_filters_all_is_told() {
        let filters = Filters::empty();
        for database in 1..=9 {
            assert_eq!(filters.begin(database), database < 9);
        }
        assert!(filters.asked(9).unwrap().has(4711));
        assert!(!filters.asked(8).unwrap().has(4711));
    }

    #[test]
    fn a_full_filter_is_cleared() {
        let filters = Filters::empty();
        filters.begin(5);
        filters.add(5, 1);
        filters.tidy(5);
        assert!(filters.asked(5).unwrap().has(1));
        (0..1000).for_each(|n| filters.add(5, n));
        filters.tidy(5);
        assert!(!filters.asked(5).unwrap().has(1));
    }
}
