//! COPY of a view of ours, and COPY FROM STDIN into the table behind it.
//!
//! The server copies to and from tables only, so a COPY of the view becomes one of the table. And it
//! refuses COPY FROM into a table with row-level security (DoCopy, copy.c), where it lets INSERT
//! through. The table's trigger checks more than its policy does, so COPY may do what INSERT may.

use std::ffi::{CStr, c_char};
use std::ptr;

use super::datum::Oid;
use super::ddl;
use super::error::{FEATURE_NOT_SUPPORTED, PgError, Result};
use super::guard::protect;
use super::nodes::{Node, child};
use super::{identity, memcx, syscache, xact};
use crate::sys::{self, CopyStmt, PlannedStmt, RangeVar};

/// A view of ours and the table behind it.
#[derive(Clone, Copy)]
pub struct CopyTarget {
    /// The view: its COPY is one of the table.
    pub view: Oid,
    /// Schema and name of the table.
    pub name: (&'static CStr, &'static CStr),
    /// The table. COPY FROM STDIN may fill it although its policy of that name would refuse it.
    pub table: Oid,
    /// That policy.
    pub policy: &'static CStr,
}

/// Asked for them; `None` if there are none.
pub type CopyHook = fn() -> Result<Option<CopyTarget>>;

/// The statement to run in place of a statement, which is it or a copy in the current memory, and the
/// table that it fills from the client although the server would refuse it; 0: none.
pub(super) fn direct(planned: &PlannedStmt, hook: Option<CopyHook>) -> Result<(&PlannedStmt, Oid)> {
    if copy_of(planned).is_none() {
        return Ok((planned, 0));
    }
    let Some(target) = hook.map_or(Ok(None), |hook| hook())? else {
        return Ok((planned, 0));
    };
    let planned = through(planned, &target)?;
    let is_ours = match copy_of(planned) {
        Some((copy, name)) => is_from_client(copy) && is_only_refused(copy, name, &target)?,
        None => false,
    };
    Ok((planned, if is_ours { target.table } else { 0 }))
}

/// A COPY of a relation, and the relation's name.
fn copy_of(planned: &PlannedStmt) -> Option<(&CopyStmt, &RangeVar)> {
    let copy = child!(planned, utilityStmt).cast::<CopyStmt>()?;
    Some((copy, child!(copy, relation).cast::<RangeVar>()?))
}

/// A COPY of the view becomes one of the table, with the same columns and the caller's rights; any
/// other stays as it is.
fn through<'a>(planned: &'a PlannedStmt, target: &CopyTarget) -> Result<&'a PlannedStmt> {
    let CopyTarget { view, name, .. } = *target;
    let Some((copy, relation)) = copy_of(planned) else {
        return Ok(planned);
    };
    if ddl::look_up(relation, sys::NoLock)? != view {
        return Ok(planned);
    }
    check_rights(copy, view)?;
    let (location, all_columns) = (relation.location, copy.attlist.is_null());
    let original = ptr::from_ref(planned).cast();
    // SAFETY: a copy of a node is a node of the same kind, in the current memory; so is its COPY.
    let planned = protect(|| unsafe {
        let planned = sys::copyObjectImpl(original).cast::<PlannedStmt>();
        let copy = (*planned).utilityStmt.cast::<CopyStmt>();
        let (schema, table) = (sys::pstrdup(name.0.as_ptr()), sys::pstrdup(name.1.as_ptr()));
        (*copy).relation = sys::makeRangeVar(schema, table, location);
        planned
    })?;
    if all_columns {
        let columns = column_names(view)?;
        // SAFETY: as above.
        unsafe { (*(*planned).utilityStmt.cast::<CopyStmt>()).attlist = columns };
    }
    // SAFETY: as above; it lives until the statement has run.
    Ok(unsafe { &*planned })
}

/// The rights that a COPY of the view would need, before the table's own are looked at. Raises.
fn check_rights(copy: &CopyStmt, view: Oid) -> Result<()> {
    let mode = (if copy.is_from {
        sys::ACL_INSERT
    } else {
        sys::ACL_SELECT
    }) as sys::AclMode;
    let role = identity::current_role();
    // SAFETY: catalog look-ups; raises if the role has the right to no column.
    protect(|| unsafe {
        if sys::pg_class_aclcheck(view, role, mode) != sys::ACLCHECK_OK
            && sys::pg_attribute_aclcheck_all(view, role, mode, sys::ACLMASK_ANY)
                != sys::ACLCHECK_OK
        {
            let name = sys::get_rel_name(view);
            sys::aclcheck_error(sys::ACLCHECK_NO_PRIV, sys::OBJECT_VIEW, name);
        }
    })
}

