//! A shortcut for INSERT statements: rows of one of our tables go into it without the executor's way through its indexes.
//!
//! The executor opens all indexes of a table for each statement, and prepares their conditions, which costs more than
//! a row. Rows that belong into few of them are written here, as [`Inserter`](super::insert::Inserter) does. The executor does the
//! rest as ever: defaults, triggers, RETURNING, the count of rows. It hands a row to a foreign table's functions if the
//! table has some (ExecInsert, nodeModifyTable.c), and gets ours when the statement has started.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ptr;

use once_cell::sync::OnceCell;

use super::datum::{Datum, Oid};
use super::error::Result;
use super::guard::{self, protect};
use super::insert::{self, Entries};
use super::memcx;
use super::nodes::{Node, child};
use super::pristine::Rows;
use super::table::Indexes;
use super::trigger_row;
use crate::logic::columns::Table;
use crate::sys;

/// The indexes that each row gets an entry in.
const WHOLE: usize = 2;

/// How rows of a table may be written.
#[derive(Clone, Copy)]
pub struct Way {
    /// The indexes that each row gets an entry in.
    pub whole: [Oid; WHOLE],
    /// One that some rows get an entry in; 0: there is none.
    pub partial: Oid,
    /// Says which indexes a row belongs into.
    pub judge: Judge,
    /// What it compares rows with.
    pub with: i64,
}

/// Where a row belongs, which stands for the call, by the number that its [`Way`] has.
pub type Judge = fn(&NewRow<'_>, i64) -> Belongs;

/// The indexes that a row belongs into.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Belongs {
    /// [`Way::whole`] alone.
    Whole,
    /// These and [`Way::partial`].
    Partial,
    /// Others as well: the executor's functions find them.
    Others,
}

/// A table that an INSERT writes to. It is open, and locked.
pub struct Target(sys::Relation);

/// Answers how rows of a table may be written; `None`: as the executor does.
pub type WayHook = fn(&Target) -> Result<Option<Way>>;

static TABLE: OnceCell<&'static CStr> = OnceCell::new();
static WAY: OnceCell<WayHook> = OnceCell::new();

impl Target {
    /// Its OID.
    pub fn table(&self) -> Oid {
        // SAFETY: it is open.
        unsafe { (*self.0).rd_id }
    }

    /// Whether rows like that get no entry in any but these indexes.
    pub fn takes_rows<const COLUMNS: usize>(
        &self,
        declared: &'static Table,
        rows: &'static Rows<COLUMNS>,
        indexes: &Indexes<'_>,
    ) -> Result<bool> {
        // SAFETY: it is open.
        unsafe { insert::takes_rows(self.0, declared, rows, indexes) }
    }
}

/// A row that is about to be inserted.
pub struct NewRow<'a>(&'a sys::TupleTableSlot);

impl NewRow<'_> {
    /// The value of a column; `None` if it is NULL. All columns of the slot have been read.
    pub fn get(&self, column: i32, of: Oid) -> Option<Datum<'_>> {
        let at = usize::try_from(column - 1).ok()?;
        if at >= usize::try_from(self.0.tts_nvalid).unwrap_or(0) {
            return None;
        }
        // SAFETY: so many values were read. The table's columns were compared with the declaration.
        unsafe {
            let value = *self.0.tts_values.add(at);
            (!*self.0.tts_isnull.add(at)).then(|| Datum::new(value, of))
        }
    }
}

/// Offers the shortcut for tables of that name. From `_PG_init`.
pub fn offer(table: &'static CStr, way: WayHook) {
    let _ = TABLE.set(table);
    let _ = WAY.set(way);
}

/// What a statement has for the time that it runs. Lies in its memory, and goes with that.
struct Shortcut {
    way: Way,
    whole: [Entries; WHOLE],
    partial: Option<Entries>,
}

/// Which of the functions of a foreign table the executor finds.
struct Functions(MaybeUninit<sys::FdwRoutine>);

