//! One row after the other into one of our tables, each with its index entries and without a statement.
//!
//! An INSERT opens all indexes of the table and prepares their conditions each time, which costs more than the
//! row. Whoever writes here says which indexes the row belongs into.

use super::catalog;
use super::columns;
use super::datum::{Datum, Oid};
use super::error::Result;
use super::guard::protect;
use super::local::Local;
use super::nodes::Node;
use super::pristine::{self, Rows, gone};
use super::row_values::RowValues;
use crate::logic::columns::Table;
use crate::sys;

/// The most columns of an index of ours.
const MOST_KEYS: usize = 8;
/// The most columns of a table of ours, with those that its owner has added and dropped again.
const MOST_COLUMNS: usize = 64;

/// The indexes of a table.
pub struct Indexes<'a> {
    /// Those that have an entry of each row.
    pub whole: &'a [Oid],
    /// Those that have a condition.
    pub partial: &'a [Oid],
}

/// A table of ours, open for rows. Closed by [`Inserter::close`], or by the end of the (sub)transaction.
pub struct Inserter<const COLUMNS: usize> {
    relation: sys::Relation,
    entries: Vec<Entries>,
    types: &'static [Oid; COLUMNS],
}

/// An index that rows get an entry in.
#[derive(Clone, Copy)]
pub(super) struct Entries {
    index: sys::Relation,
    info: *mut sys::IndexInfo,
    is_unique: bool,
    /// How many columns it has.
    count: usize,
    /// Their places in the table, counted from 0.
    keys: [usize; MOST_KEYS],
}

/// The table that was looked at last, how many changes of our tables had been heard of then, and what was found.
static LOOKED_AT: Local<Option<(Oid, u64, bool)>> = Local::new(None);

impl<const COLUMNS: usize> Inserter<COLUMNS> {
    /// Opens the table for rows like that, of which those partial indexes get an entry, too; `None` if its owner has
    /// changed the table or its indexes, so that a statement must write them. 25006 in a transaction that may
    /// only read.
    pub fn open(
        table: Oid,
        declared: &'static Table,
        rows: &'static Rows<COLUMNS>,
        indexes: &Indexes<'_>,
        partial: &[Oid],
    ) -> Result<Option<Self>> {
        let mode = sys::RowExclusiveLock as i32;
        // SAFETY: raise where an INSERT would; the second answers NULL if the table is gone.
        let relation = protect(|| unsafe {
            sys::PreventCommandIfReadOnly(c"INSERT".as_ptr());
            sys::PreventCommandIfParallelMode(c"INSERT".as_ptr());
            sys::try_relation_open(table, mode)
        })?;
        if relation.is_null() {
            return Err(gone());
        }
        // SAFETY: the table is open.
        let is_plain = unsafe { takes_rows(relation, declared, rows, indexes)? };
        let mut inserter = Inserter {
            relation,
            entries: Vec::new(),
            types: &rows.types,
        };
        if !is_plain {
            return inserter.close().map(|()| None);
        }
        for index in indexes.whole.iter().chain(partial) {
            inserter.entries.push(Entries::open(*index)?);
        }
        Ok(Some(inserter))
    }

    /// Inserts a row: a value for each column, in order. Statements of this transaction see it after
    /// [`Inserter::close`]. 23505 if a unique index has such a row.
    pub fn insert(&self, values: &[Option<Datum<'_>>; COLUMNS]) -> Result<()> {
        let given = RowValues::of(self.types, values)?;
        let (given, given_nulls) = given.raw();
        let (mut data, mut nulls) = ([0; MOST_COLUMNS], [true; MOST_COLUMNS]);
        let places = data.iter_mut().zip(&mut nulls);
        for ((value, null), place) in given.iter().zip(given_nulls).zip(places) {
            (*place.0, *place.1) = (*value, *null);
        }
        let relation = self.relation;
        let entries = self.entries.as_slice();
        let (row, empty) = (data.as_mut_ptr(), nulls.as_mut_ptr());
        // SAFETY: the table is open for writing, and has no more columns than the arrays; the indexes are its, and open.
        protect(|| unsafe {
            let tuple = sys::heap_form_tuple((*relation).rd_att, row, empty);
            sys::simple_heap_insert(relation, tuple);
            for one in entries {
                one.make(relation, row, empty, &raw mut (*tuple).t_self);
            }
            sys::heap_freetuple(tuple);
        })
    }

    /// Closes it; the locks stay until the transaction ends. What comes later in the transaction sees the rows.
    pub fn close(self) -> Result<()> {
        let mode = sys::NoLock as i32;
        self.entries.into_iter().try_for_each(Entries::close)?;
        let relation = self.relation;
        // SAFETY: as above.
        protect(|| unsafe {
            sys::table_close(relation, mode);
            sys::CommandCounterIncrement();
        })
    }
}

impl Entries {
    pub(super) fn open(index: Oid) -> Result<Self> {
        let mode = sys::RowExclusiveLock as i32;
        // SAFETY: raises if there is no such index; while its table is locked, it stays.
        let (index, info) = protect(|| unsafe {
            let index = sys::index_open(index, mode);
            (index, sys::BuildIndexInfo(index))
        })?;
        // SAFETY: the index is open, and its description has so many columns.
        let info_now = unsafe { &*info };
        let count = usize::try_from(info_now.ii_NumIndexAttrs).unwrap_or(0);
        let mut keys = [0; MOST_KEYS];
        for (place, key) in keys.iter_mut().zip(info_now.ii_IndexAttrNumbers) {
            *place = usize::try_from(i32::from(key) - 1).unwrap_or(0);
        }
        Ok(Entries {
            index,
            info,
            is_unique: info_now.ii_Unique,
            count,
            keys,
        })
    }

