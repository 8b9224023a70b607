//! What a worker knows of jobs that have a key: the keys that it has passed by in each queue, and which of them
//! were given back since.

use std::cell::RefCell;
use std::rc::Rc;

use super::Worker;
use crate::logic::keys::Rule;
use crate::logic::keys::freed::{Freed, Since};
use crate::logic::keys::passed::Passed;
use crate::pg::datum::Oid;
use crate::pg::error::Result;
use crate::queue::claim::Jobs;
use crate::queue::key_look::{HeldKeys, KeyLook};
use crate::queue::keys::{self, KeysOf};
use crate::queue::queues::Queue;
use crate::shared::{SHARED, SlotId};

/// A round of a queue that goes by keys has no more jobs: what this worker announces, others read past, and with
/// it the keys that they could go on with.
const ROUND: usize = 8;

/// The keys of one queue. All looks share what is remembered.
#[derive(Clone, Default)]
pub(super) struct KnownKeys {
    rule: Option<Rule>,
    passed: Rc<RefCell<Passed>>,
}

/// One look at a queue that goes by keys.
pub(super) struct KeyView<'q> {
    of: KeysOf<'q>,
    held: HeldKeys,
    passed: Rc<RefCell<Passed>>,
}

impl KnownKeys {
    /// Nothing is known of a queue with these settings.
    pub(super) fn new(queue: &Queue) -> Self {
        KnownKeys {
            rule: queue.by_key,
            passed: Rc::default(),
        }
    }

    /// Whether what is known was found under these settings.
    pub(super) fn are_of(&self, queue: &Queue) -> bool {
        self.rule == queue.by_key
    }

    /// How many jobs a round has at most, of a batch of so many.
    pub(super) fn round(queue: &Queue, most: usize) -> usize {
        match queue.by_key {
            Some(_) => most.min(ROUND),
            None => most,
        }
    }

    /// Before a look takes its snapshot: who holds which keys; `None` where the queue does not go by them.
    pub(super) fn begin<'q>(
        &self,
        slot: SlotId,
        queue: &'q Queue,
        role: Oid,
    ) -> Option<KeyView<'q>> {
        let of = KeysOf::new(queue, role)?;
        Some(KeyView {
            held: keys::held(&of, Some(slot)),
            passed: Rc::clone(&self.passed),
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
        ))
    }
}

impl Worker {
    /// Before a look: notes which of the keys that it has passed by were given back.
    pub(super) fn hear_of_keys(&mut self) {
        let has_passed = |known: &super::look::Known| !known.keys.passed.borrow().is_empty();
        if !self.known.values().any(has_passed) {
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
