//! Our tables by OID, without a plan: index scans, row locks, deletes, appends.
//!
//! No name is resolved and no right is looked up, so nothing that a job did to its session can
//! turn these calls elsewhere, and they cost a fraction of a statement. A caught error leaves
//! open what was open: the end of the (sub)transaction closes it, which is why nothing here has a
//! destructor.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::ptr;

use super::datum::{self, Datum, Oid, types};
use super::error::{OBJECT_NOT_IN_PREREQUISITE_STATE, PgError, Result};
use super::guard::protect;
pub use super::key::{Compare, Key};
use crate::logic::columns;
use crate::sys;

/// Our tables go with DROP EXTENSION, which nobody announces before it has the lock.
fn gone() -> PgError {
    PgError::new(
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        "extension \"my_worker\" was dropped from this database",
    )
}

/// Position of a row version in its table.
#[derive(Clone, Copy)]
pub struct RowId(pub(super) sys::ItemPointerData);

/// Who keeps others from a row.
#[derive(Clone, Copy)]
pub struct Holder {
    /// The transaction or subtransaction.
    pub transaction: u32,
    /// Its process; 0 if it is prepared, or has just ended.
    pub pid: i32,
}

/// Strength of a table lock.
#[derive(Clone, Copy)]
pub enum Lock {
    /// To read.
    Read,
    /// To lock and change rows.
    Write,
}

impl Lock {
    fn mode(self) -> i32 {
        (match self {
            Lock::Read => sys::AccessShareLock,
            Lock::Write => sys::RowExclusiveLock,
        }) as i32
    }
}

/// An open table with the index it is scanned by. The lock is kept until the transaction ends.
pub struct Table {
    pub(super) relation: sys::Relation,
    pub(super) index: sys::Relation,
}

/// Holds one object of a table, by number, until the (sub)transaction ends: with others, or alone
/// once all others are done with it. What had been read before may have changed meanwhile.
pub fn hold_object(table: Oid, object: i32, alone: bool) -> Result<()> {
    let mode = if alone {
        sys::AccessExclusiveLock
    } else {
        sys::AccessShareLock
    };
    // SAFETY: takes a heavyweight lock in an open transaction; raises on deadlock or cancel.
    protect(|| unsafe { sys::LockDatabaseObject(table, object as Oid, 0, mode as i32) })
}

/// How many entries of an index have the same first two columns.
pub struct Entries {
    /// The first column.
    pub first: Oid,
    /// The second.
    pub second: Vec<u8>,
    /// Entries whose time is not after the bound.
    pub until: i64,
    /// The others.
    pub after: i64,
}

/// What became of an attempt to lock a row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    /// It is ours until the transaction ends; the row stands in the [`Row`].
    Yes,
    /// Somebody else has it, or has changed or deleted it.
    No,
}

impl Table {
    /// Opens table and index, both by OID. An error if its columns are not those that are declared.
    pub fn open(relation: Oid, index: Oid, lock: Lock, declared: &columns::Table) -> Result<Self> {
        let mode = lock.mode();
        // SAFETY: answers NULL if the table is gone; while it is locked, so is its index there.
        let (relation, index) = protect(|| unsafe {
            let relation = sys::try_relation_open(relation, mode);
            if relation.is_null() {
                return (relation, relation);
            }
            (relation, sys::index_open(index, mode))
        })?;
        if relation.is_null() {
            return Err(gone());
        }
        // SAFETY: the table is open.
        super::columns::check(unsafe { (*relation).rd_att }, declared)?;
        Ok(Table { relation, index })
    }

    /// Closes both; the locks stay until the transaction ends.
    pub fn close(self) -> Result<()> {
        // SAFETY: both are open and no error has closed them.
        protect(|| unsafe {
            sys::index_close(self.index, sys::NoLock as i32);
            sys::table_close(self.relation, sys::NoLock as i32);
        })
    }

    /// A row of this table to read into.
    pub fn row(&self) -> Result<Row> {
        // SAFETY: the table is open.
        let slot = protect(|| unsafe { sys::table_slot_create(self.relation, ptr::null_mut()) })?;
        Ok(Row { slot })
    }

    /// Counts the entries of the index by its leaf pages: for each pair of the first two columns
    /// (`oid`, `text`) those whose fourth (`timestamptz`) is not after `bound`, and the others.
    /// Entries of rows that are gone count until somebody has found them dead.
    pub fn count_entries(&self, bound: i64) -> Result<Vec<Entries>> {
        let (index, mut count) = (self.index, 0);
        let pointer = &raw mut count;
        // SAFETY: the index is open, and its columns are of those types.
        let groups = protect(|| unsafe { sys::mw_count_leaves(index, bound, pointer) })?;
        let count = usize::try_from(count).unwrap_or(0);
        // SAFETY: the array has `count` elements, and each name is a text of its own.
        let groups = unsafe { std::slice::from_raw_parts(groups, count) };
        // In the order of the index; a pair comes twice if some pages hold it alone, others with more.
        let mut found = BTreeMap::new();
        for group in groups {
            // SAFETY: the shim has read a text, as the index has it.
            let name = unsafe { Datum::new(group.second, types::TEXT) };
            let pair = (group.first, datum::as_text(name)?);
            let (until, after) = found.entry(pair).or_insert((0, 0));
            *until += group.until;
            *after += group.after;
        }
        let one = |((first, second), (until, after))| Entries {
            first,
            second,
            until,
            after,
        };
        Ok(found.into_iter().map(one).collect())
    }

