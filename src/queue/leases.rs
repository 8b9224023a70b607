//! The leases of this session, and what the open transaction means to do with leases.
//!
//! What a transaction receives or ends is settled when it ends: a rollback, also to a savepoint, gives
//! back what was received and undoes what was ended (see `consumed`).
//! A session that ends, in whatever way, loses its leases; the keeper charges them.

use crate::logic::consumers::lease::{JobKey, Lease, LeaseId, Loss};
use crate::logic::keys::KeyId;
use crate::pg::datum::{Micros, Oid};
use crate::pg::error::Result;
use crate::pg::fault::fault_here;
use crate::pg::local::Local;
use crate::pg::{bgworker, clock, latch, lease_marks};
use crate::shared::{self, SHARED, consumers};

use super::claim::Candidate;
use super::consumed;
use super::lease_change::{Change, HELD, Held, forget};

static IS_SESSION: Local<bool> = Local::new(false);

/// Has the session's end, and a crash, be seen. Once a session, before its first lease.
pub fn begin_session() -> Result<()> {
    if IS_SESSION.replace(true) {
        return Ok(());
    }
    // Without the file a crash is not charged.
    let _ = lease_marks::open(consumers::room());
    lease_marks::begin_session(latch::my_procno());
    bgworker::before_exit(at_exit)
}

/// Remembers a lease that was published, and what becomes of it when the transaction ends.
pub fn received(id: LeaseId, is_timed: bool, row: &Candidate) -> Result<()> {
    let has_key = row.key.is_some();
    HELD.with(|held| {
        held.insert(
            id.index(),
            Held {
                id,
                row: (row.place, row.row),
            },
        )
    });
    consumed::changed(Change::Received {
        id,
        is_timed,
        has_key,
    })
}

/// Where the row of a job stood that this session has a lease of.
pub fn row_of(id: LeaseId) -> Option<Candidate> {
    HELD.with(|held| {
        let held = held.get(&id.index()).filter(|held| held.id == id);
        let (place, row) = held?.row;
        let key = None;
        Some(Candidate { place, row, key })
    })
}

/// The open transaction ends that lease.
pub fn ended(id: LeaseId, gives_back: bool) -> Result<()> {
    consumed::changed(Change::Ended { id, gives_back })
}

/// The open transaction ends the lease that a session has of that job, whose row it has locked; answers since
/// when that was out.
pub fn ended_with_job(table: Oid, job: i64) -> Result<Option<Micros>> {
    if !consumers::any_out() {
        return Ok(None);
    }
    let found = consumers::write(|consumers| {
        let found = consumers.find(JobKey { table, job });
        found.map(|(id, lease)| (id, lease.since))
    });
    let Some((id, since)) = found.flatten() else {
        return Ok(None);
    };
    ended(id, false)?;
    Ok(Some(since))
}

/// Gives up leases that were published a moment ago, and whose jobs somebody else has or may not start yet.
/// Sessions that have read past them meanwhile read there again.
pub fn withdraw(ids: &[LeaseId]) {
    if ids.is_empty() {
        return;
    }
    let now = clock::now();
    HELD.with(|held| ids.iter().for_each(|id| forget(held, *id)));
    let mut keys = Vec::with_capacity(ids.len());
    consumers::write(|consumers| {
        for id in ids {
            if let Some(lease) = consumers::free(consumers, *id) {
                keys.extend(key_of(&lease));
                let boards = &mut consumers.head.boards;
                boards.note(lease.channel, now, lease.run_at);
            }
        }
    });
    consumed::tell_of_leases(&keys);
}

/// A lease that was lost is over; true if nobody had freed it. Whoever waits for its job's key looks.
pub fn free_lost(id: LeaseId) -> bool {
    let freed = consumers::write(|consumers| consumers::free(consumers, id)).flatten();
    let key = freed.as_ref().and_then(key_of);
    consumed::tell_of_leases(key.as_slice());
    freed.is_some()
}

fn key_of(lease: &Lease) -> Option<(Oid, KeyId, i32)> {
    let key = (lease.owner, lease.group, lease.channel.queue);
    lease.group.is_some().then_some(key)
}

/// Gives up all leases of this session, whose attempts are charged; nothing where there are none.
pub fn lose_all(loss: Loss) {
    let held = HELD.take();
    let pid = bgworker::my_pid();
    if held.is_empty() && !IS_SESSION.get() {
        return;
    }
    let left = consumers::write(|consumers| {
        let mut charge = false;
        for one in held.values() {
            charge |= consumers::lose(consumers, one.id, loss, pid);
        }
        (charge, consumers.head.waiting.leave(pid))
    });
    let Some((charge, told)) = left else { return };
    if charge {
        let database = bgworker::my_database();
        let keeper = SHARED.change(|state| state.ask_look(database));
        shared::wake(keeper);
    }
    told.into_iter().for_each(shared::wake);
}

fn at_exit(code: i32) {
    fault_here!(LeaseLost);
    lose_all(match code {
        0 => Loss::Disconnected,
        _ if bgworker::has_lost_client() => Loss::Disconnected,
        _ => Loss::Terminated,
    });
}

/// DISCARD ALL: whoever gets the session next has none of its leases.
pub fn discard() {
    lose_all(Loss::Discarded);
}
