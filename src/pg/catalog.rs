//! The extension in this database: where its objects are, whether this library fits them, and whether
//! they have changed.

use std::ffi::CStr;

use super::birth::{self, Birth};
use super::columns::{self, Altered};
use super::datum::{self, Oid};
use super::error::{INSUFFICIENT_PRIVILEGE, PgError, Result};
use super::guard::protect;
use super::local::Local;
pub use super::lookup::{
    Barred, Database, barred, completed_transactions, current_database, database_oid, databases,
    describe_routine, function, function_exists, function_name, function_with_types,
    is_for_the_server, may_execute, owns_database, relation_name, routines_named, signature,
    why_no_function,
};
use super::{hold, lookup, syscache, triggers};
use crate::logic::columns::{TABLE_COUNT, TABLE_NAMES};
use crate::sys;

/// The name of the extension, and of its schema.
const NAME: &CStr = c"my_worker";
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
    /// The indexes of jobs with a key: by id within status, and in the order of the claim.
    pub key_indexes: [Oid; 2],
    /// The index of unique keys; 0 if somebody has dropped it.
    pub unique_index: Oid,
    /// The indexes of jobs and schedules of other homes.
    pub strangers: [Oid; 2],
    /// `my_worker.history`
    pub history: Oid,
    /// `my_worker.queues`
    pub queues: Oid,
    /// Its primary key.
    pub queues_key: Oid,
    /// `my_worker._schedules`
    pub schedules: Oid,
    /// `my_worker._consumers`
    pub consumers: Oid,
    /// Its primary key.
    pub consumers_key: Oid,
    /// `my_worker._dependencies`
    pub dependencies: Oid,
    /// `my_worker._expiring`
    pub expiring: Oid,
    /// Its primary key.
    pub expiring_key: Oid,
    /// Where this database is at home.
    pub birth: Birth,
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
    /// A column of a table is not as the script has made it.
    Altered(Altered),
}

/// The tables of [`Extension::tables`], as statements name them.
pub const TABLES: [&str; TABLE_COUNT] = TABLE_NAMES;

impl Extension {
    /// Our tables, whose rows only our own code and their owner change, in the order of [`TABLES`].
    pub fn tables(&self) -> [Oid; TABLE_COUNT] {
        [
            self.jobs,
            self.history,
            self.queues,
            self.schedules,
            self.consumers,
            self.dependencies,
            self.expiring,
        ]
    }

    /// Whether jobs can run.
    pub fn is_current(&self) -> bool {
        self.fit == Fit::Good
    }
}

/// So often the extension is looked for while catalogs change. Then the answer of the last look counts, once.
const MOST_LOOKS: usize = 10;

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
    let mut found = None;
    // Each of its look-ups sees the catalogs of its own moment: what changed meanwhile is looked at again.
    for _ in 0..MOST_LOOKS {
        let seen = changes();
        found = find_extension()?;
        // SAFETY: in a transaction; has the callbacks below hear of what others have committed.
        protect(|| unsafe { sys::AcceptInvalidationMessages() })?;
        if changes() == seen {
            CACHED.set(found);
            break;
        }
    }
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
    hold::take(NAME, found.oid)?;
    Ok(Some(Held(())))
}

