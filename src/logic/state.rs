//! The states of a job, and the one table of allowed moves.
//!
//! Every change of a job's status in SQL goes through [`transition`], and the statement carries
//! the expected old status in its WHERE clause; zero rows then mean that someone was faster.
//!
//! A handler job's claim is not committed before the handler ends, so the row of a job whose
//! worker died still reads `pending` while that attempt is charged to it. This is why `Retry`
//! and `Fail` are allowed from `Pending` too.

use std::fmt;

/// The status of a job, as stored in `my_queue.status` and `my_worker.history.status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobState {
    /// Waits for its `run_at` and for a free worker.
    Pending,
    /// A worker runs it.
    Processing,
    /// Ended well. Final.
    Completed,
    /// Ended badly: no attempts left. Final, but may be revived.
    Failed,
    /// Ended by a person. Final, but may be revived.
    Cancelled,
}

/// What happens to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A worker takes it.
    Claim,
    /// The work ended well.
    Complete,
    /// The attempt failed and is charged; attempts are left.
    Retry,
    /// The attempt failed and is charged; it was the last one.
    Fail,
    /// The worker gives it back unfinished and uncharged (shutdown, `enabled = off`).
    Release,
    /// A person cancels it.
    Cancel,
    /// A person sends a failed or cancelled job back to the queue.
    Revive,
}

impl JobState {
    /// All states, in life order.
    pub const ALL: [JobState; 5] = [
        JobState::Pending,
        JobState::Processing,
        JobState::Completed,
        JobState::Failed,
        JobState::Cancelled,
    ];

    /// The name in SQL.
    pub const fn as_str(self) -> &'static str {
        match self {
            JobState::Pending => "pending",
            JobState::Processing => "processing",
            JobState::Completed => "completed",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
        }
    }

    /// The state of that name, exactly as [`JobState::as_str`] spells it.
    pub fn from_name(name: &[u8]) -> Option<JobState> {
        JobState::ALL
            .into_iter()
            .find(|state| state.as_str().as_bytes() == name)
    }

    /// Whether a job in this state has left `my_queue` for the history.
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            JobState::Completed | JobState::Failed | JobState::Cancelled
        )
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Event {
    /// All events.
    pub const ALL: [Event; 7] = [
        Event::Claim,
        Event::Complete,
        Event::Retry,
        Event::Fail,
        Event::Release,
        Event::Cancel,
        Event::Revive,
    ];

    /// What a failed attempt amounts to. `attempts` counts the failed one.
    pub const fn after_failure(attempts: i32, max_attempts: i32) -> Event {
        if attempts < max_attempts {
            Event::Retry
        } else {
            Event::Fail
        }
    }
}

/// The state that `event` leads to from `state`; None: that move is not allowed.
pub const fn transition(state: JobState, event: Event) -> Option<JobState> {
    use JobState::{Cancelled, Completed, Failed, Pending, Processing};
    match (state, event) {
        (Pending, Event::Claim) => Some(Processing),
        (Processing, Event::Complete) => Some(Completed),
        (Pending | Processing, Event::Retry) => Some(Pending),
        (Pending | Processing, Event::Fail) => Some(Failed),
        (Processing, Event::Release) => Some(Pending),
        (Pending | Processing, Event::Cancel) => Some(Cancelled),
        (Failed | Cancelled, Event::Revive) => Some(Pending),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for state in JobState::ALL {
            assert_eq!(JobState::from_name(state.as_str().as_bytes()), Some(state));
        }
        assert_eq!(JobState::from_name(b"Pending"), None);
        assert_eq!(JobState::from_name(b"\xff"), None);
    }

    #[test]
    fn the_table_has_exactly_these_moves() {
        let mut moves = Vec::new();
        for state in JobState::ALL {
            for event in Event::ALL {
                if let Some(next) = transition(state, event) {
                    moves.push(format!("{state} {event:?} {next}"));
                }
            }
        }
        let expected = [
            "pending Claim processing",
            "pending Retry pending",
            "pending Fail failed",
            "pending Cancel cancelled",
            "processing Complete completed",
            "processing Retry pending",
            "processing Fail failed",
            "processing Release pending",
            "processing Cancel cancelled",
            "failed Revive pending",
            "cancelled Revive pending",
        ];
        assert_eq!(moves, expected);
    }

    #[test]
    fn final_states_leave_only_by_revival() {
        for state in JobState::ALL.into_iter().filter(|s| s.is_final()) {
            for event in Event::ALL.into_iter().filter(|e| *e != Event::Revive) {
                assert_eq!(transition(state, event), None);
            }
        }
        assert_eq!(transition(JobState::Completed, Event::Revive), None);
    }

    #[test]
    fn the_last_attempt_fails_the_job() {
        assert_eq!(Event::after_failure(1, 1), Event::Fail);
        assert_eq!(Event::after_failure(1, 2), Event::Retry);
        assert_eq!(Event::after_failure(2, 2), Event::Fail);
        assert_eq!(Event::after_failure(9, 2), Event::Fail);
    }
}
