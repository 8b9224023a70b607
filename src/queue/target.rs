//! The queue that a row is for, as this session knows it, and who has to hear of the row.

use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Datum, Micros, Oid};
use crate::pg::error::Result;

use super::{bound, claim, column, consumed, queues, rates, wake};

/// What is known of the queue that a row is for.
pub(super) struct Target {
    /// Its number; 0: not known.
    pub(super) id: i32,
    /// No worker can run the job as settings are: how many changes of them had been told then.
    resting: Option<u64>,
    /// The job waits for a consumer.
    pub(super) is_held: bool,
    /// When it may start by the queue's rate, if `resting` is for that; else 0.
    limited_until: Micros,
}

impl Target {
    /// Only of the queue that this session held last: else a worker finds out. `get`: the columns of the job.
    pub(super) fn of<'a>(
        get: impl Fn(i32) -> Option<Datum<'a>>,
        extension: &Extension,
        queue: &[u8],
        role: Oid,
    ) -> Result<Self> {
        let says_itself = claim::says_itself(|column| get(column).is_some());
        let known = queues::last_held(extension, queue, |kept| {
            let mut target = Target {
                id: kept.queue.id,
                resting: kept.resting(says_itself),
                is_held: kept.queue.holds(says_itself),
                limited_until: 0,
            };
            if kept.queue.rate.is_some() && target.resting.is_none() {
                let key = get(column::GROUP_KEY);
                target.limited_until = rates::held_until(&kept.queue, role, key)?;
                target.resting = (target.limited_until != 0).then(|| kept.told());
            }
            Ok(target)
        });
        known.unwrap_or(Ok(Target {
            id: 0,
            resting: None,
            is_held: !says_itself,
            limited_until: 0,
        }))
    }

    /// Has whoever waits for such a job know of it at COMMIT.
    pub(super) fn tell(
        self,
        role: Oid,
        kind: Option<Datum<'_>>,
        run_at: Micros,
        is_blocked: bool,
        is_new: bool,
    ) -> Result<()> {
        if self.is_held && !is_blocked {
            let kind = kind.map(datum::as_text).transpose()?;
            consumed::came(self.id, role, kind.as_deref(), run_at)?;
        }
        let before = if is_new { bound::admit(role)? } else { None };
        wake::note(&wake::Written {
            role,
            queue: self.id,
            run_at: if is_blocked { Micros::MAX } else { run_at },
            resting: self.resting,
            limited_until: self.limited_until,
            is_new,
            before,
        })
    }
}
