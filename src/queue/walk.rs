//! The walk through the due jobs of a role's queue, in the order of the claim's index.

use crate::logic::consumers::sooner;
use crate::logic::low_water::{LowWater, Place, Reading};
use crate::pg::datum::{Datum, Micros, Oid};
use crate::pg::error::Result;
use crate::pg::table::{Compare, Key, Row, Table};

use super::job::place;

/// Columns of the claim's index.
pub mod key {
    pub const OWNER: i16 = 1;
    pub const QUEUE: i16 = 2;
    pub const PRIORITY: i16 = 3;
    pub const RUN_AT: i16 = 4;
    pub const ID: i16 = 5;
}

/// How a walk through the due jobs goes on.
pub enum Walk {
    /// With the next one.
    On,
    /// With the next one; this one was for nobody.
    Past,
    /// With the first one behind a place.
    Behind(Place),
    /// Not at all.
    Enough,
}

/// How many jobs that are for nobody walks pass by before they pause.
#[derive(Clone, Copy)]
pub struct Patience {
    left: usize,
    paused: bool,
}

impl Patience {
    /// Pauses nowhere.
    pub const ENDLESS: Self = Patience::of(usize::MAX);

    /// Of so many jobs.
    pub const fn of(left: usize) -> Self {
        Patience {
            left,
            paused: false,
        }
    }

    /// Whether a walk has paused: behind its mark there may be jobs that nobody has looked at.
    pub fn is_over(self) -> bool {
        self.paused
    }

    /// One more that is for nobody: whether the walk ends with it.
    fn ends_with(&mut self, place: Place, reading: &mut Reading) -> bool {
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            reading.pass(place);
        } else {
            self.paused |= reading.pause(place);
        }
        self.paused
    }
}

impl Default for Patience {
    fn default() -> Self {
        Patience::ENDLESS
    }
}

/// Walks the due jobs of a role's queue in order, from its marks on, as `visit` says and while the patience
/// lasts; moves the marks. Answers when the next job is due that it came upon; 0: none.
pub fn walk_due(
    (table, row): (&Table, &Row),
    (owner, queue): (Oid, Datum<'_>),
    now: Micros,
    low: &mut LowWater,
    patience: &mut Patience,
    mut visit: impl FnMut(&Row, Place) -> Result<Walk>,
) -> Result<Micros> {
    let mut later = 0;
    let owner = Key::oid(key::OWNER, Compare::Equal, owner);
    let queue = Key::text(key::QUEUE, Compare::Equal, queue);
    for stretch in low.stretches() {
        let below = stretch
            .below
            .map(|priority| Key::int4(key::PRIORITY, Compare::Less, priority));
        let mut from = stretch.from.map(place_key).transpose()?;
        let mut reading = Reading::new(low, &stretch, now);
        loop {
            let keys: Vec<Key> = [owner, queue]
                .into_iter()
                .chain(from)
                .chain(below)
                .collect();
            let scan = table.scan(&keys)?;
            from = None;
            while scan.next(row)? {
                let place = place(row);
                if place.run_at > now {
                    reading.keep(place);
                    later = sooner(later, place.run_at);
                    // The rest of this priority is due later still.
                    let next = Key::int4(key::PRIORITY, Compare::Greater, place.priority);
                    from = Some(next);
                    break;
                }
                match visit(row, place)? {
                    Walk::On => reading.keep(place),
                    Walk::Past if patience.ends_with(place, &mut reading) => {
                        return scan.end().map(|()| later);
                    }
                    Walk::Past => {}
                    Walk::Behind(end) => {
                        reading.keep(place);
                        reading.leave_out(end);
                        from = Some(place_key(end.next())?);
                        break;
                    }
                    Walk::Enough => {
                        reading.keep(place);
                        return scan.end().map(|()| later);
                    }
                }
            }
            scan.end()?;
            if from.is_none() {
                break;
            }
        }
        reading.end();
    }
    Ok(later)
}

/// Where to go on from a place.
pub fn place_key(place: Place) -> Result<Key<'static>> {
    Key::from_place(key::PRIORITY, place.priority, place.run_at, place.id)
}
