//! Places for the workers that sessions launch themselves.

use super::{Go, Kind, Micros, Oid, Phase, Slot, SlotId, State};

/// Why a session may not launch a worker for a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The job runs, or a worker was launched for it.
    Running,
    /// As many as `max_workers` were launched, and one of them by this role.
    Full,
    /// Twice as many were launched, or shared memory has no place.
    NoPlace,
}

impl State {
    /// Takes a slot for a worker that a session launches. At most `most` of them are there at a
    /// time, and as many again for roles that have none: so that no role can have all.
    pub fn take_launch(
        &mut self,
        database: Oid,
        owner: Oid,
        job: i64,
        most: usize,
        now: Micros,
    ) -> Result<SlotId, Refused> {
        let dynamic = |s: &&Slot| s.phase != Phase::Free && s.kind == Kind::Dynamic;
        // One that was rolled back, or is done, is only about to exit.
        let launched = |s: &Slot| s.task == job && s.go != Go::No && s.phase != Phase::Stopping;
        let mut slots = self.used_slots().iter().filter(dynamic);
        let twice = slots.any(|s| s.database == database && launched(s));
        if twice || self.slot_of_job(database, job).is_some() {
            return Err(Refused::Running);
        }
        let slots = || self.used_slots().iter().filter(dynamic);
        let launched = slots().count();
        if launched >= most && slots().any(|s| s.role == owner) {
            return Err(Refused::Full);
        }
        if launched >= most.saturating_mul(2) {
            return Err(Refused::NoPlace);
        }
        let id = self.take_slot(Kind::Dynamic, database, owner, now);
        let id = id.ok_or(Refused::NoPlace)?;
        if let Some(slot) = self.slot(id) {
            slot.task = job;
        }
        Ok(id)
    }
}
