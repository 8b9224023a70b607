//! How much of the statistics a caller sees: all of them, or those of its own jobs.
//!
//! Counts and job ids of other roles would tell what those do. So a role that only uses the queue sees
//! of its own jobs, and those of roles whose rights it has, what others see of all.

use crate::logic::counters::SEVERAL_ROLES;
use crate::pg::datum::Oid;
use crate::pg::error::Result;
use crate::pg::{catalog, identity};

/// What the current role sees.
#[derive(Clone, Copy)]
pub struct Sight {
    caller: Oid,
    sees_all: bool,
}

impl Sight {
    /// Looks the current role up. Superusers, the extension's owner and readers of all statistics, as the
    /// members of `pg_monitor` are, see everything.
    pub fn of_caller() -> Result<Sight> {
        let caller = identity::current_role();
        let sees_all = identity::reads_all_stats(caller)? || is_owner(caller)?;
        Ok(Sight { caller, sees_all })
    }

    /// Whether the caller sees all.
    pub fn is_full(self) -> bool {
        self.sees_all
    }

    /// Whether the caller sees what is of that role; nothing is anybody's.
    pub fn sees(self, role: Oid) -> Result<bool> {
        if self.sees_all || role == 0 {
            return Ok(true);
        }
        Ok(role != SEVERAL_ROLES && identity::has_rights_of(self.caller, role)?)
    }
}

fn is_owner(role: Oid) -> Result<bool> {
    match catalog::extension()? {
        Some(extension) => identity::has_rights_of(role, extension.owner),
        None => Ok(false),
    }
}