    fn close(self) -> Result<()> {
        // SAFETY: it is open; its lock stays.
        protect(|| unsafe { sys::index_close(self.index, sys::NoLock as i32) })
    }

    /// Closes it and gives up its lock: that of the table stays.
    pub(super) fn release(self) -> Result<()> {
        // SAFETY: it is open.
        protect(|| unsafe { sys::index_close(self.index, sys::RowExclusiveLock as i32) })
    }

    /// Makes the entry of a row that was inserted at that place: 23505 if the index is unique and has such a row. Raises
    /// in the server's way, and owns nothing.
    ///
    /// # Safety
    /// The index is one of that table's, and takes its rows ([`takes_rows`]); both are open for writing, and the row has a value for each
    /// column of the table.
    pub(super) unsafe fn make(
        &self,
        relation: sys::Relation,
        values: *const sys::Datum,
        nulls: *const bool,
        place: *mut sys::ItemPointerData,
    ) {
        let (mut key, mut key_nulls) = ([0; MOST_KEYS], [true; MOST_KEYS]);
        let places = key.iter_mut().zip(&mut key_nulls).take(self.count);
        for (at, (value, null)) in self.keys.iter().zip(places) {
            // SAFETY: a column of the table, as promised.
            (*value, *null) = unsafe { (*values.add(*at), *nulls.add(*at)) };
        }
        let check = match self.is_unique {
            true => sys::UNIQUE_CHECK_YES,
            false => sys::UNIQUE_CHECK_NO,
        };
        let (key, key_nulls) = (key.as_mut_ptr(), key_nulls.as_mut_ptr());
        let (index, info) = (self.index, self.info);
        // SAFETY: as promised.
        unsafe { sys::index_insert(index, key, key_nulls, place, relation, check, false, info) };
    }

    /// Whether it is a B-tree of columns, whose constraint, if any, does not wait for the end of the transaction.
    fn is_plain(&self, is_partial: bool) -> bool {
        // SAFETY: the index is open.
        let (form, relation, info) = unsafe {
            (
                &*(*self.index).rd_index,
                &*(*self.index).rd_rel,
                &*self.info,
            )
        };
        relation.relam == sys::BTREE_AM_OID
            && form.indimmediate
            && info.ii_Expressions.is_null()
            && info.ii_Predicate.is_null() != is_partial
            && self.count <= MOST_KEYS
    }
}

/// Whether rows may be inserted with nothing but their entries in these indexes. What was found is kept until a change of our
/// tables is heard of: while the table is locked, nobody changes it.
///
/// # Safety
/// The table is open.
pub(super) unsafe fn takes_rows<const COLUMNS: usize>(
    relation: sys::Relation,
    declared: &'static Table,
    rows: &'static Rows<COLUMNS>,
    indexes: &Indexes<'_>,
) -> Result<bool> {
    // SAFETY: as promised.
    let (table, changes) = (unsafe { (*relation).rd_id }, catalog::changes());
    if let Some((_, _, is_plain)) = LOOKED_AT
        .get()
        .filter(|known| (known.0, known.1) == (table, changes))
    {
        return Ok(is_plain);
    }
    // SAFETY: as promised.
    let is_plain = unsafe { is_plain(relation, declared, rows, indexes)? };
    LOOKED_AT.set(Some((table, catalog::changes(), is_plain)));
    Ok(is_plain)
}

/// The same, by a look.
///
/// # Safety
/// As above.
unsafe fn is_plain<const COLUMNS: usize>(
    relation: sys::Relation,
    declared: &'static Table,
    rows: &'static Rows<COLUMNS>,
    indexes: &Indexes<'_>,
) -> Result<bool> {
    // SAFETY: as promised.
    let (form, description) = unsafe { (&*(*relation).rd_rel, (*relation).rd_att) };
    columns::check(description, declared)?;
    // SAFETY: as above.
    let columns = usize::try_from(unsafe { (*description).natts }).unwrap_or(usize::MAX);
    if form.relam != sys::HEAP_TABLE_AM_OID || columns > MOST_COLUMNS {
        return Ok(false);
    }
    // SAFETY: as promised.
    if !unsafe { pristine::is_pristine(relation, rows)? } {
        return Ok(false);
    }
    // SAFETY: as promised; the list is a copy, in the current memory.
    let found = unsafe {
        let list = protect(|| sys::RelationGetIndexList(relation))?;
        Node::new(list.cast_const().cast())
    };
    for index in found.oids() {
        let is_partial = indexes.partial.contains(&index);
        if !is_partial && !indexes.whole.contains(&index) {
            return Ok(false);
        }
        let entries = Entries::open(index)?;
        let is_plain = entries.is_plain(is_partial);
        entries.release()?;
        if !is_plain {
            return Ok(false);
        }
    }
    Ok(true)
}
