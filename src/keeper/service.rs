//! What the launcher is told of a database: whether there is something to serve.

use super::Keeper;
use crate::pg::error::Result;
use crate::pg::log::{self, Level};
use crate::pg::{activity, catalog, clock, xact};
use crate::queue::extension;
use crate::shared::{self, Known, SHARED};

impl Keeper {
    /// Finds out whether the database has the extension, and tells the launcher.
    pub(super) fn introduce(&self) -> Result<bool> {
        let seen = catalog::completed_transactions();
        let asked = self.take_requests();
        let (found, trouble) = xact::transaction(|| {
            activity::introduce(None)?;
            Ok((catalog::extension()?, extension().err()))
        })?;
        let current = found.is_some_and(|extension| extension.is_current());
        if let Some(trouble) = trouble.filter(|_| found.is_some() && asked) {
            let message = [b"jobs wait: ", trouble.message.as_slice()].concat();
            let (detail, hint) = (trouble.detail.as_deref(), trouble.hint.as_deref());
            log::report_with(Level::Log, trouble.sqlstate, &message, detail, hint)?;
        }
        if current {
            self.begin_service();
        } else {
            self.end_service(seen);
        }
        Ok(current)
    }

    /// Before the catalogs are read: what is asked for from here on counts again. False if nobody
    /// has asked.
    fn take_requests(&self) -> bool {
        let database = self.database;
        let asked = SHARED.write(|state| {
            let entry = state.database(database)?;
            let was_absent = entry.known == Known::Absent;
            if was_absent {
                // Another keeper follows should this one not come to an answer.
                entry.known = Known::Nothing;
            }
            entry.probe = false;
            Some(std::mem::take(&mut entry.look) || !was_absent)
        });
        asked.flatten() == Some(true)
    }

    /// Tells the launcher that there is something to serve.
    fn begin_service(&self) {
        let database = self.database;
        SHARED.write(|state| {
            if let Some(entry) = state.database(database) {
                entry.known = Known::Present;
                entry.look = true;
            }
        });
    }

    /// Tells the launcher that there was nothing to serve when so many transactions had completed.
    /// The workers go, too.
    pub(super) fn end_service(&self, seen: u64) {
        let (database, now) = (self.database, clock::now());
        // Under the lock nothing is allocated.
        let mut leaving = Vec::with_capacity(shared::SLOTS);
        shared::tell(|state| {
            if let Some(entry) = state.database(database) {
                entry.known = Known::Absent;
                entry.absent_at = now;
                entry.absent_seen = seen;
                entry.waits_for_lane = false;
            }
            state.dismiss_workers(database, &mut leaving);
            state.drop_lanes()
        });
        leaving.into_iter().for_each(shared::wake);
    }
}