/// All columns of a relation, as a list of names in the current memory.
fn column_names(relation: Oid) -> Result<*mut sys::List> {
    let count = syscache::with_row(relation, |row: &sys::FormData_pg_class| row.relnatts)?;
    let mut names = ptr::null_mut();
    for number in 1..=count.unwrap_or(0) {
        let read = |row: &sys::FormData_pg_attribute| (!row.attisdropped).then_some(row.attname);
        let column = syscache::with_row_of(relation, number as sys::Datum, read)?;
        let Some(name) = column.flatten() else {
            continue;
        };
        let name = name.data.as_ptr();
        // SAFETY: the name lives for the call, which copies it.
        names =
            protect(|| unsafe { sys::lappend(names, sys::makeString(sys::pstrdup(name)).cast()) })?;
    }
    Ok(names)
}

/// COPY table (columns) FROM STDIN
fn is_from_client(copy: &CopyStmt) -> bool {
    copy.is_from
        && copy.filename.is_null()
        && !copy.is_program
        && !copy.attlist.is_null()
        && copy.whereClause.is_null()
}

/// Whether a COPY is into the table, its columns exist, and the table's policy of that name is what
/// would refuse it. The relation stays locked: whoever runs the statement locks it again.
fn is_only_refused(copy: &CopyStmt, name: &RangeVar, target: &CopyTarget) -> Result<bool> {
    if ddl::look_up(name, sys::RowExclusiveLock)? != target.table {
        return Ok(false);
    }
    for column in child!(copy, attlist).members() {
        let name = column.text().unwrap_or_default().as_ptr();
        // SAFETY: a catalog look-up; 0 if there is no such column.
        if protect(|| unsafe { sys::get_attnum(target.table, name) })? == 0 {
            return Ok(false);
        }
    }
    if !has_no_other_policy(target)? {
        return Ok(false);
    }
    // SAFETY: a catalog look-up for the current role; answers instead of raising.
    let applies = protect(|| unsafe { sys::check_enable_rls(target.table, 0, true) })?;
    Ok(applies as u32 == sys::RLS_ENABLED)
}

/// What is to be done with a COPY that [`direct`] answered with a table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing.
    Nothing,
    /// To fill the table.
    Fill,
    /// To look at the rights of the user, too.
    CheckAndFill,
}

/// Lets other libraries see a COPY that [`fill`] is about to run, whose hooks end in the server's code: they
/// may refuse it, audit it, and prepare what their hooks at the check of its rights rely on. The server then
/// refuses it itself, once rights are checked and before it reads anything; what it did by then is taken back.
pub(super) fn show(call: impl FnOnce() + Copy) -> Result<Left> {
    // What their hooks hang on the memory of the statement goes with it.
    let outer = memcx::current();
    let memory = memcx::child(outer, c"my_worker COPY")?;
    memcx::switch_to(memory);
    let result = xact::subtransaction(|| protect(call));
    memcx::switch_to(outer);
    // SAFETY: nothing else knows of it.
    protect(|| unsafe { sys::MemoryContextDelete(memory) })?;
    match result {
        Ok(()) => Ok(Left::Nothing),
        Err(error) if is_refusal(&error) => Ok(Left::Fill),
        Err(error) => Err(error),
    }
}

/// Whether it is how the server refuses to fill a table with row-level security.
fn is_refusal(error: &PgError) -> bool {
    error.sqlstate == FEATURE_NOT_SUPPORTED && error.by_copy
}

