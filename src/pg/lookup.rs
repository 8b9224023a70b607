//! Look-ups in the system catalogs: relations, databases, roles, functions.

use std::ptr;

use super::call::call;
use super::datum::{self, Oid};
use super::error::Result;
use super::guard::{protect, text};
use super::syscache::{self, CatalogScan};
use crate::sys;

/// The name of a relation; empty if it is gone.
pub fn relation_name(relation: Oid) -> Result<Vec<u8>> {
    // SAFETY: a catalog look-up; NULL if it is gone.
    let name = protect(|| unsafe { sys::get_rel_name(relation).cast_const() })?;
    Ok(datum::from_c(name).unwrap_or_default())
}

/// One database of the server.
pub struct Database {
    /// Its OID.
    pub oid: Oid,
    /// Its name.
    pub name: Vec<u8>,
    /// Whether workers may connect: it accepts connections, is no template and is not half dropped.
    pub usable: bool,
}

/// All databases. In a transaction; works without a database of one's own.
pub fn databases() -> Result<Vec<Database>> {
    let mut rows = CatalogScan::<sys::FormData_pg_database>::all()?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let half_dropped = row.datconnlimit == HALF_DROPPED;
        found.push(Database {
            oid: row.oid,
            name: syscache::name(&row.datname),
            usable: row.datallowconn && !row.datistemplate && !half_dropped,
        });
    }
    rows.end()?;
    Ok(found)
}

/// The connection limit of a database whose DROP was interrupted. The server calls it
/// DATCONNLIMIT_INVALID_DB, but not in each minor version that we build against.
const HALF_DROPPED: i32 = -2;

/// Why a role can not have a session in this database.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Barred {
    /// It was dropped.
    Gone,
    /// NOLOGIN.
    NoLogin,
    /// No CONNECT on the database.
    NoConnect,
}

/// Whether the role may log in to this database now.
pub fn barred(role: Oid) -> Result<Option<Barred>> {
    let may_log_in = |row: &sys::FormData_pg_authid| row.rolcanlogin;
    match syscache::with_row(role, may_log_in)? {
        None => return Ok(Some(Barred::Gone)),
        Some(false) => return Ok(Some(Barred::NoLogin)),
        Some(true) => {}
    }
    // SAFETY: a catalog look-up.
    let may_connect = protect(|| unsafe {
        let (database, mode) = (sys::MyDatabaseId, sys::ACL_CONNECT as sys::AclMode);
        #[cfg(pg_ge_16)]
        let answer = sys::object_aclcheck(sys::DatabaseRelationId, database, role, mode);
        #[cfg(not(pg_ge_16))]
        let answer = sys::pg_database_aclcheck(database, role, mode);
        answer == sys::ACLCHECK_OK
    })?;
    Ok((!may_connect).then_some(Barred::NoConnect))
}

/// The owner of a function; `None` if it is gone.
pub(super) fn function_owner(function: Oid) -> Result<Option<Oid>> {
    syscache::with_row(function, |row: &sys::FormData_pg_proc| row.proowner)
}

/// Finds a function by its possibly qualified name and exact argument types, by the caller's
/// search path; `None` if there is none. Raises for a malformed name or a schema out of reach.
pub fn function(name: &[u8], arguments: &[Oid]) -> Result<Option<Oid>> {
    let name = datum::text_datum(name)?;
    let (types, count) = (arguments.as_ptr(), arguments.len() as i32);
    // SAFETY: the text and the types live for the call.
    let oid = protect(|| unsafe {
        let names = sys::textToQualifiedNameList(name.raw() as *mut sys::text);
        sys::LookupFuncName(names, count, types, true)
    })?;
    Ok((oid != 0).then_some(oid))
}

/// Finds a function by its name with argument types, as `regprocedure` reads it; `None` if there is
/// none. Raises for what cannot be read.
pub fn function_with_types(signature: &[u8]) -> Result<Option<Oid>> {
    let signature = datum::text_datum(signature)?;
    let signature = signature.raw();
    // SAFETY: the function takes one text, which lives for the call, and no description of itself.
    let (oid, null) =
        protect(|| unsafe { call(Some(sys::to_regprocedure), ptr::null_mut(), &[signature]) })?;
    Ok((!null).then_some(oid as Oid))
}

