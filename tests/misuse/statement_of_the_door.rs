// error: module `settle` is private
use crate::pg::catalog::Extension;
use crate::pg::error::Result;

pub fn forget(extension: &Extension, job: i64) -> Result<()> {
    crate::queue::settle::forget(extension, job)
}