/// Runs COPY table (columns) FROM STDIN as DoCopy does (copy.c), as the current user and with its rights.
/// May raise: a COPY that has begun holds what only the server can end.
///
/// # Safety
/// [`direct`] has answered statement and table; the calling frame owns nothing.
pub(super) unsafe fn fill(
    planned: *mut PlannedStmt,
    query: *const c_char,
    environment: *mut sys::QueryEnvironment,
    completion: *mut sys::QueryCompletion,
    (table, checks): (Oid, bool),
) {
    // SAFETY: the statement is a COPY of the table, which is locked, and its columns are names of the table's.
    unsafe {
        let copy = (*planned).utilityStmt.cast::<CopyStmt>();
        let rel = sys::table_open(table, sys::NoLock as i32);
        let pstate = sys::make_parsestate(ptr::null_mut());
        (*pstate).p_sourcetext = query;
        (*pstate).p_queryEnv = environment;
        check_insert(pstate, rel, columns_of(&*copy, table), checks);
        sys::PreventCommandIfReadOnly(c"COPY FROM".as_ptr());
        let (names, options) = ((*copy).attlist, (*copy).options);
        let none = ptr::null_mut();
        let state = sys::BeginCopyFrom(pstate, rel, none, ptr::null(), false, None, names, options);
        let rows = sys::CopyFrom(state);
        sys::EndCopyFrom(state);
        sys::table_close(rel, sys::NoLock as i32);
        sys::free_parsestate(pstate);
        if let Some(completion) = completion.as_mut() {
            completion.commandTag = sys::CMDTAG_COPY;
            completion.nprocessed = rows;
        }
    }
}

/// The columns that a COPY names, as rights count them. May raise.
///
/// # Safety
/// They are columns of the table.
unsafe fn columns_of(copy: &CopyStmt, table: Oid) -> *mut sys::Bitmapset {
    let mut columns = ptr::null_mut();
    for column in child!(copy, attlist).members() {
        let name = column.text().unwrap_or_default().as_ptr();
        // SAFETY: a catalog look-up, and a set in the current memory.
        columns = unsafe {
            let number = i32::from(sys::get_attnum(table, name));
            sys::bms_add_member(columns, number - sys::FirstLowInvalidHeapAttributeNumber)
        };
    }
    columns
}

/// Has a statement INSERT into these columns of a table, and if it `checks`, refuses that to who may not do it.
/// Raises. How rights are checked differs between majors.
///
/// # Safety
/// The table is open and locked.
unsafe fn check_insert(
    pstate: *mut sys::ParseState,
    rel: sys::Relation,
    columns: *mut sys::Bitmapset,
    checks: bool,
) {
    let (lock, right) = (
        sys::RowExclusiveLock as i32,
        sys::ACL_INSERT as sys::AclMode,
    );
    let none = ptr::null_mut();
    // SAFETY: as the caller says; the server has made the entry for the table.
    unsafe {
        let target = sys::addRangeTableEntryForRelation(pstate, rel, lock, none, false, false);
        #[cfg(pg_ge_16)]
        {
            let rights = (*target).p_perminfo;
            (*rights).requiredPerms = right;
            (*rights).insertedCols = columns;
            if checks {
                let all = sys::lappend(ptr::null_mut(), rights.cast());
                sys::ExecCheckPermissions((*pstate).p_rtable, all, true);
            }
        }
        #[cfg(not(pg_ge_16))]
        {
            let entry = (*target).p_rte;
            (*entry).requiredPerms = right;
            (*entry).insertedCols = columns;
            if checks {
                sys::ExecCheckRTPerms((*pstate).p_rtable, true);
            }
        }
    }
}

/// Whether no policy of the table but the one of that name says anything of rows that come in.
fn has_no_other_policy(target: &CopyTarget) -> Result<bool> {
    // SAFETY: the table is there and locked.
    let table = protect(|| unsafe { sys::table_open(target.table, sys::NoLock as i32) })?;
    // SAFETY: the description of an open table: no policies, or a list of these structs.
    let is_so = unsafe {
        (*table).rd_rsdesc.as_ref().is_some_and(|security| {
            let mut policies = Node::new(security.policies.cast_const().cast())
                .pointers()
                .map(|policy| &*policy.cast::<sys::RowSecurityPolicy>());
            // Those for SELECT say nothing of rows that come in ('r', ACL_SELECT_CHR).
            let ours = |policy: &sys::RowSecurityPolicy| {
                CStr::from_ptr(policy.policy_name) == target.policy
            };
            let mut is_there = false;
            let none_other = policies.all(|policy| {
                is_there |= ours(policy);
                policy.polcmd == b'r' as libc::c_char || ours(policy)
            });
            is_there && none_other
        })
    };
    // SAFETY: the table is open.
    protect(|| unsafe { sys::table_close(table, sys::NoLock as i32) })?;
    Ok(is_so)
}
