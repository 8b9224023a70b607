//! The crossing, each way once.
//!
//! `protect` is Rust calling the server: an ERROR comes back as `Err(PgError)`. Its closure is one
//! call on `Copy` values, holds nothing with a destructor and does not panic, since the server may
//! jump over its frame.
//!
//! `enter` is the server calling Rust: an `Err` or a panic is turned into a report in the server's
//! own memory, every Rust value is dropped, and only then does the caller's frame, which owns
//! nothing, raise it (`raise`). FATAL never comes back: what must happen then belongs into
//! `before_shmem_exit`, not into `Drop`.
//!
//! After an `Err` from `protect` only the end of the (sub)transaction may follow, see
//! `xact::subtransaction`; the server's locks and pins are released by it and by nothing else.

use std::any::Any;
use std::ffi::CString;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use libc::c_void;

use super::error::{OUT_OF_MEMORY, PgError, Result};
use super::local::Local;
use crate::sys;

struct Crossing<F, R> {
    call: F,
    result: MaybeUninit<R>,
}

unsafe extern "C-unwind" fn trampoline<F: FnOnce() -> R + Copy, R: Copy>(arg: *mut c_void) {
    // SAFETY: `protect` passes its own Crossing<F, R>, alive for the whole call.
    let crossing = unsafe { &mut *arg.cast::<Crossing<F, R>>() };
    crossing.result.write((crossing.call)());
}

/// Calls the server; about 15 ns more than a bare call. Switches no context: the memory context
/// that was current is current again, also after an error.
pub fn protect<F, R>(call: F) -> Result<R>
where
    F: FnOnce() -> R + Copy,
    R: Copy,
{
    let mut crossing = Crossing {
        call,
        result: MaybeUninit::uninit(),
    };
    // SAFETY: the trampoline gets the Crossing it was made for; mw_try returns NULL only if the
    // call returned, and then the result was written.
    unsafe {
        let error = sys::mw_try(
            Some(trampoline::<F, R>),
            ptr::from_mut(&mut crossing).cast(),
        );
        if error.is_null() {
            Ok(crossing.result.assume_init())
        } else {
            Err(PgError::from_error_data(error))
        }
    }
}

/// What a call into Rust came to: a value, or a report to raise.
#[derive(Clone, Copy)]
pub struct Outcome<T: Copy> {
    /// The value; meaningless if there is a report.
    value: T,
    report: Report,
}

/// What [`raise`] raises.
#[derive(Clone, Copy)]
enum Report {
    None,
    /// A report in the server's memory.
    Made(*mut sys::ErrorData),
    /// There was no memory for one.
    NoMemory,
}

/// Runs `body` for the server. Never unwinds and never jumps; the caller then calls [`raise`] from
/// a frame that owns nothing.
pub fn enter<T: Copy>(fallback: T, body: impl FnOnce() -> Result<T>) -> Outcome<T> {
    let error = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => {
            return Outcome {
                value,
                report: Report::None,
            };
        }
        Ok(Err(error)) => error,
        Err(panic) => panic_error(panic),
    };
    Outcome {
        value: fallback,
        report: report_of(&error),
    }
}

/// The panic as an ERROR: the session goes on, the log says where.
fn panic_error(panic: Box<dyn Any + Send>) -> PgError {
    let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_string(),
        (_, Some(text)) => text.clone(),
        _ => "unknown panic".to_string(),
    };
    let error = PgError::internal(&text);
    match PANIC_LOCATION.take() {
        Some(location) => error.detail(location),
        None => error,
    }
}

static PANIC_LOCATION: Local<Option<String>> = Local::new(None);

/// Keeps the default hook from writing raw text to the server's standard error.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        PANIC_LOCATION.set(
            info.location()
                .map(|l| format!("{}:{}", l.file(), l.line())),
        );
    }));
}

/// The report in the server's memory. Raises nothing: the error and its texts are still to be dropped.
fn report_of(error: &PgError) -> Report {
    let message = text(&error.message);
    let detail = error.detail.as_deref().map(text);
    let hint = error.hint.as_deref().map(text);
    let context = error.context.as_deref().map(text);
    let (message, detail) = (message.as_ptr(), pointer(&detail));
    let (hint, context) = (pointer(&hint), pointer(&context));
    let code = error.sqlstate.0;
    // SAFETY: the strings live until the end of this function; all-zero is a valid report.
    let report = protect(|| unsafe {
        let report = sys::palloc0(size_of::<sys::ErrorData>()).cast::<sys::ErrorData>();
        (*report).elevel = sys::ERROR as i32;
        (*report).sqlerrcode = code;
        (*report).message = copied(message);
        (*report).detail = copied(detail);
        (*report).hint = copied(hint);
        (*report).context = copied(context);
        (*report).assoc_context = sys::CurrentMemoryContext;
        report
    });
    match report {
        Ok(report) => Report::Made(report),
        Err(_) => Report::NoMemory,
    }
}

/// A copy in the current memory context. May raise.
///
/// # Safety
/// The text is NULL or terminated.
unsafe fn copied(text: *const libc::c_char) -> *mut libc::c_char {
    if text.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: as the caller says.
    unsafe { sys::pstrdup(text) }
}

/// Bytes as a C string: what follows a NUL is cut off.
pub(super) fn text(bytes: &[u8]) -> CString {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    CString::new(bytes.get(..end).unwrap_or_default()).unwrap_or_default()
}

fn pointer(text: &Option<CString>) -> *const libc::c_char {
    text.as_ref().map_or(ptr::null(), |t| t.as_ptr())
}

/// Raises the report in the server, if there is one. Does not return then.
///
/// # Safety
/// The calling frame owns nothing with a destructor, nor does any Rust frame between it and the
/// server.
pub unsafe fn raise<T: Copy>(outcome: Outcome<T>) -> T {
    match outcome.report {
        Report::None => {}
        // SAFETY: report_of made it; nothing is left to drop, as the caller promises.
        Report::Made(report) => unsafe { sys::ThrowErrorData(report) },
        // SAFETY: all-zero is a valid ErrorData. The server copies it to where it keeps some room
        // for this case; nothing is left to drop, as above.
        Report::NoMemory => unsafe {
            let mut report: sys::ErrorData = std::mem::zeroed();
            report.elevel = sys::ERROR as i32;
            report.sqlerrcode = OUT_OF_MEMORY.0;
            report.message = c"out of memory".as_ptr().cast_mut();
            sys::ThrowErrorData(&mut report);
        },
    }
    outcome.value
}
