//! What the end of a transaction is to do besides telling of new jobs (see [`super::wake`]).

use std::sync::atomic::Ordering;

use crate::counted;
use crate::logic::keys::KeyId;
use crate::logic::reruns::Word;
use crate::pg::bgworker;
use crate::pg::datum::{Micros, Oid};
use crate::shared::{Go, SHARED, SlotId, State, Wake};

use super::dependents;
use super::ended::Ended;
use super::report::Dead;

/// The most keys that a transaction tells one by one.
const MOST_KEYS: usize = 64;

/// What else waits for the end of the transaction.
pub(super) enum Promise {
    /// Nobody shall take more jobs of the queue of this number.
    Halt(i32),
    /// A dynamic worker that waits for this transaction.
    Launch(SlotId),
    /// A slot that this session holds for a queue's permit.
    Permit(SlotId, i32),
    /// This database's keeper shall look, or one shall be started.
    Look,
    /// It shall look at that time.
    Due(Micros),
    /// Jobs of a queue have ended.
    Ended(Ended),
    /// The keeper shall look at jobs in this range of ids: some come after others.
    Blocked((i64, i64)),
    /// The line of a job that has failed for good.
    Dead(Dead),
    /// Settings of queues have changed.
    Settings,
    /// The launcher shall look which databases there are.
    Resolve,
    /// Keys of a role's jobs are free, or have another first job.
    Keys(Oid, Vec<KeyId>),
    /// Processes of ours may be in that database again, however the transaction ends.
    Unblock(Oid),
    /// It did something to jobs that others wait for, or that wait for others.
    Reruns(Word),
    /// The keeper shall look for jobs that wait for one that has ended.
    AskReruns,
}

impl Promise {
    pub(super) fn ended(&self) -> Option<&Ended> {
        match self {
            Promise::Ended(ended) => Some(ended),
            _ => None,
        }
    }

    /// Whether it is kept however the transaction ends.
    pub(super) fn is_kept_always(&self) -> bool {
        matches!(
            self,
            Promise::Unblock(_) | Promise::Permit(..) | Promise::Launch(_)
        )
    }

    /// How many processes it wakes at most.
    pub(super) fn wakes(&self) -> usize {
        match self {
            Promise::Keys(_, keys) => keys.len(),
            Promise::Permit(..) => 2,
            _ => 1,
        }
    }

    /// Does it, under the lock; `add` hears of the processes to wake.
    pub(super) fn keep(
        &self,
        state: &mut State,
        committed: bool,
        now: Micros,
        mut add: impl FnMut(Wake),
    ) {
        let database = bgworker::my_database();
        match self {
            Promise::Look => add(state.ask_look(database)),
            Promise::Due(time) => add(state.due_at(database, *time)),
            Promise::Blocked(ids) => add(dependents::tell_blocked(state, database, *ids)),
            Promise::Halt(queue) => state.halt_queue(database, *queue),
            Promise::Ended(ended) => {
                if let Some(sum) = &ended.sum {
                    counted::count_ends(state, database, sum, now);
                }
            }
            Promise::Settings => {
                SHARED.peek(|unlocked| unlocked.queue_changes.fetch_add(1, Ordering::Release));
                add(state.ask_look(database));
            }
            Promise::Keys(owner, keys) => {
                let free = |key: &KeyId| state.free_key(database, *owner, *key);
                keys.iter().map(free).for_each(add);
            }
            Promise::Resolve => {
                state.resolve = true;
                add(Wake::process(state.launcher_procno));
            }
            Promise::Reruns(word) => {
                if state.reruns.say(word) {
                    add(state.ask_look(database));
                }
            }
            Promise::AskReruns => {
                state.reruns.ask();
                add(state.ask_look(database));
            }
            // The log is not written under the lock.
            Promise::Dead(_) => {}
            Promise::Unblock(oid) => add(state.unblock(*oid)),
            Promise::Permit(id, _) => {
                add(state.give_back_keys(*id));
                add(state.free_slot(*id));
            }
            Promise::Launch(id) => {
                if let Some(slot) = state.slot(*id) {
                    slot.go = if committed { Go::Yes } else { Go::No };
                    add(Wake::process(slot.procno));
                }
            }
        }
    }

    /// Becomes the promise of both; false if that takes two.
    pub(super) fn takes_in(&mut self, new: &Promise) -> bool {
        match (self, new) {
            (Promise::Look, Promise::Look)
            | (Promise::Resolve, Promise::Resolve)
            | (Promise::Settings, Promise::Settings)
            | (Promise::AskReruns, Promise::AskReruns) => true,
            (Promise::Due(known), Promise::Due(time)) => {
                *known = *time.min(known);
                true
            }
            (Promise::Ended(known), Promise::Ended(more)) => known.takes_in(more),
            (Promise::Keys(owner, known), Promise::Keys(of, more)) if owner == of => {
                add_keys(known, more);
                true
            }
            (Promise::Blocked(known), Promise::Blocked(more)) => {
                *known = (known.0.min(more.0), known.1.max(more.1));
                true
            }
            (Promise::Reruns(known), Promise::Reruns(more)) => known.takes_in(more),
            _ => false,
        }
    }
}

/// Any key, if they are too many.
fn add_keys(known: &mut Vec<KeyId>, more: &[KeyId]) {
    if known.contains(&KeyId::ANY) {
        return;
    }
    let new: Vec<KeyId> = more
        .iter()
        .copied()
        .filter(|k| !known.contains(k))
        .collect();
    known.extend(new);
    if known.len() > MOST_KEYS {
        *known = vec![KeyId::ANY];
    }
}
