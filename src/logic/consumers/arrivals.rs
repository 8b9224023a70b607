//! What came into the queues of consumers, by time: so a session that has read on in a queue learns
//! how far it must step back.
//!
//! Each commit notes the earliest `run_at` of what it brought in the slot of the moment: slots of 10 ms
//! for the last half second, slots of 1 s for the last minute. Who asks what came since a moment reads the
//! slots from that one on; who asks later than a minute after it begins anew.

use super::Channel;
use crate::logic::Micros;
use crate::logic::pool::Oid;

/// So many queues are noted at a time; of the others every look begins anew.
const BOARDS: usize = 64;
/// The slots of each length.
const SLOTS: usize = 64;
/// How long the short ones are, and the long ones.
const SHORT: Micros = 10_000;
const LONG: Micros = 1_000_000;

/// The earliest of what came in one stretch of time.
#[derive(Clone, Copy)]
#[repr(C)]
struct Slot {
    /// Which stretch, counted from the epoch; 0: never used.
    number: i64,
    earliest: Micros,
}

/// What came into one queue.
#[derive(Clone, Copy)]
#[repr(C)]
struct Board {
    channel: Channel,
    /// Tells this use of the board from those before; 0: not in use.
    born: u64,
    short: [Slot; SLOTS],
    long: [Slot; SLOTS],
}

/// All of them. Zero bytes are their first state.
#[repr(C)]
pub struct Boards {
    boards: [Board; BOARDS],
    births: u64,
}

/// What has come since a reader's last time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Came {
    /// Nothing.
    Nothing,
    /// Jobs of which the first is due then.
    Since(Micros),
    /// Nobody knows: begin anew.
    Unknown,
}

/// Up to when a session has read a queue.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct ReadUpTo {
    born: u64,
    time: Micros,
}

fn came(earliest: Option<Micros>) -> Came {
    earliest.map_or(Came::Nothing, Came::Since)
}

fn note(slots: &mut [Slot; SLOTS], length: Micros, now: Micros, run_at: Micros) {
    let number = now.div_euclid(length);
    let index = number.rem_euclid(SLOTS as i64) as usize;
    if let Some(slot) = slots.get_mut(index) {
        if slot.number == number {
            slot.earliest = slot.earliest.min(run_at);
        } else {
            *slot = Slot {
                number,
                earliest: run_at,
            };
        }
    }
}

/// The earliest of what came from the slot of `since` on; `None` for nothing.
fn earliest(slots: &[Slot; SLOTS], length: Micros, since: Micros) -> Option<Micros> {
    let from = since.div_euclid(length);
    let later = slots
        .iter()
        .filter(|slot| slot.number >= from && slot.number != 0);
    later.map(|slot| slot.earliest).min()
}

impl Boards {
    #[cfg(test)]
    pub fn empty() -> Self {
        let slot = Slot {
            number: 0,
            earliest: 0,
        };
        let board = Board {
            channel: Channel {
                database: 0,
                queue: 0,
            },
            born: 0,
            short: [slot; SLOTS],
            long: [slot; SLOTS],
        };
        Boards {
            boards: [board; BOARDS],
            births: 0,
        }
    }

    /// Something came that is due at `run_at`. A commit of which the queue is not known has all readers
    /// of the database begin anew.
    pub fn note(&mut self, channel: Channel, now: Micros, run_at: Micros) {
        if channel.queue == 0 {
            self.forget(channel.database);
            return;
        }
        let same = |board: &&mut Board| board.born != 0 && board.channel == channel;
        if let Some(board) = self.boards.iter_mut().find(same) {
            note(&mut board.short, SHORT, now, run_at);
            note(&mut board.long, LONG, now, run_at);
        }
    }

    /// Has all readers of a database's queues begin anew.
    pub fn forget(&mut self, database: Oid) {
        let ours = |board: &&mut Board| board.channel.database == database;
        for board in self.boards.iter_mut().filter(ours) {
            board.born = 0;
        }
    }

