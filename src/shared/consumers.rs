//! What consumers share: see `logic::consumers`. A lock of its own guards it; who takes it and the
//! pool's, takes this one first.

use std::sync::atomic::Ordering;

use super::SHARED;
use crate::logic::consumers::lease::{JobKey, Lease, LeaseId, Loss, Stage};
use crate::logic::consumers::{Channel, Consumers, Head};
use crate::pg::datum::Oid;
use crate::pg::lease_marks::{self, Noted};
use crate::pg::random;
use crate::pg::shmem_array::SharedArray;
use crate::settings;

static MEMORY: SharedArray<Head, Lease> = SharedArray::new(c"my_worker_consumers");

/// How many leases there is room for.
pub fn room() -> usize {
    usize::try_from(settings::MAX_LEASES.get()).unwrap_or(0)
}

/// Asks for the memory. From the request hook only.
pub fn request() {
    MEMORY.request(room());
}

/// Finds or creates the memory. From the startup hook only. What sessions that died had out is lost, and
/// the keepers charge it.
pub fn attach() {
    if !MEMORY.attach() || lease_marks::open(room()).is_err() {
        return;
    }
    let left = lease_marks::take_left_behind();
    MEMORY.alone(|head, leases| {
        let mut consumers = Consumers { head, leases };
        for (index, left) in left.iter().enumerate() {
            let loss = match left.crashed {
                true if left.noted.loss == 0 => Loss::Crashed,
                _ => Loss::from_number(left.noted.loss),
            };
            let lease = Lease {
                // Nobody holds it, so nobody need guess.
                token: index as i64 + 1,
                key: JobKey {
                    table: left.noted.table,
                    job: left.noted.job,
                },
                channel: Channel {
                    database: left.noted.database,
                    queue: 0,
                },
                attempts: left.noted.attempts,
                stage: Stage::Lost,
                loss,
                ..Lease::NONE
            };
            let published = consumers.publish(&lease);
            note(published.id(), &lease, -1);
        }
        publish_number(&consumers);
    });
}

/// Changes what consumers share, under its lock. `None` without preload. The closure copies in and out,
/// and calls nothing of the server but what reads and writes shared memory.
pub fn write<R>(f: impl FnOnce(&mut Consumers) -> R) -> Option<R> {
    MEMORY.write(|head, leases| {
        let mut consumers = Consumers { head, leases };
        let result = f(&mut consumers);
        publish_number(&consumers);
        result
    })
}

fn publish_number(consumers: &Consumers) {
    if let Some(number) = MEMORY.number() {
        number.store(consumers.head.out as u64, Ordering::Release);
    }
}

/// How many leases are out, in all databases: asked without a lock.
pub fn out() -> usize {
    let number = MEMORY.number();
    number.map_or(0, |number| number.load(Ordering::Acquire) as usize)
}

/// Whether any lease is out, in whatever database: asked without a lock, before it is looked for.
pub fn any_out() -> bool {
    out() != 0
}

/// Notes for after a crash that the lease is out. Under the lock.
pub fn note(id: Option<LeaseId>, lease: &Lease, procno: i32) {
    if let Some(id) = id {
        lease_marks::set(
            id.index(),
            &Noted {
                job: lease.key.job,
                table: lease.key.table,
                database: lease.channel.database,
                attempts: lease.attempts,
                procno,
                loss: lease.loss as u32,
            },
        );
    }
}

/// Ends a lease for good, with its note. Under the lock.
pub fn free(consumers: &mut Consumers, id: LeaseId) -> Option<Lease> {
    let freed = consumers.free(id);
    if freed.is_some() {
        lease_marks::clear(id.index());
    }
    freed
}

/// The right is lost; the note says why. Under the lock. True if the keeper is to charge it now.
pub fn lose(consumers: &mut Consumers, id: LeaseId, loss: Loss, pid: i32) -> bool {
    let charges = consumers.lose_with_session(id, loss, pid);
    // A terminated session may be one of a server that is shut down: then nothing is charged.
    match loss {
        Loss::Terminated => lease_marks::clear(id.index()),
        _ => lease_marks::note_loss(id.index(), loss as u32),
    }
    charges
}

/// The lease of a job of this table, if it is out.
pub fn of_job(table: Oid, job: i64) -> Option<Lease> {
    if !any_out() {
        return None;
    }
    write(|consumers| {
        consumers
            .find(JobKey { table, job })
            .map(|(_, lease)| *lease)
    })
    .flatten()
}

/// False if none of a queue's jobs is out.
pub fn may_have(channel: Channel) -> bool {
    any_out() && write(|consumers| consumers.head.by_queue.may_have(channel)) != Some(false)
}

/// How many of a queue's jobs are out, and run in the pool.
pub fn at_work(consumers: &Consumers, channel: Channel) -> usize {
    let (database, queue) = (channel.database, channel.queue);
    let running = SHARED.read(|state| state.running_in_queue(database, queue));
    consumers
        .count(channel)
        .saturating_add(running.unwrap_or(0))
}

/// Every session that waits in a database looks.
pub fn tell_all(database: Oid) {
    let mut told = Vec::new();
    write(|consumers| consumers.head.waiting.tell_all(database, &mut told));
    told.into_iter().for_each(super::wake);
}

/// Numbers for so many leases that nobody can guess.
pub fn draw_tokens(count: usize) -> crate::pg::error::Result<Vec<i64>> {
    let drawn = random::secret(count)?;
    Ok(drawn
        .into_iter()
        .map(|number| (number >> 1).max(1) as i64)
        .collect())
}
