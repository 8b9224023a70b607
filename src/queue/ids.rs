//! Keeping ids from being given twice.
//!
//! Ids come from sequences, and rights to change any sequence are granted widely (`GRANT ALL ON ALL
//! SEQUENCES`, pg_write_all_data); a dump may also be restored in part. A sequence that was set back gives
//! ids that are taken, and every INSERT fails; one that was set to its end gives none. The keeper
//! sets such a sequence right.

use crate::pg::catalog::Extension;
use crate::pg::datum::ToDatum;
use crate::pg::datum::types;
use crate::pg::error::Result;
use crate::pg::log::{self, Level};
use crate::pg::spi::{Spi, Statement};

use super::as_owner;

/// Ids from here on do not fit into a slot beside the stage of a job.
pub const FIRST_TOO_LARGE: i64 = 1 << 61;

/// Whether a job of that id can run.
pub fn is_good(id: i64) -> bool {
    (1..FIRST_TOO_LARGE).contains(&id)
}

/// A sequence of ours, and the greatest id in the tables that it serves.
struct Sequence {
    name: &'static str,
    /// From here on it is near its end: whoever set it there, or wrote a row with such an id.
    first_too_large: i64,
    /// Its value, whether that was given, and the greatest id below that.
    look: Statement,
    set: Statement,
}

macro_rules! sequence {
    ($name:literal, $first_too_large:expr, $greatest:literal) => {
        Sequence {
            name: $name,
            first_too_large: $first_too_large,
            look: Statement::new(
                concat!(
                    "SELECT s.last_value, s.is_called, coalesce(",
                    $greatest,
                    ", 0) FROM ",
                    $name,
                    " AS s"
                ),
                &[],
            ),
            set: Statement::new(
                concat!(
                    "SELECT pg_catalog.setval('",
                    $name,
                    "'::pg_catalog.regclass, $1)"
                ),
                &[types::INT8],
            ),
        }
    };
}

static SEQUENCES: [Sequence; 3] = [
    sequence!(
        "my_worker._jobs_id_seq",
        FIRST_TOO_LARGE,
        "greatest((SELECT pg_catalog.max(id) FROM my_worker._jobs \
         WHERE id < 2305843009213693952), \
         (SELECT pg_catalog.max(id) FROM my_worker.history \
         WHERE id < 2305843009213693952))"
    ),
    sequence!(
        "my_worker.queues_id_seq",
        1 << 30,
        "(SELECT pg_catalog.max(id) FROM my_worker.queues \
         WHERE id < 1073741824)::pg_catalog.int8"
    ),
    sequence!(
        "my_worker._schedules_id_seq",
        FIRST_TOO_LARGE,
        "(SELECT pg_catalog.max(id) FROM my_worker._schedules \
         WHERE id < 2305843009213693952)"
    ),
];

/// Sets right the sequences that would give an id that is taken, or soon none. A few index descents.
/// In a transaction.
pub fn mend(extension: &Extension) -> Result<()> {
    as_owner(extension, |spi| {
        for sequence in &SEQUENCES {
            mend_one(spi, sequence)?;
        }
        Ok(())
    })
}

fn mend_one(spi: &Spi, sequence: &Sequence) -> Result<()> {
    let rows = spi.read(&sequence.look, &[])?;
    let Some(row) = rows.first() else {
        return Ok(());
    };
    let (last, is_called) = (row.i64(1).unwrap_or(0), row.bool(2));
    let greatest = row.i64(3).unwrap_or(0);
    let given = if is_called {
        last
    } else {
        last.saturating_sub(1)
    };
    if given >= greatest && given < sequence.first_too_large {
        return Ok(());
    }
    spi.run(&sequence.set, &[Some(greatest.max(1).datum())])?;
    let name = sequence.name;
    let text = format!(
        "sequence \"{name}\" stood at {given} and the greatest id is {greatest}: set right"
    );
    log::report(Level::Warning, &text)
}
