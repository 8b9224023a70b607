//! What the open transaction has to tell consumers and their leases at its end, and the counters of what
//! they have done.

use crate::counted::Executed;
use crate::logic::consumers::Channel;
use crate::logic::consumers::waiting::{Arrival, WAITING};
use crate::logic::keys::KeyId;
use crate::pg::datum::{Micros, Oid};
use crate::pg::error::{FEATURE_NOT_SUPPORTED, PgError, Result};
use crate::pg::fault::fault_here;
use crate::pg::local::Local;
use crate::pg::xact::{self, End};
use crate::pg::{bgworker, clock};
use crate::shared::{self, SHARED, Wake, consumers};

use super::arrivals::Came;
use super::lease_change::{Change, Heard};
use super::scoped::Scoped;

struct Pending {
    came: Scoped<Came>,
    changes: Scoped<Change>,
    executed: Scoped<Executed>,
    /// Settings of queues have changed.
    settings: Scoped<()>,
    /// Keys of these queues' and roles' jobs are free.
    keys: Scoped<(i32, Oid)>,
}

impl Pending {
    const NOTHING: Pending = Pending {
        keys: Scoped::EMPTY,
        came: Scoped::EMPTY,
        changes: Scoped::EMPTY,
        executed: Scoped::EMPTY,
        settings: Scoped::EMPTY,
    };

    fn is_nothing(&self) -> bool {
        self.came.is_empty()
            && self.changes.is_empty()
            && self.executed.is_empty()
            && self.settings.is_empty()
            && self.keys.is_empty()
    }

    fn adopt(&mut self, id: u32, parent: u32) {
        self.came.adopt(id, parent);
        self.changes.adopt(id, parent);
        self.executed.adopt(id, parent);
        self.settings.adopt(id, parent);
        self.keys.adopt(id, parent);
    }

    fn split_off(&mut self, id: u32) -> Pending {
        Pending {
            came: self.came.split_off(id),
            changes: self.changes.split_off(id),
            executed: self.executed.split_off(id),
            settings: self.settings.split_off(id),
            keys: self.keys.split_off(id),
        }
    }
}

static PENDING: Local<Pending> = Local::new(Pending::NOTHING);

/// A job for consumers was enqueued, or waits again, in a queue (0: not known).
pub fn came(queue: i32, owner: Oid, kind: Option<&[u8]>, run_at: Micros) -> Result<()> {
    watch()?;
    let new = Came::new(queue, owner, kind, run_at);
    PENDING.with(|pending| {
        // A transaction enqueues into few queues at a time.
        let latest = pending.came.latest_mut().take(8);
        let is_taken = { latest }.any(|known| known.takes_in(&new));
        if !is_taken {
            pending.came.push(new);
        }
    });
    Ok(())
}

/// A lease was received, or is ended.
pub(super) fn changed(change: Change) -> Result<()> {
    watch()?;
    PENDING.with(|pending| pending.changes.push(change));
    Ok(())
}

/// A consumer has ended an execution.
pub(super) fn executed(one: Executed) -> Result<()> {
    watch()?;
    PENDING.with(|pending| pending.executed.push(one));
    Ok(())
}

/// A key of a role's jobs in a queue (0: not known) is free, if this transaction commits.
pub(super) fn key_is_free(queue: i32, owner: Oid) -> Result<()> {
    watch()?;
    PENDING.with(|pending| {
        if pending.keys.latest_mut().next() != Some(&mut (queue, owner)) {
            pending.keys.push((queue, owner));
        }
    });
    Ok(())
}

/// Keys of a role's jobs in a queue (0: not known) are free: a session that waits for some looks.
fn jobs_of_keys(queue: i32, owner: Oid) -> Arrival {
    Arrival {
        channel: Channel {
            database: bgworker::my_database(),
            queue,
        },
        owner: Some(owner),
        kind: None,
        jobs: 1,
    }
}

/// The same, at once.
pub(super) fn tell_of_keys(queue: i32, owner: Oid) {
    let mut wake = Vec::with_capacity(1 + WAITING);
    consumers::write(|consumers| {
        let arrival = jobs_of_keys(queue, owner);
        consumers.head.waiting.tell(&arrival, &mut wake);
    });
    wake.into_iter().for_each(shared::wake);
}

/// Leases of jobs with a key were freed: others may go on with them.
pub(super) fn tell_of_leases(freed: &[(Oid, KeyId, i32)]) {
    let database = bgworker::my_database();
    for (owner, key, queue) in freed {
        shared::tell(|state| state.free_key(database, *owner, *key));
        tell_of_keys(*queue, *owner);
    }
}

