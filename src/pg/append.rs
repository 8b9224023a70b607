//! Appending rows to one of our tables, many at a time, as COPY does (copyfrom.c).
//!
//! Rows wait in memory for the end, or for a statement that would miss them. Such a statement may run in a
//! subtransaction that is rolled back later. So rows that were written for it are kept until it is known
//! that they stay.

use super::datum::Oid;
use super::error::{PgError, Result};
use super::guard::protect;
use super::identity;
use super::local::Local;
use super::nodes::{Node, child};
use super::pristine::{self, Rows, gone};
use super::rare::Rare;
use super::row_values::RowValues;
use super::xact::{self, End};
use crate::sys;

/// So many rows wait at most, and then these bytes of theirs.
const MAX_ROWS: i32 = sys::MW_APPEND_ROWS as i32;
const MAX_BYTES: usize = 256 * 1024;

/// What is known of the one appender that is open in this transaction.
#[derive(Clone, Copy)]
struct Open {
    appender: *mut sys::MwAppender,
    relation: sys::Relation,
    table: Oid,
    /// Who writes, if index expressions call code of users; else 0.
    writes_as: Oid,
    /// Rows that wait.
    waiting: i32,
    /// Bytes of their data.
    bytes: usize,
    /// How many of them were written.
    written: i32,
    /// By which subtransaction.
    writer: u32,
    /// What few rows have.
    rare: &'static [Rare],
}

static OPEN: Local<Option<Open>> = Local::new(None);

/// Whether rows of other jobs could not be written within a statement.
static FAILED: Local<bool> = Local::new(false);

/// Whether writing what an [`Appender`] held back failed within a statement of somebody else's.
pub fn append_failed() -> bool {
    FAILED.get()
}

fn at_end(end: End) {
    OPEN.with(|place| {
        let Some(open) = place else { return };
        match end {
            End::Commit | End::Abort | End::Prepare => *place = None,
            End::SubCommit { id, parent } if open.writer == id => open.writer = parent,
            End::SubAbort { id } if open.writer == id => open.written = 0,
            _ => {}
        }
    });
}

/// Appends rows to one of our own tables with their index entries; looks at no constraint and
/// fires no trigger. They are written many at a time: at the end, or when a statement of this
/// process is about to read the table, which `statements::watch` sees to. One a transaction.
pub struct Appender<const COLUMNS: usize>;

impl<const COLUMNS: usize> Appender<COLUMNS> {
    /// Opens the table for rows like that, few of which have what is `rare`; `None` if its owner has changed it, so
    /// that a statement must write them.
    pub fn open(
        table: Oid,
        rows: &'static Rows<COLUMNS>,
        rare: &'static [Rare],
    ) -> Result<Option<Self>> {
        xact::listen(at_end)?;
        let lock = sys::RowExclusiveLock as i32;
        // SAFETY: answers NULL if the table is gone.
        let relation = protect(|| unsafe { sys::try_relation_open(table, lock) })?;
        if relation.is_null() {
            return Err(gone());
        }
        // SAFETY: the table is open.
        if !unsafe { pristine::is_pristine(relation, rows) }? {
            close(relation)?;
            return Ok(None);
        }
        // SAFETY: as above; it is closed after the appender.
        let appender = protect(|| unsafe { sys::mw_append_begin(relation, COLUMNS as i32) })?;
        let indexes = Indexes::of(relation, appender, COLUMNS, rare)?;
        if indexes.any_deferrable {
            // SAFETY: the appender is open.
            protect(|| unsafe { sys::mw_append_end(appender) })?;
            close(relation)?;
            return Ok(None);
        }
        // SAFETY: as above; there is one for each of its indexes, and the table has that column.
        let owner = protect(|| unsafe {
            sys::mw_append_sort(appender, indexes.see.as_ptr(), indexes.key);
            (*(*relation).rd_rel).relowner
        })?;
        FAILED.set(false);
        OPEN.set(Some(Open {
            appender,
            relation,
            table,
            writes_as: if indexes.calls_code { owner } else { 0 },
            waiting: 0,
            bytes: 0,
            written: 0,
            writer: 0,
            rare,
        }));
        Ok(Some(Appender))
    }

    /// Appends one row.
    pub fn append(&self, row: &RowValues<'_, COLUMNS>) -> Result<()> {
        let mut open = current()?;
        if open.written > 0 {
            // For a job that has ended well.
            open = finish(open)?;
        }
        let (appender, at) = (open.appender, open.waiting);
        let few = open.rare.iter().any(|rare| rare.is_in(row));
        let (values, nulls) = row.raw();
        let (values, nulls) = (values.as_ptr(), nulls.as_ptr());
        // SAFETY: the appender is open for so many columns, and has room for the row.
        open.bytes += protect(|| unsafe { sys::mw_append_put(appender, at, values, nulls, few) })?;
        open.waiting += 1;
        OPEN.set(Some(open));
        if open.waiting == MAX_ROWS || open.bytes >= MAX_BYTES {
            finish(open)?;
        }
        Ok(())
    }

    /// Writes what waits and closes the table; the lock stays until the transaction ends.
    pub fn end(self) -> Result<()> {
        let open = finish(current()?)?;
        OPEN.set(None);
        // SAFETY: both are open.
        protect(|| unsafe { sys::mw_append_end(open.appender) })?;
        close(open.relation)
    }
}

fn current() -> Result<Open> {
    OPEN.get()
        .ok_or_else(|| PgError::internal("no appender is open"))
}

fn close(relation: sys::Relation) -> Result<()> {
    // SAFETY: the table is open.
    protect(|| unsafe { sys::table_close(relation, sys::NoLock as i32) })
}

