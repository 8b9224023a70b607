//! CatalogScan of the system catalogs: by the server's caches, and by scans of catalogs that have none.
//!
//! The structs of the server describe the columns of fixed width at the start of a row; each is tied
//! to its catalog here, so that no row is read as one of another catalog. In a transaction.

use std::marker::PhantomData;
use std::ptr;

use super::datum::{Datum, Oid};
use super::error::Result;
use super::guard::protect;
use crate::sys;

/// The fixed columns of a catalog with a cache.
///
/// # Safety
/// The rows in that cache begin with such a struct.
pub(super) unsafe trait Cached {
    /// The cache.
    const CACHE: sys::SysCacheIdentifier;
}

/// The fixed columns of a catalog that is scanned by its OID column.
///
/// # Safety
/// The rows of the catalog begin with such a struct, and the index is on its column `oid`.
pub(super) unsafe trait Scanned {
    /// The catalog.
    const CATALOG: Oid;
    /// Its index on `oid`.
    const INDEX: Oid;
}

macro_rules! cached {
    ($($form:ident = $cache:ident),* $(,)?) => {
        $(
            // SAFETY: cache and struct are of the catalog that both are named for (syscache.c).
            unsafe impl Cached for sys::$form {
                const CACHE: sys::SysCacheIdentifier = sys::$cache;
            }
        )*
    };
}

macro_rules! scanned {
    ($($form:ident = $catalog:ident, $index:ident);* $(;)?) => {
        $(
            // SAFETY: all three are declared in the header of one catalog.
            unsafe impl Scanned for sys::$form {
                const CATALOG: Oid = sys::$catalog;
                const INDEX: Oid = sys::$index;
            }
        )*
    };
}

cached! {
    FormData_pg_attribute = ATTNUM,
    FormData_pg_authid = AUTHOID,
    FormData_pg_class = RELOID,
    FormData_pg_index = INDEXRELID,
    FormData_pg_proc = PROCOID,
}

scanned! {
    FormData_pg_constraint = ConstraintRelationId, ConstraintOidIndexId;
    FormData_pg_database = DatabaseRelationId, DatabaseOidIndexId;
    FormData_pg_extension = ExtensionRelationId, ExtensionOidIndexId;
    FormData_pg_proc = ProcedureRelationId, ProcedureOidIndexId;
    FormData_pg_policy = PolicyRelationId, PolicyOidIndexId;
    FormData_pg_rewrite = RewriteRelationId, RewriteOidIndexId;
    FormData_pg_trigger = TriggerRelationId, TriggerOidIndexId;
}

/// The columns of fixed width of a row: GETSTRUCT of the server.
///
/// # Safety
/// The tuple is a row of a catalog whose rows begin with `Form`, and outlives the reference.
unsafe fn form<'a, Form>(tuple: sys::HeapTuple) -> &'a Form {
    // SAFETY: the columns begin behind the header, as long as it says, and are aligned for the struct.
    unsafe {
        let header = (*tuple).t_data;
        &*header
            .byte_add(usize::from((*header).t_hoff))
            .cast::<Form>()
    }
}

/// Looks a row up by its OID and reads it; `None` if there is none.
pub(super) fn with_row<Form: Cached, R>(
    oid: Oid,
    read: impl FnOnce(&Form) -> R,
) -> Result<Option<R>> {
    with_row_of(oid, 0, read)
}

/// The same for a cache with two keys.
pub(super) fn with_row_of<Form: Cached, R>(
    oid: Oid,
    second: sys::Datum,
    read: impl FnOnce(&Form) -> R,
) -> Result<Option<R>> {
    let (cache, first) = (Form::CACHE as i32, oid as sys::Datum);
    // SAFETY: a catalog look-up; NULL if there is no such row.
    let tuple = protect(|| unsafe { sys::SearchSysCache(cache, first, second, 0, 0) })?;
    if tuple.is_null() {
        return Ok(None);
    }
    // SAFETY: a row of that cache, pinned until it is released below.
    let result = read(unsafe { form(tuple) });
    // SAFETY: as above.
    protect(|| unsafe { sys::ReleaseSysCache(tuple) })?;
    Ok(Some(result))
}

/// Which rows a scan sees.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sees {
    /// Those that are committed, or were written by commands of this transaction that have ended.
    Catalog,
    /// Also those that the command has written that is running.
    Running,
}

