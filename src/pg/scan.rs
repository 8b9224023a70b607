//! Scans of our tables by OID: in the order of an index, within a budget where nobody may wait for
//! the end, and of all rows.

use std::marker::PhantomData;
use std::ptr;

use super::catalog;
use super::datum::{Datum, Oid, ToDatum};
use super::error::Result;
use super::guard::protect;
use super::key::Key;
use super::table::{Row, RowId, Table};
use crate::sys;

impl Table {
    /// Starts a scan in index order under the active snapshot.
    pub fn scan<'a>(&self, keys: &[Key<'a>]) -> Result<Scan<'a>> {
        let mut raw = self.raw(keys)?;
        let (pointer, count) = (raw.as_mut_ptr(), raw.len() as i32);
        // SAFETY: a snapshot is active; there are so many keys.
        let scan = protect(|| unsafe { self.begin(pointer, count, false) })?;
        Ok(Scan {
            scan,
            keys: PhantomData,
        })
    }

    /// Starts a scan in index order. One that `keeps` its entries is for [`BoundedScan::value`]. May raise.
    ///
    /// # Safety
    /// A snapshot is active, and there are so many keys, which are copied.
    unsafe fn begin(
        &self,
        keys: *mut sys::ScanKeyData,
        count: i32,
        keeps: bool,
    ) -> sys::IndexScanDesc {
        // SAFETY: table and index are open; the rest is as the caller says.
        unsafe {
            let snapshot = sys::GetActiveSnapshot();
            let (table, index) = (self.relation, self.index);
            #[cfg(pg_ge_19)]
            let scan = sys::index_beginscan(table, index, snapshot, ptr::null_mut(), count, 0, 0);
            #[cfg(all(pg_ge_18, not(pg_ge_19)))]
            let scan = sys::index_beginscan(table, index, snapshot, ptr::null_mut(), count, 0);
            #[cfg(not(pg_ge_18))]
            let scan = sys::index_beginscan(table, index, snapshot, count, 0);
            (*scan).xs_want_itup = keeps;
            sys::index_rescan(scan, keys, count, ptr::null_mut(), 0);
            scan
        }
    }

    /// The first row of a scan, if any, in `row`.
    pub fn first(&self, keys: &[Key<'_>], row: &Row) -> Result<bool> {
        let scan = self.scan(keys)?;
        let found = scan.next(row)?;
        scan.end()?;
        Ok(found)
    }

    /// The same as [`Table::scan`], of a scan that may be given up in its middle.
    pub fn bounded_scan<'a>(&self, keys: &[Key<'a>]) -> Result<BoundedScan<'a>> {
        let mut raw = self.raw(keys)?;
        let (pointer, count) = (raw.as_mut_ptr(), raw.len() as i32);
        // SAFETY: as above.
        let scan = protect(|| unsafe { self.begin(pointer, count, true) })?;
        Ok(BoundedScan {
            scan,
            keys: PhantomData,
        })
    }

    /// The first columns of the first entry of the index, whether its row is there or gone; NULLs
    /// are `None`. Copied into the current memory context. One descent, whatever stands there.
    pub fn first_entry<const COLUMNS: usize>(
        &self,
        keys: &[Key<'_>],
    ) -> Result<Option<[Option<Datum<'static>>; COLUMNS]>> {
        let mut raw = self.raw(keys)?;
        let (pointer, count) = (raw.as_mut_ptr(), raw.len() as i32);
        let null = sys::NullableDatum {
            value: 0,
            isnull: true,
        };
        let mut values = [null; COLUMNS];
        let to = values.as_mut_ptr();
        // SAFETY: as above; there is room for so many columns, which the index has.
        let found = protect(|| unsafe {
            let scan = self.begin(pointer, count, true);
            let found = !sys::index_getnext_tid(scan, sys::ForwardScanDirection).is_null();
            let (entry, description) = ((*scan).xs_itup, (*scan).xs_itupdesc);
            for column in 0..if found { COLUMNS } else { 0 } {
                let (number, to) = (column as i32 + 1, &mut *to.add(column));
                let value = sys::mw_index_attr(entry, number, description, &mut to.isnull);
                if !to.isnull {
                    let form = &*sys::mw_attribute(description, column as i32);
                    to.value = sys::datumCopy(value, form.attbyval, i32::from(form.attlen));
                }
            }
            sys::index_endscan(scan);
            found
        })?;
        let value = |index: usize| {
            let column = values.get(index).filter(|column| !column.isnull)?;
            // SAFETY: the index is open; a copy of its column, in the memory context that is current.
            Some(unsafe {
                let of = sys::mw_column_type((*self.index).rd_att, index as i32 + 1);
                Datum::new(column.value, of)
            })
        };
        Ok(found.then(|| std::array::from_fn(value)))
    }

    /// The keys as the server has them, if they are on columns of their types.
    fn raw(&self, keys: &[Key<'_>]) -> Result<Vec<sys::ScanKeyData>> {
        // SAFETY: the index is open.
        let raw = |key: &Key<'_>| unsafe { key.raw((*self.index).rd_att) };
        keys.iter().map(raw).collect()
    }

    /// Starts a scan of all rows under the active snapshot, in no order.
    pub fn scan_all(&self) -> Result<FullScan> {
        // SAFETY: the table is open, a snapshot is active.
        let scan = protect(|| unsafe {
            sys::mw_table_beginscan(self.relation, sys::GetActiveSnapshot())
        })?;
        Ok(FullScan { scan })
    }

    /// Deletes a row if nobody else has it.
    pub fn delete_free(&self, id: RowId) -> Result<Freed> {
        let (relation, mut tid) = (self.relation, id.0);
        let tid = &raw mut tid;
        // SAFETY: the table is open for writing; the row was read from it under the active snapshot.
        let result = protect(|| unsafe {
            let (snapshot, command) = (sys::GetActiveSnapshot(), sys::GetCurrentCommandId(true));
            sys::mw_delete_row(relation, tid, snapshot, command, false)
        })?;
        Ok(match result {
            _ if result == sys::TM_Ok as i32 => Freed::Deleted,
            _ if result == sys::TM_Updated as i32 => Freed::Changed,
            _ => Freed::Held,
        })
    }

    /// Whether a trigger is told of rows that are deleted; those of that extension only ask who deletes.
    pub fn tells_of_deletes(&self, extension: Oid) -> Result<bool> {
        // SAFETY: the description of a table that is open; NULL if it has no triggers, else it has so many.
        let functions: Vec<Oid> = unsafe {
            let description = (*self.relation).trigdesc.as_ref();
            let triggers = description.map_or(&[][..], |all| {
                let count = usize::try_from(all.numtriggers).unwrap_or(0);
                std::slice::from_raw_parts(all.triggers, count)
            });
            let of_deletes = |trigger: &&sys::Trigger| {
                u32::from(trigger.tgtype.unsigned_abs()) & sys::TRIGGER_TYPE_DELETE != 0
            };
            let of_deletes = triggers.iter().filter(of_deletes);
            of_deletes.map(|trigger| trigger.tgfoid).collect()
        };
        for function in functions {
            if !catalog::is_member(sys::ProcedureRelationId, function, extension)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What became of a row that was to be deleted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Freed {
    /// It is deleted.
    Deleted,
    /// Another version of it is there by now.
    Changed,
    /// Somebody has it, or it is gone.
    Held,
}

/// A running index scan.
pub struct Scan<'a> {
    scan: sys::IndexScanDesc,
    keys: PhantomData<Key<'a>>,
}

impl Scan<'_> {
    /// Reads the next visible row; false at the end.
    pub fn next(&self, row: &Row) -> Result<bool> {
        let (scan, slot) = (self.scan, row.slot);
        // SAFETY: the scan is open and the slot belongs to its table.
        protect(|| unsafe { sys::index_getnext_slot(scan, sys::ForwardScanDirection, slot) })
    }

    /// Ends the scan.
    pub fn end(self) -> Result<()> {
        // SAFETY: the scan is open.
        protect(|| unsafe { sys::index_endscan(self.scan) })
    }
}

/// A running index scan that is given up when a budget of entries is spent.
pub struct BoundedScan<'a> {
    scan: sys::IndexScanDesc,
    keys: PhantomData<Key<'a>>,
}

/// What a step of a [`BoundedScan`] came to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A row was read.
    Row,
    /// There are no more.
    End,
    /// The budget is spent, and there may be more.
    Spent,
}

