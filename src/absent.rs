//! Databases that `my_worker.database` names and that cannot be served: the launcher says so when it
//! starts, and whenever they become others. A name may be misspelt, and a database may come later.

use crate::logic::names::{self, Candidate};
use crate::pg::catalog::Database;
use crate::pg::error::{OBJECT_NOT_IN_PREREQUISITE_STATE, Result};
use crate::pg::log::{self, Level};
use crate::settings::{self, Served};

/// What was said last.
#[derive(Default)]
pub struct Absent {
    told: Vec<u8>,
    told_of_refusal: bool,
}

impl Absent {
    /// Compares the setting with all databases of the server and writes at most one WARNING.
    pub fn report(&mut self, served: &Served, databases: &[Database]) -> Result<()> {
        if settings::list_was_refused() && !std::mem::replace(&mut self.told_of_refusal, true) {
            return warn(
                b"no database is served: the value of \"my_worker.database\" was refused",
                None,
                "Correct it, and restart the server.",
            );
        }
        let Served::Named(wanted) = served else {
            return Ok(());
        };
        let candidates: Vec<Candidate<'_>> = databases
            .iter()
            .map(|database| Candidate {
                name: &database.name,
                is_usable: database.usable,
            })
            .collect();
        let absent = names::describe_absent(wanted, &candidates);
        if absent == self.told {
            return Ok(());
        }
        self.told.clone_from(&absent);
        if absent.is_empty() {
            return Ok(());
        }
        warn(
            b"\"my_worker.database\" names what cannot be served",
            Some(&absent),
            "A database that comes later is served then. To change the setting takes a restart.",
        )
    }
}

fn warn(message: &[u8], detail: Option<&[u8]>, hint: &str) -> Result<()> {
    let (level, code) = (Level::Warning, OBJECT_NOT_IN_PREREQUISITE_STATE);
    log::report_with(level, code, message, detail, Some(hint.as_bytes()))
}