    /// What came since the reader's last time. From now on the reader has read up to `now`, which was before
    /// his snapshot.
    pub fn since(&mut self, channel: Channel, read: &mut ReadUpTo, now: Micros) -> Came {
        let same = |board: &Board| board.born != 0 && board.channel == channel;
        let known = self.boards.iter().position(same);
        let Some(index) = known.or_else(|| self.make(channel)) else {
            return Came::Unknown;
        };
        let Some(board) = self.boards.get(index) else {
            return Came::Unknown;
        };
        let before = *read;
        *read = ReadUpTo {
            born: board.born,
            time: now,
        };
        let passed = now.saturating_sub(before.time);
        let slots = SLOTS as i64;
        if before.born != board.born || passed < 0 {
            Came::Unknown
        } else if passed < SHORT.saturating_mul(slots.saturating_sub(2)) {
            came(earliest(&board.short, SHORT, before.time))
        } else if passed < LONG.saturating_mul(slots.saturating_sub(2)) {
            came(earliest(&board.long, LONG, before.time))
        } else {
            Came::Unknown
        }
    }

    /// A board for the queue: one that is free, else the oldest.
    fn make(&mut self, channel: Channel) -> Option<usize> {
        let all = self.boards.iter().enumerate();
        let (index, _) = all.min_by_key(|(_, board)| board.born)?;
        self.births = self.births.saturating_add(1);
        let empty = Slot {
            number: 0,
            earliest: 0,
        };
        *self.boards.get_mut(index)? = Board {
            channel,
            born: self.births,
            short: [empty; SLOTS],
            long: [empty; SLOTS],
        };
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Channel;
    use super::{BOARDS, Boards, Came, ReadUpTo};

    fn channel(queue: i32) -> Channel {
        Channel { database: 1, queue }
    }

    const SECOND: i64 = 1_000_000;

    #[test]
    fn a_first_look_begins_anew_and_the_next_learns_what_came() {
        let mut boards = Boards::empty();
        let mut read = ReadUpTo::default();
        let start = 100 * SECOND;
        assert_eq!(boards.since(channel(3), &mut read, start), Came::Unknown);
        assert_eq!(
            boards.since(channel(3), &mut read, start + 1000),
            Came::Nothing
        );
        boards.note(channel(3), start + 2000, 7);
        boards.note(channel(3), start + 30_000, 9);
        boards.note(channel(4), start + 2000, 1);
        assert_eq!(
            boards.since(channel(3), &mut read, start + 40_000),
            Came::Since(7)
        );
        assert_eq!(
            boards.since(channel(3), &mut read, start + 90_000),
            Came::Nothing
        );
    }

    #[test]
    fn what_came_in_the_slot_of_the_last_look_is_told_again() {
        let mut boards = Boards::empty();
        let mut read = ReadUpTo::default();
        let _ = boards.since(channel(3), &mut read, SECOND + 5_000);
        boards.note(channel(3), SECOND + 5_001, 7);
        assert_eq!(
            boards.since(channel(3), &mut read, SECOND + 5_002),
            Came::Since(7)
        );
        assert_eq!(
            boards.since(channel(3), &mut read, SECOND + 5_003),
            Came::Since(7)
        );
    }

    #[test]
    fn long_pauses_are_covered_up_to_a_minute() {
        let mut boards = Boards::empty();
        let mut read = ReadUpTo::default();
        let start = 1000 * SECOND;
        let _ = boards.since(channel(3), &mut read, start);
        boards.note(channel(3), start + 20 * SECOND, 7);
        boards.note(channel(3), start + 50 * SECOND, 8);
        let after = start + 55 * SECOND;
        assert_eq!(boards.since(channel(3), &mut read, after), Came::Since(7));
        assert_eq!(
            boards.since(channel(3), &mut read, after + 70 * SECOND),
            Came::Unknown
        );
    }

    #[test]
    fn an_unknown_queue_and_a_clock_set_back_begin_anew() {
        let mut boards = Boards::empty();
        let mut read = ReadUpTo::default();
        let _ = boards.since(channel(3), &mut read, 5 * SECOND);
        boards.note(channel(0), 6 * SECOND, 7);
        assert_eq!(
            boards.since(channel(3), &mut read, 7 * SECOND),
            Came::Unknown
        );
        assert_eq!(
            boards.since(channel(3), &mut read, 6 * SECOND),
            Came::Unknown
        );
    }

    #[test]
    fn with_more_queues_than_room_the_oldest_begins_anew() {
        let mut boards = Boards::empty();
        let mut read = ReadUpTo::default();
        let _ = boards.since(channel(1), &mut read, SECOND);
        for queue in 2..BOARDS as i32 + 2 {
            let _ = boards.since(channel(queue), &mut ReadUpTo::default(), SECOND);
        }
        assert_eq!(
            boards.since(channel(1), &mut read, SECOND + 1),
            Came::Unknown
        );
    }
}
