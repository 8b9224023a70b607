//! Charges: attempts to be written down for jobs whose process died, and what leads to them.

use super::{Micros, Oid, State, Wake};

/// The most attempts that wait to be charged.
pub const CHARGES: usize = 256;
pub(super) const STOPS: usize = 64;

/// An attempt to be charged to a job whose process died.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Charge {
    /// 0: not in use.
    pub job: i64,
    /// Its database.
    pub database: Oid,
    /// Executions that had ended before the one that was cut off.
    pub attempts: i32,
    /// When that began; 0: not known.
    pub started: Micros,
    /// How it ended.
    pub death: Death,
}

/// How a process of ours ended in the middle of a job.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Death {
    /// It took the server down, or was killed by a signal that does.
    Crash = 0,
    /// The same, in the middle of a command. The crash may have taken its claim along.
    CrashInCommand,
    /// It was terminated again and again.
    Stops,
    /// It did not heed the cancel of its time-out, and was terminated.
    Deaf,
    /// It was being cancelled, by somebody who was told so: nothing is charged.
    Cancelled,
}

/// How often a job's process was told to stop in the middle of it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Stop {
    job: i64,
    database: Oid,
    count: u32,
}

#[cfg(test)]
impl Charge {
    pub(super) const NONE: Charge = Charge {
        job: 0,
        database: 0,
        attempts: 0,
        started: 0,
        death: Death::Crash,
    };
}

#[cfg(test)]
impl Stop {
    pub(super) const NONE: Stop = Stop {
        job: 0,
        database: 0,
        count: 0,
    };
}

impl State {
    /// The jobs of a database that are to be charged. No worker takes them before.
    pub fn charged(&self, database: Oid) -> impl Iterator<Item = i64> {
        let open = match self.charges_open {
            0 => &[],
            _ => self.charges.as_slice(),
        };
        let ours = move |c: &&Charge| c.job != 0 && c.database == database;
        open.iter().filter(ours).map(|charge| charge.job)
    }

    /// A job was charged, or need not be.
    pub fn end_charge(&mut self, charge: &Charge) {
        let same = |c: &&mut Charge| c.job == charge.job && c.database == charge.database;
        for ended in self.charges.iter_mut().filter(same) {
            ended.job = 0;
            self.charges_open = self.charges_open.saturating_sub(1);
        }
    }

    /// Writes down an attempt for the keeper to charge; false if there is no room.
    pub fn charge(&mut self, charge: Charge) -> bool {
        let same = |c: &Charge| c.job == charge.job && c.database == charge.database;
        if self.charges.iter().any(same) {
            return true;
        }
        match self.charges.iter_mut().find(|c| c.job == 0) {
            Some(free) => {
                *free = charge;
                self.charges_open = self.charges_open.saturating_add(1);
                true
            }
            None => false,
        }
    }

    /// Writes down what the keeper is to do about a job at once; answers the process to wake.
    pub fn charge_now(&mut self, charge: Charge) -> Wake {
        self.charge(charge);
        self.ask_look(charge.database)
    }

    /// Counts that a job's process was told to stop in the middle of it; answers how often.
    pub fn count_stop(&mut self, database: Oid, job: i64) -> u32 {
        if let Some(stop) = self
            .stops
            .iter_mut()
            .find(|s| s.job == job && s.database == database)
        {
            stop.count = stop.count.saturating_add(1);
            return stop.count;
        }
        let next = self.stops_next as usize % STOPS;
        self.stops_next = self.stops_next.wrapping_add(1);
        if let Some(stop) = self.stops.get_mut(next) {
            *stop = Stop {
                job,
                database,
                count: 1,
            };
        }
        1
    }
}