/// Writes what waits. As of the transaction's first command, so that a statement whose snapshot was taken
/// before sees the rows.
fn write(mut open: Open) -> Result<Open> {
    if open.written == open.waiting {
        return Ok(open);
    }
    let (appender, from, end) = (open.appender, open.written, open.waiting);
    // SAFETY: the appender is open, and has these rows.
    let write = || protect(|| unsafe { sys::mw_append_write(appender, from, end) });
    match open.writes_as {
        0 => write()?,
        owner => identity::as_restricted(owner, write)?,
    }
    open.written = open.waiting;
    open.writer = xact::current_subtransaction();
    OPEN.set(Some(open));
    Ok(open)
}

/// Writes what waits, and forgets it: nothing but the transaction can undo it.
fn finish(open: Open) -> Result<Open> {
    let mut open = write(open)?;
    let (appender, count) = (open.appender, open.waiting);
    // SAFETY: the appender is open, and has these rows.
    protect(|| unsafe { sys::mw_append_forget(appender, count) })?;
    (open.waiting, open.written, open.bytes) = (0, 0, 0);
    OPEN.set(Some(open));
    Ok(open)
}

/// Writes what waits for a statement that reads the table. Within a parallel one nothing can be written any
/// more, so that is done before it starts, whatever it names: its functions may read the table, too.
pub(super) fn show(statement: &sys::PlannedStmt) -> Result<()> {
    let waits = |open: &Open| open.written < open.waiting;
    let Some(open) = OPEN.get().filter(waits) else {
        return Ok(());
    };
    let is_all = statement.commandType == sys::CMD_UTILITY || statement.parallelModeNeeded;
    let names_it = || {
        let mut entries = child!(statement, rtable).all::<sys::RangeTblEntry>();
        entries.any(|entry| entry.relid == open.table)
    };
    // SAFETY: reads the state of this process.
    if unsafe { sys::IsInParallelMode() } || !is_all && !names_it() {
        return Ok(());
    }
    FAILED.set(true);
    write(open)?;
    FAILED.set(false);
    Ok(())
}

/// What the indexes of a table take to be kept.
struct Indexes {
    /// Which rows each sees.
    see: Vec<u8>,
    /// The column of which one sees the extremes; 0: none does.
    key: i16,
    /// A row that a deferrable constraint is to see again takes more than its index entry.
    any_deferrable: bool,
    /// Whether expressions or conditions call functions.
    calls_code: bool,
}

impl Indexes {
    fn of(
        relation: sys::Relation,
        appender: *mut sys::MwAppender,
        columns: usize,
        rare: &[Rare],
    ) -> Result<Indexes> {
        // SAFETY: the appender is open, and so are its indexes, each with its description.
        let (indexes, infos) = unsafe {
            let all = &*sys::mw_append_indexes(appender);
            let count = usize::try_from(all.ri_NumIndices).unwrap_or(0);
            match count {
                0 => (&[][..], &[][..]),
                _ => (
                    std::slice::from_raw_parts(all.ri_IndexRelationDescs, count),
                    std::slice::from_raw_parts(all.ri_IndexRelationInfo, count),
                ),
            }
        };
        let mut found = Indexes {
            see: Vec::new(),
            key: 0,
            any_deferrable: false,
            calls_code: false,
        };
        for (index, info) in indexes.iter().zip(infos) {
            // SAFETY: as above.
            let (form, info) = unsafe { (&*(**index).rd_index, &**info) };
            found.any_deferrable |= !form.indimmediate;
            found.calls_code |= !info.ii_Expressions.is_null() || !info.ii_Predicate.is_null();
            // SAFETY: NULL, or the list of its conditions.
            let conditions = unsafe { Node::new(info.ii_Predicate.cast_const().cast()) };
            let sees = if rare.iter().any(|rare| rare.is_condition(conditions)) {
                sys::MW_SEES_FEW
            } else if found.key == 0 {
                found.key = coarse_key(relation, *index, info, columns)?.unwrap_or(0);
                match found.key {
                    0 => sys::MW_SEES_EACH,
                    _ => sys::MW_SEES_EXTREMES,
                }
            } else {
                sys::MW_SEES_EACH
            };
            found.see.push(sees as u8);
        }
        Ok(found)
    }
}

/// The column of an index that keeps the least and the greatest time of many pages; `None` if it is of
/// another kind. Of the rows that come to a page at once, such an index need see the extremes only.
fn coarse_key(
    relation: sys::Relation,
    index: sys::Relation,
    info: &sys::IndexInfo,
    columns: usize,
) -> Result<Option<i16>> {
    let key = info.ii_IndexAttrNumbers.first().copied().unwrap_or(0);
    let is_column = usize::try_from(key).is_ok_and(|key| (1..=columns).contains(&key));
    if !is_column || info.ii_NumIndexAttrs != 1 || !info.ii_Predicate.is_null() {
        return Ok(None);
    }
    // SAFETY: table and index are open; the column is one of the table's.
    let is_coarse = protect(|| unsafe {
        let column = &*sys::mw_attribute((*relation).rd_att, i32::from(key) - 1);
        (*(*index).rd_rel).relam == sys::BRIN_AM_OID
            && column.atttypid == sys::TIMESTAMPTZOID
            && column.attnotnull
            && sys::index_getprocid(index, 1, sys::BRIN_PROCNUM_OPCINFO as u16)
                == sys::F_BRIN_MINMAX_OPCINFO
    })?;
    Ok(is_coarse.then_some(key))
}