    /// Locks a row version against all others, if it is still the newest and nobody has it.
    pub fn lock_row(&self, id: RowId, row: &Row) -> Result<Locked> {
        let (relation, slot, mut tid) = (self.relation, row.slot, id.0);
        let tid = &raw mut tid;
        // SAFETY: the table is open for writing, a snapshot is active, the slot is the table's.
        let result =
            protect(|| unsafe { sys::mw_lock_row(relation, tid, sys::GetActiveSnapshot(), slot) })?;
        Ok(if result == sys::TM_Ok as i32 {
            Locked::Yes
        } else {
            Locked::No
        })
    }

    /// The transaction that has a row version locked, changed or deleted, if it is another one and
    /// still open.
    pub fn holder(&self, id: RowId) -> Result<Option<Holder>> {
        let (relation, mut tid, mut pid) = (self.relation, id.0, 0);
        let (tid, to) = (&raw mut tid, &raw mut pid);
        // SAFETY: the table is open, and the row was read from it under a snapshot that is active.
        let transaction = protect(|| unsafe { sys::mw_row_holder(relation, tid, to) })?;
        Ok((transaction != 0).then_some(Holder { transaction, pid }))
    }

    /// Deletes a row that this transaction has locked. False if this transaction has changed it
    /// meanwhile, and nothing was done.
    pub fn delete(&self, id: RowId) -> Result<bool> {
        let (relation, mut tid) = (self.relation, id.0);
        let tid = &raw mut tid;
        // SAFETY: the table is open for writing; the row was read from it in this transaction.
        let result =
            protect(|| unsafe { sys::mw_delete_row(relation, tid, sys::GetActiveSnapshot()) })?;
        Ok(result == sys::TM_Ok as i32)
    }

    /// Deletes rows that nobody has, up to one that somebody has, or has changed or deleted; answers
    /// how many. This transaction goes on seeing them, and cannot change them.
    pub fn delete_unseen(&self, rows: &[RowId]) -> Result<usize> {
        let mut tids: Vec<sys::ItemPointerData> = rows.iter().map(|row| row.0).collect();
        let (relation, count) = (self.relation, tids.len() as i32);
        let tids = tids.as_mut_ptr();
        // SAFETY: as above; the array has `count` elements.
        let done = protect(|| unsafe {
            sys::mw_delete_rows_unseen(relation, tids, count, sys::GetActiveSnapshot())
        })?;
        Ok(usize::try_from(done).unwrap_or(0))
    }
}

/// One row at a time, as the server holds it.
pub struct Row {
    pub(super) slot: *mut sys::TupleTableSlot,
}

impl Row {
    /// A column of the row, counted from 1; `None` for NULL. Points into the row until the next
    /// one is read.
    pub fn get(&self, column: i32) -> Option<Datum<'_>> {
        let mut null = true;
        // SAFETY: a scan or lock has filled the slot; deforming a stored tuple raises nothing.
        let value = unsafe {
            let value = sys::mw_slot_attr(self.slot, column, &mut null);
            let of = sys::mw_column_type((*self.slot).tts_tupleDescriptor, column);
            Datum::new(value, of)
        };
        (!null).then_some(value)
    }

    /// A copy of the row in the current memory context.
    pub fn copy(&self) -> Result<OwnedRow> {
        let slot = self.slot;
        // SAFETY: a scan or lock has filled the slot; its description lives as long as the table
        // is open.
        let (tuple, description) =
            protect(|| unsafe { (sys::mw_slot_copy(slot), (*slot).tts_tupleDescriptor) })?;
        Ok(OwnedRow {
            tuple,
            description,
            id: self.id(),
        })
    }

    /// Where the row stands.
    pub fn id(&self) -> RowId {
        // SAFETY: the slot is alive.
        RowId(unsafe { (*self.slot).tts_tid })
    }

    /// Lets go of the row's buffer and of the row.
    pub fn end(self) -> Result<()> {
        // SAFETY: made by table_slot_create and not dropped before.
        protect(|| unsafe { sys::ExecDropSingleTupleTableSlot(self.slot) })
    }
}

/// A row copied out of its table: valid while its memory context is, and its table open.
#[derive(Clone, Copy)]
pub struct OwnedRow {
    tuple: sys::HeapTuple,
    description: sys::TupleDesc,
    /// Where it stands.
    pub id: RowId,
}

