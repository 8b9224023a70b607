//! Jobs whose end cannot be written: they are set aside.

use crate::pg::error::{DISK_FULL, IO_ERROR, OUT_OF_MEMORY, PgError, Result, SqlState};
use crate::pg::{catalog, xact};
use crate::queue::end::{self, END_NOT_WRITTEN, EndOf, How};
use crate::queue::told::Written;

/// What no job can help, and what ends with the server's trouble.
pub fn is_servers(code: SqlState) -> bool {
    [DISK_FULL, IO_ERROR, OUT_OF_MEMORY].contains(&code)
}

/// Outside a transaction: writes an end in one of its own; nothing if the extension is gone.
pub fn write_alone(of: &EndOf, how: How) -> Result<Written> {
    xact::transaction(|| match catalog::hold_extension()? {
        Some(extension) => end::write(&extension, of, how),
        None => Ok(Written::NOTHING),
    })
}

/// Outside a transaction: the job stays in `my_queue` as failed. Where that is refused, too, the
/// process ends.
pub fn set_aside(of: &EndOf, refused: &PgError) -> Result<Written> {
    xact::transaction(|| {
        let Some(extension) = catalog::hold_extension()? else {
            return Ok(Written::NOTHING);
        };
        let written = end::write(&extension, of, How::SetAside(END_NOT_WRITTEN, refused))?;
        match written.outcome() {
            Some(_) => Ok(written),
            None => Err(refused.clone()),
        }
    })
}
