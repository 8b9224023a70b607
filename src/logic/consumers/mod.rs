//! Consumers outside the server: who has which job, who waits for one, and what came meanwhile.
//!
//! All of it is plain data in shared memory under one lock, and every decision about it stands here.
//! The table `my_worker._jobs` is the truth about jobs; after a crash this starts from zero.

pub mod arrivals;
pub mod by_queue;
mod groups;
pub mod lease;
mod lost;
pub mod notes;
mod rollbacks;
pub mod waiting;

use super::Micros;
use super::pool::Oid;
use arrivals::Boards;
use by_queue::ByQueue;
use lease::Lease;
use notes::Notes;
use rollbacks::Rollbacks;
use waiting::Waiting;

/// What stands before the leases in shared memory. Zero bytes are its first state.
#[repr(C)]
pub struct Head {
    /// Leases that are out, so that nobody looks for one where there is none.
    pub out: usize,
    /// Entries behind this were never used.
    used: usize,
    /// The first free entry among those that were used, from 1; 0: none.
    free: u32,
    /// See [`ByQueue`].
    pub by_queue: ByQueue,
    /// See [`Rollbacks`].
    rollbacks: Rollbacks,
    /// See [`Boards`].
    pub boards: Boards,
    /// See [`Waiting`].
    pub waiting: Waiting,
    /// See [`Notes`].
    pub notes: Notes,
}

/// The shared memory of consumers, opened under its lock.
pub struct Consumers<'a> {
    /// What stands before the leases.
    pub head: &'a mut Head,
    /// As many as `my_worker.max_leases` says.
    pub leases: &'a mut [Lease],
}

/// A queue of a database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Channel {
    /// The database.
    pub database: Oid,
    /// The queue's number; 0: not known.
    pub queue: i32,
}

/// The sooner of two times of which 0 is never.
pub fn sooner(known: Micros, new: Micros) -> Micros {
    match (known, new) {
        (0, time) | (time, 0) => time,
        (known, new) => known.min(new),
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::lease::Lease;
    use super::{Consumers, Head};

    /// Memory for so many leases, as the server makes it.
    pub struct Memory {
        head: Box<Head>,
        leases: Vec<Lease>,
    }

    impl Memory {
        pub fn with(leases: usize) -> Self {
            Memory {
                head: Head::empty(),
                leases: vec![Lease::NONE; leases],
            }
        }

        pub fn open(&mut self) -> Consumers<'_> {
            Consumers {
                head: &mut self.head,
                leases: &mut self.leases,
            }
        }
    }

    impl Head {
        fn empty() -> Box<Head> {
            Box::new(Head {
                out: 0,
                used: 0,
                free: 0,
                by_queue: super::by_queue::ByQueue::empty(),
                rollbacks: super::rollbacks::Rollbacks::empty(),
                boards: super::arrivals::Boards::empty(),
                waiting: super::waiting::Waiting::empty(),
                notes: super::notes::Notes::empty(),
            })
        }
    }
}
