//! Whether anybody runs the jobs of this database.

use crate::pg::bgworker;
use crate::pg::catalog;
use crate::pg::error::{OBJECT_NOT_IN_PREREQUISITE_STATE, Result};
use crate::pg::local::Local;
use crate::pg::log::{self, Level};
use crate::settings;
use crate::shared::{SHARED, State};

use super::home;

/// Whether this transaction was warned that its database is not served.
static WARNED: Local<bool> = Local::new(false);
/// This database is named in `my_worker.database`.
static SERVED: Local<bool> = Local::new(false);

/// The transaction has ended: the next one is warned anew.
pub fn forget() {
    WARNED.set(false);
}

/// Says once a transaction that nobody will run the jobs of this database.
pub fn warn() -> Result<()> {
    if WARNED.replace(true) {
        return Ok(());
    }
    match unserved()? {
        None => Ok(()),
        Some((message, hint)) => {
            let (level, code) = (Level::Warning, OBJECT_NOT_IN_PREREQUISITE_STATE);
            log::report_hint(level, code, &message, &hint)
        }
    }
}

/// Why nobody runs the jobs of this database, and what to do; `None` if they are run.
pub fn unserved() -> Result<Option<(String, String)>> {
    // Once it is named there, it stays so while the server runs.
    if SERVED.get() && SHARED.read(runs_nothing) != Some(true) {
        return Ok(None);
    }
    if !SHARED.is_attached() {
        let reason = "jobs will not run: my_worker was not loaded when the server started";
        let hint = "Add my_worker to \"shared_preload_libraries\" and restart the server.";
        return Ok(Some((reason.to_string(), hint.to_string())));
    }
    let name = catalog::current_database()?;
    let shown = String::from_utf8_lossy(&name).into_owned();
    if !settings::serves(&name) {
        let reason = format!("jobs in database \"{shown}\" will not run: it is not served");
        let hint = match settings::list_was_refused() {
            true => {
                "Correct \"my_worker.database\", whose value was refused, and restart the server."
                    .to_string()
            }
            false => {
                let name = shown.replace('"', "\"\"");
                format!("Add \"{name}\" to \"my_worker.database\" and restart the server.")
            }
        };
        return Ok(Some((reason, hint)));
    }
    if SHARED.read(has_no_place) == Some(true) {
        let reason = format!("jobs in database \"{shown}\" will not run: too many are served");
        let hint = "Name the databases that have the extension in \"my_worker.database\".";
        return Ok(Some((reason, hint.to_string())));
    }
    SERVED.set(true);
    if home::is_known_copy() {
        let reason = format!("jobs in database \"{shown}\" will not run: it is a copy");
        return Ok(Some((reason, home::HINT.to_string())));
    }
    Ok(None)
}

fn runs_nothing(state: &State) -> bool {
    has_no_place(state) || state.is_copy(bgworker::my_database())
}

/// Whether other databases have all places.
fn has_no_place(state: &State) -> bool {
    state.is_left_out(bgworker::my_database())
}
