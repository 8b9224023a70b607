//! Making a database the home of its jobs and schedules.
//!
//! Whether it is one, `queue::home` tells. `adopt` is what a person asks for, in a copy whose jobs shall run.
//! `settle` is what the keeper does without asking where nothing can run twice by it: after pg_upgrade, and in a
//! copy of the files that has neither jobs nor schedules.
//!
//! A home is a number, drawn by chance. Where a dump was restored, the number is this database's own, and what
//! came gets it. Where the files were copied, the original has the number, too: the copy draws another one, and with it
//! the two indexes of strangers are made anew, since their conditions name the number.

mod adopt;
mod reassign;
mod settle;

pub use adopt::adopt;
pub use reassign::reassign;
pub use settle::settle;

use crate::pg::datum::{ToDatum, types};
use crate::pg::error::Result;
use crate::pg::spi::{Spi, Statement};
use crate::queue::extension;
use crate::queue::home::copied;

/// Waits for whoever has written a job or a schedule, and keeps others from it until the transaction ends.
static LOCK: Statement = Statement::new(
    "LOCK TABLE my_worker._jobs, my_worker._schedules IN SHARE ROW EXCLUSIVE MODE",
    &[],
);

/// The same, and waits for readers, who would be in the way of making the indexes.
static LOCK_ALONE: Statement = Statement::new(
    "LOCK TABLE my_worker._jobs, my_worker._schedules IN ACCESS EXCLUSIVE MODE",
    &[],
);

static SET_BIRTH: Statement =
    Statement::new("SELECT my_worker_internal.set_birth($1)", &[types::INT8]);

static INDEX_STRANGERS: Statement = Statement::new(
    "SELECT my_worker_internal.index_strangers($1)",
    &[types::INT8],
);

static TAKE_JOBS: Statement = Statement::new(
    "UPDATE my_worker._jobs SET home = $1 WHERE home <> $1",
    &[types::INT8],
);

static TAKE_SCHEDULES: Statement = Statement::new(
    "UPDATE my_worker._schedules SET home = $1 WHERE home <> $1",
    &[types::INT8],
);

/// How many jobs and schedules there were of other homes.
struct Taken {
    jobs: usize,
    schedules: usize,
}

/// Draws a home that no other database has, and answers it. The tables are locked alone.
fn draw(spi: &Spi) -> Result<i64> {
    let rows = spi.run(&SET_BIRTH, &[None])?;
    let home = rows.first().and_then(|row| row.i64(1)).unwrap_or(0);
    spi.run(&INDEX_STRANGERS, &[Some(home.datum())])?;
    Ok(home)
}

/// Makes all that is there jobs and schedules of that home.
fn take_all(spi: &Spi, home: i64) -> Result<Taken> {
    let home = [Some(home.datum())];
    Ok(Taken {
        jobs: spi.run(&TAKE_JOBS, &home)?.count(),
        schedules: spi.run(&TAKE_SCHEDULES, &home)?.count(),
    })
}

/// Why nothing runs in this database, if it is a copy.
pub fn why_copy() -> Result<Option<&'static str>> {
    Ok(copied(&extension()?)?.map(|copy| copy.reason()))
}
