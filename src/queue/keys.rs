//! Jobs that have a key: which of them may start now.
//!
//! Two things decide. Who runs a job of a key, or has a lease of one, holds the key in shared memory until its
//! transaction has ended. And the table says which job is the first of its key, and which are at work although
//! nobody holds the key: commands whose process is gone, and leases that stand in rows. What starts a job takes
//! the key first and asks the table then ([`admit`]), under a snapshot that is younger, so that it sees what the
//! last holder has left. A look for candidates asks the same beforehand ([`super::key_look`]): a hint.

use crate::logic::consumers::Consumers;
use crate::logic::consumers::lease::Lease;
use crate::logic::keys::{HELD, KeyId, Numbers, Rule};
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Datum, Oid};
use crate::pg::error::Result;
use crate::pg::fault::fault;
use crate::pg::{bgworker, xact};
use crate::shared::{self, SHARED, SLOTS, SlotId, TakenKey, consumers, own};

use super::claim::{Job, Jobs};
use super::column;
use super::key_look::HeldKeys;
use super::key_tables::unaccounted;
pub use super::key_tables::{GroupKey, Head, KeyTables, KeysOf};
use super::queues::Queue;

/// A job of a key goes, or does not stand before the others of its key any more, if the open transaction commits:
/// whoever has passed by them looks again then. `queue`: its name, and its number, if that is known.
pub fn free_at_commit(queue: (&[u8], i32), owner: Oid, key: Datum<'_>) -> Result<()> {
    let numbers = Numbers::of(bgworker::my_database(), queue.0, owner);
    let key = datum::with_text(key, |text| numbers.number(text))?;
    // A worker that has the key gives it back after its COMMIT.
    let is_held = |slot: SlotId| SHARED.read(|state| state.keys_of(slot).contains(&key));
    if own::slot().and_then(is_held) == Some(true) {
        return Ok(());
    }
    super::consumed::key_is_free(queue.1, owner)?;
    super::wake::key_is_free(owner, key)
}

/// The number of a job's key, if it has one, whether its queue goes by keys or not: it may some time.
pub fn number_of(queue: &Queue, job: &Job) -> Option<KeyId> {
    let key = job.value(column::GROUP_KEY)?;
    let numbers = Numbers::of(bgworker::my_database(), &queue.name, job.owner());
    datum::with_text(key, |text| numbers.number(text)).ok()
}

/// Whether one more lease of that job's key may be published. Under the lock of consumers.
pub fn has_room(consumers: &Consumers, queue: &Queue, lease: &Lease) -> bool {
    let Some(rule) = queue.by_key.filter(|_| lease.group.is_some()) else {
        return true;
    };
    let (database, owner, key) = (lease.channel.database, lease.owner, lease.group);
    let slots = SHARED.read(|state| state.key_holders(database, owner, key));
    let holders = consumers.holders_of(key).saturating_add(slots.unwrap_or(0));
    holders < rule.most
}

/// Whether a job may start of which this session has published a lease, as the active snapshot sees it, which was
/// taken since.
pub fn is_turn_of(jobs: &Jobs, queue: &Queue, job: &Job) -> Result<bool> {
    match (&job.key, KeysOf::new(queue, job.owner())) {
        (Some(key), Some(of)) => is_its_turn(jobs, &of, key, job.id),
        _ => Ok(true),
    }
}

/// Which jobs of the same key a job that waits has to wait for, if any, as the active snapshot sees it.
pub fn waits(tables: &KeyTables, queue: &Queue, job: &Job) -> Result<Option<String>> {
    let text = job.value(column::GROUP_KEY).map(datum::as_text);
    let (Some(text), Some(of)) = (text.transpose()?, KeysOf::new(queue, job.owner())) else {
        return Ok(None);
    };
    let at_work = tables.at_work(&of, &text)?;
    if of.rule.is_fifo {
        let first = match tables.head(&of, &text)? {
            Head::Waits(first) | Head::Blocked(first) if first != job.id => Some(first),
            _ => at_work.first().copied(),
        };
        if let Some(first) = first.filter(|first| *first != job.id) {
            return Ok(Some(format!("job {first} of the same key")));
        }
    }
    let holders = holders(&of, of.number_of(&text));
    let running = holders.saturating_add(unaccounted(tables.table, &at_work));
    Ok(match (running >= of.rule.most, running) {
        (false, _) => None,
        (true, 1) => Some("a job of the same key, which runs".to_string()),
        (true, _) => Some(format!("{running} jobs of the same key, which run")),
    })
}

/// In a fifo queue: which job of the same key has to end before this one starts, as of this moment.
pub fn earlier(extension: &Extension, queue: &Queue, job: i64) -> Result<Option<i64>> {
    if !queue.by_key.is_some_and(|rule| rule.is_fifo) {
        return Ok(None);
    }
    let jobs = Jobs::open_by_id(extension)?;
    let earlier = xact::with_latest_snapshot(|| {
        let Some(found) = jobs.by_id(job)? else {
            return Ok(None);
        };
        let text = found.value(column::GROUP_KEY).map(datum::as_text);
        let (Some(text), Some(of)) = (text.transpose()?, KeysOf::new(queue, found.owner())) else {
            return Ok(None);
        };
        let tables = jobs.keys()?;
        let at_work = tables
            .at_work(&of, &text)?
            .into_iter()
            .find(|id| *id != job);
        Ok(at_work.or(match tables.head(&of, &text)? {
            Head::Waits(first) | Head::Blocked(first) if first != job => Some(first),
            _ => None,
        }))
    })?;
    jobs.close()?;
    Ok(earlier)
}

