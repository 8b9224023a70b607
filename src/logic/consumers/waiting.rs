//! Sessions that wait for a job to receive, and which of them a commit wakes.
//!
//! A commit wakes as many as its jobs need, and each is told: one that leaves without having looked hands
//! that on. For jobs that are due later, one session of each group of like ones, its leader, sleeps no
//! longer than to the next due time; a leader that leaves hands that on, too.

use super::Channel;
use crate::logic::Micros;
use crate::logic::pool::{Oid, Wake};

/// The most sessions that wait without polling.
pub const WAITING: usize = 1024;
/// The most kinds that a session waits for by themselves; with more it looks at every job.
pub const KINDS: usize = 8;

/// Whose jobs a session may receive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, u8)]
pub enum Scope {
    /// Those of one role.
    Role(Oid),
    /// Those of all roles.
    All,
    /// Those of several roles, which the session looks up; by its process.
    Several(i32),
}

/// Which kinds of jobs a session waits for, by their hashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Kinds {
    hashes: [u32; KINDS],
    count: u8,
}

impl Kinds {
    /// Any.
    pub const ANY: Kinds = Kinds {
        hashes: [0; KINDS],
        count: 0,
    };

    /// Those, or any if they are too many to be told apart.
    pub fn of(hashes: &[u32]) -> Kinds {
        let mut kinds = Kinds::ANY;
        if hashes.len() <= KINDS {
            for (place, hash) in kinds.hashes.iter_mut().zip(hashes) {
                *place = *hash;
            }
            kinds.count = hashes.len() as u8;
        }
        kinds
    }

    /// Whether a job of that kind may be one of them; `None`: jobs of several kinds.
    fn may_hold(&self, kind: Option<u32>) -> bool {
        let hashes = self.hashes.get(..usize::from(self.count));
        let hashes = hashes.unwrap_or_default();
        hashes.is_empty() || kind.is_none_or(|kind| hashes.contains(&kind))
    }
}

/// Which sessions are alike: what one of them would find, the others would.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Group {
    /// The queue.
    pub channel: Channel,
    /// Whose jobs.
    pub scope: Scope,
    /// Which kinds.
    pub kinds: Kinds,
}

/// A session that waits.
#[derive(Clone, Copy)]
#[repr(C)]
struct Waiter {
    /// 0: the entry is free.
    pid: i32,
    procno: i32,
    role: Oid,
    group: Group,
    /// How many jobs it would take.
    most: u32,
    /// It is to look, and has not begun to.
    told: bool,
    /// It sleeps no longer than to `due`.
    leads: bool,
    /// When the next job is due that it knows of; 0: none.
    due: Micros,
}

/// All of them. Zero bytes are their first state.
#[repr(C)]
pub struct Waiting {
    waiters: [Waiter; WAITING],
    /// Entries behind this were never used.
    used: usize,
}

/// What came for consumers.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Into which queue; its number is 0 if that is not known.
    pub channel: Channel,
    /// Whose; `None`: of several roles.
    pub owner: Option<Oid>,
    /// Of which kind; `None`: of several.
    pub kind: Option<u32>,
    /// How many.
    pub jobs: u32,
}

impl Arrival {
    fn is_for(&self, waiter: &Waiter) -> bool {
        let group = &waiter.group;
        let same_queue = self.channel.queue == 0 || group.channel.queue == self.channel.queue;
        let owner = |owner: Oid| match group.scope {
            Scope::Role(role) => role == owner,
            Scope::All | Scope::Several(_) => true,
        };
        waiter.pid != 0
            && group.channel.database == self.channel.database
            && same_queue
            && self.owner.is_none_or(owner)
            && group.kinds.may_hold(self.kind)
    }
}

/// What a session that waits is to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rest {
    /// It is to look at once.
    pub is_told: bool,
    /// It is to look at that time; 0: it sleeps until it is told.
    pub until: Micros,
}

impl Waiting {
    #[cfg(test)]
    pub fn empty() -> Self {
        let channel = Channel {
            database: 0,
            queue: 0,
        };
        let waiter = Waiter {
            pid: 0,
            procno: 0,
            role: 0,
            group: Group {
                channel,
                scope: Scope::All,
                kinds: Kinds::ANY,
            },
            most: 0,
            told: false,
            leads: false,
            due: 0,
        };
        Waiting {
            waiters: [waiter; WAITING],
            used: 0,
        }
    }

    fn used_mut(&mut self) -> &mut [Waiter] {
        let used = self.used.min(WAITING);
        self.waiters.get_mut(..used).unwrap_or_default()
    }

    fn used(&self) -> &[Waiter] {
        self.waiters.get(..self.used).unwrap_or(&self.waiters)
    }