/// What the server says of a function that [`function_with_types`] did not find. The transaction has
/// an error then: nothing but its end may follow.
pub fn why_no_function(signature: &[u8]) -> Result<()> {
    let signature = text(signature);
    let pointer = signature.as_ptr() as sys::Datum;
    // SAFETY: the C string lives for the call.
    protect(|| unsafe {
        sys::DirectFunctionCall1Coll(Some(sys::regprocedurein), 0, pointer);
    })
}

/// Kind, name and argument types of a function or its like, as in `a procedure app.f(jsonb)`.
pub fn describe_routine(routine: Oid) -> Result<Vec<u8>> {
    let kind = |row: &sys::FormData_pg_proc| match row.prokind as u8 {
        b'p' => "a procedure",
        b'a' => "an aggregate",
        b'w' => "a window function",
        _ => "a function",
    };
    let Some(kind) = syscache::with_row(routine, kind)? else {
        return Ok(Vec::new());
    };
    // SAFETY: a catalog look-up.
    let name = protect(|| unsafe { sys::format_procedure(routine).cast_const() })?;
    let name = datum::from_c(name).unwrap_or_default();
    Ok([kind.as_bytes(), b" ", &name].concat())
}

/// The same of each that has this name, whatever its arguments: up to `most` of them, in one text;
/// `None` if there is none. Raises for a malformed name or a schema out of reach.
pub fn routines_named(name: &[u8], most: i32) -> Result<Option<Vec<u8>>> {
    let name = datum::text_datum(name)?.raw();
    let most = usize::try_from(most).unwrap_or(0);
    // SAFETY: the text lives for the call; a list in the current memory, NULL if there is none.
    let mut next = protect(|| unsafe {
        let names = sys::textToQualifiedNameList(name as *mut sys::text);
        let any = (ptr::null_mut(), -1);
        let (expand, missing_ok) = (false, true);
        #[cfg(not(pg_ge_19))]
        let first =
            sys::FuncnameGetCandidates(names, any.1, any.0, expand, expand, expand, missing_ok);
        #[cfg(pg_ge_19)]
        let first = sys::FuncnameGetCandidates(
            names, any.1, any.0, expand, expand, expand, missing_ok, &mut 0,
        );
        first.cast_const()
    })?;
    let (mut described, mut count) = (Vec::new(), 0usize);
    // SAFETY: NULL, or a member of that list.
    while let Some(routine) = unsafe { next.as_ref() } {
        if count < most {
            described.push(describe_routine(routine.oid)?);
        }
        count += 1;
        next = routine.next;
    }
    if count == 0 {
        return Ok(None);
    }
    described.retain(|routine| !routine.is_empty());
    let mut list = described.join(b", ".as_slice());
    if count > most {
        list.extend_from_slice(format!(" and {} more", count - most).as_bytes());
    }
    Ok(Some(list))
}

/// Schema and name of a function, quoted.
pub fn function_name(function: Oid) -> Result<Vec<u8>> {
    // SAFETY: catalog look-ups; NULL if it is gone meanwhile.
    let name = protect(|| unsafe {
        let name = sys::get_func_name(function);
        let schema = sys::get_namespace_name(sys::get_func_namespace(function));
        if name.is_null() || schema.is_null() {
            return ptr::null();
        }
        sys::quote_qualified_identifier(schema, name).cast_const()
    })?;
    Ok(datum::from_c(name).unwrap_or_default())
}

/// Argument types, result type and nature of a function.
pub struct Signature {
    /// Types of the input arguments, in order.
    pub arguments: Vec<Oid>,
    /// Type of the result.
    pub result: Oid,
    /// Whether it returns a set.
    pub returns_set: bool,
    /// Whether it is a plain function: no procedure, aggregate or window function.
    pub is_function: bool,
    /// The role that owns it.
    pub owner: Oid,
    /// Whether it lives in a temporary schema.
    pub is_temporary: bool,
}

