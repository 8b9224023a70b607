//! What the open transaction brings for consumers: at its COMMIT the sessions that wait are told.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use crate::logic::consumers::waiting::Arrival;
use crate::logic::consumers::{Channel, Consumers, sooner};
use crate::pg::datum::{Micros, Oid};
use crate::pg::{bgworker, clock};
use crate::shared::Wake;

/// Jobs of one queue and owner.
pub(super) struct Came {
    queue: i32,
    owner: Oid,
    /// Of which kind all of them are; `None`: of several.
    kind: Option<u32>,
    /// How many are due.
    due: u32,
    /// The earliest of those that are due later; 0: none.
    later: Micros,
    /// The earliest of all.
    earliest: Micros,
}

/// A kind of jobs as shared memory knows it.
pub fn hash_of(kind: Option<&[u8]>) -> u32 {
    let mut hasher = DefaultHasher::new();
    kind.hash(&mut hasher);
    hasher.finish() as u32
}

impl Came {
    /// A job in a queue (0: not known).
    pub(super) fn new(queue: i32, owner: Oid, kind: Option<&[u8]>, run_at: Micros) -> Came {
        let is_due = run_at <= clock::now();
        Came {
            queue,
            owner,
            kind: Some(hash_of(kind)),
            due: u32::from(is_due),
            later: if is_due { 0 } else { run_at },
            earliest: run_at,
        }
    }

    /// Takes in more of the same queue and owner.
    pub(super) fn takes_in(&mut self, more: &Came) -> bool {
        if (self.queue, self.owner) != (more.queue, more.owner) {
            return false;
        }
        if self.kind != more.kind {
            self.kind = None;
        }
        self.due = self.due.saturating_add(more.due);
        self.later = sooner(self.later, more.later);
        self.earliest = self.earliest.min(more.earliest);
        true
    }

    /// Tells the sessions that wait, once it is committed.
    pub(super) fn tell(&self, consumers: &mut Consumers, now: Micros, wake: &mut Vec<Wake>) {
        let channel = Channel {
            database: bgworker::my_database(),
            queue: self.queue,
        };
        consumers.head.boards.note(channel, now, self.earliest);
        let came_due = u32::from(self.later != 0 && self.later <= now);
        let arrival = Arrival {
            channel,
            owner: Some(self.owner),
            kind: self.kind,
            jobs: self.due.saturating_add(came_due),
        };
        if arrival.jobs > 0 {
            consumers.head.waiting.tell(&arrival, wake);
        }
        if self.later > now {
            consumers
                .head
                .waiting
                .tell_later(&arrival, self.later, wake);
        }
    }
}
