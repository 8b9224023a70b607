//! A row in memory of ours.

use super::datum::{Datum, Oid, types};
use crate::logic::columns;
use crate::sys;

/// Position of a row version in its table.
#[derive(Clone, Copy)]
pub struct RowId(pub(super) sys::ItemPointerData);

/// A row copied out of its table, whose columns are read by place: valid while its memory context is.
#[derive(Clone, Copy)]
pub struct OwnedRow {
    pub(super) tuple: sys::HeapTuple,
    /// What its columns hold.
    pub(super) values: *const sys::Datum,
    pub(super) nulls: *const bool,
    pub(super) count: usize,
    /// Where it stands.
    pub id: RowId,
    /// The columns of its table.
    pub(super) columns: &'static [columns::Column],
}

impl OwnedRow {
    /// A column of the row, counted from 1; `None` for NULL.
    pub fn get(&self, column: i32) -> Option<Datum<'static>> {
        let (value, of) = self.value(column)?;
        // SAFETY: a value of that type.
        Some(unsafe { Datum::new(value, of) })
    }

    /// A column of that type; `None` for NULL, and if it is of another type.
    pub(super) fn raw(&self, column: i32, of: Oid) -> Option<sys::Datum> {
        let (value, is) = self.value(column)?;
        (is == of).then_some(value)
    }

    fn value(&self, column: i32) -> Option<(sys::Datum, Oid)> {
        let index = column.wrapping_sub(1) as u32 as usize;
        if index >= self.count {
            return None;
        }
        let known = self.columns.get(index)?;
        // SAFETY: there are `count` values in both arrays; the table was opened with columns of those types.
        unsafe {
            match *self.nulls.add(index) {
                true => None,
                false => Some((*self.values.add(index), types::oid(known.kind))),
            }
        }
    }

    /// The transaction that wrote the row, as its header says.
    pub fn writer(&self) -> u32 {
        // SAFETY: a copy of a stored row, whose header has the transactions.
        unsafe { (*(*self.tuple).t_data).t_choice.t_heap.t_xmin }
    }
}
