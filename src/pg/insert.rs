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

/// An index that each row gets an entry in.
struct Entries {
    index: sys::Relation,
    info: *mut sys::IndexInfo,
    /// The places of its columns in the table, counted from 0.
    keys: Vec<usize>,
    is_unique: bool,
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
        // While it is locked, nobody changes it: what was found stays true until that is heard of.
        let changes = catalog::changes();
        let known = LOOKED_AT
            .get()
            .filter(|known| (known.0, known.1) == (table, changes));
        let is_plain = match known {
            Some((_, _, is_plain)) => is_plain,
            None => {
                // SAFETY: the table is open.
                let is_plain = unsafe { is_plain(relation, declared, rows, indexes)? };
                LOOKED_AT.set(Some((table, catalog::changes(), is_plain)));
                is_plain
            }
        };
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
        let (mut data, mut nulls) = ([0; MOST_COLUMNS], [true; MOST_COLUMNS]);
        let places = data.iter_mut().zip(&mut nulls);
        for ((value, of), (place, null)) in values.iter().zip(self.types).zip(places) {
            if let Some(value) = value {
                value.check(*of)?;
                (*place, *null) = (value.raw(), false);
            }
        }
        let relation = self.relation;
        let (row, empty) = (data.as_mut_ptr(), nulls.as_mut_ptr());
        // SAFETY: the table is open for writing, and has no more columns than the arrays.
        let tuple = protect(|| unsafe {
            let tuple = sys::heap_form_tuple((*relation).rd_att, row, empty);
            sys::simple_heap_insert(relation, tuple);
            tuple
        })?;
        for entries in &self.entries {
            let (mut key, mut key_nulls) = ([0; MOST_KEYS], [true; MOST_KEYS]);
            let places = key.iter_mut().zip(&mut key_nulls);
            for (place, (value, null)) in entries.keys.iter().zip(places) {
                *value = data.get(*place).copied().unwrap_or(0);
                *null = nulls.get(*place).copied().unwrap_or(true);
            }
            let (index, info) = (entries.index, entries.info);
            let (key, key_nulls) = (key.as_mut_ptr(), key_nulls.as_mut_ptr());
            let check = match entries.is_unique {
                true => sys::UNIQUE_CHECK_YES,
                false => sys::UNIQUE_CHECK_NO,
            };
            // SAFETY: the index is one of the table's and open, with at most so many columns; the row was inserted.
            protect(|| unsafe {
                let place = &raw mut (*tuple).t_self;
                sys::index_insert(index, key, key_nulls, place, relation, check, false, info)
            })?;
        }
        // SAFETY: made above.
        protect(|| unsafe { sys::heap_freetuple(tuple) })
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
    fn open(index: Oid) -> Result<Self> {
        let mode = sys::RowExclusiveLock as i32;
        // SAFETY: raises if there is no such index; while its table is locked, it stays.
        let (index, info) = protect(|| unsafe {
            let index = sys::index_open(index, mode);
            (index, sys::BuildIndexInfo(index))
        })?;
        // SAFETY: the index is open, and its description has so many columns.
        let (keys, is_unique) = unsafe {
            let count = usize::try_from((*info).ii_NumIndexAttrs).unwrap_or(0);
            let keys = (*info).ii_IndexAttrNumbers.iter().take(count);
            // The number of an expression is 0, which becomes a place that no table has.
            let place = |key: &i16| usize::try_from(i32::from(*key) - 1).unwrap_or(usize::MAX);
            (keys.map(place).collect(), (*info).ii_Unique)
        };
        Ok(Entries {
            index,
            info,
            keys,
            is_unique,
        })
    }

    fn close(self) -> Result<()> {
        // SAFETY: it is open; its lock stays.
        protect(|| unsafe { sys::index_close(self.index, sys::NoLock as i32) })
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
            && self.keys.len() <= MOST_KEYS
    }
}

/// Whether rows may be inserted with nothing but their entries in these indexes.
///
/// # Safety
/// The table is open.
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
        entries.close()?;
        if !is_plain {
            return Ok(false);
        }
    }
    Ok(true)
}
