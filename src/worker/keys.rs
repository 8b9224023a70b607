//! What a worker knows of jobs that have a key: the keys that it has passed by in each queue, and which of them
//! were given back since.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::Ordering;

use super::Worker;
use crate::logic::keys::freed::{Freed, Since};
use crate::logic::keys::passed::Passed;
use crate::logic::keys::{KeyId, Rule};
use crate::logic::low_water::{LowWater, Place};
use crate::logic::rates::Rate;
use crate::pg::datum::Oid;
use crate::pg::error::Result;
use crate::queue::claim::Jobs;
use crate::queue::key_look::{self, HeldKeys, KeyLook};
use crate::queue::keys::{self, KeysOf};
use crate::queue::queues::Queue;
use crate::shared::{KeyBoard, KeyBoardOf, SHARED, SlotId};

/// A round of a queue that goes by keys has no more jobs: what this worker announces, others read past, and with
/// it the keys that they could go on with.
const ROUND: usize = 8;
/// What looks have passed is put up for others once it was so much.
const MANY: usize = 2000;

/// The keys of one queue. All looks share what is remembered.
#[derive(Clone, Default)]
pub(super) struct KnownKeys {
    rule: Option<Rule>,
    rate: Option<Rate>,
    passed: Rc<RefCell<Passed>>,
    /// Jobs that looks have passed since a board was put up.
    count: Rc<Cell<usize>>,
    /// The board that was put up, or taken over, last.
    board: u64,
}

/// One look at a queue whose looks tell keys apart.
pub(super) struct KeyView<'q> {
    of: KeysOf<'q>,
    held: HeldKeys,
    passed: Rc<RefCell<Passed>>,
    count: Rc<Cell<usize>>,
}

impl KnownKeys {
    /// Nothing is known of a queue with these settings.
    pub(super) fn new(queue: &Queue) -> Self {
        KnownKeys {
            rule: queue.by_key,
            rate: queue.rate_of_keys(),
            passed: Rc::new(RefCell::new(key_look::none_passed())),
            count: Rc::default(),
            board: 0,
        }
    }

    /// Whether what is known was found under these settings.
    pub(super) fn are_of(&self, queue: &Queue) -> bool {
        self.rule == queue.by_key && self.rate == queue.rate_of_keys()
    }

    /// How many jobs a round has at most, of a batch of so many.
    pub(super) fn round(queue: &Queue, most: usize) -> usize {
        match queue.by_key {
            Some(_) => most.min(ROUND),
            None => most,
        }
    }

    /// Before a look takes its snapshot: who holds which keys; `None` where the look need not tell keys apart.
    pub(super) fn begin<'q>(
        &self,
        slot: SlotId,
        queue: &'q Queue,
        role: Oid,
    ) -> Option<KeyView<'q>> {
        let of = KeysOf::of_look(queue, role)?;
        Some(KeyView {
            held: match of.rule.binds() {
                true => keys::held(&of, Some(slot)),
                false => HeldKeys::default(),
            },
            passed: Rc::clone(&self.passed),
            count: Rc::clone(&self.count),
            of,
        })
    }
}

impl KeyView<'_> {
    /// The look, under the snapshot that is active then.
    pub(super) fn look<'a>(&'a self, jobs: &'a Jobs) -> Result<KeyLook<'a>> {
        let tables = jobs.keys()?;
        Ok(KeyLook::new(
            tables,
            &self.of,
            &self.held,
            &self.passed,
            false,
            &self.count,
        ))
    }
}

impl Worker {
    /// Of which queue a board is, with the settings as they are told.
    fn board_of(&self, queue: &Queue) -> KeyBoardOf {
        let told = SHARED.peek(|unlocked| unlocked.queue_changes.load(Ordering::Acquire));
        KeyBoardOf {
            database: self.database,
            role: self.role,
            queue: queue.id,
            told: told.unwrap_or(0),
        }
    }

    /// Takes over how far another worker of the lane has read in a queue. What came since is read, and each key that
    /// its marks have passed is looked at.
    pub(super) fn adopt(&self, queue: &Queue, low: &mut LowWater, keys: &mut KnownKeys) {
        if !queue.tells_keys() {
            return;
        }
        let (database, role) = (self.database, self.role);
        let (of, but) = (self.board_of(queue), keys.board);
        let found = SHARED.change(|state| {
            let board = state.board(&of, but)?;
            // Not read for this worker, which hears of what comes from here on by itself.
            let late = state.lane(database, role)?.arrivals_between(board.seen());
            Some((board, late))
        });
        let Some((board, late)) = found else { return };
        keys.board = board.number();
        let mut further = board.low();
        if let Some(run_at) = late {
            further.step_back(run_at);
        }
        let mut passed = keys.passed.borrow_mut();
        let mut remember = |(key, place, text): (KeyId, Place, &[u8])| {
            let text = (key != KeyId::WITHOUT).then(|| Rc::from(text));
            let is_known = passed.remember(key, &text, place, 0);
            passed.stir(key);
            is_known
        };
        if board.keys().all(&mut remember) {
            low.advance(&further);
        }
    }

    /// Puts up for others what a look has passed by, if that was much.
    pub(super) fn put_up(&self, queue: &Queue, low: &LowWater, keys: &mut KnownKeys) {
        if keys.count.get() < MANY {
            return;
        }
        keys.count.set(0);
        let of = self.board_of(queue);
        let passed = keys.passed.borrow();
        let all = passed.keys();
        let all = all.map(|(key, text, place)| (key, place, text.as_deref().unwrap_or_default()));
        let board = KeyBoard::new(of, self.arrivals, low, all);
        let number = board.and_then(|board| SHARED.write(|state| state.put_up(&board)));
        drop(passed);
        keys.board = number.unwrap_or(keys.board);
    }

    /// Whether a queue that it has looked at goes by keys: it may hold some.
    pub(super) fn goes_by_keys(&self) -> bool {
        let mut all = self.known.values();
        all.any(|known| known.keys.rule.is_some())
    }

    /// Before a look: notes which of the keys that it has passed by were given back.
    pub(super) fn hear_of_keys(&mut self) {
        let mut all = self.known.values();
        if all.all(|known| known.keys.passed.borrow().is_empty()) {
            return;
        }
        let mut freed = Vec::with_capacity(Freed::ROOM);
        let read = &mut self.freed;
        let since = SHARED.read(|state| state.freed.since(read, &mut freed));
        for known in self.known.values() {
            let mut passed = known.keys.passed.borrow_mut();
            match since {
                Some(Since::These) => freed.iter().for_each(|key| passed.stir(*key)),
                _ => passed.stir_all(),
            }
        }
    }
}
