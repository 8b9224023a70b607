//! Look-ups in the system catalogs: where our tables are, roles, databases, functions.

use std::ptr;

use super::datum::{self, Datum, Oid};
use super::error::{INSUFFICIENT_PRIVILEGE, PgError, Result};
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
    /// The owner of our tables: who our own statements run as.
    pub owner: Oid,
    /// `my_worker._jobs`
    pub jobs: Oid,
    /// Its primary key.
    pub jobs_key: Oid,
    /// The sequence of its ids.
    pub jobs_sequence: Oid,
    /// The index of the claim.
    pub claim_index: Oid,
    /// The index of what is due later, or not pending.
    pub later_index: Oid,
    /// `my_worker.history`
    pub history: Oid,
    /// `my_worker.queues`
    pub queues: Oid,
    /// Its primary key.
    pub queues_key: Oid,
    /// `my_worker._schedules`
    pub schedules: Oid,
    /// The view `my_queue` in the target schema: users' way to `_jobs`, never ours.
    pub door: Oid,
    /// Whether this library can work with its objects.
    pub fit: Fit,
}

/// Whether the extension's objects are those that this library was built for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// They are.
    Good,
    /// The script of another version has made them.
    OtherVersion,
    /// A table or an index is missing, or not what the script has made.
    Incomplete,
}

/// The tables of [`Extension::tables`], as statements name them.
pub const TABLES: [&str; 4] = [
    "my_worker._jobs",
    "my_worker.history",
    "my_worker.queues",
    "my_worker._schedules",
];

impl Extension {
    /// Our tables, whose rows only our own code and their owner change, in the order of [`TABLES`].
    pub fn tables(&self) -> [Oid; 4] {
        [self.jobs, self.history, self.queues, self.schedules]
    }

    /// Whether jobs can run.
    pub fn is_current(&self) -> bool {
        self.fit == Fit::Good
    }
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
    // It may have gone, or changed, while we waited.
    Ok(extension()?.filter(|now| now.oid == found.oid && now.is_current()))
}

/// An extension that this session keeps, over any number of transactions.
pub struct Held(());

/// Keeps the extension like [`hold_extension`], but until [`release_extension`], or the session's end.
pub fn hold_extension_on() -> Result<Option<Held>> {
    let Some(found) = hold_extension()? else {
        return Ok(None);
    };
    // SAFETY: takes a heavyweight lock that this transaction has already.
    protect(|| unsafe { sys::mw_hold_object_on(sys::ExtensionRelationId, found.oid) })?;
    Ok(Some(Held(())))
}

/// Gives it up.
pub fn release_extension(_held: Held) -> Result<()> {
    // SAFETY: releases the lock if the session has it still.
    protect(|| unsafe { sys::mw_release_object() })
}

/// The number of changes as of which our tables were found to be ours alone.
static TRUSTED: Local<Option<u64>> = Local::new(None);

/// Before a statement of ours writes to some of our tables: locks these until the transaction ends,
/// so that nobody hangs anything more on them, and refuses to go on if a trigger of anybody but their
/// owner or a superuser hangs on one, since it would run with our rights. 42501 then.
pub fn trust(extension: &Extension, writes: impl Fn(usize) -> bool) -> Result<()> {
    let tables = extension.tables();
    for (_, table) in tables.iter().enumerate().filter(|(i, _)| writes(*i)) {
        let table = *table;
        // SAFETY: takes a lock in an open transaction; raises on deadlock or cancel.
        protect(|| unsafe { sys::LockRelationOid(table, sys::RowExclusiveLock as i32) })?;
    }
    if TRUSTED.get() == Some(changes()) {
        return Ok(());
    }
    let seen = changes();
    let owner = extension.owner;
    for (name, table) in TABLES.iter().zip(tables) {
        // SAFETY: opens the table and reads its description; NULL, or the name of a trigger, copied.
        let strange = protect(|| unsafe { sys::mw_strange_trigger(table, owner).cast_const() })?;
        if let Some(trigger) = datum::from_c(strange) {
            let message = [
                b"trigger \"",
                trigger.as_slice(),
                b"\" on table \"",
                name.as_bytes(),
                b"\" is not its owner's",
            ];
            return Err(PgError::new(INSUFFICIENT_PRIVILEGE, message.concat())
                .detail("It would run with the rights of the owner of extension \"my_worker\".")
                .hint("Drop the trigger."));
        }
    }
    TRUSTED.set(Some(seen));
    Ok(())
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
        let indexes = [
            0,
            e.claim_index,
            e.later_index,
            e.jobs_key,
            e.queues_key,
            e.door,
        ];
        indexes.contains(&relation) || e.tables().contains(&relation)
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
    let is_ours = |class, object| is_member(class, object, oid);
    if oid == 0 || own == 0 || !is_ours(sys::NamespaceRelationId, own)? {
        return Ok(None);
    }
    let mut found = Extension {
        oid,
        owner: 0,
        jobs: relation(c"_jobs", own)?,
        jobs_key: relation(c"_jobs_pkey", own)?,
        jobs_sequence: relation(c"_jobs_id_seq", own)?,
        claim_index: relation(c"_jobs_claim_idx", own)?,
        later_index: relation(c"_jobs_later_idx", own)?,
        history: relation(c"history", own)?,
        queues: relation(c"queues", own)?,
        queues_key: relation(c"queues_pkey", own)?,
        schedules: relation(c"_schedules", own)?,
        door: relation(c"my_queue", target)?,
        fit: Fit::Good,
    };
    // Version 1.0 has no `_jobs`.
    found.owner = match (found.jobs, found.queues) {
        (_, 0) => 0,
        (0, queues) => owner_of(queues)?,
        (jobs, _) => owner_of(jobs)?,
    };
    // An extension script that is still running has not created them all.
    if found.owner == 0 {
        return Ok(None);
    }
    found.fit = fit(&found, datum::from_c(version).as_deref())?;
    Ok(Some(found))
}

