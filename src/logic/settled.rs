//! One execution that is over, as whoever ended it passes it on: to the counters, to those who wait,
//! to the log.

use super::Micros;
use super::counters::Ending;

/// One job whose execution is over.
#[derive(Clone, Copy)]
pub struct Settled {
    /// Its id.
    pub job: i64,
    /// How the execution ended.
    pub outcome: Ending,
    /// From due to start.
    pub waited: Micros,
    /// From start to end.
    pub ran: Micros,
    /// Executions that had ended before.
    pub attempts: i32,
    /// Executions before it is failed.
    pub max_attempts: i32,
    /// When it started.
    pub started: Micros,
}
