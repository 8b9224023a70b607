//! Our tables by OID, without a plan: index scans, row locks, deletes, appends.
//!
//! No name is resolved and no right is looked up, so nothing that a job did to its session can
//! turn these calls elsewhere, and they cost a fraction of a statement. A caught error leaves
//! open what was open: the end of the (sub)transaction closes it, which is why nothing here has a
//! destructor.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ptr;

pub use super::append::{Appender, append_failed};
use super::datum::{self, Datum, Oid, types};
use super::error::Result;
use super::guard::protect;
pub use super::insert::{Indexes, Inserter};

pub use super::key::{Compare, Key};
pub use super::owned_row::{OwnedRow, RowId};
use super::pristine::gone;
pub use super::pristine::{OurTrigger, Rows, has_deferred_triggers};
pub use super::rare::Rare;
pub use super::row_values::RowValues;
use crate::logic::columns;
use crate::sys;

/// FirstCommandId (c.h)
const FIRST_COMMAND: sys::CommandId = 0;

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
    /// Its columns, which were compared as it was opened; while it is locked nobody alters them.
    columns: &'static [columns::Column],
    stored: &'static [columns::Stored],
    /// So many pages it has at least.
    pages: Cell<u32>,
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

/// The same with others, without waiting; false if somebody holds it alone.
pub fn try_hold_object(table: Oid, object: i32) -> Result<bool> {
    let mode = sys::AccessShareLock as i32;
    // SAFETY: takes a heavyweight lock in an open transaction if nobody is in the way.
    protect(|| unsafe { sys::ConditionalLockDatabaseObject(table, object as Oid, 0, mode) })
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
    pub fn open(
        relation: Oid,
        index: Oid,
        lock: Lock,
        declared: &'static columns::Table,
    ) -> Result<Self> {
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
        let (columns, stored) = match declared.is_read_by_place {
            true => (declared.columns, declared.stored),
            false => (&[][..], &[][..]),
        };
        Ok(Table {
            relation,
            index,
            columns,
            stored,
            pages: Cell::new(0),
        })
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
        Ok(Row {
            slot,
            columns: self.columns,
            stored: self.stored,
        })
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

    /// Reads whatever row stands at that place, also one that is gone for everybody; false if there is none. As
    /// long as the row is not read into again, it stays there.
    pub fn fetch(&self, id: RowId, row: &Row) -> Result<bool> {
        let (relation, slot, mut tid) = (self.relation, row.slot, id.0);
        let tid = &raw mut tid;
        let mut pages = self.pages.get();
        let count = &raw mut pages;
        // SAFETY: the table is open and the slot is the table's; any place may be asked for. While it is open neither others
        // nor a job of this session can have it get smaller.
        let found = protect(|| unsafe { sys::mw_fetch_row(relation, tid, count, slot) });
        self.pages.set(pages);
        found
    }

    /// Locks a row version against all others, if it is still the newest and nobody has it. One that was read
    /// under the snapshot that is active, or by [`Table::fetch`] just now: it must be there.
    pub fn lock_row(&self, id: RowId, row: &Row) -> Result<Locked> {
        let (relation, slot, mut tid) = (self.relation, row.slot, id.0);
        let tid = &raw mut tid;
        // SAFETY: the table is open for writing, a snapshot is active, the slot is the table's. As of the
        // transaction's first command: a row that a job of this transaction has changed is then reported,
        // and not taken for one that our scan must not have seen, which raises.
        let result = protect(|| unsafe {
            sys::GetCurrentCommandId(true);
            sys::mw_lock_row(relation, tid, sys::GetActiveSnapshot(), slot)
        })?;
        Ok(if result == sys::TM_Ok as i32 {
            Locked::Yes
        } else {
            Locked::No
        })
    }

    /// Whether the active snapshot sees a row version that is the newest, and nobody has it locked, or is
    /// about to change it.
    pub fn is_free(&self, id: RowId) -> Result<bool> {
        let (relation, tid) = (self.relation, id.0);
        // SAFETY: the table is open and a snapshot active; heap_fetch() pins the buffer of a row that it finds,
        // which is looked at under its lock (heapam_visibility.c) and let go.
        protect(|| unsafe {
            let mut tuple: sys::HeapTupleData = std::mem::zeroed();
            tuple.t_self = tid;
            let mut buffer = 0;
            let snapshot = sys::GetActiveSnapshot();
            if !sys::heap_fetch(relation, snapshot, &mut tuple, &mut buffer, false) {
                return false;
            }
            sys::mw_lock_buffer(buffer);
            let command = sys::GetCurrentCommandId(false);
            let result = sys::HeapTupleSatisfiesUpdate(&mut tuple, command, buffer);
            sys::UnlockReleaseBuffer(buffer);
            result == sys::TM_Ok
        })
    }

    /// Deletes a row that this transaction has locked. False if this transaction has changed it
    /// meanwhile, and nothing was done.
    pub fn delete(&self, id: RowId) -> Result<bool> {
        let (relation, mut tid) = (self.relation, id.0);
        let tid = &raw mut tid;
        // SAFETY: the table is open for writing; the row was read from it in this transaction. As of its
        // first command, see `lock_row`.
        let result = protect(|| unsafe {
            sys::GetCurrentCommandId(true);
            let snapshot = sys::GetActiveSnapshot();
            sys::mw_delete_row(relation, tid, snapshot, FIRST_COMMAND, true)
        })?;
        Ok(result == sys::TM_Ok as i32)
    }

    /// Deletes rows that nobody has, up to one that somebody has, or has changed or deleted; answers
    /// how many. This transaction goes on seeing them, and cannot change them.
    pub fn delete_unseen(&self, rows: &[RowId]) -> Result<usize> {
        let mut tids: Vec<sys::ItemPointerData> = rows.iter().map(|row| row.0).collect();
        let (relation, count) = (self.relation, tids.len());
        let tids = tids.as_mut_ptr();
        // SAFETY: as above; the array has `count` elements. They are deleted as of the transaction's last
        // command (InvalidCommandId - 1), so that it goes on seeing them: HeapTupleSatisfiesMVCC compares
        // the cmax with the snapshot's curcid.
        protect(|| unsafe {
            sys::GetCurrentCommandId(true);
            let snapshot = sys::GetActiveSnapshot();
            let (last, mut done) = (sys::CommandId::MAX - 1, 0);
            let ok = sys::TM_Ok as i32;
            while done < count
                && sys::mw_delete_row(relation, tids.add(done), snapshot, last, false) == ok
            {
                done += 1;
            }
            done
        })
    }
}

/// One row at a time, as the server holds it.
pub struct Row {
    pub(super) slot: *mut sys::TupleTableSlot,
    /// As in [`Table`].
    columns: &'static [columns::Column],
    stored: &'static [columns::Stored],
}

impl Row {
    /// A column of the row, counted from 1; `None` for NULL. Points into the row until the next
    /// one is read.
    #[inline]
    pub fn get(&self, column: i32) -> Option<Datum<'_>> {
        // SAFETY: a scan or lock has filled the slot; deforming a stored tuple raises nothing. A column that
        // the table does not have yet, as another version made it, is NULL.
        unsafe {
            let slot = &*self.slot;
            if i32::from(slot.tts_nvalid) < column {
                if column > (*slot.tts_tupleDescriptor).natts {
                    return None;
                }
                let (stored, count) = self.stored();
                sys::mw_slot_read(self.slot, column, stored, count);
            }
            let index = column.wrapping_sub(1) as usize;
            if *(*self.slot).tts_isnull.add(index) {
                return None;
            }
            let of = match self.columns.get(index) {
                Some(known) => types::oid(known.kind),
                None => sys::mw_column_type((*self.slot).tts_tupleDescriptor, column),
            };
            Some(Datum::new(*(*self.slot).tts_values.add(index), of))
        }
    }

    /// A copy of the row in the current memory context, and of what the slot has read of it.
    pub fn copy(&self) -> Result<OwnedRow> {
        let (slot, (stored, count)) = (self.slot, self.stored());
        // SAFETY: a scan or lock has filled the slot with a row of the table, whose columns stand so in it.
        let (tuple, values, nulls, count) = protect(|| unsafe {
            let (mut values, mut nulls) = (ptr::null_mut(), ptr::null_mut());
            let tuple = sys::mw_copy_row(slot, stored, count, &mut values, &mut nulls);
            let count = (*(*slot).tts_tupleDescriptor).natts as usize;
            (tuple, values, nulls, count)
        })?;
        Ok(OwnedRow {
            tuple,
            values,
            nulls,
            count,
            id: self.id(),
            columns: self.columns,
        })
    }

    /// How the columns stand in a row, and how many there are.
    fn stored(&self) -> (*const sys::MwStored, i32) {
        const { assert!(size_of::<columns::Stored>() == size_of::<sys::MwStored>()) };
        (self.stored.as_ptr().cast(), self.stored.len() as i32)
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