/// How many hold the key: processes of ours and consumers' sessions.
fn holders(of: &KeysOf, key: KeyId) -> usize {
    let database = bgworker::my_database();
    let held = consumers::write(|consumers| {
        let slots = SHARED.read(|state| state.key_holders(database, of.owner, key));
        slots.unwrap_or(0).saturating_add(consumers.holders_of(key))
    });
    held.unwrap_or(0)
}

/// What became of a job's wish to start.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// It may: this process holds its key.
    Yes,
    /// Others of its key are before it, or at work.
    No,
    /// This process holds as many keys as it may.
    Full,
}

/// Takes the key of a job that this process is about to start, and asks the table whether it is the job's turn.
pub fn admit(
    jobs: &Jobs,
    slot: SlotId,
    queue: &Queue,
    owner: Oid,
    key: &GroupKey,
    job: i64,
) -> Result<Admitted> {
    let Some(of) = KeysOf::new(queue, owner) else {
        return Ok(Admitted::Yes);
    };
    let taken = take(slot, key.id, of.rule);
    match taken {
        TakenKey::Refused => return Ok(Admitted::No),
        TakenKey::Full => return Ok(Admitted::Full),
        TakenKey::Now | TakenKey::Before => {}
    }
    fault!(Keyed);
    if xact::with_latest_snapshot(|| is_its_turn(jobs, &of, key, job))? {
        return Ok(Admitted::Yes);
    }
    if taken == TakenKey::Now {
        shared::tell(|state| state.drop_key(slot, key.id));
        tell_consumers(queue, owner);
    }
    Ok(Admitted::No)
}

/// The same for several jobs of one key that are to start together, in order: how many of them may.
pub fn admit_run(
    jobs: &Jobs,
    slot: SlotId,
    queue: &Queue,
    owner: Oid,
    key: &GroupKey,
    run: &[i64],
) -> Result<usize> {
    let (Some(of), Some(first)) = (KeysOf::new(queue, owner), run.first()) else {
        return Ok(run.len());
    };
    if admit(jobs, slot, queue, owner, key, *first)? != Admitted::Yes {
        return Ok(0);
    }
    if !of.rule.is_fifo {
        return Ok(run.len());
    }
    xact::with_latest_snapshot(|| {
        let tables = jobs.keys()?;
        let blocked = tables.first_blocked(&of, &key.text)?;
        let mut count = 0;
        tables.waiting_from(&of, &key.text, *first, |id| {
            let is_next = run.get(count) == Some(&id) && blocked.is_none_or(|b| id < b);
            count += usize::from(is_next);
            Ok(is_next)
        })?;
        Ok(count)
    })
}

fn take(slot: SlotId, key: KeyId, rule: Rule) -> TakenKey {
    // Consumers take keys under the same two locks, so one of two sees the other.
    let taken = consumers::write(|consumers| {
        let leased = consumers.holders_of(key);
        SHARED.write(|state| state.take_key(slot, key, rule, leased))
    });
    taken.flatten().unwrap_or(TakenKey::Refused)
}

/// Whether a job whose key this process holds may start, as the active snapshot sees it, which was taken since.
pub(super) fn is_its_turn(jobs: &Jobs, of: &KeysOf, key: &GroupKey, job: i64) -> Result<bool> {
    let tables = jobs.keys()?;
    let at_work = tables.at_work(of, &key.text)?;
    if of.rule.is_fifo {
        let others = at_work.iter().any(|id| *id != job);
        return Ok(!others && tables.head(of, &key.text)? == Head::Waits(job));
    }
    if at_work.is_empty() {
        return Ok(true);
    }
    let unaccounted = unaccounted(tables.table, &at_work);
    Ok(holders(of, key.id).saturating_add(unaccounted) <= of.rule.most)
}

/// What is held of a queue's keys, other than by that slot, and what by that slot.
pub fn held(of: &KeysOf, slot: Option<SlotId>) -> HeldKeys {
    let database = bgworker::my_database();
    let mut held = HeldKeys {
        others: Vec::with_capacity(SLOTS * 4 + consumers::out()),
        own: Vec::with_capacity(HELD),
    };
    consumers::write(|consumers| {
        let room = held.others.capacity();
        let leased = consumers.keys_out(database).take(room);
        held.others.extend(leased);
        SHARED.read(|state| {
            let room = room.saturating_sub(held.others.len());
            let but = slot.map_or(usize::MAX, |slot| slot.index);
            let slots = state.keys_held(database, of.owner, but);
            held.others.extend(slots.take(room));
            held.own
                .extend(slot.map_or(&[][..], |slot| state.keys_of(slot)));
        })
    });
    held
}

/// The transactions in which a process of ours had its keys have ended: others may go on with them.
pub fn give_back(slot: SlotId, owner: Oid) {
    let given = SHARED.change(|state| {
        let has_some = !state.keys_of(slot).is_empty();
        let queue = state.slot(slot).map_or(0, |slot| slot.queue_id);
        (has_some.then_some(queue), state.give_back_keys(slot))
    });
    shared::wake(given.1);
    if let Some(queue) = given.0 {
        super::consumed::tell_of_keys(queue, owner);
    }
}

/// A key of a queue without a handler was given back by a worker: sessions of consumers may wait for it.
pub fn tell_consumers(queue: &Queue, owner: Oid) {
    if queue.handler.is_none() {
        super::consumed::tell_of_keys(queue.id, owner);
    }
}
