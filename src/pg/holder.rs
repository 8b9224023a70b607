//! Who keeps others from a row version.

use std::ptr;

use super::error::Result;
use super::guard::protect;
use super::table::{RowId, Table};
use crate::sys;

/// FirstNormalTransactionId (access/transam.h)
const FIRST_TRANSACTION: u32 = 3;

/// Who keeps others from a row.
#[derive(Clone, Copy)]
pub struct Holder {
    /// The transaction or subtransaction.
    pub transaction: u32,
    /// Its process; 0 if it is prepared, or has just ended.
    pub pid: i32,
    /// What it has done.
    pub deed: Deed,
}

/// What keeps others from a row version.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// It was locked.
    Locked,
    /// There is a newer version.
    Replaced,
    /// It was deleted.
    Deleted,
}

impl Table {
    /// The transaction that has a row version locked, changed or deleted, if it is another one and
    /// still open.
    pub fn holder(&self, id: RowId) -> Result<Option<Holder>> {
        let (relation, mut tid) = (self.relation, id.0);
        let (mut is_multi, mut only_locked, mut is_replaced) = (false, false, false);
        let tid = &raw mut tid;
        let (multi, locked) = (&raw mut is_multi, &raw mut only_locked);
        let replaced = &raw mut is_replaced;
        // SAFETY: the table is open, and the row was read from it under a snapshot that is active.
        let xmax = protect(|| unsafe { sys::mw_row_xmax(relation, tid, multi, locked, replaced) })?;
        let transaction = match is_multi {
            true => member_that_goes_on(xmax, only_locked)?,
            false if goes_on(xmax)? => xmax,
            false => return Ok(None),
        };
        if transaction == 0 {
            return Ok(None);
        }
        // SAFETY: looks a transaction up that was open just now; 0 if it has no process.
        let pid = protect(|| unsafe {
            sys::BackendXidGetPid(sys::SubTransGetTopmostTransaction(transaction))
        })?;
        let deed = match (only_locked, is_replaced) {
            (true, _) => Deed::Locked,
            (false, true) => Deed::Replaced,
            (false, false) => Deed::Deleted,
        };
        Ok(Some(Holder {
            transaction,
            pid,
            deed,
        }))
    }
}

/// Whether a transaction, other than this one, is open.
fn goes_on(transaction: u32) -> Result<bool> {
    // SAFETY: looks it up in shared memory and in the log of subtransactions.
    protect(|| unsafe {
        transaction >= FIRST_TRANSACTION
            && !sys::TransactionIdIsCurrentTransactionId(transaction)
            && sys::TransactionIdIsInProgress(transaction)
    })
}

/// A transaction, other than this one, that is open and has a part in a multixact; 0 if none is.
fn member_that_goes_on(multixact: u32, only_locked: bool) -> Result<u32> {
    // SAFETY: the multixact stands in a row; answers an array of so many members in the current memory.
    let (members, count) = protect(|| unsafe {
        let mut members = ptr::null_mut();
        let count = sys::GetMultiXactIdMembers(multixact, &mut members, false, only_locked);
        (members.cast_const(), usize::try_from(count).unwrap_or(0))
    })?;
    for index in 0..count {
        // SAFETY: as above.
        let member = unsafe { (*members.add(index)).xid };
        if goes_on(member)? {
            return Ok(member);
        }
    }
    Ok(0)
}
