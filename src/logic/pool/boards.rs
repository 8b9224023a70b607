//! What a worker has passed by in a queue that goes by keys, for those of its lane that begin: where a million jobs of
//! a key that is held up stand before the others, one of them has read them.

use super::{Oid, SeenArrivals, State, Text};
use crate::logic::keys::KeyId;
use crate::logic::low_water::{LowWater, Place};

/// So many queues have a board.
const BOARDS: usize = 8;
/// The most marks, keys and bytes of a key on a board.
const MARKS: usize = 4;
/// See above.
pub const BOARD_KEYS: usize = 8;
/// See above.
pub const BOARD_KEY_BYTES: usize = 128;

const NOWHERE: Place = Place {
    priority: 0,
    run_at: 0,
    id: 0,
};

/// Of which queue a board is, and under which settings what stands there was found.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct KeyBoardOf {
    /// The database; 0: not in use.
    pub database: Oid,
    /// Whose jobs.
    pub role: Oid,
    /// The queue, by its id.
    pub queue: i32,
    /// Changes of queues' settings that had been told.
    pub told: u64,
}

/// What a worker has passed by.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct KeyBoard {
    of: KeyBoardOf,
    /// Tells it from those before.
    number: u64,
    /// What of its lane's arrivals the marks account for.
    seen: SeenArrivals,
    marks: [Place; MARKS],
    mark_count: usize,
    keys: [(KeyId, Place, Text<BOARD_KEY_BYTES>); BOARD_KEYS],
    key_count: usize,
}

impl KeyBoard {
    pub(super) const NONE: KeyBoard = KeyBoard {
        of: KeyBoardOf {
            database: 0,
            role: 0,
            queue: 0,
            told: 0,
        },
        number: 0,
        seen: SeenArrivals::NONE,
        marks: [NOWHERE; MARKS],
        mark_count: 0,
        keys: [(KeyId::NONE, NOWHERE, Text::EMPTY); BOARD_KEYS],
        key_count: 0,
    };

    /// The marks of a worker, and the keys whose jobs they pass; `None` if they are too many.
    pub fn new<'k>(
        of: KeyBoardOf,
        seen: SeenArrivals,
        low: &LowWater,
        keys: impl Iterator<Item = (KeyId, Place, &'k [u8])>,
    ) -> Option<KeyBoard> {
        let mut board = KeyBoard {
            of,
            seen,
            ..KeyBoard::NONE
        };
        for mark in low.marks() {
            *board.marks.get_mut(board.mark_count)? = *mark;
            board.mark_count = board.mark_count.saturating_add(1);
        }
        for (key, first, text) in keys {
            let place = board.keys.get_mut(board.key_count)?;
            if text.len() > BOARD_KEY_BYTES {
                return None;
            }
            (place.0, place.1) = (key, first);
            place.2.set(text);
            board.key_count = board.key_count.saturating_add(1);
        }
        (board.mark_count > 0).then_some(board)
    }

    /// The marks, as they were.
    pub fn low(&self) -> LowWater {
        let marks = self.marks.get(..self.mark_count);
        LowWater::of(marks.unwrap_or_default())
    }

    /// The keys whose jobs the marks pass, and where the first of these jobs stand.
    pub fn keys(&self) -> impl Iterator<Item = (KeyId, Place, &[u8])> {
        let keys = self.keys.iter().take(self.key_count);
        keys.map(|(key, first, text)| (*key, *first, text.get()))
    }

    /// Tells it from those before.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What of its lane's arrivals the marks account for.
    pub fn seen(&self) -> SeenArrivals {
        self.seen
    }
}

/// All of them. Zero bytes are none.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct KeyBoards {
    boards: [KeyBoard; BOARDS],
    next: usize,
    /// How many were put up.
    count: u64,
}

impl KeyBoards {
    #[cfg(test)]
    pub(super) const EMPTY: KeyBoards = KeyBoards {
        boards: [KeyBoard::NONE; BOARDS],
        next: 0,
        count: 0,
    };
}

impl State {
    /// Puts a board up, in place of what was known of that queue, or of another one.
    /// Answers its number.
    pub fn put_up(&mut self, board: &KeyBoard) -> u64 {
        let (of, all) = (&board.of, &mut self.boards);
        let same = |known: &KeyBoard| {
            (known.of.database, known.of.role, known.of.queue) == (of.database, of.role, of.queue)
        };
        let index = all.boards.iter().position(same).unwrap_or_else(|| {
            let next = all.next;
            all.next = next.saturating_add(1).checked_rem(BOARDS).unwrap_or(0);
            next
        });
        all.count = all.count.saturating_add(1);
        let number = all.count;
        if let Some(place) = all.boards.get_mut(index) {
            *place = KeyBoard { number, ..*board };
        }
        number
    }

    /// What stands there of a queue, unless it is the board of that number.
    pub fn board(&self, of: &KeyBoardOf, but: u64) -> Option<KeyBoard> {
        let known = self.boards.boards.iter().find(|board| board.of == *of);
        let new = |board: &&KeyBoard| of.database != 0 && board.number != but;
        known.filter(new).copied()
    }
}
