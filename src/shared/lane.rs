//! Lanes: pairs of database and role for which there may be work, and what has come for them.

use crate::pg::datum::{Micros, Oid};

/// The most rounds of arrivals that a lane remembers: a worker that missed more looks at all jobs.
const ARRIVALS: usize = 8;
/// A pair of database and role with work.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Lane {
    /// 0: not in use.
    pub database: Oid,
    /// Whose jobs.
    pub role: Oid,
    /// [B W] there may be due jobs that nobody has looked at.
    pub pending: bool,
    /// [B W] while `pending` is set: the queue, by its id, that all of them are in; 0: not known.
    pub queue_id: i32,
    /// [B W] the launcher was woken since `pending` was last cleared: once is enough, since what it
    /// could not do at once it looks at again by itself.
    pub told: bool,
    /// [W] there is more than one worker can take in a round.
    pub crowded: bool,
    /// [L] starts in a row that failed.
    pub failures: u32,
    /// [L] not before this time again.
    pub retry_at: Micros,
    /// [L] when a worker was last started for it.
    pub served_at: Micros,
    /// Tells this holder of the entry from those before.
    born: u32,
    /// [B W] `run_at` of what came since: the earliest of each round of announcements.
    arrivals: [Micros; ARRIVALS],
    /// [B W] counts the rounds: one ends when a worker has read it.
    round: u32,
    /// [W] the current round was read.
    round_read: bool,
}

/// How far a worker has read its lane's arrivals.
#[derive(Clone, Copy, Default)]
pub struct SeenArrivals {
    born: u32,
    round: u32,
}

impl Lane {
    /// A lane without work; `born` tells it from those before.
    pub(super) fn new(database: Oid, role: Oid, born: u32) -> Self {
        Lane {
            database,
            role,
            pending: false,
            queue_id: 0,
            told: false,
            crowded: false,
            failures: 0,
            retry_at: 0,
            born,
            arrivals: [0; ARRIVALS],
            round: 0,
            round_read: true,
            served_at: 0,
        }
    }

    /// There is work, who knows in which queues.
    pub fn set_pending(&mut self) {
        self.pending = true;
        self.queue_id = 0;
    }

    /// A worker is about to look; answers the queue to begin with, 0 if that is not known.
    pub fn take_pending(&mut self) -> i32 {
        self.pending = false;
        self.told = false;
        std::mem::take(&mut self.queue_id)
    }

    /// A job that is due at `run_at` came into a queue (0: not known).
    pub(super) fn announce(&mut self, run_at: Micros, queue_id: i32) {
        if !std::mem::replace(&mut self.pending, true) {
            self.queue_id = queue_id;
        } else if self.queue_id != queue_id {
            self.queue_id = 0;
        }
        self.arrived(run_at);
    }

    /// The same, of a job that no worker can run now: those that look later must see it.
    pub(super) fn arrived(&mut self, run_at: Micros) {
        if std::mem::take(&mut self.round_read) {
            self.round = self.round.wrapping_add(1);
            if let Some(arrival) = self.arrivals.get_mut(self.round as usize % ARRIVALS) {
                *arrival = run_at;
            }
        } else if let Some(arrival) = self.arrivals.get_mut(self.round as usize % ARRIVALS) {
            *arrival = run_at.min(*arrival);
        }
    }

    /// The earliest time of what came since `seen`; the beginning of time if that is no longer
    /// known.
    pub fn arrivals_since(&mut self, seen: &mut SeenArrivals) -> Option<Micros> {
        let missed = self.round.wrapping_sub(seen.round) as usize;
        let known = self.born == seen.born && missed <= ARRIVALS;
        *seen = SeenArrivals {
            born: self.born,
            round: self.round,
        };
        self.round_read = true;
        if !known {
            return Some(Micros::MIN);
        }
        let rounds = (0..missed).map(|back| self.round.wrapping_sub(back as u32));
        rounds
            .filter_map(|round| self.arrivals.get(round as usize % ARRIVALS).copied())
            .min()
    }
}
