//! Calls of functions by the server's convention (fmgr.h), with a result that may be NULL.

use std::mem::offset_of;

use crate::sys;

/// So many arguments fit.
const ROOM: usize = 4;

/// What a function is passed: its arguments follow the head.
#[repr(C)]
struct Frame {
    head: sys::FunctionCallInfoBaseData,
    arguments: [sys::NullableDatum; ROOM],
}

const _: () = assert!(
    offset_of!(Frame, arguments) == offset_of!(sys::FunctionCallInfoBaseData, args),
    "the arguments follow the head"
);

/// Calls a function with arguments that are not NULL, outside of any query; answers its result, and whether
/// that is NULL. May raise.
///
/// # Safety
/// Function and arguments fit each other, at most four; `info` describes the function, or it needs none.
pub(super) unsafe fn call(
    function: sys::PGFunction,
    info: *mut sys::FmgrInfo,
    arguments: &[sys::Datum],
) -> (sys::Datum, bool) {
    // SAFETY: all-zero is a valid frame, without arguments.
    let mut frame: Frame = unsafe { std::mem::zeroed() };
    frame.head.flinfo = info;
    frame.head.nargs = arguments.len().min(ROOM) as i16;
    for (to, from) in frame.arguments.iter_mut().zip(arguments) {
        to.value = *from;
    }
    let whole = (&raw mut frame).cast::<sys::FunctionCallInfoBaseData>();
    // SAFETY: as the caller says; the frame outlives the call.
    let value = unsafe { function.map_or(0, |function| function(whole)) };
    // SAFETY: as above.
    (value, unsafe { (*whole).isnull })
}