impl OwnedRow {
    /// The first columns, in order; `None` for NULL. One walk through the row, where reading them
    /// one by one walks to each from the start.
    pub fn values<const COLUMNS: usize>(&self) -> Result<[Option<Datum<'static>>; COLUMNS]> {
        let (tuple, description) = (self.tuple, self.description);
        let mut data = MaybeUninit::<[sys::Datum; MAX_COLUMNS]>::uninit();
        let mut nulls = MaybeUninit::<[bool; MAX_COLUMNS]>::uninit();
        let (data, nulls) = (data.as_mut_ptr().cast(), nulls.as_mut_ptr().cast());
        // SAFETY: tuple and description belong together; there is room for the columns of any table.
        let count = protect(|| unsafe {
            sys::heap_deform_tuple(tuple, description, data, nulls);
            (*description).natts
        })?;
        let count = usize::try_from(count).unwrap_or(0);
        let mut types = [0; COLUMNS];
        // SAFETY: there is room for so many types.
        unsafe { sys::mw_column_types(description, types.as_mut_ptr(), COLUMNS as i32) };
        let mut types = types.into_iter().enumerate();
        Ok([(); COLUMNS].map(|()| {
            let (i, of) = types.next()?;
            // SAFETY: the call has written `count` values to both arrays, of those types.
            unsafe { (i < count && !*nulls.add(i)).then(|| Datum::new(*data.add(i), of)) }
        }))
    }
}

/// No row has more (MaxTupleAttributeNumber, access/htup_details.h).
const MAX_COLUMNS: usize = sys::MaxTupleAttributeNumber as usize;

/// Whether a table has triggers that are put off to the end of the transaction.
pub fn has_deferred_triggers(relation: Oid) -> Result<bool> {
    // SAFETY: opens the table, if it is there, and closes it.
    protect(|| unsafe { sys::mw_has_deferred_triggers(relation) })
}

/// What rows are like that an [`Appender`] writes.
pub struct Rows<const COLUMNS: usize> {
    /// The types of their columns, which are the first ones of the table.
    pub types: [Oid; COLUMNS],
    /// Bit i: they are never NULL in column i, counted from 0.
    pub filled: u64,
    /// The one CHECK that all of them satisfy, as the server writes it.
    pub check: &'static std::ffi::CStr,
}

/// Whether writing what an [`Appender`] held back failed within a statement of somebody else's.
pub fn append_failed() -> bool {
    // SAFETY: a variable of this process.
    unsafe { (&raw const sys::mw_append_failed).read() }
}

/// Appends rows to one of our own tables with their index entries; looks at no constraint and
/// fires no trigger. They are written many at a time: at the end, or when a statement of this
/// process is about to read the table, which `statements::watch` sees to. One a transaction.
pub struct Appender<const COLUMNS: usize> {
    relation: sys::Relation,
    appender: *mut sys::MwAppender,
    types: &'static [Oid; COLUMNS],
}

impl<const COLUMNS: usize> Appender<COLUMNS> {
    /// Opens the table for rows like that; `None` if its owner has changed it, so that a statement
    /// must write them.
    pub fn open(relation: Oid, rows: &'static Rows<COLUMNS>) -> Result<Option<Self>> {
        let (types, filled, check) = (rows.types.as_ptr(), rows.filled, rows.check.as_ptr());
        // SAFETY: answers NULL if the table is gone; the types are as many as it is told, and they
        // and the text are static.
        let (relation, appender) = protect(|| unsafe {
            let relation = sys::try_relation_open(relation, sys::RowExclusiveLock as i32);
            if relation.is_null() {
                return (relation, ptr::null_mut());
            }
            let appender = sys::mw_append_begin(relation, types, COLUMNS as i32, filled, check);
            if appender.is_null() {
                sys::table_close(relation, sys::NoLock as i32);
            }
            (relation, appender)
        })?;
        if relation.is_null() {
            return Err(gone());
        }
        Ok((!appender.is_null()).then_some(Appender {
            relation,
            appender,
            types: &rows.types,
        }))
    }

    /// Appends one row: a value for each of these columns, in order.
    pub fn append(&self, values: &[Option<Datum<'_>>; COLUMNS]) -> Result<()> {
        datum::check(values, self.types)?;
        let data = values.map(datum::raw);
        let nulls = values.map(|value| value.is_none());
        let (appender, data, nulls) = (self.appender, data.as_ptr(), nulls.as_ptr());
        // SAFETY: the appender is open for so many columns.
        protect(|| unsafe { sys::mw_append_row(appender, data, nulls) })
    }

    /// Writes what waits and closes the table; the lock stays until the transaction ends.
    pub fn end(self) -> Result<()> {
        // SAFETY: both are open.
        protect(|| unsafe {
            sys::mw_append_end(self.appender);
            sys::table_close(self.relation, sys::NoLock as i32);
        })
    }
}