/// Looks a function up by OID.
pub fn signature(function: Oid) -> Result<Signature> {
    // SAFETY: catalog look-ups of a function that was just found; the array is palloc'd.
    let (types, count, result, set, kind, temporary) = protect(|| unsafe {
        let (mut types, mut count) = (ptr::null_mut(), 0);
        let result = sys::get_func_signature(function, &mut types, &mut count);
        let set = sys::get_func_retset(function);
        let kind = sys::get_func_prokind(function);
        let temporary = sys::isAnyTempNamespace(sys::get_func_namespace(function));
        (types, count, result, set, kind, temporary)
    })?;
    let owner = function_owner(function)?.unwrap_or(0);
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: the array has `count` elements.
    let arguments = (0..count).map(|i| unsafe { *types.add(i) }).collect();
    Ok(Signature {
        arguments,
        result,
        returns_set: set,
        is_function: kind as u8 == b'f',
        owner,
        is_temporary: temporary,
    })
}

/// Whether no statement can use a result of that type: triggers and language handlers have such.
pub fn is_for_the_server(result: Oid) -> Result<bool> {
    // SAFETY: a catalog look-up.
    let kind = protect(|| unsafe { sys::get_typtype(result) })?;
    Ok(kind as u8 == b'p' && ![sys::VOIDOID, sys::RECORDOID].contains(&result))
}

/// Whether there still is a function of that OID.
pub fn function_exists(function: Oid) -> Result<bool> {
    // SAFETY: a catalog look-up; 0 if it is gone.
    protect(|| unsafe { sys::get_func_namespace(function) != 0 })
}

/// Whether `role` may execute the function.
pub fn may_execute(function: Oid, role: Oid) -> Result<bool> {
    // SAFETY: a catalog look-up.
    protect(|| unsafe {
        let mode = sys::ACL_EXECUTE as sys::AclMode;
        #[cfg(pg_ge_16)]
        let answer = sys::object_aclcheck(sys::ProcedureRelationId, function, role, mode);
        #[cfg(not(pg_ge_16))]
        let answer = sys::pg_proc_aclcheck(function, role, mode);
        answer == sys::ACLCHECK_OK
    })
}

/// Whether `role` has REFERENCES on the table.
pub fn may_reference(table: Oid, role: Oid) -> Result<bool> {
    let mode = sys::ACL_REFERENCES as sys::AclMode;
    // SAFETY: a catalog look-up.
    protect(|| unsafe { sys::pg_class_aclcheck(table, role, mode) == sys::ACLCHECK_OK })
}

/// Whether `role` owns the database or is a superuser.
pub fn owns_database(database: Oid, role: Oid) -> Result<bool> {
    // SAFETY: a catalog look-up.
    protect(|| unsafe {
        #[cfg(pg_ge_16)]
        let owns = sys::object_ownercheck(sys::DatabaseRelationId, database, role);
        #[cfg(not(pg_ge_16))]
        let owns = sys::pg_database_ownercheck(database, role);
        owns
    })
}

/// The OID of a database, 0 if there is none of that name.
pub fn database_oid(name: &[u8]) -> Result<Oid> {
    let name = text(name);
    let name = name.as_ptr();
    // SAFETY: a catalog look-up.
    protect(|| unsafe { sys::get_database_oid(name, true) })
}

/// A number that grows when any transaction with an id ends: while it stands still, no table of
/// the server has changed.
pub fn completed_transactions() -> u64 {
    // SAFETY: reads shared state of the server under its own lock.
    unsafe { sys::mw_completed_transactions() }
}

/// The name of this session's database.
pub fn current_database() -> Result<Vec<u8>> {
    // SAFETY: a catalog look-up; NULL if it was dropped meanwhile.
    let name = protect(|| unsafe { sys::get_database_name(sys::MyDatabaseId).cast_const() })?;
    Ok(datum::from_c(name).unwrap_or_default())
}

/// The owner of a table, 0 if the table is gone.
pub(super) fn owner_of(table: Oid) -> Result<Oid> {
    // SAFETY: answers NULL if the table is gone meanwhile.
    protect(|| unsafe {
        let relation = sys::try_relation_open(table, sys::AccessShareLock as i32);
        if relation.is_null() {
            return 0;
        }
        let owner = (*(*relation).rd_rel).relowner;
        sys::table_close(relation, sys::AccessShareLock as i32);
        owner
    })
}
