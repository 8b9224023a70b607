//! Permits of queues of which only so many jobs may run at once, whoever runs them: workers, consumers, `perform()`.

use crate::logic::consumers::Channel;
use crate::pg::bgworker;
use crate::pg::catalog::Extension;
use crate::pg::error::Result;
use crate::shared::{self, SHARED, SlotId, consumers};

use super::lease_row;
use super::queues::Queue;

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
    let channel = Channel {
        database,
        queue: queue.id,
    };
    let entered = consumers::write(|all| within(queue.limit().saturating_sub(all.count(channel))));
    if entered.flatten().is_none() {
        return Ok(None);
    }
    let at_work = at_work(extension, queue, channel)?;
    if at_work > queue.limit() {
        SHARED.write(|state| state.withdraw(id));
        // One may have been given back before the refusal was remembered.
        if self::at_work(extension, queue, channel)? < queue.limit() {
            shared::tell(|state| state.permit_is_free(database));
        }
        return Ok(None);
    }
    Ok(Some(at_work < queue.limit()))
}

fn at_work(extension: &Extension, queue: &Queue, channel: Channel) -> Result<usize> {
    // First what is published, then what is committed: who commits in between counts twice, not never.
    let published = consumers::write(|all| consumers::at_work(all, channel));
    let timed = lease_row::count(extension, queue)?;
    Ok(published.unwrap_or(0).saturating_add(timed))
}
