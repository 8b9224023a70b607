//! Lanes: pairs of database and role for which there may be work, and what has come for them.

use super::watch::NOBODY;
use super::{Known, Micros, Oid, SlotId, State, Wake};

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
    /// [W] so many jobs the next worker runs one by one: they have failed together in a process that has ended since.
    pub alone: u32,
    /// [L] starts in a row that failed.
    pub failures: u32,
    /// [L] not before this time again.
    pub retry_at: Micros,
    /// [L] when the server last had no free slot for a worker of it; 0: it has had since.
    pub no_slot_at: Micros,
    /// [L] when a worker was last started for it.
    pub served_at: Micros,
    /// [W] when a job may start that its queue's rate holds back; 0: none that is known.
    pub(super) watch_until: Micros,
    /// [W] who sleeps to that time, if it idles.
    pub(super) watcher: SlotId,
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

impl SeenArrivals {
    pub(super) const NONE: SeenArrivals = SeenArrivals { born: 0, round: 0 };
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
            alone: 0,
            failures: 0,
            retry_at: 0,
            no_slot_at: 0,
            born,
            arrivals: [0; ARRIVALS],
            round: 0,
            round_read: true,
            served_at: 0,
            watch_until: 0,
            watcher: NOBODY,
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

    /// There is work in a queue (0: not known).
    pub fn set_pending_in(&mut self, queue_id: i32) {
        if !std::mem::replace(&mut self.pending, true) {
            self.queue_id = queue_id;
        } else if self.queue_id != queue_id {
            self.queue_id = 0;
        }
    }

    /// A job that is due at `run_at` came into a queue (0: not known).
    pub(super) fn announce(&mut self, run_at: Micros, queue_id: i32) {
        self.set_pending_in(queue_id);
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

    /// The same, for whoever reads on where another one had read to, who goes on by itself.
    pub fn arrivals_between(&self, seen: SeenArrivals) -> Option<Micros> {
        let mut copy = *self;
        copy.arrivals_since(&mut { seen })
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

impl State {
    /// The lane of a database and role, made if there is room and the database may have work.
    pub fn lane(&mut self, database: Oid, role: Oid) -> Option<&mut Lane> {
        let known = |l: &Lane| l.database == database && l.role == role;
        if let Some(index) = self.lanes.iter().position(known) {
            return self.lanes.get_mut(index);
        }
        self.database(database)
            .filter(|entry| entry.known != Known::Absent)?;
        let free = self.lanes.iter().position(|lane| lane.database == 0);
        let idle = || {
            self.lanes
                .iter()
                .position(|lane| !lane.pending && lane.watch_until == 0)
        };
        let watched = || self.lanes.iter().position(|lane| !lane.pending);
        let index = free.or_else(idle).or_else(watched)?;
        self.generation = self.generation.wrapping_add(1).max(1);
        let born = self.generation;
        let lane = self.lanes.get_mut(index)?;
        *lane = Lane::new(database, role, born);
        Some(lane)
    }

    /// Marks work for a lane, due at `run_at` or later, in a queue (0: not known); answers the
    /// process to wake: an idle worker of the lane, else the launcher, unless it was told, or if the database
    /// was taken to be without the extension. Nobody while jobs are disabled: enabling them wakes everybody. Also if all
    /// lanes have work: there is a look when one of them is free.
    pub fn demand(&mut self, database: Oid, role: Oid, run_at: Micros, queue_id: i32) -> Wake {
        match self.database(database) {
            None => return self.ask_place(database),
            Some(entry) if entry.known == Known::Absent => {
                entry.is_there_again();
                return Wake::process(self.launcher_procno);
            }
            // Whoever ends that has the keeper look at everything.
            Some(entry) if entry.copy => return Wake::NOBODY,
            Some(_) => {}
        }
        let Some(lane) = self.lane(database, role) else {
            return self.want_lane(database);
        };
        lane.announce(run_at, queue_id);
        if !self.enabled {
            return Wake::NOBODY;
        }
        if let Some(worker) = self.rouse_idle(database, role) {
            return Wake::process(worker);
        }
        let launcher = self.launcher_procno;
        let lane = self.lane(database, role);
        let untold = lane.is_some_and(|lane| !std::mem::replace(&mut lane.told, true));
        Wake::from(untold.then_some(launcher))
    }

    /// All lanes have work: the keeper looks when one of them is free.
    pub(super) fn want_lane(&mut self, database: Oid) -> Wake {
        if let Some(entry) = self.database(database) {
            entry.waits_for_lane = true;
            self.lanes_wanted = true;
        }
        Wake::NOBODY
    }

    /// A job came for a lane that no worker can run now.
    pub fn arrived(&mut self, database: Oid, role: Oid, run_at: Micros) {
        let same = |lane: &&mut Lane| lane.database == database && lane.role == role;
        // Without a lane there is no worker that has read on.
        if let Some(lane) = self.lanes.iter_mut().find(same) {
            lane.arrived(run_at);
        }
    }

    /// A lane has no work any more: has the keeper of a database look that waits for one; answers
    /// the process to wake.
    pub fn lane_is_free(&mut self) -> Wake {
        if !self.lanes_wanted {
            return Wake::NOBODY;
        }
        let waits = |entry: &&mut super::Database| entry.oid != 0 && entry.waits_for_lane;
        let waiting = self.databases.iter_mut().find(waits).map(|entry| {
            entry.waits_for_lane = false;
            entry.oid
        });
        match waiting {
            Some(oid) => self.ask_look(oid),
            None => {
                self.lanes_wanted = false;
                Wake::NOBODY
            }
        }
    }

    /// Gives up the lanes of databases that have nothing to serve. Answers the process to wake.
    pub fn drop_lanes(&mut self) -> Wake {
        let databases = &self.databases;
        let served = |oid: Oid| {
            let mut entries = databases.iter().filter(|entry| entry.oid == oid);
            entries.any(|entry| entry.known != Known::Absent)
        };
        let mut some = false;
        let used = self.lanes.iter_mut().filter(|lane| lane.database != 0);
        for lane in used.filter(|lane| !served(lane.database)) {
            *lane = Lane::new(0, 0, 0);
            some = true;
        }
        if some {
            self.lane_is_free()
        } else {
            Wake::NOBODY
        }
    }
}
