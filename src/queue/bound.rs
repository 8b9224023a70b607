//! The most jobs that a role may have in the queue (`my_worker.max_waiting_per_role`).
//!
//! A transaction counts a role's jobs once, by the claim's index and at most up to the limit, when
//! it enqueues the first one, and adds its own. So the limit is exact for one session at a time.
//! Transactions that enqueue at the same moment do not see each other's jobs: together they may
//! exceed it by what they bring. Every row of the role counts, also one whose job runs or waits for
//! another attempt; an attempt that failed adds none. A restore by a superuser is not bound.

use crate::pg::datum::Oid;
use crate::pg::error::{CONFIGURATION_LIMIT_EXCEEDED, PgError, Result};
use crate::pg::{identity, xact};
use crate::settings;

use super::claim::Jobs;
use super::{extension, is_restore, wake};

/// Refuses another job of a role that has as many as it may have; answers how many it had before
/// this transaction, if that matters.
pub fn admit(role: Oid) -> Result<Option<i64>> {
    let limit = i64::from(settings::MAX_WAITING_PER_ROLE.get());
    if limit == 0 || is_restore()? {
        return Ok(None);
    }
    let (before, own) = wake::noted(role);
    let before = match before {
        Some(before) => before,
        None => count(role, limit)?,
    };
    if before.saturating_add(own) < limit {
        return Ok(Some(before));
    }
    let name = identity::role_name(role)?;
    let message = format!("role \"{name}\" has as many jobs in the queue as it may have: {limit}");
    Err(PgError::new(CONFIGURATION_LIMIT_EXCEEDED, message).hint(
        "Wait until some have run, or cancel some. \
         The limit is the setting \"my_worker.max_waiting_per_role\".",
    ))
}

fn count(role: Oid, limit: i64) -> Result<i64> {
    let extension = extension()?;
    xact::with_latest_snapshot(|| {
        let jobs = Jobs::open(&extension)?;
        let found = jobs.count_of(role, limit)?;
        jobs.close()?;
        Ok(found)
    })
}