// SAFETY: written by nobody after it was made.
unsafe impl Sync for Functions {}
// SAFETY: as above.
unsafe impl Send for Functions {}

static FUNCTIONS: OnceCell<Functions> = OnceCell::new();

fn functions() -> *mut sys::FdwRoutine {
    let made = FUNCTIONS.get_or_init(|| {
        let mut made = MaybeUninit::<sys::FdwRoutine>::zeroed();
        // SAFETY: all-zero is a valid one: it has no function.
        unsafe {
            let functions = &mut *made.as_mut_ptr();
            functions.type_ = sys::T_FdwRoutine;
            functions.ExecForeignInsert = Some(insert_row);
            functions.EndForeignModify = Some(end);
        }
        Functions(made)
    });
    made.0.as_ptr().cast_mut()
}

/// Whether a statement that has started may have a table for the shortcut. One that is only shown, or whose steps are
/// measured, goes the executor's way, so that it shows that.
///
/// # Safety
/// The server's description of a query that has started.
pub(super) unsafe fn may_take(query: *const sys::QueryDesc, flags: i32) -> bool {
    // SAFETY: as the caller says.
    unsafe {
        let (query, statement) = (&*query, &*(*query).plannedstmt);
        (query.operation == sys::CMD_INSERT || statement.hasModifyingCTE)
            && query.instrument_options == 0
            && flags & sys::EXEC_FLAG_EXPLAIN_ONLY as i32 == 0
            && WAY.get().is_some()
    }
}

/// Gives it the shortcut, for each of its INSERTs into such a table.
///
/// # Safety
/// As above.
pub(super) unsafe fn take(query: *const sys::QueryDesc) -> Result<()> {
    // SAFETY: as the caller says; the states of the plan live as long as the query.
    let (top, state) = unsafe {
        (
            Node::new((*query).planstate.cast_const().cast()),
            &*(*query).estate,
        )
    };
    let others = child!(state, es_auxmodifytables).all::<sys::ModifyTableState>();
    for modify in top
        .cast::<sys::ModifyTableState>()
        .into_iter()
        .chain(others)
    {
        take_one(modify, state)?;
    }
    Ok(())
}

fn take_one(modify: &sys::ModifyTableState, state: &sys::EState) -> Result<()> {
    // SAFETY: the plan and the table of a node that was made ready; the table is open.
    let (plan, result) = unsafe {
        (
            &*modify.ps.plan.cast::<sys::ModifyTable>(),
            &mut *modify.resultRelInfo,
        )
    };
    let is_plain = modify.operation == sys::CMD_INSERT
        && plan.onConflictAction == sys::ONCONFLICT_NONE
        && modify.mt_partition_tuple_routing.is_null()
        && result.ri_FdwRoutine.is_null()
        && result.ri_IndexRelationDescs.is_null();
    let (Some(name), Some(way)) = (TABLE.get(), WAY.get()) else {
        return Ok(());
    };
    // SAFETY: as above; the name is terminated.
    let is_table = |result: &sys::ResultRelInfo| unsafe {
        let form = &*(*result.ri_RelationDesc).rd_rel;
        CStr::from_ptr(form.relname.data.as_ptr()) == *name
    };
    if !is_plain || !is_table(result) {
        return Ok(());
    }
    let Some(way) = way(&Target(result.ri_RelationDesc))? else {
        return Ok(());
    };
    let outer = memcx::switch_to(state.es_query_cxt);
    let taken = open(way, result);
    memcx::switch_to(outer);
    taken
}

/// Opens the indexes, in the memory of the statement.
fn open(way: Way, result: &mut sys::ResultRelInfo) -> Result<()> {
    let [first, second] = way.whole;
    let shortcut = Shortcut {
        way,
        whole: [Entries::open(first)?, Entries::open(second)?],
        partial: None,
    };
    // SAFETY: allocates in the current memory context.
    let (place, none) = protect(|| unsafe {
        (
            sys::palloc(size_of::<Shortcut>()).cast::<Shortcut>(),
            sys::palloc0(size_of::<sys::Relation>()).cast::<sys::Relation>(),
        )
    })?;
    // SAFETY: as large as that, and aligned as any.
    unsafe { place.write(shortcut) };
    result.ri_FdwState = place.cast();
    // The executor opens the indexes where it has no list of them. This one is empty.
    result.ri_IndexRelationDescs = none;
    result.ri_FdwRoutine = functions();
    Ok(())
}

