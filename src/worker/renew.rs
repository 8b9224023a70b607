//! A worker whose role has other settings now (ALTER ROLE or ALTER DATABASE ... SET) leaves, and a
//! new process does the work.
//!
//! The server tells nobody of such a change. So the worker compares what the catalog says with what
//! it said at the worker's first batch. A change within the milliseconds between login and that
//! batch is missed.

use super::Worker;
use crate::pg::datum::Micros;
use crate::pg::error::Result;
use crate::pg::{clock, role_settings};
use crate::shared::{Phase, SHARED};

/// How long a worker that does not rest works with settings of its role that have changed.
const COMPARE_EVERY: Micros = 1_000_000;

impl Worker {
    /// Whether a new session would begin with other settings than this one did. Compared after each
    /// sleep, and once a second by a worker that does not sleep.
    pub(super) fn has_old_settings(&mut self) -> Result<bool> {
        let now = clock::now();
        let rested = self.first.is_some();
        if !rested && (0..COMPARE_EVERY).contains(&now.saturating_sub(self.compared_at)) {
            return Ok(false);
        }
        self.compared_at = now;
        let current = role_settings::fingerprint(self.role)?;
        Ok(*self.role_settings.get_or_insert(current) != current)
    }

    /// Leaves, so that a new process does the work.
    pub(super) fn make_way(&mut self) {
        self.gone = true;
        let (id, database, role) = (self.id, self.database, self.role);
        SHARED.write(|state| {
            if let Some(lane) = state.lane(database, role) {
                lane.set_pending();
            }
            if let Some(slot) = state.slot(id) {
                slot.phase = Phase::Stopping;
            }
        });
    }
}
