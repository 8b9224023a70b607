//! The minute in which jobs end now.

use super::places::{self, Places};
use super::ring::Ring;
use super::{DAY, Hint, Minute, Tally};

/// How many tallies there is room for.
pub const PLACES: usize = 2048;

/// How many bytes of the ring the tallies may take in a minute that are closed early. Without a bound, batches of
/// ever other queues would soon fill all of it.
const EARLY_BYTES: u64 = 128 << 10;

/// Whose ends are counted together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Whose {
    /// The database.
    pub database: u32,
    /// The queue, by its number.
    pub queue: i32,
    /// Whose jobs.
    pub role: u32,
}

impl places::Key for Whose {
    fn hash(&self) -> u64 {
        places::mix([self.database, self.queue as u32, self.role])
    }
}

/// See above. Zero bytes are its first state.
#[repr(C)]
pub struct Open {
    minute: Minute,
    /// What was closed early in it has taken so many bytes.
    early: u64,
    places: Places<Whose, PLACES>,
    tallies: [Tally; PLACES],
}

impl Open {
    #[cfg(test)]
    pub(super) fn empty() -> Open {
        let nobody = Whose {
            database: 0,
            queue: 0,
            role: 0,
        };
        Open {
            minute: 0,
            early: 0,
            places: Places::empty(nobody),
            tallies: [Tally::NONE; PLACES],
        }
    }

    /// A count comes in that minute: closes the open one, if that is another. A minute back is no other: the
    /// clock was read before the lock was taken, or was set back a little.
    pub(super) fn turn_to(&mut self, minute: Minute, ring: &mut Ring) {
        let is_same = minute == self.minute || minute == self.minute.saturating_sub(1);
        if is_same && self.places.count() > 0 {
            return;
        }
        for (index, whose) in self.places.iter() {
            if let Some(tally) = self.tallies.get(index) {
                ring.append(self.minute, *whose, tally);
            }
        }
        self.places.clear();
        if self.minute != minute {
            self.early = 0;
        }
        self.minute = minute;
        ring.trim(minute.saturating_sub(DAY));
        ring.begin(minute);
    }

    /// The tally of a queue and role in the open minute; `None` if there is no room, which the ring notes.
    pub(super) fn tally(
        &mut self,
        whose: Whose,
        ring: &mut Ring,
        hint: &mut Hint,
    ) -> Option<&mut Tally> {
        let known = self.places.find(&whose, *hint);
        let index = known.or_else(|| self.take_place(whose, ring))?;
        *hint = index;
        self.tallies.get_mut(index)
    }

    /// A free place, else that of the tally which has counted nothing for longest: it is closed early.
    fn take_place(&mut self, whose: Whose, ring: &mut Ring) -> Option<usize> {
        if self.places.count() >= PLACES && self.early >= EARLY_BYTES {
            ring.lose(self.minute);
            return None;
        }
        let (index, gives_way) = self.places.choose();
        let tally = self.tallies.get_mut(index)?;
        if let Some(other) = gives_way {
            let taken = ring.append(self.minute, other, tally);
            self.early = self.early.saturating_add(taken);
        }
        *tally = Tally::NONE;
        self.places.put(index, whose);
        Some(index)
    }

    pub(super) fn forget(&mut self, database: u32) {
        for index in 0..PLACES {
            if self
                .places
                .get(index)
                .is_some_and(|w| w.database == database)
            {
                self.places.free(index);
            }
        }
    }

    /// The minute, and the tallies of a database in it.
    pub fn of_database(&self, database: u32) -> (Minute, impl Iterator<Item = (Whose, &Tally)>) {
        let used = self.places.iter();
        let found = used.filter(move |(_, whose)| whose.database == database);
        let tally = |(index, whose): (usize, &Whose)| Some((*whose, self.tallies.get(index)?));
        (self.minute, found.filter_map(tally))
    }
}
