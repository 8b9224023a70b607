//! Leases: a consumer's right to one attempt of one job.
//!
//! An entry is found by the job's table and id, through a chain of entries that hash alike; the first
//! entry of each chain stands in the entry of that number. All operations but the counts and the lists
//! take a time that does not grow with the number of leases.

use super::{Channel, Consumers};
use crate::logic::Micros;
use crate::logic::keys::KeyId;
use crate::logic::pool::Oid;

/// A job whose receipts were rolled back so often in a row is charged an attempt.
pub const MOST_ROLLBACKS: u32 = 3;

/// How far a lease has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Stage {
    /// The entry is free.
    Free = 0,
    /// The transaction that received the job is open.
    Received,
    /// It has committed.
    Held,
    /// The right is lost; the keeper is to charge the attempt.
    Lost,
}

/// Why a lease was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Loss {
    /// It was not.
    None = 0,
    /// The consumer's session has ended.
    Disconnected,
    /// The session was terminated.
    Terminated,
    /// The session was reset.
    Discarded,
    /// The time that an attempt may take is over.
    TimedOut,
    /// The receipt was rolled back too often in a row.
    RolledBack,
    /// The session's process died.
    Crashed,
}

impl Loss {
    /// Back from the number of a note.
    pub fn from_number(number: u32) -> Loss {
        let all = [
            Loss::None,
            Loss::Disconnected,
            Loss::Terminated,
            Loss::Discarded,
            Loss::TimedOut,
            Loss::RolledBack,
            Loss::Crashed,
        ];
        let known = all.into_iter().find(|loss| *loss as u32 == number);
        known.unwrap_or(Loss::Crashed)
    }
}

/// A job of a database: ids of jobs begin anew where the extension is created anew, tables' do not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct JobKey {
    /// `my_worker._jobs` of that database.
    pub table: Oid,
    /// The job's id.
    pub job: i64,
}

impl JobKey {
    /// Spreads jobs evenly.
    pub fn hash(self) -> u64 {
        let mixed = (self.job as u64 ^ u64::from(self.table).rotate_left(40))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    }
}

/// A lease in shared memory.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Lease {
    /// What the consumer shows to end it; nobody can guess it. 0: the entry is free.
    pub token: i64,
    /// The job.
    pub key: JobKey,
    /// Its queue.
    pub channel: Channel,
    /// Its owner.
    pub owner: Oid,
    /// The role that received it.
    pub role: Oid,
    /// The session that holds it.
    pub pid: i32,
    /// See [`Stage`].
    pub stage: Stage,
    /// See [`Loss`].
    pub loss: Loss,
    /// Its queue has a limit on how many run at once.
    pub is_limited: bool,
    /// The session whose open transaction ends the lease; 0: none.
    pub ender: i32,
    /// Executions of the job that had ended before.
    pub attempts: i32,
    /// When the job is due, as its row says.
    pub run_at: Micros,
    /// When it was due, for the statistics.
    pub due: Micros,
    /// When it was received.
    pub since: Micros,
    /// When the attempt has taken too long; 0: never.
    pub until: Micros,
    /// The next entry of the chain, or of the free ones, from 1; 0: none. Set by `publish` and `free`.
    pub next: u32,
    /// The first entry of the chain of this number, from 1; 0: none. Set likewise.
    pub first: u32,
    /// The key of the job, where its queue goes by keys.
    pub group: KeyId,
    /// As `next` and `first`, of the chain by keys.
    pub next_of_group: u32,
    /// See above.
    pub first_of_group: u32,
}

impl Lease {
    /// A free entry, as zero bytes are.
    pub const NONE: Lease = Lease {
        token: 0,
        key: JobKey { table: 0, job: 0 },
        channel: Channel {
            database: 0,
            queue: 0,
        },
        owner: 0,
        role: 0,
        pid: 0,
        stage: Stage::Free,
        loss: Loss::None,
        is_limited: false,
        ender: 0,
        attempts: 0,
        run_at: 0,
        due: 0,
        since: 0,
        until: 0,
        next: 0,
        first: 0,
        group: KeyId::NONE,
        next_of_group: 0,
        first_of_group: 0,
    };

    /// Whether its holder still has the right.
    pub fn is_valid(&self) -> bool {
        self.stage != Stage::Free && self.stage != Stage::Lost
    }

