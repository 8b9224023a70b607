//! Making room: DROP, RENAME, SET TABLESPACE and copying of a database need it free of sessions,
//! and ours leave for it.
//!
//! The backend that runs the statement asks our processes in that database to leave, keeps new
//! ones out until its transaction ends, and waits a little for them to be gone. One in the middle
//! of a long job leaves after it; the statement then fails as it would for any other session, or,
//! WITH (FORCE), ends it.

use crate::pg::error::Result;
use crate::pg::{catalog, clock, identity, latch, wait_event};
use crate::queue::wake;
use crate::shared::{self, SHARED};

/// New processes of ours stay out for at most this long, should the statement take longer.
const KEEP_OUT: i64 = 10_000_000;
/// The statement itself waits another five seconds (CountOtherDBBackends, procarray.c).
const PATIENCE: i64 = 2_000_000;

/// Called before the statement, with the name of the database that it needs.
pub fn make_room(name: &[u8]) -> Result<()> {
    // A copy may have the extension, and a new name be one to be served.
    wake::resolve_at_commit()?;
    let database = catalog::database_oid(name)?;
    let ours = SHARED
        .read(|state| state.concerns(database))
        .unwrap_or(false);
    // Whoever may not run the statement shall not disturb us by it either.
    if !ours || !catalog::owns_database(database, identity::current_role())? {
        return Ok(());
    }
    let now = clock::now();
    wake::unblock_at_end(database)?;
    let mut leaving = Vec::with_capacity(crate::shared::SLOTS);
    SHARED.write(|state| state.keep_out(database, now + KEEP_OUT, &mut leaving));
    leaving.into_iter().for_each(shared::wake);
    while SHARED.read(|state| state.has_process(database)) == Some(true)
        && clock::now() - now < PATIENCE
    {
        latch::wait(Some(10), wait_event::job_wait())?;
    }
    Ok(())
}
