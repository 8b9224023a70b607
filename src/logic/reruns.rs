//! Jobs that wait for the end of the one that has their unique key: who sees to it that none waits for ever.
//!
//! Two transactions may pass each other: one adds a job that waits, since another job has the key, and one
//! ends that other job, and sees no job that waits. Neither sees what the other has not committed yet. So
//! each reads the clock before it looks, and after its COMMIT says under the lock for which keys it has done
//! so. Whoever is the second to say so sees the first one's word, and has the keeper look, by which time
//! both are committed. Keys share buckets: a look too many does no harm.

/// Keys are told apart by so many hashes.
pub const BUCKETS: usize = 64;

/// What a transaction did to keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It added a job that waits, or changed one.
    Waits,
    /// It ended, or took away, a job that others may wait for.
    Ends,
}

/// What one transaction has to say.
#[derive(Clone, Copy, Debug)]
pub struct Word {
    /// What it did.
    pub side: Side,
    /// Bit i: to a key of bucket i.
    pub buckets: u64,
    /// The clock, as of before it looked.
    pub since: u64,
}

impl Word {
    /// Becomes the word of both; false if that takes two.
    pub fn takes_in(&mut self, more: &Word) -> bool {
        if self.side != more.side {
            return false;
        }
        self.buckets |= more.buckets;
        self.since = self.since.min(more.since);
        true
    }
}

/// What was said. Zero bytes are its first state.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Reruns {
    /// Counts the words.
    clock: u64,
    /// Counts the looks that were asked for.
    asked: u64,
    /// When each bucket was last named, by each side.
    said: [[u64; BUCKETS]; 2],
}

impl Reruns {
    /// Nothing was said.
    #[cfg(test)]
    pub const EMPTY: Reruns = Reruns {
        clock: 0,
        asked: 0,
        said: [[0; BUCKETS]; 2],
    };

    /// The clock.
    pub fn clock(&self) -> u64 {
        self.clock
    }

    /// How many looks were asked for: the keeper that sees another number looks.
    pub fn asked(&self) -> u64 {
        self.asked
    }

    /// Asks for a look.
    pub fn ask(&mut self) {
        self.asked = self.asked.wrapping_add(1);
    }

    /// A transaction that has committed says what it did; true if somebody must look, which is asked for.
    pub fn say(&mut self, word: &Word) -> bool {
        self.clock = self.clock.saturating_add(1);
        let clock = self.clock;
        let [waits, ends] = &mut self.said;
        let (own, other) = match word.side {
            Side::Waits => (waits, ends),
            Side::Ends => (ends, waits),
        };
        let mut passed = false;
        for (bucket, (own, other)) in own.iter_mut().zip(other.iter()).enumerate() {
            if word.buckets >> bucket & 1 == 1 {
                *own = clock;
                passed |= *other > word.since;
            }
        }
        if passed {
            self.ask();
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A step of one of the two transactions.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Step {
        ReadClock,
        Look,
        Commit,
        Say,
    }
    const STEPS: [Step; 4] = [Step::ReadClock, Step::Look, Step::Commit, Step::Say];

    #[derive(Clone, Default)]
    struct Actor {
        at: usize,
        since: u64,
        committed: bool,
        saw_other: bool,
        asked: bool,
    }

    /// All orders of the steps of two transactions: one adds a job that waits, the other ends the one that
    /// it waits for, and releases what it sees. In the end the job is released, or a look is asked for at
    /// a time at which both are committed.
    fn go_on(actors: [Actor; 2], reruns: Reruns, orders: &mut usize) {
        if actors.iter().all(|actor| actor.at == STEPS.len()) {
            let released = actors[1].saw_other;
            let looked = actors.iter().any(|actor| actor.asked);
            // Where the end is seen, nothing is added that waits.
            let waits = !actors[0].saw_other;
            assert!(!waits || released || looked);
            *orders += 1;
            return;
        }
        for turn in 0..2 {
            let (mut actors, mut reruns) = (actors.clone(), reruns);
            let other_committed = actors[1 - turn].committed;
            let actor = &mut actors[turn];
            let Some(step) = STEPS.get(actor.at) else {
                continue;
            };
            actor.at += 1;
            match step {
                Step::ReadClock => actor.since = reruns.clock(),
                Step::Look => actor.saw_other = other_committed,
                Step::Commit => actor.committed = true,
                Step::Say => {
                    let side = [Side::Waits, Side::Ends][turn];
                    let (buckets, since) = (1 << 7, actor.since);
                    actor.asked = reruns.say(&Word {
                        side,
                        buckets,
                        since,
                    });
                    if actor.asked {
                        assert!(other_committed && actor.committed);
                    }
                }
            }
            go_on(actors, reruns, orders);
        }
    }

    #[test]
    fn no_order_of_two_transactions_leaves_a_job_waiting() {
        let mut orders = 0;
        go_on(Default::default(), Reruns::EMPTY, &mut orders);
        assert_eq!(orders, 70);
    }

    #[test]
    fn those_who_did_not_meet_ask_for_nothing() {
        let mut reruns = Reruns::EMPTY;
        let word = |side, bucket: u32, since| Word {
            side,
            buckets: 1 << bucket,
            since,
        };
        assert!(!reruns.say(&word(Side::Ends, 3, 0)));
        assert!(!reruns.say(&word(Side::Ends, 3, 0)));
        assert!(!reruns.say(&word(Side::Waits, 4, 0)));
        assert!(!reruns.say(&word(Side::Waits, 3, reruns.clock())));
        assert_eq!(reruns.asked(), 0);
        assert!(reruns.say(&word(Side::Waits, 3, 1)));
        assert_eq!(reruns.asked(), 1);
    }

    #[test]
    fn words_of_one_side_become_one() {
        let mut first = Word {
            side: Side::Ends,
            buckets: 1,
            since: 9,
        };
        let second = Word {
            buckets: 4,
            since: 7,
            ..first
        };
        assert!(first.takes_in(&second));
        assert_eq!((first.buckets, first.since), (5, 7));
        assert!(!first.takes_in(&Word {
            side: Side::Waits,
            ..first
        }));
    }
}
