//! The row that a BEFORE ROW trigger is called for.

use super::columns;
use super::datum::{self, Datum};
use super::error::Result;
use super::guard::protect;
use crate::logic::columns::Table;
use crate::sys;

/// Has all columns of a slot at hand, as slot_getallattrs() does (tuptable.h). Raises in the server's way.
///
/// # Safety
/// The slot holds a row.
pub(super) unsafe fn read_all(slot: *mut sys::TupleTableSlot) {
    // SAFETY: as promised.
    unsafe {
        let all = (*(*slot).tts_tupleDescriptor).natts;
        if i32::from((*slot).tts_nvalid) < all {
            sys::slot_getsomeattrs_int(slot, all);
        }
    }
}

/// A row on its way into a table.
pub struct TriggerRow {
    tuple: sys::HeapTuple,
    old: sys::HeapTuple,
    description: sys::TupleDesc,
    /// Whether it replaces another version.
    pub is_update: bool,
    /// Its columns, all of which have been read: reading one of many reads those before it.
    values: *const sys::Datum,
    nulls: *const bool,
}

impl TriggerRow {
    pub(super) fn new(data: &sys::TriggerData) -> Result<Self> {
        let is_update = data.tg_event & sys::TRIGGER_EVENT_OPMASK == sys::TRIGGER_EVENT_UPDATE;
        let (tuple, old, slot) = if is_update {
            (data.tg_newtuple, data.tg_trigtuple, data.tg_newslot)
        } else {
            (data.tg_trigtuple, std::ptr::null_mut(), data.tg_trigslot)
        };
        // SAFETY: the executor's slot of that very row (ExecBRInsertTriggers, trigger.c), which needs its columns as well.
        let (values, nulls) = protect(|| unsafe {
            read_all(slot);
            (
                (*slot).tts_values.cast_const(),
                (*slot).tts_isnull.cast_const(),
            )
        })?;
        Ok(TriggerRow {
            tuple,
            old,
            // SAFETY: the table is open while its trigger runs.
            description: unsafe { (*data.tg_relation).rd_att },
            is_update,
            values,
            nulls,
        })
    }

    /// Refuses a table whose columns are not of the declared types. That of another version may have fewer.
    pub fn check(&self, declared: &Table) -> Result<()> {
        columns::check(self.description, declared)
    }

    /// A column, counted from 1; `None` for NULL, and for one that the table does not have.
    pub fn get(&self, column: i32) -> Option<Datum<'_>> {
        if !self.has(column) {
            return None;
        }
        let at = usize::try_from(column - 1).ok()?;
        // SAFETY: so many columns have been read; the value lives in the trigger's row.
        unsafe {
            let of = sys::mw_column_type(self.description, column);
            (!*self.nulls.add(at)).then(|| Datum::new(*self.values.add(at), of))
        }
    }

    /// A column of the version that is replaced.
    pub fn old(&self, column: i32) -> Option<Datum<'_>> {
        if self.old.is_null() {
            None
        } else {
            self.read(self.old, column)
        }
    }

    fn read(&self, tuple: sys::HeapTuple, column: i32) -> Option<Datum<'_>> {
        if !self.has(column) {
            return None;
        }
        let mut null = true;
        // SAFETY: tuple and description are the trigger's, and the column is one of the table's.
        let value = unsafe {
            let value = sys::mw_tuple_attr(tuple, column, self.description, &mut null);
            Datum::new(value, sys::mw_column_type(self.description, column))
        };
        (!null).then_some(value)
    }

    fn has(&self, column: i32) -> bool {
        // SAFETY: the table is open while its trigger runs.
        (1..=unsafe { (*self.description).natts }).contains(&column)
    }

    /// Replaces columns (counted from 1) by new values.
    pub fn set(&mut self, changes: &[(i32, Option<Datum<'_>>)]) -> Result<()> {
        // SAFETY: the description of the row's table, which is open.
        let last = unsafe { (*self.description).natts };
        // Another version's table may lack some.
        let there = || changes.iter().filter(|change| change.0 <= last);
        let columns: Vec<i32> = there().map(|c| c.0).collect();
        let values: Vec<Option<Datum<'_>>> = there().map(|c| c.1).collect();
        for (column, value) in there() {
            // SAFETY: as above.
            let of = unsafe { sys::mw_column_type(self.description, *column) };
            value.map_or(Ok(()), |value| value.check(of))?;
        }
        if columns.is_empty() {
            return Ok(());
        }
        let (data, nulls) = split(&values);
        let (tuple, description, count) = (self.tuple, self.description, columns.len() as i32);
        let (columns, data, nulls) = (columns.as_ptr(), data.as_ptr(), nulls.as_ptr());
        let all = usize::try_from(last).unwrap_or(0);
        // SAFETY: three arrays of `count` elements, copied into a palloc'd tuple, which is read into two of as many as it has columns.
        (self.tuple, self.values, self.nulls) = protect(|| unsafe {
            let changed = sys::heap_modify_tuple_by_cols(
                tuple,
                description,
                count,
                columns.cast_mut(),
                data.cast_mut(),
                nulls.cast_mut(),
            );
            let values = sys::palloc(all * size_of::<sys::Datum>()).cast::<sys::Datum>();
            let nulls = sys::palloc(all).cast::<bool>();
            sys::heap_deform_tuple(changed, description, values, nulls);
            (changed, values.cast_const(), nulls.cast_const())
        })?;
        Ok(())
    }

    /// What the trigger returns.
    pub fn result(&self) -> Datum<'static> {
        // SAFETY: the server takes a trigger's row as this.
        unsafe { Datum::new(self.tuple as sys::Datum, sys::TRIGGEROID) }
    }
}

/// Values as the server takes them: two arrays.
pub(super) fn split(values: &[Option<Datum<'_>>]) -> (Vec<sys::Datum>, Vec<bool>) {
    (
        values.iter().map(|value| datum::raw(*value)).collect(),
        values.iter().map(Option::is_none).collect(),
    )
}
