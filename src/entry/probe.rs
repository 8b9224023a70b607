//! A probe of the boundary, for the tests: no SQL object of the extension refers to it, and only a
//! superuser can declare it. Each way of failing must leave the session and the server as they
//! were, with every Rust value dropped.

use crate::pg::datum::{self, Datum, ToDatum};
use crate::pg::error::{INVALID_PARAMETER_VALUE, PgError, Result, SqlState};
use crate::pg::fmgr::Call;
use crate::pg::local::Local;
use crate::pg::{bgworker, guard, latch, memcx, xact};
use crate::sys;

/// How many guards have been dropped in this session.
static DROPPED: Local<i32> = Local::new(0);

struct CountsItsDrop;

impl Drop for CountsItsDrop {
    fn drop(&mut self) {
        DROPPED.with(|count| *count += 1);
    }
}

/// The record of a version-1 function.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_finfo_mw_probe() -> *const sys::Pg_finfo_record {
    static RECORD: sys::Pg_finfo_record = sys::Pg_finfo_record { api_version: 1 };
    &raw const RECORD
}

/// `mw_probe(text) returns integer`: fails as asked, or answers how many guards were dropped.
///
/// # Safety
/// Called by the function manager alone.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn mw_probe(info: sys::FunctionCallInfo) -> sys::Datum {
    let outcome = guard::enter(0, || {
        // SAFETY: the server passes the running call.
        let call = unsafe { Call::new(info) };
        probe(&call).map(|value| call.give(Some(value)))
    });
    // SAFETY: this frame owns nothing.
    unsafe { guard::raise(outcome) }
}

fn probe(call: &Call) -> Result<Datum<'static>> {
    let what = call
        .arg(0)
        .map(datum::as_text)
        .transpose()?
        .unwrap_or_default();
    let _guard = CountsItsDrop;
    match what.as_slice() {
        b"dropped" => return Ok(DROPPED.get().datum()),
        b"panic" => return Ok(fail_by_division(DROPPED.get().min(0)).datum()),
        b"index" => return Ok(fail_by_index(what.len()).datum()),
        b"error" => error_of_the_server()?,
        b"allocation" => memcx::allocate_and_free(usize::MAX / 2)?,
        b"caught" => {
            // An ERROR becomes a value; the subtransaction's end cleans up after it.
            let caught = xact::subtransaction(error_of_the_server).err();
            return Ok(
                i32::from(caught.is_some_and(|e| e.sqlstate == SqlState::new(b"22P02"))).datum(),
            );
        }
        b"crash" => bgworker::signal(bgworker::my_pid(), libc::SIGSEGV),
        b"no room" => memcx::leave_no_room().and_then(|()| error_of_the_server())?,
        b"no room for ours" => {
            memcx::leave_no_room()?;
            return Err(PgError::new(INVALID_PARAMETER_VALUE, "nobody sees this"));
        }
        b"panic at the end" => call.execution().at_end(|_| {
            fail_by_division(DROPPED.get().min(0));
        })?,
        b"interrupts" => latch::check_for_interrupts()?,
        _ => {
            return Err(PgError::new(INVALID_PARAMETER_VALUE, "unknown probe")
                .detail("detail of the probe")
                .hint("hint of the probe"));
        }
    }
    Ok(0i32.datum())
}

fn fail_by_division(zero: i32) -> i32 {
    1 / zero
}

#[allow(clippy::indexing_slicing)]
fn fail_by_index(length: usize) -> i32 {
    i32::from(b"short"[length])
}

/// An ERROR that the server itself raises, below several Rust frames with values to drop.
fn error_of_the_server() -> Result<()> {
    let _guard = CountsItsDrop;
    datum::jsonb_datum(b"{not json").map(|_| ())
}
