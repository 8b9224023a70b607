//! Arming faults, in builds with the feature `faults` alone: a test declares the function.

use crate::pg::datum::{self, Datum};
use crate::pg::error::Result;
use crate::pg::fault;
use crate::pg::fmgr::Call;
use crate::pg::guard;
use crate::sys;

/// The record of a version-1 function.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_finfo_mw_fault() -> *const sys::Pg_finfo_record {
    static RECORD: sys::Pg_finfo_record = sys::Pg_finfo_record { api_version: 1 };
    &raw const RECORD
}

/// `mw_fault(text) returns text`: see `fault::command`.
///
/// # Safety
/// Called by the function manager alone.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn mw_fault(info: sys::FunctionCallInfo) -> sys::Datum {
    let outcome = guard::enter(0, || {
        // SAFETY: the server passes the running call.
        let call = unsafe { Call::new(info) };
        answer(&call).map(|value| call.give(Some(value)))
    });
    // SAFETY: this frame owns nothing.
    unsafe { guard::raise(outcome) }
}

fn answer(call: &Call) -> Result<Datum<'static>> {
    let words = call.arg(0).map(datum::as_text).transpose()?;
    let words = String::from_utf8_lossy(&words.unwrap_or_default()).into_owned();
    datum::text_datum(fault::command(&words)?.as_bytes())
}
