//! The minute in which jobs end now.

use super::ring::Ring;
use super::{DAY, Hint, Minute, Tally};

/// How many tallies there is room for.
pub const PLACES: usize = 256;

/// Whose ends are counted together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Whose {
    /// The database; 0: the place is not in use.
    pub database: u32,
    /// The queue, by its number.
    pub queue: i32,
    /// Whose jobs.
    pub role: u32,
}

const NOBODY: Whose = Whose {
    database: 0,
    queue: 0,
    role: 0,
};

#[derive(Clone, Copy)]
#[repr(C)]
struct Place {
    whose: Whose,
    /// When it last counted anything, in turns.
    turn: u64,
}

/// See above. Zero bytes are its first state.
#[repr(C)]
pub struct Open {
    minute: Minute,
    /// Places behind this have counted nothing in this minute.
    used: u32,
    /// Goes up with each count.
    turn: u64,
    places: [Place; PLACES],
    tallies: [Tally; PLACES],
}

impl Open {
    #[cfg(test)]
    pub(super) fn empty() -> Open {
        Open {
            minute: 0,
            used: 0,
            turn: 0,
            places: [Place {
                whose: NOBODY,
                turn: 0,
            }; PLACES],
            tallies: [Tally::NONE; PLACES],
        }
    }

    /// A count comes in that minute: closes the open one, if that is another. A minute back is no other: the
    /// clock was read before the lock was taken, or was set back a little.
    pub(super) fn turn_to(&mut self, minute: Minute, ring: &mut Ring) {
        let is_same = minute == self.minute || minute == self.minute.saturating_sub(1);
        if is_same && self.used > 0 {
            return;
        }
        for index in 0..self.used as usize {
            self.close(index, ring);
        }
        self.used = 0;
        self.minute = minute;
        ring.trim(minute.saturating_sub(DAY));
        ring.begin(minute);
    }

    /// The tally of a queue and role in the open minute.
    pub(super) fn tally(
        &mut self,
        whose: Whose,
        ring: &mut Ring,
        hint: &mut Hint,
    ) -> Option<&mut Tally> {
        let index = match self.find(whose, *hint) {
            Some(index) => index,
            None => self.take_place(whose, ring)?,
        };
        *hint = index;
        self.turn = self.turn.saturating_add(1);
        self.places.get_mut(index)?.turn = self.turn;
        self.tallies.get_mut(index)
    }

    fn find(&self, whose: Whose, hint: Hint) -> Option<usize> {
        let used = self.places.get(..self.used as usize)?;
        if used.get(hint).is_some_and(|place| place.whose == whose) {
            return Some(hint);
        }
        used.iter().position(|place| place.whose == whose)
    }

    /// A place that is not in use, else that of the tally which has counted nothing for longest: it is closed
    /// early.
    fn take_place(&mut self, whose: Whose, ring: &mut Ring) -> Option<usize> {
        let index = match self.used as usize {
            used if used < PLACES => {
                self.used = self.used.saturating_add(1);
                used
            }
            _ => {
                let places = self.places.iter().enumerate();
                let oldest = places
                    .min_by_key(|(_, p)| (p.whose.database != 0, p.turn))?
                    .0;
                self.close(oldest, ring);
                oldest
            }
        };
        self.places.get_mut(index)?.whose = whose;
        *self.tallies.get_mut(index)? = Tally::NONE;
        Some(index)
    }

    fn close(&mut self, index: usize, ring: &mut Ring) {
        if let (Some(place), Some(tally)) = (self.places.get_mut(index), self.tallies.get(index)) {
            if place.whose.database != 0 {
                ring.append(self.minute, place.whose, tally);
            }
            place.whose = NOBODY;
        }
    }

    pub(super) fn forget(&mut self, database: u32) {
        let of_it = |place: &&mut Place| place.whose.database == database;
        let places = self.places.iter_mut().filter(of_it);
        places.for_each(|place| place.whose = NOBODY);
    }

    /// The minute, and the tallies of a database in it.
    pub fn of_database(&self, database: u32) -> (Minute, impl Iterator<Item = (Whose, &Tally)>) {
        let used = self.places.iter().zip(&self.tallies);
        let used = used.take(self.used as usize);
        let found = used.filter(move |(place, _)| place.whose.database == database);
        (
            self.minute,
            found.map(|(place, tally)| (place.whose, tally)),
        )
    }
}
