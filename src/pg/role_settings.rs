//! What ALTER ROLE ... SET and ALTER DATABASE ... SET say of a session.

use super::datum::Oid;
use super::error::Result;
use super::guard::protect;
use crate::sys;

/// A number that is another one when a new session of this role in this database would begin with
/// other settings. In a transaction.
pub fn fingerprint(role: Oid) -> Result<u64> {
    // SAFETY: reads a shared catalog in an open transaction; may raise.
    protect(|| unsafe { sys::mw_role_settings(sys::MyDatabaseId, role) })
}
