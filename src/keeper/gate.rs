//! The gate before the keeper's duties: shut while this database is a copy.
//!
//! Each look begins here. What the look finds stands in shared memory, where workers and whoever enqueues read it.
//! A database that has moved is settled first, if that can be done without asking anybody: after pg_upgrade,
//! and in a copy that has neither jobs nor schedules.

use crate::home;
use crate::pg::datum::{Micros, Oid};
use crate::pg::error::{OBJECT_NOT_IN_PREREQUISITE_STATE, PgError, Result};
use crate::pg::log::{self, Level};
use crate::pg::{catalog, clock, xact};
use crate::queue::home::{HINT, WhyCopy, copied};
use crate::shared::{self, SHARED, SLOTS};

/// How soon a database is settled that somebody kept from it.
const AGAIN: Micros = 1_000_000;

/// See the module.
pub struct Gate {
    database: Oid,
    /// Why it is shut.
    shut: Option<WhyCopy>,
    /// When to try again to settle the database; 0: there is no need.
    pub again: Micros,
}

impl Gate {
    pub fn new(database: Oid) -> Self {
        Gate {
            database,
            shut: None,
            again: 0,
        }
    }

    /// Whether nothing may be done.
    pub fn is_shut(&self) -> bool {
        self.shut.is_some()
    }

    /// Whether it is time to try again.
    pub fn is_due(&self, now: Micros) -> bool {
        self.again != 0 && self.again <= now
    }

    /// Finds out whether this database is a copy; true if so.
    pub fn look(&mut self) -> Result<bool> {
        self.again = 0;
        if let Err(error) = settle() {
            self.again = clock::now().saturating_add(AGAIN);
            if !is_in_the_way(&error) {
                let why = error.summary();
                let text = format!("the home of this database could not be settled: {why}");
                log::report(Level::Log, &text)?;
            }
        }
        let found = xact::transaction(|| match catalog::extension()? {
            Some(extension) if extension.is_current() => copied(&extension),
            _ => Ok(None),
        })?;
        let (database, is_copy) = (self.database, found.is_some());
        // Room for all before the lock: nothing allocates under it.
        let mut wake = Vec::with_capacity(SLOTS);
        SHARED.write(|state| {
            if state.is_copy(database) != is_copy {
                state.set_copy(database, is_copy, &mut wake);
            }
        });
        wake.into_iter().for_each(shared::wake);
        if let Some(copy) = found.filter(|_| self.shut.is_none()) {
            let (message, code) = (copy.reason().as_bytes(), OBJECT_NOT_IN_PREREQUISITE_STATE);
            log::report_with(Level::Log, code, message, None, Some(HINT.as_bytes()))?;
        }
        self.shut = found;
        Ok(is_copy)
    }
}

fn settle() -> Result<()> {
    xact::transaction(|| match catalog::extension()? {
        Some(extension) if extension.is_current() && extension.birth.moved.is_some() => {
            home::settle(&extension)
        }
        _ => Ok(()),
    })
}

/// Whether somebody has a lock that settling needs.
fn is_in_the_way(error: &PgError) -> bool {
    error.sqlstate == crate::pg::error::LOCK_NOT_AVAILABLE
}
