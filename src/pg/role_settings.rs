//! What ALTER ROLE ... SET and ALTER DATABASE ... SET say of a session.

use super::datum::Oid;
use super::error::Result;
use super::guard::protect;
use crate::sys;

/// A number that is another one when a new session of this role in this database would begin with
/// other settings (the rows of process_settings, postinit.c). In a transaction. A catalog without pages,
/// the usual case, costs next to nothing.
pub fn fingerprint(role: Oid) -> Result<u64> {
    // SAFETY: a variable of this process; the catalog stays open until it is closed below.
    let (database, catalog, pages) = protect(|| unsafe {
        let lock = sys::AccessShareLock as i32;
        let catalog = sys::table_open(sys::DbRoleSettingRelationId, lock);
        let pages = sys::RelationGetNumberOfBlocksInFork(catalog, sys::MAIN_FORKNUM);
        (sys::MyDatabaseId, catalog, pages)
    })?;
    let mut sum = 0;
    if pages > 0 {
        for (database, role) in [(database, role), (0, role), (database, 0), (0, 0)] {
            sum = with_row(catalog, database, role, sum)?;
        }
    }
    // SAFETY: the catalog is open.
    protect(|| unsafe { sys::table_close(catalog, sys::AccessShareLock as i32) })?;
    Ok(sum)
}

/// The sum with the bytes of the row for this pair, if there is one.
fn with_row(catalog: sys::Relation, database: Oid, role: Oid, sum: u64) -> Result<u64> {
    // SAFETY: the catalog is open, and its index is on these two columns of type oid; a row is its header,
    // as long as it says, and its data up to its length.
    protect(|| unsafe {
        let mut keys: [sys::ScanKeyData; 2] = std::mem::zeroed();
        let [first, second] = &mut keys;
        let strategy = sys::BTEqualStrategyNumber as sys::StrategyNumber;
        let column = sys::Anum_pg_db_role_setting_setdatabase as i16;
        sys::ScanKeyInit(
            first,
            column,
            strategy,
            sys::F_OIDEQ,
            database as sys::Datum,
        );
        let column = sys::Anum_pg_db_role_setting_setrole as i16;
        sys::ScanKeyInit(second, column, strategy, sys::F_OIDEQ, role as sys::Datum);
        let (index, snapshot) = (sys::DbRoleSettingDatidRolidIndexId, std::ptr::null_mut());
        let scan = sys::systable_beginscan(catalog, index, true, snapshot, 2, keys.as_mut_ptr());
        let mut sum = sum;
        loop {
            let row = sys::systable_getnext(scan).as_ref();
            let Some(row) = row else { break };
            let offset = (*row.t_data).t_hoff;
            let data = row.t_data.cast::<u8>().add(usize::from(offset));
            let length = row.t_len - u32::from(offset);
            sum = sys::hash_bytes_extended(data, length as i32, sum.wrapping_add(1));
        }
        sys::systable_endscan(scan);
        sum
    })
}