    /// A session begins to wait, before it looks: what comes from here on is told to it. False if there
    /// is no room: it has to look now and then.
    pub fn enter(&mut self, pid: i32, procno: i32, role: Oid, group: Group, most: u32) -> bool {
        let free = self.waiters.iter().position(|waiter| waiter.pid == 0);
        let Some(index) = free else { return false };
        self.used = self.used.max(index.saturating_add(1));
        let alike = |waiter: &Waiter| waiter.pid != 0 && waiter.group == group && waiter.leads;
        let leads = !self.used().iter().any(alike);
        if let Some(waiter) = self.waiters.get_mut(index) {
            *waiter = Waiter {
                pid,
                procno,
                role,
                group,
                most: most.max(1),
                told: false,
                leads,
                due: 0,
            };
        }
        true
    }

    fn of(&mut self, pid: i32) -> Option<&mut Waiter> {
        self.used_mut().iter_mut().find(|waiter| waiter.pid == pid)
    }

    /// The session begins to look: what comes from here on is told anew.
    pub fn begin_look(&mut self, pid: i32) {
        if let Some(waiter) = self.of(pid) {
            waiter.told = false;
            waiter.due = 0;
        }
    }

    /// It has found nothing, and the next job is due at `due` (0: none); answers how it is to rest.
    pub fn rest(&mut self, pid: i32, due: Micros) -> Rest {
        match self.of(pid) {
            None => Rest {
                is_told: false,
                until: due,
            },
            Some(waiter) => {
                waiter.due = super::sooner(waiter.due, due);
                Rest {
                    is_told: waiter.told,
                    until: if waiter.leads { waiter.due } else { 0 },
                }
            }
        }
    }

    /// The same of one that was woken: whether it is to look, or to sleep on.
    pub fn rest_on(&mut self, pid: i32) -> Rest {
        self.rest(pid, 0)
    }

    /// The session waits no longer. What it was told and what it leads others take over: answers whom to
    /// wake.
    pub fn leave(&mut self, pid: i32) -> [Wake; 2] {
        let Some(waiter) = self.of(pid) else {
            return [Wake::NOBODY, Wake::NOBODY];
        };
        let left = *waiter;
        waiter.pid = 0;
        let told = left.told.then(|| self.pass_on(&left)).flatten();
        let leader = left.leads.then(|| self.promote(left.group)).flatten();
        [Wake::from(told), Wake::from(leader)]
    }

    fn pass_on(&mut self, left: &Waiter) -> Option<i32> {
        let others = |waiter: &Waiter| {
            waiter.pid != 0 && waiter.group.channel == left.group.channel && !waiter.told
        };
        let alike = |waiter: &Waiter| others(waiter) && waiter.group == left.group;
        let index = self.used().iter().position(alike);
        let index = index.or_else(|| self.used().iter().position(others))?;
        let next = self.waiters.get_mut(index)?;
        next.told = true;
        Some(next.procno)
    }

    fn promote(&mut self, group: Group) -> Option<i32> {
        let mut rest = self.used_mut().iter_mut();
        let next = rest.find(|waiter| waiter.pid != 0 && waiter.group == group)?;
        next.leads = true;
        Some(next.procno)
    }

    /// Jobs have come that are due: tells as many sessions as they need.
    pub fn tell(&mut self, arrival: &Arrival, wake: &mut impl Extend<Wake>) {
        let mut left = i64::from(arrival.jobs);
        for waiter in self.used_mut().iter_mut() {
            if left <= 0 {
                return;
            }
            if !arrival.is_for(waiter) || waiter.told {
                continue;
            }
            waiter.told = true;
            wake.extend([Wake::process(waiter.procno)]);
            // Of one that may have no right to these, another one is told as well.
            if !matches!(waiter.group.scope, Scope::Several(_)) {
                left = left.saturating_sub(i64::from(waiter.most));
            }
        }
    }

    /// A job has come that is due later: the leaders learn when.
    pub fn tell_later(&mut self, arrival: &Arrival, due: Micros, wake: &mut impl Extend<Wake>) {
        for waiter in self.used_mut().iter_mut().filter(|w| arrival.is_for(w)) {
            let known = waiter.due;
            waiter.due = super::sooner(known, due);
            if waiter.leads && (known == 0 || due < known) {
                wake.extend([Wake::process(waiter.procno)]);
            }
        }
    }

    /// Every session of the database is to look: settings have changed.
    pub fn tell_all(&mut self, database: Oid, wake: &mut impl Extend<Wake>) {
        let ours = |waiter: &&mut Waiter| {
            waiter.pid != 0 && waiter.group.channel.database == database && !waiter.told
        };
        for waiter in self.used_mut().iter_mut().filter(ours) {
            waiter.told = true;
            wake.extend([Wake::process(waiter.procno)]);
        }
    }

    /// The sessions that wait in a database: process, role, queue.
    pub fn sessions(&self, database: Oid) -> impl Iterator<Item = (i32, Oid, i32)> {
        let ours = move |w: &&Waiter| w.pid != 0 && w.group.channel.database == database;
        let waiters = self.used().iter().filter(ours);
        waiters.map(|waiter| (waiter.pid, waiter.role, waiter.group.channel.queue))
    }
}

#[cfg(test)]
mod tests;
