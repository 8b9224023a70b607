//! What a job says that is about to be enqueued.

use crate::logic::columns::GIVEN;
use crate::pg::datum::{self, Datum, ToDatum};
use crate::pg::error::Result;

use super::column;
use super::handler::Named;

/// A job on its way in: the values of the columns of `_jobs` that it gives, and nothing yet in the others.
/// They live as long as the memory that they were made in.
#[derive(Clone)]
pub struct NewJob<'a>([Option<Datum<'a>>; column::COUNT]);

impl<'a> NewJob<'a> {
    /// A job that says nothing yet.
    pub fn new() -> Self {
        let mut job = NewJob([None; column::COUNT]);
        job.set(column::PRIORITY, Some(0i32.datum()));
        job
    }

    /// Sets a column, of its type.
    pub fn set(&mut self, column: i32, value: Option<Datum<'a>>) {
        let index = usize::try_from(column.saturating_sub(1));
        if let Some(place) = index.ok().and_then(|index| self.0.get_mut(index)) {
            *place = value;
        }
    }

    /// What it gives in a column.
    pub fn get(&self, column: i32) -> Option<Datum<'a>> {
        let index = usize::try_from(column.saturating_sub(1)).ok()?;
        self.0.get(index).copied().flatten()
    }

    /// Sets what it calls.
    pub fn set_handler(&mut self, handler: &Named) -> Result<()> {
        self.set(column::HANDLER, Some(datum::text_datum(&handler.name)?));
        self.set(column::HANDLER_OWNER, handler.owner.map(ToDatum::datum));
        Ok(())
    }

    /// All that it gives, by column.
    pub(super) fn values(&self) -> &[Option<Datum<'a>>; column::COUNT] {
        &self.0
    }

    /// The name of its queue.
    pub fn queue(&self) -> Result<Vec<u8>> {
        let queue = self.get(column::QUEUE);
        queue.map_or_else(|| Ok(Vec::new()), datum::as_text)
    }

    /// What the statements take.
    pub(super) fn arguments(&self) -> [Option<Datum<'a>>; GIVEN.len()] {
        GIVEN.map(|column| self.get(column))
    }
}
