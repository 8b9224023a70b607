//! Waking at COMMIT: what a transaction enqueued is remembered, and its end tells the pool once.
//!
//! The latch carries no data: whoever is woken looks at the table. A rollback, also to a
//! savepoint, forgets; PREPARE TRANSACTION hands over to the keeper's next look.

use std::sync::atomic::Ordering;

use crate::counted::Ends;
use crate::logic::keys::KeyId;
use crate::logic::reruns::Word;
use crate::pg::datum::{Micros, Oid};
use crate::pg::error::{FEATURE_NOT_SUPPORTED, PgError, Result};
use crate::pg::fault::fault_here;
use crate::pg::local::Local;
use crate::pg::xact::{self, End};
use crate::pg::{bgworker, clock};
use crate::shared::{self, SHARED, SlotId, State, WAITERS, Wake};

use super::ended::Ended;
use super::promise::Promise;
use super::report::{self, Dead};
use super::scoped::Scoped;
use super::{consumed, dependents};

/// What one (sub)transaction enqueued for one role.
struct Note {
    subtransaction: u32,
    role: Oid,
    /// The queue of all of it, by its id; 0: several, or not known.
    queue: i32,
    /// A job is due at once.
    due: bool,
    /// Jobs are due at once that no worker can run while no more changes of settings are told.
    resting: Option<u64>,
    /// When the first of these may start by its queue's rate; 0: not before settings change.
    limited_until: Micros,
    /// The earliest time of all.
    earliest: Micros,
    /// The earliest of those that are due later; 0: none.
    later: Micros,
    /// How many jobs are new.
    rows: i64,
    /// How many the role had before this transaction, if that was counted.
    before: Option<i64>,
}

/// A row that was written.
pub struct Written {
    /// Its job's owner.
    pub role: Oid,
    /// Its queue; 0: not known.
    pub queue: i32,
    /// When it is due.
    pub run_at: Micros,
    /// No worker can run it as settings are: how many changes of them had been told then.
    pub resting: Option<u64>,
    /// When it may start by its queue's rate, if `resting` is for that; else 0.
    pub limited_until: Micros,
    /// It is a new job, not a change of one.
    pub is_new: bool,
    /// How many jobs the role had before this transaction, if that was counted.
    pub before: Option<i64>,
}

/// How many jobs a role had before this transaction, if that was counted, and how many it has
/// brought since.
pub fn noted(role: Oid) -> (Option<i64>, i64) {
    PENDING.with(|pending| {
        let notes = || pending.notes.iter().filter(|note| note.role == role);
        let before = notes().find_map(|note| note.before);
        (before, notes().map(|note| note.rows).sum())
    })
}

/// Everything that the open transaction has to tell at its end.
struct Pending {
    notes: Vec<Note>,
    promises: Scoped<Promise>,
}

static PENDING: Local<Pending> = Local::new(Pending {
    notes: Vec::new(),
    promises: Scoped::EMPTY,
});

/// Functions that are told, too, that a transaction has ended.
static FORGET: Local<Option<fn()>> = Local::new(None);

/// Has `forget` called at the end of every transaction and subtransaction.
pub fn on_any_end(forget: fn()) -> Result<()> {
    FORGET.set(Some(forget));
    watch()
}

/// Has the ends of this process's transactions told.
fn watch() -> Result<()> {
    xact::on_end(at_end)
}

/// A job was enqueued, or changed.
pub fn note(row: &Written) -> Result<()> {
    watch()?;
    let subtransaction = xact::current_subtransaction();
    let due = row.run_at <= clock::now();
    PENDING.with(|pending| {
        let same = |n: &Note| n.role == row.role && n.subtransaction == subtransaction;
        let known = pending.notes.iter().rposition(same);
        let index = known.unwrap_or_else(|| {
            pending.notes.push(Note {
                subtransaction,
                role: row.role,
                queue: row.queue,
                due: false,
                resting: None,
                limited_until: 0,
                earliest: row.run_at,
                later: 0,
                rows: 0,
                before: None,
            });
            pending.notes.len() - 1
        });
        if let Some(note) = pending.notes.get_mut(index) {
            note.add(row, due);
            note.rows += i64::from(row.is_new);
            note.before = note.before.or(row.before);
        }
    });
    Ok(())
}

impl Note {
    fn add(&mut self, row: &Written, due: bool) {
        self.earliest = self.earliest.min(row.run_at);
        if self.queue != row.queue {
            self.queue = 0;
        }
        match row.resting {
            _ if !due => self.later = earlier(self.later, row.run_at),
            Some(told) => {
                self.resting = Some(self.resting.map_or(told, |known| known.min(told)));
                if row.limited_until != 0 {
                    self.limited_until = earlier(self.limited_until, row.limited_until);
                }
            }
            None => self.due = true,
        }
    }
}

