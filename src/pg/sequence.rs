//! Sequences by OID.

use super::datum::Oid;
use super::error::{OBJECT_NOT_IN_PREREQUISITE_STATE, Result};
use super::guard::protect;
use super::identity;
use crate::sys;

/// What this session drew last from a sequence that `owner` owns; `None` if it has drawn nothing. After
/// `None` nothing but an error of the caller's may follow.
pub fn last_drawn(sequence: Oid, owner: Oid) -> Result<Option<i64>> {
    let drawn = identity::with_rights_of(owner, || {
        // SAFETY: currval_oid takes one OID.
        protect(|| unsafe {
            sys::DirectFunctionCall1Coll(Some(sys::currval_oid), 0, sequence as sys::Datum)
        })
    });
    match drawn {
        Ok(value) => Ok(Some(value as i64)),
        Err(error) if error.sqlstate == OBJECT_NOT_IN_PREREQUISITE_STATE => Ok(None),
        Err(error) => Err(error),
    }
}

/// The next number of a sequence of ours, whoever asks (sequence.c).
pub fn next(sequence: Oid) -> Result<i64> {
    // SAFETY: raises if the sequence is gone or at its end, and where nothing may be written.
    protect(|| unsafe { sys::nextval_internal(sequence, false) })
}
