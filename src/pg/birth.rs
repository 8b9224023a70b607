//! Where this database is at home: what CREATE EXTENSION wrote down, and whether it still is true.
//!
//! The number stands in the body of the function `my_worker_internal.birth()`, beside what the database
//! was then. Neither a dump nor logical replication carries what a function of an extension says. A standby,
//! pg_upgrade and every copy of the files carry it, and what the database was tells these apart
//! (`logic::home`).

use std::ffi::CStr;
use std::ptr;

use super::datum::Oid;
use super::error::Result;
use super::guard::protect;
use super::local::Local;
use super::syscache;
pub use crate::logic::home::Moved;
use crate::logic::home::{Identity, parse};
use crate::sys;

/// The home that is written down.
#[derive(Clone, Copy)]
pub struct Birth {
    /// Its number; 0: none is.
    pub home: i64,
    /// What has become of the database since.
    pub moved: Option<Moved>,
}

impl Birth {
    /// The home of this database; 0 while that is not settled, since the database has moved.
    pub fn home(&self) -> i64 {
        match self.moved {
            None => self.home,
            Some(_) => 0,
        }
    }
}

/// See [`home`].
static HOME: Local<i64> = Local::new(0);

/// The home of this database as of the last look for the extension; 0: none is settled.
pub fn home() -> i64 {
    HOME.get()
}

/// What this database is now.
fn now(extension: Oid, schema: Oid) -> Result<Identity> {
    // SAFETY: reads what the server read from its control file, and a variable of this process.
    let (system, database) = unsafe { (sys::GetSystemIdentifier(), sys::MyDatabaseId) };
    Ok(Identity {
        system,
        extension,
        caller: function(c"caller", schema)?,
        major: sys::PG_VERSION_NUM / 10_000,
        database,
    })
}

/// What `my_worker_internal.identity()` answers: what this database is now.
pub fn identity_text() -> Result<String> {
    // SAFETY: catalog look-ups; 0 for what is not there.
    let (extension, schema) = protect(|| unsafe {
        let extension = sys::get_extension_oid(c"my_worker".as_ptr(), true);
        (extension, internal_schema())
    })?;
    Ok(now(extension, schema)?.text())
}

/// Reads what is written down, and compares it with what the database is now.
pub(super) fn read(extension: Oid) -> Result<Birth> {
    let birth = find(extension)?;
    HOME.set(birth.home());
    Ok(birth)
}

fn find(extension: Oid) -> Result<Birth> {
    let unknown = Birth {
        home: 0,
        moved: None,
    };
    // SAFETY: a catalog look-up.
    let schema = protect(|| unsafe { internal_schema() })?;
    let function = match schema {
        0 => 0,
        schema => function(c"birth", schema)?,
    };
    if function == 0 {
        return Ok(unknown);
    }
    let body = sys::Anum_pg_proc_prosrc;
    let found = syscache::find_with_text(function, body, |_: &sys::FormData_pg_proc| ())?;
    let body = found.map(|((), text)| text).unwrap_or_default();
    let Some((home, then)) = parse(&body) else {
        return Ok(unknown);
    };
    let moved = now(extension, schema)?.moved_since(&then);
    Ok(Birth { home, moved })
}

/// The schema of functions that only our own objects call.
unsafe fn internal_schema() -> Oid {
    // SAFETY: a catalog look-up in a transaction; 0 if there is none.
    unsafe { sys::get_namespace_oid(c"my_worker_internal".as_ptr(), true) }
}

/// A function without arguments, whoever may use its schema; 0 if there is none.
fn function(name: &'static CStr, schema: Oid) -> Result<Oid> {
    // SAFETY: a catalog look-up by name, argument types and schema.
    protect(|| unsafe {
        let arguments = sys::buildoidvector(ptr::null(), 0);
        sys::GetSysCacheOid(
            sys::PROCNAMEARGSNSP as i32,
            sys::Anum_pg_proc_oid as sys::AttrNumber,
            name.as_ptr() as sys::Datum,
            arguments as sys::Datum,
            schema as sys::Datum,
            0,
        )
    })
}