fn earlier(known: Micros, new: Micros) -> Micros {
    if known == 0 { new } else { known.min(new) }
}

/// A dynamic worker waits for the end of this transaction.
pub fn launched(slot: SlotId) -> Result<()> {
    promise(Promise::Launch(slot))
}

/// The slot, by which this transaction holds a permit of a queue, is given back at its end.
pub fn permit_until_end(slot: SlotId, queue: i32) -> Result<()> {
    promise(Promise::Permit(slot, queue))
}

/// The slot by which this transaction holds a permit of that queue, if it does.
pub fn permit_of(queue: i32) -> Option<SlotId> {
    let slot = |promise: &Promise| match promise {
        Promise::Permit(slot, of) if *of == queue => Some(*slot),
        _ => None,
    };
    PENDING.with(|pending| pending.promises.iter().find_map(slot))
}

/// The keeper of this database shall look when this transaction has committed.
pub fn look_at_commit() -> Result<()> {
    promise(Promise::Look)
}

/// The keeper of this database shall look at that time, if this transaction commits.
pub fn due_at_commit(time: Micros) -> Result<()> {
    promise(Promise::Due(time))
}

/// The keeper of this database shall look at that time, however the transaction ends.
pub fn look_at(time: Micros) -> Result<()> {
    let database = bgworker::my_database();
    shared::wake(SHARED.change(|state| state.due_at(database, time)));
    Ok(())
}

/// No more jobs of the queue are taken once this transaction has committed.
pub fn halt_at_commit(queue_id: i32) -> Result<()> {
    promise(Promise::Halt(queue_id))
}

/// An execution has ended, and with it `job`, if this transaction commits: it is counted, those who
/// wait for the job are woken, and the log gets the line. For `told` alone.
pub(super) fn ended_at_commit(
    sum: Option<Ends>,
    job: Option<i64>,
    dead: Option<Dead>,
) -> Result<()> {
    promise(Promise::Ended(Ended::one(sum, job)))?;
    dead.map_or(Ok(()), |dead| promise(Promise::Dead(dead)))
}

/// The same of any number of jobs: whoever waits for one looks whether it was among them.
pub(super) fn many_ended_at_commit(sum: Option<Ends>, ids: (i64, i64)) -> Result<()> {
    promise(Promise::Ended(Ended::many(sum, ids)))
}

/// Somebody deletes a job by hand, if this transaction commits.
pub(super) fn gone_at_commit(job: i64) -> Result<()> {
    promise(Promise::Ended(Ended::one(None, Some(job))))
}

/// The keeper looks at a job that comes after others, if this transaction commits.
pub(super) fn blocked_at_commit(job: i64) -> Result<()> {
    promise(Promise::Blocked((job, job)))
}

/// The settings of queues change, if this transaction commits: processes read them anew, and jobs may
/// have become due by it.
pub fn settings_at_commit() -> Result<()> {
    consumed::settings()?;
    promise(Promise::Settings)
}

/// There are other databases, or other names of them, if this transaction commits.
pub fn resolve_at_commit() -> Result<()> {
    promise(Promise::Resolve)
}

/// A key of a role's jobs is free, or has another first job, if this transaction commits.
pub(super) fn key_is_free(owner: Oid, key: KeyId) -> Result<()> {
    promise(Promise::Keys(owner, vec![key]))
}

/// The transaction did something to unique keys; whoever passes it has the keeper look.
pub(super) fn reruns_at_commit(word: Word) -> Result<()> {
    promise(Promise::Reruns(word))
}

/// The keeper shall look for jobs that wait for one that has ended, if this transaction commits.
pub(super) fn ask_reruns_at_commit() -> Result<()> {
    promise(Promise::AskReruns)
}

/// Our processes keep out of a database until this transaction ends.
pub fn unblock_at_end(database: Oid) -> Result<()> {
    promise(Promise::Unblock(database))
}

fn promise(new: Promise) -> Result<()> {
    watch()?;
    PENDING.with(|pending| {
        // What a row brings is of a few kinds, which come in turn.
        let mut latest = pending.promises.latest_mut().take(4);
        let is_taken = latest.any(|known| known.takes_in(&new));
        drop(latest);
        if !is_taken {
            pending.promises.push(new);
        }
    });
    Ok(())
}

fn at_end(end: End) -> Result<()> {
    match end {
        End::BeforePrepare => return refuse_prepare(),
        End::Commit => tell(PENDING.with(take), true),
        End::Abort | End::Prepare => tell(PENDING.with(take), false),
        End::SubCommit { id, parent } => PENDING.with(|pending| pending.adopt(id, parent)),
        End::SubAbort { id } => tell(PENDING.with(|pending| pending.split_off(id)), false),
    }
    if let Some(forget) = FORGET.get() {
        forget();
    }
    Ok(())
}

