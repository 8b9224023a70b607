// error: Written` that must be used
use crate::pg::catalog::Extension;
use crate::pg::error::Result;
use crate::queue::end::{self, EndOf, How};

pub fn cancel(extension: &Extension, of: &EndOf) -> Result<()> {
    end::write(extension, of, How::Cancelled)?;
    Ok(())
}
