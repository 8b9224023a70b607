//! The slot of this process, and the job that it runs.

use super::{SHARED, SlotId};
use crate::pg::local::Local;

static SLOT: Local<Option<SlotId>> = Local::new(None);
/// The jobs of the running call, if they are several.
static CALL: Local<Vec<i64>> = Local::new(Vec::new());

/// This process has taken the slot over.
pub fn set_slot(id: SlotId) {
    SLOT.set(Some(id));
}

/// The slot of this process, if it is one of ours.
pub fn slot() -> Option<SlotId> {
    SLOT.get()
}

/// The same, once: the process is about to end.
pub fn take_slot() -> Option<SlotId> {
    SLOT.take()
}

/// The job that `perform()` runs in this session.
static PERFORMED: Local<Option<i64>> = Local::new(None);

/// While it lives, this session runs a job by `perform()`.
pub struct Performing(());

impl Performing {
    /// The session begins to.
    pub fn begin(job: i64) -> Self {
        PERFORMED.set(Some(job));
        Performing(())
    }
}

impl Drop for Performing {
    fn drop(&mut self) {
        PERFORMED.set(None);
    }
}

/// Whether this session runs a job by `perform()`.
pub fn performs() -> bool {
    PERFORMED.get().is_some()
}

/// The job that this process runs.
pub fn job() -> Option<i64> {
    if let Some(job) = PERFORMED.get() {
        return Some(job);
    }
    let slot = SLOT.get()?;
    SHARED
        .peek(|unlocked| unlocked.slots.get(slot.index)?.current().job())
        .flatten()
}

/// This process runs these jobs in one call; none: it runs one, which its slot shows, or nothing.
pub fn set_call(jobs: Vec<i64>) {
    CALL.set(jobs);
}

/// Whether the job is one of several of the running call.
pub fn has_in_call(job: i64) -> bool {
    CALL.with(|call| call.contains(&job))
}