fn take(pending: &mut Pending) -> Pending {
    std::mem::replace(
        pending,
        Pending {
            notes: Vec::new(),
            promises: Scoped::EMPTY,
        },
    )
}

impl Pending {
    fn adopt(&mut self, id: u32, parent: u32) {
        let of_child = |n: &&mut Note| n.subtransaction == id;
        self.notes
            .iter_mut()
            .filter(of_child)
            .for_each(|n| n.subtransaction = parent);
        self.promises.adopt(id, parent);
    }

    /// Takes out what a subtransaction brought.
    fn split_off(&mut self, id: u32) -> Pending {
        let notes = std::mem::take(&mut self.notes);
        let (gone, kept) = notes.into_iter().partition(|n| n.subtransaction == id);
        self.notes = kept;
        Pending {
            notes: gone,
            promises: self.promises.split_off(id),
        }
    }
}

/// A worker that waits for this transaction cannot wait for COMMIT PREPARED.
fn refuse_prepare() -> Result<()> {
    let is_launch = |promise: &Promise| matches!(promise, Promise::Launch(_));
    let launches = PENDING.with(|pending| pending.promises.iter().any(is_launch));
    if !launches {
        return Ok(());
    }
    Err(PgError::new(
        FEATURE_NOT_SUPPORTED,
        "cannot PREPARE a transaction that has launched a dynamic worker",
    ))
}

/// Tells the pool: once for each process to wake, whatever the number of rows.
fn tell(pending: Pending, committed: bool) {
    if pending.notes.is_empty() && pending.promises.is_empty() {
        return;
    }
    if committed && !pending.notes.is_empty() {
        fault_here!(Waking);
    }
    let now = clock::now();
    // Room for all before the lock: nothing allocates under it.
    let promised: usize = pending.promises.iter().map(Promise::wakes).sum();
    let most = 2 * pending.notes.len() + promised + 2;
    let waiters = if pending.ends_any() { WAITERS } else { 0 };
    let mut wake = Vec::with_capacity(most + waiters);
    let ended = pending.promises.iter().filter(|_| committed);
    let ended = dependents::ranges_of(ended.filter_map(Promise::ended));
    SHARED.write(|state| {
        pending.apply(state, committed, now, &mut wake);
        wake.extend(dependents::tell_ranges(state, bgworker::my_database(), &ended).some());
    });
    wake.sort_unstable();
    wake.dedup();
    wake.into_iter().for_each(shared::wake);
    let ended = pending.promises.iter().filter(|_| committed);
    let sums = ended.filter_map(Promise::ended);
    sums.filter_map(|ended| ended.sum.as_ref())
        .for_each(|sum| sum.count_by_time(now));
    for promise in pending.promises.iter() {
        if let Promise::Dead(dead) = promise
            && committed
        {
            // Nothing can be undone any more, and a log that fails must not look as if it could.
            let _ = report::log_dead(dead);
        }
    }
}

impl Pending {
    fn ends_any(&self) -> bool {
        let ends = |promise: &Promise| matches!(promise, Promise::Ended(_));
        self.promises.iter().any(ends)
    }

    /// Adds the processes that wait for a job which has ended; a keeper shall look.
    fn wake_waiters(&self, state: &mut State, database: Oid, wake: &mut Vec<Wake>) {
        let has_ended = |job| {
            let ended =
                |promise: &Promise| matches!(promise, Promise::Ended(ended) if ended.has(job));
            self.promises.iter().any(ended)
        };
        let mut keeper = false;
        for waiter in state.waiting_for(database, has_ended) {
            wake.push(Wake::process(waiter.procno));
            keeper |= waiter.is_keeper;
        }
        if keeper {
            wake.push(state.ask_look(database));
        }
    }

    fn apply(&self, state: &mut State, committed: bool, now: Micros, wake: &mut Vec<Wake>) {
        let database = bgworker::my_database();
        if committed && self.ends_any() {
            self.wake_waiters(state, database, wake);
        }
        let mut add = |process: Wake| wake.extend(process.some());
        let told = SHARED.peek(|unlocked| unlocked.queue_changes.load(Ordering::Relaxed));
        for note in self.notes.iter().filter(|_| committed) {
            let came_due = note.later != 0 && note.later <= now;
            let roused = note.resting.is_some_and(|known| Some(known) != told);
            if note.due || came_due || roused {
                add(state.demand(database, note.role, note.earliest, note.queue));
            } else if note.limited_until != 0 {
                let lane = (database, note.role);
                add(state.await_start(lane, note.earliest, note.limited_until));
            } else if note.resting.is_some() {
                state.arrived(database, note.role, note.earliest);
            }
            if note.later > now {
                add(state.due_at(database, note.later));
            }
        }
        for promise in self
            .promises
            .iter()
            .filter(|promise| committed || promise.is_kept_always())
        {
            promise.keep(state, committed, now, &mut add);
        }
    }
}
