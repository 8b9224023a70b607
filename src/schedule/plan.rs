//! What is to be done about one schedule: its rule, its zone and its owner are looked up, and
//! [`crate::logic::schedule`] decides.

use super::row::Found;
use crate::logic::rule::RuleError;
use crate::logic::schedule::{self, Look, Plan};
use crate::pg::catalog::{self, Barred};
use crate::pg::datum::{Micros, Oid};
use crate::pg::error::{INVALID_AUTHORIZATION, PgError, Result};
use crate::queue::bar::bar;

/// How late a due time may be and still count as on time. Longer than the server takes to come
/// back from a crash, shorter than what anybody calls downtime.
const GRACE: Micros = 4_000_000;

/// What is to be done about a schedule at that time; `None`: nothing.
pub(super) fn plan(found: &Found<'_>, now: Micros) -> Result<Option<Plan>> {
    if !found.active || found.next_run_at.is_some_and(|next| next > now) {
        return Ok(None);
    }
    refuse_barred(found.owner)?;
    let zone = super::timezone(Some(&found.timezone))?;
    let rule = super::parse_rule(&found.schedule, found.anchor)?;
    let Some(next_run_at) = found.next_run_at else {
        // A hand has taken it away.
        let next = rule.next_after(now, &zone);
        let next = next.ok_or_else(|| super::refused(&found.schedule, &RuleError::NeverDue))?;
        return Ok(Some(Plan::wait_until(next)));
    };
    let look = Look {
        next_run_at,
        last_due: found.last_due,
        unfinished: (found.live.len() + found.held.len()) as u64,
        catchup: found.catchup,
        overlap: found.overlap,
        grace: GRACE,
    };
    let plan = schedule::plan(&look, &rule, &zone, now);
    if plan.next_run_at.is_none() {
        return Err(super::refused(&found.schedule, &RuleError::NeverDue));
    }
    Ok(Some(plan))
}

/// A schedule whose jobs nobody may run disables itself.
fn refuse_barred(owner: Oid) -> Result<()> {
    if catalog::barred(owner)? == Some(Barred::Gone) {
        let message = format!("owner of the schedule was dropped (role with OID {owner})");
        return Err(PgError::new(INVALID_AUTHORIZATION, message));
    }
    bar(owner)?.map_or(Ok(()), Err)
}