/// An open scan of a catalog. An error closes it with the (sub)transaction.
pub(super) struct CatalogScan<Form> {
    relation: sys::Relation,
    scan: sys::SysScanDesc,
    tuple: sys::HeapTuple,
    form: PhantomData<Form>,
}

impl<Form: Scanned> CatalogScan<Form> {
    /// All rows.
    pub fn all() -> Result<Self> {
        CatalogScan::begin(None, Sees::Catalog)
    }

    fn begin(oid: Option<Oid>, sees: Sees) -> Result<Self> {
        // SAFETY: opens the catalog and, for one row, its index; the scan copies the key.
        let (relation, scan) = protect(|| unsafe {
            let relation = sys::table_open(Form::CATALOG, sys::AccessShareLock as i32);
            let mut key: sys::ScanKeyData = std::mem::zeroed();
            sys::ScanKeyInit(
                &mut key,
                OID_COLUMN,
                sys::BTEqualStrategyNumber as sys::StrategyNumber,
                sys::F_OIDEQ,
                oid.unwrap_or(0) as sys::Datum,
            );
            let (keys, snapshot) = (i32::from(oid.is_some()), snapshot(sees));
            let (index, by_index) = (Form::INDEX, oid.is_some());
            let scan = sys::systable_beginscan(relation, index, by_index, snapshot, keys, &mut key);
            (relation, scan)
        })?;
        Ok(CatalogScan {
            relation,
            scan,
            tuple: ptr::null_mut(),
            form: PhantomData,
        })
    }

    /// The next row, if any.
    pub fn next(&mut self) -> Result<Option<&Form>> {
        let scan = self.scan;
        // SAFETY: the scan is open.
        self.tuple = protect(|| unsafe { sys::systable_getnext(scan) })?;
        if self.tuple.is_null() {
            return Ok(None);
        }
        // SAFETY: a row of that catalog, valid until the scan goes on or ends.
        Ok(Some(unsafe { form(self.tuple) }))
    }

    /// A column of the row that is current; `None` for NULL, or without a row.
    fn column(&self, number: u32) -> Result<Option<Datum<'_>>> {
        let (tuple, relation) = (self.tuple, self.relation);
        if tuple.is_null() {
            return Ok(None);
        }
        // SAFETY: a row of the catalog that is open, and a column of it.
        let (value, null) = protect(|| unsafe {
            let (mut null, description) = (true, (*relation).rd_att);
            let value = sys::mw_tuple_attr(tuple, number as i32, description, &mut null);
            let of = sys::mw_column_type(description, number as i32);
            (Datum::new(value, of), null)
        })?;
        Ok((!null).then_some(value))
    }

    /// Ends the scan.
    pub fn end(self) -> Result<()> {
        // SAFETY: scan and catalog are open.
        protect(|| unsafe {
            sys::systable_endscan(self.scan);
            sys::table_close(self.relation, sys::AccessShareLock as i32);
        })
    }
}

/// The column `oid` comes first in each catalog.
const OID_COLUMN: i16 = 1;

fn snapshot(sees: Sees) -> sys::Snapshot {
    match sees {
        Sees::Catalog => ptr::null_mut(),
        Sees::Running => &raw mut sys::SnapshotSelfData,
    }
}

/// Finds a row by its OID in a catalog that has no cache, and reads it.
pub(super) fn find<Form: Scanned, R>(
    oid: Oid,
    sees: Sees,
    read: impl FnOnce(&Form) -> R,
) -> Result<Option<R>> {
    let mut rows = CatalogScan::begin(Some(oid), sees)?;
    let result = rows.next()?.map(read);
    rows.end()?;
    Ok(result)
}

/// The same, with a column that is a text.
pub(super) fn find_with_text<Form: Scanned, R>(
    oid: Oid,
    column: u32,
    read: impl FnOnce(&Form) -> R,
) -> Result<Option<(R, Vec<u8>)>> {
    let mut rows = CatalogScan::begin(Some(oid), Sees::Catalog)?;
    let result = rows.next()?.map(read);
    let text = rows
        .column(column)?
        .map(super::datum::as_text)
        .transpose()?;
    rows.end()?;
    Ok(result.map(|result| (result, text.unwrap_or_default())))
}

/// A name of the server as bytes.
pub(super) fn name(name: &sys::NameData) -> Vec<u8> {
    let bytes = name.data.iter().map(|c| *c as u8);
    bytes.take_while(|c| *c != 0).collect()
}
