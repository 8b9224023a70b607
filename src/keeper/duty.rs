//! The keeper's duties.

use crate::pg::datum::Micros;

/// What the keeper has to do, in the order in which a turn does it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Duty {
    Find,
    Fire,
    Release,
    Charge,
    Reclaim,
    Unblock,
    Sweep,
    Rerun,
    Settle,
    End,
    Expire,
    Prune,
}

pub(super) const DUTIES: usize = 12;
pub(super) const URGENT: [Duty; 4] = [Duty::Unblock, Duty::Find, Duty::Fire, Duty::Reclaim];
pub(super) const CHORES: [Duty; 8] = [
    Duty::Release,
    Duty::Charge,
    Duty::Sweep,
    Duty::Rerun,
    Duty::Settle,
    Duty::End,
    Duty::Expire,
    Duty::Prune,
];

impl Duty {
    /// Where a test can have it fail.
    #[cfg(feature = "faults")]
    pub(super) fn point(self) -> crate::pg::fault::Point {
        use crate::pg::fault::Point;
        match self {
            Duty::Find => Point::Find,
            Duty::Fire => Point::Fire,
            Duty::Release => Point::Release,
            Duty::Charge => Point::Charge,
            Duty::Reclaim => Point::Reclaim,
            Duty::Unblock => Point::Unblock,
            Duty::Sweep => Point::Sweep,
            Duty::Rerun => Point::Rerun,
            Duty::Settle => Point::Settle,
            Duty::End => Point::End,
            Duty::Expire => Point::Expire,
            Duty::Prune => Point::Prune,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Duty::Find => "finding due jobs",
            Duty::Fire => "firing schedules",
            Duty::Release => "releasing runs of schedules",
            Duty::Charge => "charging jobs whose process died",
            Duty::Reclaim => "charging consumers that have lost their jobs",
            Duty::Unblock => "releasing jobs that come after others",
            Duty::Sweep => "looking for jobs to release",
            Duty::Rerun => "releasing jobs that wait for their unique key",
            Duty::Settle => "settling commands whose process died",
            Duty::End => "ending jobs that nobody may run",
            Duty::Expire => "ending jobs that have expired",
            Duty::Prune => "forgetting finished jobs",
        }
    }
}

/// What went wrong with a duty.
#[derive(Clone, Copy, Default)]
pub(super) struct Trouble {
    /// It rests until then; 0: it does not.
    pub(super) until: Micros,
    /// When it was logged last.
    pub(super) logged: Micros,
}