impl BoundedScan<'_> {
    /// Reads the next visible row; takes one from the budget for each entry on the way.
    pub fn next(&self, row: &Row, budget: &mut i64) -> Result<Step> {
        let (scan, slot, budget) = (self.scan, row.slot, &raw mut *budget);
        // SAFETY: the scan is open and the slot belongs to its table; the budget outlives the call.
        protect(|| unsafe {
            loop {
                if !(*scan).xs_heap_continue {
                    if *budget <= 0 {
                        return Step::Spent;
                    }
                    *budget -= 1;
                    if sys::index_getnext_tid(scan, sys::ForwardScanDirection).is_null() {
                        return Step::End;
                    }
                }
                if sys::index_fetch_heap(scan, slot) {
                    return Step::Row;
                }
            }
        })
    }

    /// A column, passed by value, of the entry that was read last, from 1; `None` for NULL, and if no
    /// entry was read.
    pub fn value(&self, column: i32) -> Option<Datum<'static>> {
        let mut null = true;
        // SAFETY: the scan is open, and keeps the entry that it is at, if any.
        unsafe {
            let entry = (*self.scan).xs_itup;
            if entry.is_null() {
                return None;
            }
            let value = sys::mw_index_attr(entry, column, (*self.scan).xs_itupdesc, &mut null);
            (!null).then(|| (value as i64).datum())
        }
    }

    /// Ends the scan.
    pub fn end(self) -> Result<()> {
        // SAFETY: the scan is open.
        protect(|| unsafe { sys::index_endscan(self.scan) })
    }
}

/// A running scan of a whole table.
pub struct FullScan {
    scan: *mut sys::TableScanDescData,
}

impl FullScan {
    /// Reads the next visible row; false at the end.
    pub fn next(&self, row: &Row) -> Result<bool> {
        let (scan, slot) = (self.scan, row.slot);
        // SAFETY: the scan is open and the slot belongs to its table.
        protect(|| unsafe { sys::mw_table_next(scan, slot) })
    }

    /// Ends the scan.
    pub fn end(self) -> Result<()> {
        // SAFETY: the scan is open.
        protect(|| unsafe { sys::mw_table_endscan(self.scan) })
    }
}
