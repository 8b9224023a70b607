//! Which jobs of a key may start, as far as a look can tell.

use super::Rule;

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// None.
    Nothing,
    /// This one.
    Only(i64),
    /// Those behind this one, in order.
    Behind(i64),
    /// So many.
    Room(usize),
}

impl Verdict {
    /// In a fifo queue of whose key nobody has a job: `first` is the first one that waits for nothing but its turn.
    pub fn of_first(first: Option<i64>) -> Verdict {
        first.map_or(Verdict::Nothing, Verdict::Only)
    }

    /// Else, if so many of the key are at work. `at_once`: the jobs that are taken now run at the same time.
    pub fn of_room(rule: Rule, at_work: usize, at_once: bool) -> Verdict {
        match rule.most.saturating_sub(at_work) {
            0 => Verdict::Nothing,
            room if at_once => Verdict::Room(room),
            _ => Verdict::Room(usize::MAX),
        }
    }

    /// Whether this job may start; it counts then.
    pub fn lets(&mut self, job: i64, at_once: bool) -> bool {
        match *self {
            Verdict::Only(first) if first == job => {
                *self = match at_once {
                    true => Verdict::Nothing,
                    false => Verdict::Behind(job),
                };
                true
            }
            Verdict::Behind(last) if last < job => {
                *self = Verdict::Behind(job);
                true
            }
            Verdict::Nothing | Verdict::Only(_) | Verdict::Behind(_) => false,
            Verdict::Room(room) => {
                *self = match room.saturating_sub(1) {
                    0 => Verdict::Nothing,
                    left => Verdict::Room(if at_once { left } else { room }),
                };
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Rule, Verdict};

    #[test]
    fn a_worker_goes_on_behind_the_first_and_a_consumer_does_not() {
        let mut verdict = Verdict::of_first(Some(5));
        assert!(!verdict.lets(6, false) && verdict.lets(5, false));
        assert!(verdict.lets(8, false) && !verdict.lets(7, false));
        let mut verdict = Verdict::of_first(Some(5));
        assert!(verdict.lets(5, true) && !verdict.lets(6, true));
    }

    #[test]
    fn a_worker_runs_any_number_one_after_the_other() {
        let rule = Rule {
            most: 3,
            is_fifo: false,
        };
        let mut verdict = Verdict::of_room(rule, 1, false);
        assert!((0..100).all(|job| verdict.lets(job, false)));
        let mut verdict = Verdict::of_room(rule, 1, true);
        assert!(verdict.lets(9, true) && verdict.lets(3, true) && !verdict.lets(10, true));
        assert_eq!(Verdict::of_room(rule, 4, false), Verdict::Nothing);
    }
}
