//! Look-ups in the system catalogs: where our tables are, roles, databases, functions.

use std::ptr;

use super::datum::{self, Datum, Oid};
use super::error::Result;
use super::guard::{protect, text};
use super::local::Local;
use crate::sys;

/// The name of the extension, and of its schema.
const NAME: &std::ffi::CStr = c"my_worker";
/// The version of the SQL objects that this library knows (`default_version` in the control file).
const SQL_VERSION: &[u8] = b"1.1";

/// Where the extension's objects are in this database.
#[derive(Clone, Copy)]
pub struct Extension {
    /// Its row in pg_extension: another one after DROP and CREATE.
    pub oid: Oid,
    /// The owner of `my_queue`: who our own statements run as.
    pub owner: Oid,
    /// `my_queue`.
    pub queue: Oid,
    /// Its primary key.
    pub queue_key: Oid,
    /// The index of the claim.
    pub claim_index: Oid,
    /// The index of what is due later, or not pending.
    pub later_index: Oid,
    /// `my_worker.history`
    pub history: Oid,
    /// Whether its SQL objects are those that this library was built for.
    pub is_current: bool,
    /// `my_worker.queues`
    pub queues: Oid,
    /// Its primary key.
    pub queues_key: Oid,
}

static CACHED: Local<Option<Extension>> = Local::new(None);
static WATCHING: Local<bool> = Local::new(false);
/// Counts what was heard of changes of our tables.
static CHANGES: Local<u64> = Local::new(0);
/// Counts what was heard of changes of what decides which function a name is, and who may use it.
static NAMES: Local<u64> = Local::new(0);

/// Where the extension is, or `None` if this database does not have it. In a transaction; the
/// answer is kept until the catalogs change.
pub fn extension() -> Result<Option<Extension>> {
    if let Some(found) = CACHED.get() {
        return Ok(Some(found));
    }
    watch()?;
    let found = find_extension()?;
    CACHED.set(found);
    Ok(found)
}

/// The same, and keeps it until the transaction ends. DROP EXTENSION locks the extension before it
/// locks our tables one after the other: a transaction that comes here first never meets it half
/// way, where each would wait for a table that the other has.
pub fn hold_extension() -> Result<Option<Extension>> {
    let Some(found) = extension()? else {
        return Ok(None);
    };
    // SAFETY: takes a heavyweight lock in an open transaction; raises on deadlock or cancel.
    protect(|| unsafe {
        let mode = sys::AccessShareLock as i32;
        sys::LockDatabaseObject(sys::ExtensionRelationId, found.oid, 0, mode)
    })?;
    // It may have gone while we waited.
    Ok(extension()?.filter(|now| now.oid == found.oid))
}

/// An extension that this session keeps, over any number of transactions.
pub struct Held(Oid);

/// Keeps the extension like [`hold_extension`], but until [`release_extension`], or the session's end.
pub fn hold_extension_on() -> Result<Option<Held>> {
    let Some(found) = hold_extension()? else {
        return Ok(None);
    };
    // SAFETY: takes a heavyweight lock that this transaction has already.
    protect(|| unsafe { sys::mw_hold_object_on(sys::ExtensionRelationId, found.oid) })?;
    Ok(Some(Held(found.oid)))
}

/// Gives it up.
pub fn release_extension(held: Held) -> Result<()> {
    // SAFETY: the lock was taken for the session.
    protect(|| unsafe { sys::mw_release_object(sys::ExtensionRelationId, held.0) })
}

/// Looks the extension up anew next time: its version may have changed, which nobody announces.
pub fn forget_extension() {
    CACHED.set(None);
}

/// Registers for changes of the catalogs, once a process.
fn watch() -> Result<()> {
    if WATCHING.replace(true) {
        return Ok(());
    }
    // SAFETY: the callbacks are functions of this library, which is never unloaded.
    protect(|| unsafe {
        sys::CacheRegisterRelcacheCallback(Some(on_relation_change), 0);
        let namespaces = sys::NAMESPACEOID as i32;
        sys::CacheRegisterSyscacheCallback(namespaces, Some(on_namespace_change), 0);
        for names in [
            sys::PROCOID,
            sys::TYPEOID,
            sys::NAMESPACEOID,
            sys::AUTHOID,
            sys::AUTHMEMROLEMEM,
            sys::DATABASEOID,
        ] {
            sys::CacheRegisterSyscacheCallback(names as i32, Some(on_name_change), 0);
        }
    })
}

