//! Jobs that do not heed a cancel. A time-out and `cancel()` cancel what a job does, and SQL can catch
//! that. So the process of a job that goes on is terminated, which SQL cannot catch, and the job is
//! charged, or ends as cancelled.
//!
//! A process notes in its slot when what it runs is to be cancelled; whoever cancels it notes that.
//! The launcher, which the overrun timer wakes once a job takes long, looks how long ago that was.

use crate::pg::bgworker;
use crate::pg::clock;
use crate::pg::datum::Micros;
use crate::pg::error::Result;
use crate::pg::log::{self, Level};
use crate::shared::{Current, Phase, SHARED, SLOTS, SlotId};

/// So long a job may go on after its cancel.
const GRACE: Micros = 3_000_000;

/// It runs, and nothing is to cancel it.
const NEVER: Micros = Micros::MAX;

/// User code starts, with that time-out in milliseconds (0: none).
pub fn begin(slot: SlotId, timeout_ms: i32) {
    let due = match timeout_ms {
        0 => NEVER,
        ms => clock::now().saturating_add(Micros::from(ms) * 1000),
    };
    SHARED.peek(|unlocked| {
        if let Some(slot) = unlocked.slots.get(slot.index) {
            slot.set_cancel_due(due);
            if matches!(slot.current(), Current::Cancelling(_)) {
                slot.cancel_now(clock::now());
            }
        }
    });
}

/// User code has ended.
pub fn end(slot: SlotId) {
    SHARED.peek(|unlocked| {
        if let Some(slot) = unlocked.slots.get(slot.index) {
            slot.set_cancel_due(0);
        }
    });
}

/// For the launcher: terminates the processes of jobs that have not heeded their cancel for too long,
/// and has it look again (`next` only moves down) when that may be so of others.
pub fn look(next: &mut Micros) -> Result<()> {
    let now = clock::now();
    let mut told: Vec<(i64, i32)> = Vec::with_capacity(SLOTS);
    SHARED.write(|state| {
        for slot in state.used_slots_mut() {
            let due = slot.cancel_due();
            let job = slot.current().job();
            let (true, Some(job)) = (due != 0 && slot.phase != Phase::Free, job) else {
                continue;
            };
            let last = due.saturating_add(GRACE);
            if last > now {
                *next = (*next).min(last);
            } else if slot.pid > 0 && slot.put_down != job {
                slot.put_down = job;
                bgworker::signal(slot.pid, libc::SIGTERM);
                told.push((job, slot.pid));
            }
        }
    });
    for (job, pid) in told {
        let text = format!("job {job} did not heed its cancel: its process {pid} is terminated");
        log::report(Level::Log, &text)?;
    }
    Ok(())
}