    /// Whether its holder still has the right, and nobody's open transaction ends it.
    fn is_current(&self) -> bool {
        self.is_valid() && self.ender == 0
    }
}

/// Which entry, and whose: an entry may be another lease's by now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaseId {
    index: usize,
    token: i64,
}

impl LeaseId {
    /// The number of the entry, from 0.
    pub fn index(self) -> usize {
        self.index
    }

    /// Whose lease it is.
    pub fn token(self) -> i64 {
        self.token
    }
}

/// What became of the wish for a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Published {
    /// It is there, and seen by others.
    Yes(LeaseId),
    /// Somebody else has one of that job.
    Taken,
    /// There is no room.
    Full,
}

impl Published {
    /// The lease, if it is there.
    pub fn id(self) -> Option<LeaseId> {
        match self {
            Published::Yes(id) => Some(id),
            Published::Taken | Published::Full => None,
        }
    }
}

/// What the end of an end comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Undone {
    /// The lease is its holder's as before.
    Held,
    /// It was lost meanwhile: the keeper is to charge it.
    Lost,
    /// It is not there any more.
    Gone,
}

impl Consumers<'_> {
    /// The entries that were ever used.
    fn used(&self) -> &[Lease] {
        self.leases.get(..self.head.used).unwrap_or(self.leases)
    }

    fn chain(&self, key: JobKey) -> usize {
        let count = self.leases.len().max(1) as u64;
        key.hash().checked_rem(count).unwrap_or(0) as usize
    }

    /// The lease of a job, of whatever stage.
    pub fn find(&self, key: JobKey) -> Option<(LeaseId, &Lease)> {
        if self.head.out == 0 {
            return None;
        }
        let mut next = self.leases.get(self.chain(key))?.first;
        while let Some(index) = (next as usize).checked_sub(1) {
            let lease = self.leases.get(index)?;
            if lease.key == key {
                let token = lease.token;
                return Some((LeaseId { index, token }, lease));
            }
            next = lease.next;
        }
        None
    }

    /// That lease, if it is still there.
    pub fn get(&mut self, id: LeaseId) -> Option<&mut Lease> {
        let lease = self.leases.get_mut(id.index)?;
        (lease.token == id.token && lease.token != 0).then_some(lease)
    }

    /// Puts a lease there for others to see, unless the job has one.
    pub fn publish(&mut self, new: &Lease) -> Published {
        if self.find(new.key).is_some() {
            return Published::Taken;
        }
        let Some(index) = self.take_entry() else {
            return Published::Full;
        };
        let chain = self.chain(new.key);
        let second = self.leases.get(chain).map_or(0, |lease| lease.first);
        let number = u32::try_from(index).map_or(0, |index| index.saturating_add(1));
        if let Some(entry) = self.leases.get_mut(index) {
            let (first, first_of_group) = (entry.first, entry.first_of_group);
            *entry = Lease {
                next: second,
                first,
                first_of_group,
                ..*new
            };
        }
        self.join_group(index);
        if let Some(entry) = self.leases.get_mut(chain) {
            entry.first = number;
        }
        self.head.out = self.head.out.saturating_add(1);
        let token = new.token;
        Published::Yes(LeaseId { index, token })
    }

    fn take_entry(&mut self) -> Option<usize> {
        if let Some(index) = (self.head.free as usize).checked_sub(1) {
            self.head.free = self.leases.get(index)?.next;
            return Some(index);
        }
        let index = self.head.used;
        if index >= self.leases.len() {
            return None;
        }
        self.head.used = index.saturating_add(1);
        Some(index)
    }

    /// Ends a lease for good; answers it, as it was.
    pub fn free(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = *self.get(id)?;
        let number = u32::try_from(id.index).ok()?.saturating_add(1);
        self.leave_group(id.index);
        let chain = self.chain(lease.key);
        let first = self.leases.get(chain)?.first;
        if first == number {
            self.leases.get_mut(chain)?.first = lease.next;
        } else {
            let mut at = (first as usize).checked_sub(1)?;
            while self.leases.get(at)?.next != number {
                at = (self.leases.get(at)?.next as usize).checked_sub(1)?;
            }
            self.leases.get_mut(at)?.next = lease.next;
        }
        let free = self.head.free;
        let entry = self.leases.get_mut(id.index)?;
        let (first, first_of_group) = (entry.first, entry.first_of_group);
        *entry = Lease {
            next: free,
            first,
            first_of_group,
            ..Lease::NONE
        };
        self.head.free = number;
        self.head.out = self.head.out.saturating_sub(1);
        Some(lease)
    }

    /// The transaction that received it has committed: the session holds it.
    pub fn hold(&mut self, id: LeaseId) {
        let Some(lease) = self.get(id) else { return };
        if lease.stage == Stage::Received {
            lease.stage = Stage::Held;
        }
        let key = lease.key;
        self.head.rollbacks.forget(key);
    }

    /// The transaction that received it was rolled back. True if the job was given back so too often
    /// in a row, and its keeper is to charge it; else the lease is over.
    pub fn give_back(&mut self, id: LeaseId) -> bool {
        let Some(lease) = self.get(id).copied() else {
            return false;
        };
        if lease.stage == Stage::Lost {
            return true;
        }
        if self.head.rollbacks.count(lease.key) < MOST_ROLLBACKS {
            self.free(id);
            return false;
        }
        self.head.rollbacks.forget(lease.key);
        self.lose(id, Loss::RolledBack)
    }

    /// Somebody who shows the token means to end the lease when his transaction commits. `None` if the
    /// right was lost, or somebody else's open transaction ends it.
    pub fn begin_end(&mut self, key: JobKey, token: i64, pid: i32) -> Option<(LeaseId, Lease)> {
        let (id, lease) = self.find(key)?;
        if lease.token != token || !lease.is_current() {
            return None;
        }
        let lease = self.get(id)?;
        lease.ender = pid;
        Some((id, *lease))
    }

    /// The transaction of that session that meant to end it was rolled back, or ends it no more.
    pub fn undo_end(&mut self, id: LeaseId, pid: i32) -> Undone {
        match self.get(id) {
            None => Undone::Gone,
            Some(lease) if lease.ender != pid => Undone::Held,
            Some(lease) => {
                lease.ender = 0;
                match lease.stage {
                    Stage::Lost => Undone::Lost,
                    _ => Undone::Held,
                }
            }
        }
    }

    /// The right is lost. True if the keeper is to charge the attempt now: not while an open
    /// transaction of somebody else ends the lease.
    pub fn lose(&mut self, id: LeaseId, loss: Loss) -> bool {
        let Some(lease) = self.get(id) else {
            return false;
        };
        if lease.stage != Stage::Lost {
            lease.stage = Stage::Lost;
            lease.loss = loss;
        }
        lease.ender == 0
    }

    /// The holder's session ends, and with it the transaction that it may have open.
    pub fn lose_with_session(&mut self, id: LeaseId, loss: Loss, pid: i32) -> bool {
        if let Some(lease) = self.get(id).filter(|lease| lease.ender == pid) {
            lease.ender = 0;
        }
        self.lose(id, loss)
    }

    /// Ends the attempts of a database that have taken too long; answers whether there are any, and when
    /// the next one will have (0: none).
    pub fn time_out(&mut self, database: Oid, now: Micros) -> (bool, Micros) {
        let (mut some, mut next) = (false, 0);
        let used = self.head.used.min(self.leases.len());
        let leases = self.leases.get_mut(..used).unwrap_or_default();
        let timed = |lease: &&mut Lease| {
            lease.token != 0
                && lease.channel.database == database
                && lease.until != 0
                && lease.is_current()
        };
        for lease in leases.iter_mut().filter(timed) {
            if lease.until <= now {
                lease.stage = Stage::Lost;
                lease.loss = Loss::TimedOut;
                some = true;
            } else {
                next = super::sooner(next, lease.until);
            }
        }
        (some, next)
    }

    /// The leases of a database that are out, of whatever stage.
    pub fn of_database(&self, database: Oid) -> impl Iterator<Item = &Lease> {
        let ours = move |lease: &&Lease| lease.token != 0 && lease.channel.database == database;
        self.used().iter().filter(ours)
    }

    /// Forgets what was lost in databases that nobody serves any more.
    pub fn drop_lost(&mut self, is_served: impl Fn(Oid) -> bool) {
        for index in 0..self.head.used {
            let Some(lease) = self.leases.get(index) else {
                return;
            };
            let token = lease.token;
            if lease.stage == Stage::Lost && !is_served(lease.channel.database) {
                self.free(LeaseId { index, token });
            }
        }
    }
}

#[cfg(test)]
mod tests;