unsafe extern "C-unwind" fn on_relation_change(_: Datum, relation: Oid) {
    let ours = CACHED.get().is_none_or(|e| {
        [
            0,
            e.queue,
            e.history,
            e.queues,
            e.claim_index,
            e.later_index,
            e.queue_key,
            e.queues_key,
        ]
        .contains(&relation)
    });
    if ours {
        forget();
    }
}

fn forget() {
    CACHED.set(None);
    CHANGES.set(CHANGES.get().wrapping_add(1));
}

unsafe extern "C-unwind" fn on_namespace_change(_: Datum, _: i32, _: u32) {
    forget();
}

unsafe extern "C-unwind" fn on_name_change(_: Datum, _: i32, _: u32) {
    NAMES.set(NAMES.get().wrapping_add(1));
}

/// What a name of a function is found by: two that are equal find the same one.
#[derive(PartialEq, Eq)]
pub struct SearchState {
    path: Vec<u8>,
    changes: u64,
}

/// As of now, for the role that is current.
pub fn search_state() -> SearchState {
    // SAFETY: the value of "search_path", a C string or NULL, which the copy does not outlive.
    let path = datum::from_c(unsafe { sys::namespace_search_path }.cast_const());
    SearchState {
        path: path.unwrap_or_default(),
        changes: NAMES.get(),
    }
}

/// A number that is another one once this process has heard of a change of what a role may do.
pub fn rights_changes() -> u64 {
    NAMES.get()
}

/// A number that is another one once this process has heard of a change of our tables, by others
/// or by itself, committed or taken back. Whoever takes a lock hears of all that was committed
/// before the lock was free.
pub fn changes() -> u64 {
    CHANGES.get()
}

/// Lets every process hear of a change of the rows of a table, once it is committed.
pub fn announce_change(table: Oid) -> Result<()> {
    // SAFETY: queues a message for the end of the open transaction; raises if the table is gone.
    protect(|| unsafe { sys::CacheInvalidateRelcacheByRelid(table) })
}

fn find_extension() -> Result<Option<Extension>> {
    // SAFETY: catalog look-ups in a transaction; each answers 0 for what is not there.
    let (oid, target, own, version) = protect(|| unsafe {
        let oid = sys::get_extension_oid(NAME.as_ptr(), true);
        let mut version: *mut libc::c_char = ptr::null_mut();
        if oid == 0 {
            return (0, 0, 0, version.cast_const());
        }
        let target = sys::mw_extension_schema(oid, &mut version);
        let own = sys::get_namespace_oid(NAME.as_ptr(), true);
        (oid, target, own, version.cast_const())
    })?;
    if oid == 0 {
        return Ok(None);
    }
    let found = Extension {
        oid,
        owner: 0,
        is_current: datum::from_c(version).as_deref() == Some(SQL_VERSION),
        queue: relation(c"my_queue", target)?,
        queue_key: relation(c"my_queue_pkey", target)?,
        claim_index: relation(c"my_queue_claim_idx", target)?,
        later_index: relation(c"_jobs_later_idx", target)?,
        history: relation(c"history", own)?,
        queues: relation(c"queues", own)?,
        queues_key: relation(c"queues_pkey", own)?,
    };
    let parts = [
        found.queue,
        found.queue_key,
        found.claim_index,
        found.history,
        found.queues,
    ];
    // An extension script that is still running has not created them all.
    if parts.contains(&0) || found.queues_key == 0 {
        return Ok(None);
    }
    // Another one of that name may be there if ours was renamed, or moved out of the way.
    for table in [found.queue, found.history, found.queues] {
        // SAFETY: a catalog look-up.
        let of = protect(|| unsafe { sys::getExtensionOfObject(sys::RelationRelationId, table) })?;
        if of != oid {
            return Ok(None);
        }
    }
    let queue = found.queue;
    // SAFETY: answers NULL if the table is gone meanwhile.
    let owner = protect(|| unsafe {
        let relation = sys::try_relation_open(queue, sys::AccessShareLock as i32);
        if relation.is_null() {
            return 0;
        }
        let owner = sys::mw_relation_owner(relation);
        sys::table_close(relation, sys::AccessShareLock as i32);
        owner
    })?;
    if owner == 0 {
        return Ok(None);
    }
    Ok(Some(Extension { owner, ..found }))
}