/// Whether the tables are ours and have the indexes that this library scans.
fn fit(found: &Extension, version: Option<&[u8]>) -> Result<Fit> {
    if version != Some(SQL_VERSION) {
        return Ok(Fit::OtherVersion);
    }
    for table in found.tables() {
        if table == 0 || !is_member(sys::RelationRelationId, table, found.oid)? {
            return Ok(Fit::Incomplete);
        }
    }
    let indexes = [
        (found.jobs_key, found.jobs),
        (found.claim_index, found.jobs),
        (found.queues_key, found.queues),
    ];
    for (index, table) in indexes {
        // SAFETY: a catalog look-up; false for what is no index.
        if !protect(|| unsafe { sys::mw_is_valid_index_of(index, table) })? {
            return Ok(Fit::Incomplete);
        }
    }
    Ok(Fit::Good)
}

/// Whether an object belongs to an extension.
fn is_member(class: Oid, object: Oid, extension: Oid) -> Result<bool> {
    // SAFETY: a catalog look-up; 0 if it belongs to none.
    protect(|| unsafe { sys::getExtensionOfObject(class, object) == extension })
}

/// The owner of a table, 0 if the table is gone.
fn owner_of(table: Oid) -> Result<Oid> {
    // SAFETY: answers NULL if the table is gone meanwhile.
    protect(|| unsafe {
        let relation = sys::try_relation_open(table, sys::AccessShareLock as i32);
        if relation.is_null() {
            return 0;
        }
        let owner = sys::mw_relation_owner(relation);
        sys::table_close(relation, sys::AccessShareLock as i32);
        owner
    })
}

fn relation(name: &'static std::ffi::CStr, namespace: Oid) -> Result<Oid> {
    // SAFETY: a catalog look-up.
    protect(|| unsafe { sys::get_relname_relid(name.as_ptr(), namespace) })
}

/// Whether a relation belongs to the extension, an index of its tables included.
pub fn is_own_relation(extension: &Extension, relation: Oid) -> Result<bool> {
    // SAFETY: catalog look-ups; 0 for what is gone.
    let (own, of) = protect(|| unsafe {
        (
            sys::get_namespace_oid(NAME.as_ptr(), true),
            sys::get_rel_namespace(relation),
        )
    })?;
    if own != 0 && own == of {
        return Ok(true);
    }
    is_member(sys::RelationRelationId, relation, extension.oid)
}

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

/// Finds a function by its name with argument types, as `regprocedure` reads it; `None` if there is
/// none. Raises for what cannot be read.
pub fn function_with_types(signature: &[u8]) -> Result<Option<Oid>> {
    let signature = datum::text_datum(signature)?;
    // SAFETY: the text lives for the call.
    let oid = protect(|| unsafe { sys::mw_routine_with_types(signature as *mut sys::text) })?;
    Ok((oid != 0).then_some(oid))
}

/// What the server says of a function that [`function_with_types`] did not find. The transaction has
/// an error then: nothing but its end may follow.
pub fn why_no_function(signature: &[u8]) -> Result<()> {
    let signature = text(signature);
    let pointer = signature.as_ptr() as Datum;
    // SAFETY: the C string lives for the call.
    protect(|| unsafe {
        sys::DirectFunctionCall1Coll(Some(sys::regprocedurein), 0, pointer);
    })
}

/// Kind, name and argument types of a function or its like, as in `a procedure app.f(jsonb)`.
pub fn describe_routine(routine: Oid) -> Result<Vec<u8>> {
    // SAFETY: a catalog look-up; NULL if it is gone meanwhile.
    let text = protect(|| unsafe { sys::mw_describe_routine(routine).cast_const() })?;
    Ok(datum::from_c(text).unwrap_or_default())
}

/// The same of each that has this name, whatever its arguments: up to `most` of them, in one text;
/// `None` if there is none. Raises for a malformed name or a schema out of reach.
pub fn routines_named(name: &[u8], most: i32) -> Result<Option<Vec<u8>>> {
    let name = datum::text_datum(name)?;
    // SAFETY: the text lives for the call; NULL if there is none.
    let list =
        protect(|| unsafe { sys::mw_routines_named(name as *mut sys::text, most).cast_const() })?;
    Ok(datum::from_c(list))
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
    let (types, count, result, set, kind, owner, temporary) = protect(|| unsafe {
        let (mut types, mut count) = (ptr::null_mut(), 0);
        let result = sys::get_func_signature(function, &mut types, &mut count);
        let set = sys::get_func_retset(function);
        let kind = sys::get_func_prokind(function);
        let temporary = sys::isAnyTempNamespace(sys::get_func_namespace(function));
        let owner = sys::mw_function_owner(function);
        (types, count, result, set, kind, owner, temporary)
    })?;
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
