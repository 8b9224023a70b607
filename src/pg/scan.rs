//! Scans of our tables by OID: in the order of an index, within a budget where nobody may wait for
//! the end, and of all rows.

use std::marker::PhantomData;
use std::ptr;

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
        // SAFETY: table and index are open, a snapshot is active; index_rescan copies the keys.
        let scan = protect(|| unsafe {
            let snapshot = sys::GetActiveSnapshot();
            let (table, index) = (self.relation, self.index);
            #[cfg(pg_ge_18)]
            let scan = sys::index_beginscan(table, index, snapshot, ptr::null_mut(), count, 0);
            #[cfg(not(pg_ge_18))]
            let scan = sys::index_beginscan(table, index, snapshot, count, 0);
            sys::index_rescan(scan, pointer, count, ptr::null_mut(), 0);
            scan
        })?;
        Ok(Scan {
            scan,
            keys: PhantomData,
        })
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
        let scan = protect(|| unsafe {
            let snapshot = sys::GetActiveSnapshot();
            let scan = sys::mw_bounded_beginscan(self.relation, self.index, snapshot, count);
            sys::index_rescan(scan, pointer, count, ptr::null_mut(), 0);
            scan
        })?;
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
            let snapshot = sys::GetActiveSnapshot();
            let (table, index) = (self.relation, self.index);
            sys::mw_first_entry(table, index, snapshot, pointer, count, to, COLUMNS as i32)
        })?;
        let mut types = [0; COLUMNS];
        // SAFETY: the index is open; there is room for so many types.
        unsafe {
            let description = (*self.index).rd_att;
            sys::mw_column_types(description, types.as_mut_ptr(), COLUMNS as i32);
        }
        let value = |(column, of): (sys::NullableDatum, Oid)| {
            // SAFETY: a copy of a column of that type, in the memory context that is current.
            (!column.isnull).then(|| unsafe { Datum::new(column.value, of) })
        };
        let mut types = types.into_iter();
        Ok(found.then(|| values.map(|column| value((column, types.next().unwrap_or(0))))))
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
            sys::mw_delete_free_row(relation, tid, sys::GetActiveSnapshot())
        })?;
        Ok(match result {
            _ if result == sys::TM_Ok as i32 => Freed::Deleted,
            _ if result == sys::TM_Updated as i32 => Freed::Changed,
            _ => Freed::Held,
        })
    }

    /// Whether triggers are to hear of deletes, which only statements tell.
    pub fn tells_of_deletes(&self) -> bool {
        // SAFETY: reads the description of a table that is open.
        unsafe { sys::mw_has_delete_triggers(self.relation) }
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
        let found = protect(|| unsafe { sys::mw_bounded_next(scan, slot, budget) })?;
        Ok(match found {
            1 => Step::Row,
            0 => Step::End,
            _ => Step::Spent,
        })
    }

    /// A column, passed by value, of the entry that was read last, from 1; `None` for NULL, and if no
    /// entry was read.
    pub fn value(&self, column: i32) -> Option<Datum<'static>> {
        let mut null = true;
        // SAFETY: the scan is open; the shim reads the entry that it is at, if any.
        let value = unsafe { sys::mw_bounded_value(self.scan, column, &mut null) } as i64;
        (!null).then(|| value.datum())
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
