//! What a transaction means to do with leases, and what its end makes of that.

use std::collections::BTreeMap;

use crate::logic::consumers::lease::{Lease, LeaseId, Loss, Undone};
use crate::logic::consumers::waiting::Arrival;
use crate::logic::consumers::{Channel, Consumers};
use crate::logic::keys::KeyId;
use crate::logic::low_water::Place;
use crate::pg::datum::{Micros, Oid};
use crate::pg::local::Local;
use crate::pg::table::RowId;
use crate::pg::{bgworker, lease_marks};
use crate::shared::{Wake, consumers};

/// The leases that this session has published, by the number of their entry. Some may be over.
pub(super) static HELD: Local<BTreeMap<usize, Held>> = Local::new(BTreeMap::new());

/// A lease of this session.
#[derive(Clone, Copy)]
pub(super) struct Held {
    /// The lease.
    pub id: LeaseId,
    /// The job's place in the order, and where its row stood.
    pub row: (Place, RowId),
}

/// What the open transaction means to do with a lease.
#[derive(Clone, Copy)]
pub enum Change {
    /// It has received it. `is_timed`: the row says so from the COMMIT on, and this lease is over.
    Received {
        /// The lease.
        id: LeaseId,
        /// See above.
        is_timed: bool,
        /// Its job has a key, which shared memory alone knows to be held.
        has_key: bool,
    },
    /// It ends the lease. `gives_back`: the job waits again then.
    Ended {
        /// The lease.
        id: LeaseId,
        /// See above.
        gives_back: bool,
    },
}

/// What the pool is to hear of changes of leases.
#[derive(Default)]
pub struct Heard {
    /// The keeper is to charge some.
    pub charge: bool,
    /// A permit of a queue is free that has few.
    pub permit: bool,
    /// Keys of these roles' jobs are free.
    pub keys: Vec<(Oid, KeyId)>,
}

impl Heard {
    /// The key of a lease that was freed may be: others of it go on, and a session that waits looks.
    fn key_is_free(&mut self, consumers: &mut Consumers, lease: &Lease, wake: &mut Vec<Wake>) {
        if lease.group.is_some() {
            self.keys.push((lease.owner, lease.group));
            tell_of_permit(consumers, lease.channel, wake);
        }
    }
}

pub(super) fn forget(held: &mut BTreeMap<usize, Held>, id: LeaseId) {
    if held.get(&id.index()).is_some_and(|held| held.id == id) {
        held.remove(&id.index());
    }
}

/// The job of a lease waits again: the sessions that wait learn it.
fn announce(consumers: &mut Consumers, lease: &Lease, now: Micros, wake: &mut Vec<Wake>) {
    consumers.head.boards.note(lease.channel, now, lease.run_at);
    consumers.head.waiting.tell(&arrival(lease), wake);
}

fn arrival(lease: &Lease) -> Arrival {
    Arrival {
        channel: lease.channel,
        owner: Some(lease.owner),
        kind: None,
        jobs: 1,
    }
}

/// A permit of a limited queue is free: one of those that wait looks.
fn tell_of_permit(consumers: &mut Consumers, channel: Channel, wake: &mut Vec<Wake>) {
    let anything = Arrival {
        channel,
        owner: None,
        kind: None,
        jobs: 1,
    };
    consumers.head.waiting.tell(&anything, wake);
}

impl Change {
    /// Settles it, under the lock; what was ended comes before what was received.
    pub fn apply(
        self,
        consumers: &mut Consumers,
        committed: bool,
        now: Micros,
        wake: &mut Vec<Wake>,
        heard: &mut Heard,
    ) {
        match (self, committed) {
            (
                Change::Received {
                    id,
                    is_timed: false,
                    ..
                },
                true,
            ) => consumers.hold(id),
            (
                Change::Received {
                    id, is_timed: true, ..
                },
                true,
            ) => {
                if let Some(lease) = consumers::free(consumers, id) {
                    consumers.receipt_stands(lease.key);
                    heard.key_is_free(consumers, &lease, wake);
                    // It counted twice since the row says so.
                    heard.permit |= lease.is_limited;
                }
            }
            (Change::Received { id, .. }, false) => {
                let Some(lease) = consumers.get(id).copied() else {
                    return;
                };
                if consumers.give_back(id) {
                    lease_marks::note_loss(id.index(), Loss::RolledBack as u32);
                    heard.charge = true;
                } else {
                    lease_marks::clear(id.index());
                    announce(consumers, &lease, now, wake);
                    heard.key_is_free(consumers, &lease, wake);
                }
                heard.permit |= lease.is_limited;
            }
            (Change::Ended { id, gives_back }, true) => {
                let Some(lease) = consumers::free(consumers, id) else {
                    return;
                };
                // It may be of this very transaction.
                consumers.receipt_stands(lease.key);
                heard.permit |= lease.is_limited;
                heard.key_is_free(consumers, &lease, wake);
                if gives_back {
                    announce(consumers, &lease, now, wake);
                } else if lease.is_limited {
                    tell_of_permit(consumers, lease.channel, wake);
                }
            }
            (Change::Ended { id, .. }, false) => {
                heard.charge |= consumers.undo_end(id, bgworker::my_pid()) == Undone::Lost;
            }
        }
    }

    /// Forgets the lease of this session if it is over.
    pub fn forget(self, committed: bool) {
        let id = match (self, committed) {
            (
                Change::Ended { id, .. }
                | Change::Received {
                    id, is_timed: true, ..
                },
                true,
            ) => id,
            (Change::Received { id, .. }, false) => id,
            _ => return,
        };
        HELD.with(|held| forget(held, id));
    }

    /// Whether it comes before others.
    pub fn is_end(self) -> bool {
        matches!(self, Change::Ended { .. })
    }

    /// Whether PREPARE TRANSACTION cannot hand it over.
    pub fn is_of_session(self) -> bool {
        !matches!(self, Change::Received { is_timed: true, .. })
    }

    /// The same: shared memory alone knows that its job's key is held.
    pub fn holds_key(self) -> bool {
        matches!(self, Change::Received { has_key: true, .. })
    }
}
