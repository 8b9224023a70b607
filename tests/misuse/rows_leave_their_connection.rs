// error: lifetime may not live long enough
use crate::pg::catalog::Extension;
use crate::pg::error::Result;
use crate::pg::spi::{self, Statement};

static ONE: Statement = Statement::new("SELECT 1", &[]);

pub fn count(extension: &Extension) -> Result<usize> {
    let rows = spi::connect(extension, |spi| spi.run(&ONE, &[]))?;
    Ok(rows.count())
}