fn relation(name: &'static std::ffi::CStr, namespace: Oid) -> Result<Oid> {
    // SAFETY: a catalog look-up.
    protect(|| unsafe { sys::get_relname_relid(name.as_ptr(), namespace) })
}

/// The name of a table, qualified and quoted for a statement.
pub fn qualified_name(relation: Oid) -> Result<String> {
    // SAFETY: catalog look-ups; NULL if the table is gone.
    let name = protect(|| unsafe {
        let name = sys::get_rel_name(relation);
        let schema = sys::get_namespace_name(sys::get_rel_namespace(relation));
        if name.is_null() || schema.is_null() {
            return ptr::null();
        }
        sys::quote_qualified_identifier(schema, name).cast_const()
    })?;
    // Names of ours are ASCII; the target schema's may be anything, and goes back as it came.
    let bytes = datum::from_c(name).unwrap_or_default();
    Ok(String::from_utf8(bytes).unwrap_or_else(|e| {
        // SAFETY: only passed on as bytes to the parser, which reads the database's encoding.
        unsafe { String::from_utf8_unchecked(e.into_bytes()) }
    }))
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
    // SAFETY: opens a scan of a shared catalog, closed below.
    let scan = protect(|| unsafe { sys::mw_databases_begin() })?;
    let mut found = Vec::new();
    loop {
        // SAFETY: all-zero is a valid value of this plain struct.
        let mut raw: sys::MwDatabase = unsafe { std::mem::zeroed() };
        let pointer = &raw mut raw;
        // SAFETY: the scan is open; the struct is filled if it answers true.
        if !protect(|| unsafe { sys::mw_databases_next(scan, pointer) })? {
            break;
        }
        let name = raw
            .name
            .iter()
            .take_while(|c| **c != 0)
            .map(|c| *c as u8)
            .collect();
        found.push(Database {
            oid: raw.oid,
            name,
            usable: raw.usable,
        });
    }
    // SAFETY: the scan is open.
    protect(|| unsafe { sys::mw_databases_end(scan) })?;
    Ok(found)
}

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
    // SAFETY: catalog look-ups.
    let code = protect(|| unsafe { sys::mw_role_barred(role, sys::MyDatabaseId) })?;
    Ok(match code {
        1 => Some(Barred::Gone),
        2 => Some(Barred::NoLogin),
        3 => Some(Barred::NoConnect),
        _ => None,
    })
}

/// Finds a function by its possibly qualified name and exact argument types, by the caller's
/// search path; `None` if there is none. Raises for a malformed name or a schema out of reach.
pub fn function(name: &[u8], arguments: &[Oid]) -> Result<Option<Oid>> {
    let name = datum::text_datum(name)?;
    let (types, count) = (arguments.as_ptr(), arguments.len() as i32);
    // SAFETY: the text and the types live for the call.
    let oid = protect(|| unsafe {
        let names = sys::textToQualifiedNameList(name as *mut sys::text);
        sys::LookupFuncName(names, count, types, true)
    })?;
    Ok((oid != 0).then_some(oid))
}

/// Finds a function by its name with argument types, as `regprocedure` reads it. Raises if there
/// is none.
pub fn function_with_types(signature: &[u8]) -> Result<Oid> {
    let signature = text(signature);
    let pointer = signature.as_ptr() as Datum;
    // SAFETY: the C string lives for the call.
    protect(|| unsafe {
        sys::DirectFunctionCall1Coll(Some(sys::regprocedurein), 0, pointer) as Oid
    })
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
}

/// Looks a function up by OID.
pub fn signature(function: Oid) -> Result<Signature> {
    // SAFETY: catalog look-ups of a function that was just found; the array is palloc'd.
    let (types, count, result, set, kind) = protect(|| unsafe {
        let (mut types, mut count) = (ptr::null_mut(), 0);
        let result = sys::get_func_signature(function, &mut types, &mut count);
        let set = sys::get_func_retset(function);
        (types, count, result, set, sys::get_func_prokind(function))
    })?;
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: the array has `count` elements.
    let arguments = (0..count).map(|i| unsafe { *types.add(i) }).collect();
    Ok(Signature {
        arguments,
        result,
        returns_set: set,
        is_function: kind as u8 == b'f',
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
    protect(|| unsafe { sys::mw_may_execute(function, role) })
}

/// Whether `role` owns the database or is a superuser.
pub fn owns_database(database: Oid, role: Oid) -> Result<bool> {
    // SAFETY: a catalog look-up.
    protect(|| unsafe { sys::mw_owns_database(database, role) })
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
