//! Reaches: which part of a queue's order each worker has, so that others read past it.
//!
//! A worker's reach goes from the first job of its transaction to the last that it means to take.
//! What is in between is its own, or somebody else's, or came there meanwhile and waits a moment:
//! the row lock decides, a reach only spares others the attempts.

use super::low_water::Place;

/// From one place to another, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Reach {
    /// Its first place.
    pub from: Place,
    /// Its last.
    pub to: Place,
}

impl Reach {
    /// The same, extended to hold another.
    pub fn with(self, other: Reach) -> Reach {
        Reach {
            from: self.from.min(other.from),
            to: self.to.max(other.to),
        }
    }

    /// Whether it holds one of the places, which are in order.
    pub fn holds_any(&self, places: &[Place]) -> bool {
        let first = places.partition_point(|place| *place < self.from);
        places.get(first).is_some_and(|place| *place <= self.to)
    }
}

/// The reaches of several workers, in order and apart from each other.
#[derive(Default, Debug)]
pub struct Reaches(Vec<Reach>);

impl Reaches {
    /// In whatever order they come.
    pub fn new(mut all: Vec<Reach>) -> Self {
        all.sort_unstable_by_key(|reach| reach.from);
        let mut apart: Vec<Reach> = Vec::with_capacity(all.len());
        for reach in all {
            match apart.last_mut().filter(|last| last.to >= reach.from) {
                Some(last) => *last = last.with(reach),
                None => apart.push(reach),
            }
        }
        Reaches(apart)
    }

    /// The end of the reach that holds the place, if one does.
    pub fn end_of(&self, place: Place) -> Option<Place> {
        let behind = self.0.partition_point(|reach| reach.from <= place);
        let reach = self.0.get(behind.checked_sub(1)?)?;
        (place <= reach.to).then_some(reach.to)
    }
}

#[cfg(test)]
mod tests {
    use super::{Place, Reach, Reaches};

    fn place(id: i64) -> Place {
        Place {
            priority: 0,
            run_at: 0,
            id,
        }
    }

    fn reach(from: i64, to: i64) -> Reach {
        Reach {
            from: place(from),
            to: place(to),
        }
    }

    #[test]
    fn reaches_that_meet_become_one() {
        let all = Reaches::new(vec![
            reach(7, 9),
            reach(1, 3),
            reach(3, 5),
            reach(20, 30),
            reach(22, 24),
        ]);
        assert_eq!(all.0, [reach(1, 5), reach(7, 9), reach(20, 30)]);
    }

    #[test]
    fn a_place_within_is_led_to_the_end() {
        let all = Reaches::new(vec![reach(1, 5), reach(4, 9), reach(20, 20)]);
        let ends = [0, 1, 9, 10, 20, 21].map(|id| all.end_of(place(id)).map(|end| end.id));
        assert_eq!(ends, [None, Some(9), Some(9), None, Some(20), None]);
        assert_eq!(Reaches::default().end_of(place(1)), None);
    }

    #[test]
    fn places_around_a_reach_are_free() {
        let one = reach(10, 20);
        assert!(!one.holds_any(&[place(1), place(9), place(21)]));
        assert!(one.holds_any(&[place(1), place(20), place(21)]));
        assert!(one.holds_any(&[place(10)]));
        assert!(!one.holds_any(&[]));
    }
}
