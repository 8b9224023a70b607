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
        // Another version's table may lack some.
        let there = || changes.iter().filter(|change| self.has(change.0));
        if there().next().is_none() {
            return Ok(());
        }
        for (column, value) in there() {
            // SAFETY: the description of the row's table, which is open and has that column.
            let of = unsafe { sys::mw_column_type(self.description, *column) };
            value.map_or(Ok(()), |value| value.check(of))?;
        }
        let (tuple, description) = (self.tuple, self.description);
        let (values, nulls) = (self.values, self.nulls);
        // SAFETY: two arrays with an element for each column, copied into two of the same size, and a row made of them.
        // What they point to stays until the trigger has returned.
        let changed = protect(|| unsafe {
            let all = usize::try_from((*description).natts).unwrap_or(0);
            let data = sys::palloc(all * size_of::<sys::Datum>()).cast::<sys::Datum>();
            let is_null = sys::palloc(all).cast::<bool>();
            data.copy_from_nonoverlapping(values, all);
            is_null.copy_from_nonoverlapping(nulls, all);
            for (column, value) in there() {
                let at = usize::try_from(column - 1).unwrap_or(0);
                *data.add(at) = datum::raw(*value);
                *is_null.add(at) = value.is_none();
            }
            let changed = sys::heap_form_tuple(description, data, is_null);
            // What heap_modify_tuple() keeps, too (heaptuple.c).
            (*(*changed).t_data).t_ctid = (*(*tuple).t_data).t_ctid;
            (*changed).t_self = (*tuple).t_self;
            (*changed).t_tableOid = (*tuple).t_tableOid;
            (changed, data.cast_const(), is_null.cast_const())
        })?;
        (self.tuple, self.values, self.nulls) = changed;
        Ok(())
    }

    /// What the trigger returns.
    pub fn result(&self) -> Datum<'static> {
        // SAFETY: the server takes a trigger's row as this.
        unsafe { Datum::new(self.tuple as sys::Datum, sys::TRIGGEROID) }
    }
}
