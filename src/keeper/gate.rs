//! The gate before the keeper's duties: shut while this database is a copy.
//!
//! Each look begins here. What the look finds stands in shared memory, where workers and whoever enqueues read it.
//! A database that has moved is settled first, if that can be done without asking anybody: after pg_upgrade,
//! and in a copy that has neither jobs nor schedules.

use super::{LOG_EVERY, REST};
use crate::home;
use crate::pg::datum::{Micros, Oid};
use crate::pg::error::{LOCK_NOT_AVAILABLE, OBJECT_NOT_IN_PREREQUISITE_STATE, PgError, Result};
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
    /// When an error was logged last.
    logged: Micros,
}

impl Gate {
    pub fn new(database: Oid) -> Self {
        Gate {
            database,
            shut: None,
            again: 0,
            logged: 0,
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
            self.put_off(&error)?;
        }
        let found = xact::transaction(|| match catalog::hold_extension()? {
            Some(extension) => copied(&extension),
            // The duties find out that it is gone.
            None => Ok(None),
        });
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                self.put_off(&error)?;
                return Ok(self.is_shut());
            }
        };
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

    /// After an error a later look tries again; the log hears of it once a minute.
    fn put_off(&mut self, error: &PgError) -> Result<()> {
        let now = clock::now();
        if error.sqlstate == LOCK_NOT_AVAILABLE {
            self.again = now.saturating_add(AGAIN);
            return Ok(());
        }
        self.again = now.saturating_add(REST);
        if self.logged != 0 && (0..LOG_EVERY).contains(&now.saturating_sub(self.logged)) {
            return Ok(());
        }
        self.logged = now;
        let text = format!(
            "whether this database is a copy is not known: {}",
            error.summary()
        );
        log::report(Level::Log, &text)
    }
}

fn settle() -> Result<()> {
    xact::transaction(|| match catalog::hold_extension()? {
        Some(extension) if extension.birth.moved.is_some() => home::settle(&extension),
        _ => Ok(()),
    })
}
