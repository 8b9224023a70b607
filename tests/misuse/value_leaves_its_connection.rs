// error: lifetime may not live long enough
use crate::pg::catalog::Extension;
use crate::pg::datum;
use crate::pg::error::Result;
use crate::pg::spi::{self, Statement};

static NAME: Statement = Statement::new("SELECT 'x'::pg_catalog.text", &[]);

pub fn name(extension: &Extension) -> Result<Option<Vec<u8>>> {
    let value = spi::connect(extension, |spi| {
        Ok(spi.run(&NAME, &[])?.first().and_then(|row| row.datum(1)))
    })?;
    value.map(datum::as_text).transpose()
}