/// Inserts a row that has passed the triggers (ExecForeignInsert, fdwhandler.sgml). Raises through this frame, which owns nothing.
unsafe extern "C-unwind" fn insert_row(
    state: *mut sys::EState,
    result: *mut sys::ResultRelInfo,
    slot: *mut sys::TupleTableSlot,
    _planned: *mut sys::TupleTableSlot,
) -> *mut sys::TupleTableSlot {
    // SAFETY: the executor passes what it has; what stands here is what ExecInsert does for a table of its own.
    unsafe {
        let relation = (*result).ri_RelationDesc;
        if !(*result).ri_WithCheckOptions.is_null() {
            sys::ExecWithCheckOptions(sys::WCO_RLS_INSERT_CHECK, result, slot, state);
        }
        if !(*(*relation).rd_att).constr.is_null() {
            sys::ExecConstraints(result, slot, state);
        }
        trigger_row::read_all(slot);
        let shortcut = &mut *(*result).ri_FdwState.cast::<Shortcut>();
        let outcome = guard::enter(Belongs::Others, || shortcut.place(slot, state));
        let belongs = guard::raise(outcome);
        if belongs == Belongs::Others {
            if (*result).ri_NumIndices == 0 {
                sys::ExecOpenIndices(result, false);
            }
            sys::mw_insert_row(result, slot, state);
            return slot;
        }
        // No index of the executor's, or all of them: it has opened them for a row before.
        sys::mw_insert_bare(relation, slot, (*state).es_output_cid);
        let partial = shortcut
            .partial
            .as_ref()
            .filter(|_| belongs == Belongs::Partial);
        for entries in shortcut.whole.iter().chain(partial) {
            let (values, nulls) = ((*slot).tts_values, (*slot).tts_isnull);
            entries.make(relation, values, nulls, &raw mut (*slot).tts_tid);
        }
        slot
    }
}

impl Shortcut {
    /// Where a row belongs. The partial index is opened for the first one that needs it.
    ///
    /// # Safety
    /// The slot's columns have been read; the state is that of the statement.
    unsafe fn place(
        &mut self,
        slot: *const sys::TupleTableSlot,
        state: *const sys::EState,
    ) -> Result<Belongs> {
        // SAFETY: as the caller says.
        let row = NewRow(unsafe { &*slot });
        let belongs = (self.way.judge)(&row, self.way.with);
        if belongs == Belongs::Partial && self.partial.is_none() && self.way.partial != 0 {
            // SAFETY: as the caller says.
            let outer = memcx::switch_to(unsafe { (*state).es_query_cxt });
            let opened = Entries::open(self.way.partial);
            memcx::switch_to(outer);
            self.partial = Some(opened?);
        }
        Ok(belongs)
    }
}

/// Closes the indexes when the statement ends well, and gives up their locks, as the executor does (ExecCloseIndices; EndForeignModify,
/// fdwhandler.sgml).
unsafe extern "C-unwind" fn end(_state: *mut sys::EState, result: *mut sys::ResultRelInfo) {
    // SAFETY: the executor passes what it has.
    let shortcut = unsafe { &*(*result).ri_FdwState.cast::<Shortcut>() };
    let outcome = guard::enter((), || {
        let opened = shortcut.whole.iter().chain(&shortcut.partial);
        opened.copied().try_for_each(Entries::release)
    });
    // SAFETY: this frame owns nothing. What stays is the executor's own list of indexes, which it closes.
    unsafe {
        (*result).ri_FdwRoutine = ptr::null_mut();
        guard::raise(outcome);
    }
}
