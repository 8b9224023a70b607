//! Whether a table of ours has the columns that `logic::columns` declares: its owner, or a superuser, may
//! have altered them. What reads a column as one of another type would follow a number as a pointer.

use super::datum::{Oid, types};
use super::error::{OBJECT_NOT_IN_PREREQUISITE_STATE, PgError, Result};
use super::guard::{protect, text};
use crate::logic::columns::{Column, TABLE_COUNT, TABLES, Table};
use crate::sys;

/// A column of ours that is not as the extension made it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Altered {
    /// Index of its table in [`TABLES`].
    pub table: usize,
    /// Index of the column.
    pub column: usize,
}

impl Altered {
    fn declared(self) -> Option<(&'static Table, &'static Column)> {
        let table = *TABLES.get(self.table)?;
        Some((table, table.columns.get(self.column)?))
    }

    /// What is wrong, for `health()`.
    fn trouble(self) -> String {
        let Some((table, column)) = self.declared() else {
            return String::new();
        };
        let (name, of, kind) = (column.name, table.name, column.kind.name());
        let at = match table.is_read_by_place {
            true => format!(" at place {}", self.column.saturating_add(1)),
            false => String::new(),
        };
        format!("table {of} must have column {name} of type {kind}{at}")
    }

    /// The error for it.
    pub fn error(self) -> PgError {
        self.declared().map_or_else(
            || PgError::internal("an unknown column was altered"),
            |found| refused(found.0, self.column),
        )
    }
}

fn refused(table: &Table, index: usize) -> PgError {
    let of = table.name;
    let message = format!("columns of table \"{of}\" are not those that the extension made");
    let error = PgError::new(OBJECT_NOT_IN_PREREQUISITE_STATE, message);
    match table.columns.get(index) {
        Some(column) => {
            let (name, kind) = (column.name, column.kind.name());
            error
                .detail(format!(
                    "Column {} must be \"{name}\" of type {kind}.",
                    index.saturating_add(1)
                ))
                .hint("Change it back with ALTER TABLE. No job runs until then; see my_worker.health().")
        }
        None => error,
    }
}

/// What is wrong with the columns of our tables, for `health()`; these are in the order of [`TABLES`].
pub fn altered(tables: [Oid; TABLE_COUNT]) -> Result<Vec<String>> {
    let found = find_altered(tables)?;
    Ok(found.into_iter().map(Altered::trouble).collect())
}

/// Looks at all columns of our tables, which are in the order of [`TABLES`]: those that are wrong. A table
/// that is gone, or that somebody keeps from being read, passes: nothing waits, and what opens it looks
/// again.
pub(super) fn find_altered(tables: [Oid; TABLE_COUNT]) -> Result<Vec<Altered>> {
    let mut all = Vec::new();
    for (index, (oid, table)) in tables.into_iter().zip(TABLES).enumerate() {
        all.extend(look_at(oid, table)?.into_iter().map(|column| Altered {
            table: index,
            column,
        }));
    }
    Ok(all)
}

fn look_at(oid: Oid, table: &Table) -> Result<Vec<usize>> {
    if oid == 0 {
        return Ok(Vec::new());
    }
    let mode = sys::AccessShareLock as i32;
    // SAFETY: takes a lock if nobody is in the way, and opens what is there; NULL if it is gone.
    let relation = protect(|| unsafe {
        if !sys::ConditionalLockRelationOid(oid, mode) {
            return std::ptr::null_mut();
        }
        let relation = sys::try_relation_open(oid, sys::NoLock as i32);
        if relation.is_null() {
            sys::UnlockRelationOid(oid, mode);
        }
        relation
    })?;
    if relation.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: the table is open.
    let description = unsafe { (*relation).rd_att };
    let found = others(description, table);
    // SAFETY: opened above.
    protect(|| unsafe { sys::relation_close(relation, mode) })?;
    Ok(found)
}

/// The columns that are not there, by name, or of another type, or at another place.
fn others(description: sys::TupleDesc, table: &Table) -> Vec<usize> {
    let is_other = |column: &Column, place: i32| {
        let name = text(column.name.as_bytes());
        // SAFETY: the description is one of an open table, and the name lives for the call, which answers a
        // negative number for a column that is not there.
        let there = unsafe { sys::SPI_fnumber(description, name.as_ptr()) };
        let is_there = if table.is_read_by_place {
            there == place
        } else {
            there > 0
        };
        !is_there || type_of(description, there) != types::oid(column.kind)
    };
    let columns = table.columns.iter().zip(1..).enumerate();
    let others = columns.filter(|(_, (column, place))| is_other(column, *place));
    others.map(|(index, _)| index).collect()
}

/// The type of a column by its place; 0 if it was dropped, or there is none.
fn type_of(description: sys::TupleDesc, place: i32) -> Oid {
    // SAFETY: the description is one of an open table; the call compares the place with its columns.
    unsafe { sys::SPI_gettypeid(description, place) }
}

/// Refuses a table whose columns are not of the declared types, by their places. It is open and locked, so
/// they stay as they are. Another version's table may have fewer columns: those that it lacks are read as NULL.
/// A column that was dropped still counts.
pub(super) fn check(description: sys::TupleDesc, table: &Table) -> Result<()> {
    // SAFETY: the description of a table that is open.
    let count = unsafe { (*description).natts };
    match first_of_other_type(description, table, count) {
        Some(index) => Err(refused(table, index)),
        None => Ok(()),
    }
}

fn first_of_other_type(description: sys::TupleDesc, table: &Table, most: i32) -> Option<usize> {
    let columns = table.columns.iter().zip(1..=most);
    let mut types = columns.map(|(column, place)| (place, types::oid(column.kind)));
    types.position(|(place, kind)| type_of(description, place) != kind)
}
