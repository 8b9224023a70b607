//! Whether a table of ours is as the extension made it.
//!
//! [`Appender`](super::append::Appender) and [`Inserter`](super::insert::Inserter) write rows as they come: no
//! default, no constraint, no trigger, no rule. That is right only where there are none but those which our rows
//! are known to satisfy. Where its owner has changed the table, a statement writes.

use std::ffi::CStr;

use super::datum::{self, Oid};
use super::error::{OBJECT_NOT_IN_PREREQUISITE_STATE, PgError, Result};
use super::guard::protect;
use super::local::Local;
use crate::sys;

/// Our tables go with DROP EXTENSION, which nobody announces before it has the lock.
pub(super) fn gone() -> PgError {
    PgError::new(
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        "extension \"my_worker\" was dropped from this database",
    )
}

/// What rows are like that are written without a statement.
pub struct Rows<const COLUMNS: usize> {
    /// The types of their columns, which are the first ones of the table.
    pub types: [Oid; COLUMNS],
    /// Bit i: they are never NULL in column i, counted from 0.
    pub filled: u64,
    /// The one CHECK that all of them satisfy, as the server writes it; `None`: the table has none.
    pub check: Option<&'static CStr>,
    /// The triggers that the extension has made, none of which has anything to do for them.
    pub triggers: &'static [OurTrigger],
}

/// A trigger that the extension has made.
pub struct OurTrigger {
    /// Its name.
    pub name: &'static CStr,
    /// Whether it fires for each row; else once a statement.
    pub per_row: bool,
}

/// Whether such rows may be written without a look at anything but the indexes.
///
/// # Safety
/// The table is open.
pub(super) unsafe fn is_pristine<const COLUMNS: usize>(
    relation: sys::Relation,
    rows: &Rows<COLUMNS>,
) -> Result<bool> {
    // SAFETY: the description of a table that is open.
    let is_plain = unsafe {
        let form = &*(*relation).rd_rel;
        form.relkind as u8 == sys::RELKIND_RELATION
            && !form.relispartition
            && !form.relforcerowsecurity
            && (*relation).rd_rules.is_null()
            && triggers(relation)
                .iter()
                .all(|one| is_ours(one, rows.triggers))
            && has_only_columns(&*(*relation).rd_att, rows)
    };
    if !is_plain {
        return Ok(false);
    }
    // SAFETY: as above; NULL if the table has no constraints.
    match unsafe { (*(*relation).rd_att).constr.as_ref() } {
        Some(all) if all.num_check == 1 => match rows.check {
            // SAFETY: a table has so many CHECKs.
            Some(check) => unsafe { is_check(relation, &*all.check, check) },
            None => Ok(false),
        },
        Some(all) => Ok(all.num_check == 0),
        None => Ok(true),
    }
}

/// The triggers of a table.
///
/// # Safety
/// It is open for longer than they are looked at.
unsafe fn triggers<'a>(relation: sys::Relation) -> &'a [sys::Trigger] {
    // SAFETY: NULL if it has none, else an array of so many.
    unsafe {
        match (*relation).trigdesc.as_ref() {
            Some(all) => std::slice::from_raw_parts(
                all.triggers,
                usize::try_from(all.numtriggers).unwrap_or(0),
            ),
            None => &[],
        }
    }
}

/// Whether it is one of those. The names of a table's triggers differ.
fn is_ours(trigger: &sys::Trigger, ours: &[OurTrigger]) -> bool {
    let per_row = trigger.tgtype as u32 & sys::TRIGGER_TYPE_ROW != 0;
    // SAFETY: a trigger has a name, which is terminated.
    let name = unsafe { CStr::from_ptr(trigger.tgname) };
    ours.iter()
        .any(|one| one.name == name && one.per_row == per_row)
}

/// Whether the first columns are these, and what stands behind them was dropped.
fn has_only_columns<const COLUMNS: usize>(
    description: &sys::TupleDescData,
    rows: &Rows<COLUMNS>,
) -> bool {
    let count = usize::try_from(description.natts).unwrap_or(0);
    let column = |index: usize| {
        let description = std::ptr::from_ref(description).cast_mut();
        // SAFETY: the description has so many columns.
        unsafe { &*sys::mw_attribute(description, index as i32) }
    };
    let is_as_made = |(index, of_type): (usize, &Oid)| {
        let column = column(index);
        let is_filled = rows.filled & (1 << index) != 0;
        !column.attisdropped
            && column.atttypid == *of_type
            && column.attgenerated == 0
            && (is_filled || !column.attnotnull)
    };
    count >= COLUMNS
        && rows.types.iter().enumerate().all(is_as_made)
        && (COLUMNS..count).all(|index| column(index).attisdropped)
}

/// The form in which the server stores the CHECK that was found to be ours: its text is made once.
static KNOWN: Local<Vec<u8>> = Local::new(Vec::new());

/// Whether a CHECK of the table has that text.
///
/// # Safety
/// The table is open, and it is one of its CHECKs.
unsafe fn is_check(
    relation: sys::Relation,
    check: &sys::ConstrCheck,
    text: &'static CStr,
) -> Result<bool> {
    let stored = check.ccbin.cast_const();
    // SAFETY: a CHECK has an expression, which is terminated.
    let bytes = unsafe { CStr::from_ptr(stored) }.to_bytes();
    if KNOWN.with(|known| known.as_slice() == bytes) {
        return Ok(true);
    }
    // SAFETY: an expression over the columns of that table; its text lies in the current memory.
    let made = protect(|| unsafe {
        let name = (*(*relation).rd_rel).relname.data.as_ptr();
        let context = sys::deparse_context_for(name, (*relation).rd_id);
        let expression = sys::stringToNode(stored).cast();
        sys::deparse_expression(expression, context, false, false).cast_const()
    })?;
    let is_ours = datum::from_c(made).as_deref() == Some(text.to_bytes());
    if is_ours {
        KNOWN.set(datum::copy_bytes(bytes)?);
    }
    Ok(is_ours)
}

/// Whether a table has triggers that are put off to the end of the transaction.
pub fn has_deferred_triggers(table: Oid) -> Result<bool> {
    // SAFETY: opens the table, if it is there, and closes it.
    protect(|| unsafe {
        let relation = sys::try_relation_open(table, sys::AccessShareLock as i32);
        if relation.is_null() {
            return false;
        }
        let found = triggers(relation)
            .iter()
            .any(|trigger| trigger.tginitdeferred);
        sys::relation_close(relation, sys::AccessShareLock as i32);
        found
    })
}