/// Settings of queues change.
pub(super) fn settings() -> Result<()> {
    watch()?;
    PENDING.with(|pending| pending.settings.push(()));
    Ok(())
}

/// Has the ends of this process's transactions told.
fn watch() -> Result<()> {
    xact::on_end(at_end)
}

/// The transaction or a subtransaction ends.
fn at_end(end: End) -> Result<()> {
    match end {
        End::BeforePrepare => return refuse_prepare(),
        End::Commit => tell(PENDING.replace(Pending::NOTHING), true),
        End::Abort => tell(PENDING.replace(Pending::NOTHING), false),
        // Rows that it has locked hold what it has received; the keeper sees the rest after COMMIT PREPARED.
        End::Prepare => {
            let changes = PENDING.replace(Pending::NOTHING).changes;
            let received = Pending {
                changes,
                ..Pending::NOTHING
            };
            tell(received, true);
        }
        End::SubCommit { id, parent } => PENDING.with(|pending| pending.adopt(id, parent)),
        End::SubAbort { id } => tell(PENDING.with(|pending| pending.split_off(id)), false),
    }
    Ok(())
}

/// A session's lease stands in no table, nor does a key, so nothing of them is there for COMMIT PREPARED.
fn refuse_prepare() -> Result<()> {
    let is_any = |of: fn(Change) -> bool| PENDING.with(|p| p.changes.iter().any(|c| of(*c)));
    let (message, hint) = if is_any(Change::is_of_session) {
        (
            "cannot PREPARE a transaction that has received or ended a job of a session's lease",
            "Pass \"lease\" to receive(): then the job's row holds the lease.",
        )
    } else if is_any(Change::holds_key) {
        (
            "cannot PREPARE a transaction that has received a job with a key",
            "The queue has the setting \"per_key\" or \"fifo\". Commit what was received first.",
        )
    } else {
        return Ok(());
    };
    Err(PgError::new(FEATURE_NOT_SUPPORTED, message).hint(hint))
}

fn tell(pending: Pending, committed: bool) {
    if pending.is_nothing() {
        return;
    }
    if !pending.changes.is_empty() {
        fault_here!(LeaseTold);
    }
    let now = clock::now();
    // Room for all before the lock: nothing allocates under it.
    let changes = pending.changes.count();
    let mut wake = Vec::with_capacity(64 + WAITING + changes);
    let mut heard = Heard {
        keys: Vec::with_capacity(changes),
        ..Heard::default()
    };
    if !pending.changes.is_empty() || committed {
        consumers::write(|consumers| {
            let changes = || pending.changes.iter();
            let (ends, others) = (
                changes().filter(|change| change.is_end()),
                changes().filter(|change| !change.is_end()),
            );
            for change in ends.chain(others) {
                change.apply(consumers, committed, now, &mut wake, &mut heard);
            }
            for came in pending.came.iter().filter(|_| committed) {
                came.tell(consumers, now, &mut wake);
            }
            for (queue, owner) in pending.keys.iter().filter(|_| committed) {
                let arrival = jobs_of_keys(*queue, *owner);
                consumers.head.waiting.tell(&arrival, &mut wake);
            }
            if committed && !pending.settings.is_empty() {
                let database = bgworker::my_database();
                consumers.head.waiting.tell_all(database, &mut wake);
            }
        });
        pending
            .changes
            .iter()
            .for_each(|change| change.forget(committed));
    }
    tell_pool(&pending, committed, &heard, now, &mut wake);
    wake.sort_unstable();
    wake.dedup();
    wake.into_iter().for_each(shared::wake);
}

fn tell_pool(pending: &Pending, committed: bool, heard: &Heard, now: Micros, wake: &mut Vec<Wake>) {
    let keys = heard.keys.as_slice();
    if !heard.charge && !heard.permit && keys.is_empty() && pending.executed.is_empty() {
        return;
    }
    let database = bgworker::my_database();
    SHARED.write(|state| {
        if heard.charge {
            wake.push(state.ask_look(database));
        }
        if heard.permit {
            wake.push(state.permit_is_free(database));
        }
        for (owner, key) in keys {
            wake.push(state.free_key(database, *owner, *key));
        }
        for one in pending.executed.iter().filter(|_| committed) {
            one.count(state, database, now);
        }
    });
    let executed = pending.executed.iter().filter(|_| committed);
    executed.for_each(|one| one.count_by_time(now));
}