/// Gives it up.
pub fn release_extension(_held: Held) -> Result<()> {
    hold::release()
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
        if let Some(trigger) = triggers::strange(table, owner)? {
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

/// Refuses to go on where a column of our tables is not as it was made, as far as this process has heard.
/// Costs next to nothing until it hears of a change.
pub fn refuse_altered() -> Result<()> {
    match extension()?.map(|extension| extension.fit) {
        Some(Fit::Altered(altered)) => Err(altered.error()),
        _ => Ok(()),
    }
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

unsafe extern "C-unwind" fn on_relation_change(_: sys::Datum, relation: Oid) {
    let ours = CACHED.get().is_none_or(|e| {
        let indexes = [
            0,
            e.claim_index,
            e.later_index,
            e.unique_index,
            e.jobs_key,
            e.queues_key,
        ];
        indexes.contains(&relation)
            || e.door == relation
            || e.strangers.contains(&relation)
            || e.key_indexes.contains(&relation)
            || e.tables().contains(&relation)
    });
    if ours {
        forget();
    }
}

fn forget() {
    CACHED.set(None);
    CHANGES.set(CHANGES.get().wrapping_add(1));
}

unsafe extern "C-unwind" fn on_namespace_change(_: sys::Datum, _: i32, _: u32) {
    forget();
}

unsafe extern "C-unwind" fn on_name_change(_: sys::Datum, _: i32, _: u32) {
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

/// A number that is another one once this process has heard of a change of functions, types, schemas,
/// or of what a role may do.
pub fn name_changes() -> u64 {
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
    let (oid, own) = protect(|| unsafe {
        let oid = sys::get_extension_oid(NAME.as_ptr(), true);
        (oid, sys::get_namespace_oid(NAME.as_ptr(), true))
    })?;
    let is_ours = |class, object| is_member(class, object, oid);
    if oid == 0 || own == 0 || !is_ours(sys::NamespaceRelationId, own)? {
        return Ok(None);
    }
    let schema = |row: &sys::FormData_pg_extension| row.extnamespace;
    let version_column = sys::Anum_pg_extension_extversion;
    let Some((target, version)) = syscache::find_with_text(oid, version_column, schema)? else {
        return Ok(None);
    };
    let mut found = Extension {
        oid,
        owner: 0,
        jobs: relation(c"_jobs", own)?,
        jobs_key: relation(c"_jobs_pkey", own)?,
        jobs_sequence: relation(c"_jobs_id_seq", own)?,
        claim_index: relation(c"_jobs_claim_idx", own)?,
        later_index: relation(c"_jobs_later_idx", own)?,
        key_indexes: [
            relation(c"_jobs_key_idx", own)?,
            relation(c"_jobs_key_order_idx", own)?,
        ],
        unique_index: relation(c"_jobs_unique_key_idx", own)?,
        strangers: [
            relation(c"_jobs_strangers_idx", own)?,
            relation(c"_schedules_strangers_idx", own)?,
        ],
        history: relation(c"history", own)?,
        queues: relation(c"queues", own)?,
        queues_key: relation(c"queues_pkey", own)?,
        schedules: relation(c"_schedules", own)?,
        consumers: relation(c"_consumers", own)?,
        consumers_key: relation(c"_consumers_pkey", own)?,
        dependencies: relation(c"_dependencies", own)?,
        expiring: relation(c"_expiring", own)?,
        expiring_key: relation(c"_expiring_pkey", own)?,
        birth: birth::read(oid)?,
        door: relation(c"my_queue", target)?,
        fit: Fit::Good,
    };
    // Version 1.0 has no `_jobs`.
    found.owner = match (found.jobs, found.queues) {
        (_, 0) => 0,
        (0, queues) => lookup::owner_of(queues)?,
        (jobs, _) => lookup::owner_of(jobs)?,
    };
    // An extension script that is still running has not created them all.
    if found.owner == 0 {
        return Ok(None);
    }
    found.fit = fit(&found, &version)?;
    Ok(Some(found))
}

/// Whether the tables are ours and have the indexes that this library scans.
fn fit(found: &Extension, version: &[u8]) -> Result<Fit> {
    if version != SQL_VERSION {
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
        (found.consumers_key, found.consumers),
        (found.key_indexes[0], found.jobs),
        (found.key_indexes[1], found.jobs),
        (found.strangers[0], found.jobs),
        (found.strangers[1], found.schedules),
    ];
    for (index, table) in indexes {
        if !is_valid_index_of(index, table)? {
            return Ok(Fit::Incomplete);
        }
    }
    let altered = columns::find_altered(found.tables())?;
    Ok(altered
        .first()
        .map_or(Fit::Good, |first| Fit::Altered(*first)))
}

/// Whether an object belongs to an extension.
pub(super) fn is_member(class: Oid, object: Oid, extension: Oid) -> Result<bool> {
    // SAFETY: a catalog look-up; 0 if it belongs to none.
    protect(|| unsafe { sys::getExtensionOfObject(class, object) == extension })
}

/// Whether that is an index of that table, and can be scanned.
fn is_valid_index_of(index: Oid, table: Oid) -> Result<bool> {
    let is_valid = |row: &sys::FormData_pg_index| {
        row.indrelid == table && row.indisvalid && row.indisready && row.indislive
    };
    Ok(syscache::with_row(index, is_valid)?.unwrap_or(false))
}

fn relation(name: &'static CStr, namespace: Oid) -> Result<Oid> {
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
