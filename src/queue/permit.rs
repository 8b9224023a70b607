//! Permits of queues of which only so many jobs may run at once, whoever runs them: workers, consumers, `perform()`.

use crate::logic::consumers::Channel;
use crate::pg::bgworker;
use crate::pg::catalog::Extension;
use crate::pg::error::Result;
use crate::pg::fault::fault;
use crate::shared::{self, SHARED, SlotId, consumers};

use super::queues::Queue;
use super::{lease_row, wake};

/// Has a slot work on a queue; `None` if all its permits are out, else whether there is one more. Whoever is
/// refused is remembered, and the keeper looks when a permit is given back.
///
/// A slot shows that it has a permit before it counts the leases that stand in rows, and who receives shows its leases
/// before it counts slots: so one of two always sees the other.
pub fn enter(extension: &Extension, queue: &Queue, id: SlotId) -> Result<Option<bool>> {
    let database = bgworker::my_database();
    let within = |limit| {
        let enter =
            SHARED.write(|state| state.enter_queue(id, database, queue.id, &queue.name, limit));
        enter.flatten()
    };
    if queue.concurrency.is_none() {
        return Ok(within(usize::MAX));
    }
    let channel = channel(queue);
    let entered = consumers::write(|all| within(queue.limit().saturating_sub(all.count(channel))));
    if entered.flatten().is_none() {
        return Ok(None);
    }
    fault!(Permitted);
    let at_work = at_work(extension, queue)?;
    if at_work > queue.limit() {
        SHARED.write(|state| state.withdraw(id));
        // One may have been given back before the refusal was remembered.
        if self::at_work(extension, queue)? < queue.limit() {
            shared::tell(|state| state.permit_is_free(database));
        }
        return Ok(None);
    }
    Ok(Some(at_work < queue.limit()))
}

/// A lease ends that stands in a job's row, if this transaction commits: who was refused a permit learns it by the
/// keeper.
pub fn timed_lease_ends(queue: Option<&Queue>) -> Result<()> {
    match queue.and_then(|queue| queue.concurrency) {
        Some(_) => wake::look_at_commit(),
        None => Ok(()),
    }
}

/// Where consumers of a queue of this database are told of.
pub fn channel(queue: &Queue) -> Channel {
    Channel {
        database: bgworker::my_database(),
        queue: queue.id,
    }
}

/// How many of a queue's jobs run, or consumers have, by their sessions and by time.
pub fn at_work(extension: &Extension, queue: &Queue) -> Result<usize> {
    // First what is published, then what is committed: who commits in between counts twice, not never.
    let published = consumers::write(|all| consumers::at_work(all, channel(queue)));
    let timed = lease_row::count(extension, queue)?;
    Ok(published.unwrap_or(0).saturating_add(timed))
}
