//! What the keeper settles without asking.

use crate::pg::birth::Moved;
use crate::pg::catalog::{self, Extension};
use crate::pg::datum::ToDatum;
use crate::pg::error::Result;
use crate::pg::guc;
use crate::pg::spi::{Spi, Statement};
use crate::queue::{as_owner, wake};

use super::{LOCK, LOCK_ALONE, SET_BIRTH, draw, take_all};

/// Jobs or schedules that are not of the time since the database has moved.
static HAS_ANY: Statement = Statement::new(
    "SELECT FROM my_worker._jobs WHERE home <> 0 \
     UNION ALL SELECT FROM my_worker._schedules WHERE home <> 0 LIMIT 1",
    &[],
);

/// Settles the home of a database that has moved, if that needs no decision. Waits a little for others.
pub fn settle(extension: &Extension) -> Result<()> {
    let Some(moved) = extension.birth.moved else {
        return Ok(());
    };
    as_owner(extension, |spi| {
        // Nobody's statement waits behind ours for long.
        guc::set_for_level(c"lock_timeout", c"200ms")?;
        match moved {
            Moved::Upgraded => {
                spi.run(&LOCK, &[])?;
                spi.run(&SET_BIRTH, &[Some(extension.birth.home.datum())])?;
                take_new(spi, extension.birth.home)
            }
            Moved::Copied if has_any(spi)? => Ok(()),
            Moved::Copied => {
                spi.run(&LOCK_ALONE, &[])?;
                if has_any(spi)? {
                    return Ok(());
                }
                let home = draw(spi)?;
                take_all(spi, home).map(|_| ())
            }
        }
    })?;
    catalog::announce_change(extension.jobs)?;
    wake::look_at_commit()
}

fn has_any(spi: &Spi) -> Result<bool> {
    Ok(spi.run(&HAS_ANY, &[])?.count() > 0)
}

static TAKE_NEW_JOBS: Statement = Statement::new(
    "UPDATE my_worker._jobs SET home = $1 WHERE home = 0",
    &[crate::pg::datum::types::INT8],
);

static TAKE_NEW_SCHEDULES: Statement = Statement::new(
    "UPDATE my_worker._schedules SET home = $1 WHERE home = 0",
    &[crate::pg::datum::types::INT8],
);

/// What came since the server was upgraded is of the home that there was.
fn take_new(spi: &Spi, home: i64) -> Result<()> {
    let home = [Some(home.datum())];
    spi.run(&TAKE_NEW_JOBS, &home)?;
    spi.run(&TAKE_NEW_SCHEDULES, &home).map(|_| ())
}
