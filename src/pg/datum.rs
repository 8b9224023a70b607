//! Values of the server as Rust values, for the types that we use.
//!
//! Pass-by-value types are plain casts. What is variable-length stays in the server's memory and
//! is copied only where the text is short by nature (names, messages).

use super::error::{PgError, Result};
use super::guard::{protect, text};
use crate::sys;

/// A value as the server passes it.
pub type Datum = sys::Datum;
/// An object identifier.
pub type Oid = sys::Oid;
/// Microseconds since 2000-01-01 00:00 UTC, the server's `timestamptz`.
pub type Micros = i64;

/// Types, by the names of catalog/pg_type.dat.
pub mod types {
    use super::Oid;
    use crate::logic::columns::Kind;
    use crate::sys;
    /// The type of a column of ours.
    pub const fn oid(kind: Kind) -> Oid {
        match kind {
            Kind::Boolean => BOOL,
            Kind::Integer => INT4,
            Kind::Bigint => INT8,
            Kind::Text => TEXT,
            Kind::Jsonb => JSONB,
            Kind::Timestamptz => TIMESTAMPTZ,
            Kind::Interval => INTERVAL,
            Kind::Regrole => REGROLE,
            Kind::Bigints => INT8_ARRAY,
        }
    }
    /// `boolean`
    pub const BOOL: Oid = sys::BOOLOID;
    /// `integer`
    pub const INT4: Oid = sys::INT4OID;
    /// `bigint`
    pub const INT8: Oid = sys::INT8OID;
    /// `text`
    pub const TEXT: Oid = sys::TEXTOID;
    /// `jsonb`
    pub const JSONB: Oid = sys::JSONBOID;
    /// `timestamptz`
    pub const TIMESTAMPTZ: Oid = sys::TIMESTAMPTZOID;
    /// `interval`
    pub const INTERVAL: Oid = sys::INTERVALOID;
    /// `oid`
    pub const OID: Oid = sys::OIDOID;
    /// `regrole`
    pub const REGROLE: Oid = sys::REGROLEOID;
    /// `bigint[]`
    pub const INT8_ARRAY: Oid = sys::INT8ARRAYOID;
    /// `text[]`
    pub const TEXT_ARRAY: Oid = sys::TEXTARRAYOID;
    /// `timestamptz[]`
    pub const TIMESTAMPTZ_ARRAY: Oid = sys::TIMESTAMPTZARRAYOID;
    /// `jsonb[]`
    pub const JSONB_ARRAY: Oid = sys::JSONBARRAYOID;
}

/// What becomes a Datum without allocating.
pub trait ToDatum {
    /// The value as the server passes it.
    fn datum(self) -> Datum;
}

impl ToDatum for bool {
    fn datum(self) -> Datum {
        Datum::from(self)
    }
}
impl ToDatum for i32 {
    fn datum(self) -> Datum {
        self as Datum
    }
}
impl ToDatum for u32 {
    fn datum(self) -> Datum {
        self as Datum
    }
}
impl ToDatum for i64 {
    fn datum(self) -> Datum {
        self as Datum
    }
}
impl ToDatum for f32 {
    fn datum(self) -> Datum {
        self.to_bits() as Datum
    }
}
impl ToDatum for f64 {
    fn datum(self) -> Datum {
        self.to_bits() as Datum
    }
}

/// `bigint` or `timestamptz`.
pub fn as_i64(datum: Datum) -> i64 {
    datum as i64
}
/// `integer`.
pub fn as_i32(datum: Datum) -> i32 {
    datum as i32
}
/// `oid`, `regrole`.
pub fn as_oid(datum: Datum) -> Oid {
    datum as Oid
}
/// `boolean`.
pub fn as_bool(datum: Datum) -> bool {
    datum & 0xff != 0
}
/// `real`.
pub fn as_f32(datum: Datum) -> f32 {
    f32::from_bits(datum as u32)
}

/// The bytes of a `text` as an owned copy, without aborting on lack of memory. Detoasts.
pub fn as_text(datum: Datum) -> Result<Vec<u8>> {
    // SAFETY: the caller passes a text; the packed form is it or a palloc'd copy.
    let packed = protect(|| unsafe { sys::pg_detoast_datum_packed(datum as *mut sys::varlena) })?;
    // SAFETY: a valid varlena of that many bytes.
    let bytes = unsafe {
        std::slice::from_raw_parts(
            sys::mw_vardata_any(packed.cast()).cast::<u8>(),
            sys::mw_varsize_any_exhdr(packed.cast()),
        )
    };
    copy_bytes(bytes)
}

/// Whether a `text` of at most 126 bytes, as it stands in a row, is those bytes; a longer one is not.
pub fn text_is(datum: Datum, bytes: &[u8]) -> bool {
    // SAFETY: the caller passes a text; the shim looks into it only if it stands there in full.
    unsafe { sys::mw_text_is(datum, bytes.as_ptr().cast(), bytes.len()) }
}

/// A copy on the heap that answers lack of memory with an error.
pub fn copy_bytes(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    if copy.try_reserve_exact(bytes.len()).is_err() {
        return Err(PgError::new(super::error::OUT_OF_MEMORY, "out of memory"));
    }
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// A `text` in the current memory context.
pub fn text_datum(bytes: &[u8]) -> Result<Datum> {
    let (pointer, length) = (bytes.as_ptr(), bytes.len().min(i32::MAX as usize) as i32);
    // SAFETY: the bytes live for the call and are copied.
    protect(|| unsafe { sys::cstring_to_text_with_len(pointer.cast(), length) as Datum })
}

/// A `jsonb` in the current memory context, from its text.
pub fn jsonb_datum(json: &[u8]) -> Result<Datum> {
    let json = text(json);
    let pointer = json.as_ptr() as Datum;
    // SAFETY: jsonb_in takes a C string; it lives for the call.
    protect(|| unsafe { sys::DirectFunctionCall1Coll(Some(sys::jsonb_in), 0, pointer) })
}

/// An `interval` as microseconds, with a month of 30 days and a day of 24 hours.
pub fn interval_micros(datum: Datum) -> Micros {
    // SAFETY: an interval is passed by reference and has no null form here.
    let interval = unsafe { &*(datum as *const sys::Interval) };
    let days = i64::from(interval.month) * 30 + i64::from(interval.day);
    days.saturating_mul(86_400_000_000)
        .saturating_add(interval.time)
}

/// An `interval` in its three parts: months, days, microseconds.
pub fn interval_parts(datum: Datum) -> (i32, i32, Micros) {
    // SAFETY: an interval is passed by reference and has no null form here.
    let interval = unsafe { &*(datum as *const sys::Interval) };
    (interval.month, interval.day, interval.time)
}

/// An `interval` in the current memory context, from its text. Raises for what is none.
pub fn interval_datum(interval: &[u8]) -> Result<Datum> {
    let interval = text(interval);
    let pointer = interval.as_ptr() as Datum;
    let no_modifier = (-1i32).datum();
    // SAFETY: interval_in takes a C string, which lives for the call, a type and a modifier.
    protect(|| unsafe {
        sys::DirectFunctionCall3Coll(Some(sys::interval_in), 0, pointer, 0, no_modifier)
    })
}

/// A string of the server that it palloc'd or owns, as an owned copy.
pub(super) fn from_c(pointer: *const libc::c_char) -> Option<Vec<u8>> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the server's strings are NUL-terminated.
    copy_bytes(unsafe { std::ffi::CStr::from_ptr(pointer) }.to_bytes()).ok()
}

/// A length at which `bytes` can be cut to at most `limit` without splitting a character of the
/// database's encoding (`pg_mbcliplen`).
pub fn clip_length(bytes: &[u8], limit: usize) -> usize {
    if bytes.len() <= limit {
        return bytes.len();
    }
    let length = bytes.len().min(i32::MAX as usize) as i32;
    // SAFETY: reads `length` bytes; for an invalid sequence it stops earlier, it does not raise.
    let clipped = unsafe { sys::pg_mbcliplen(bytes.as_ptr().cast(), length, limit as i32) };
    usize::try_from(clipped).unwrap_or(0)
}

/// A one-dimensional array without nulls in the current memory context.
pub fn array_datum(values: &[Datum], element: Oid) -> Result<Datum> {
    let (pointer, count) = (values.as_ptr().cast_mut(), values.len() as i32);
    // SAFETY: `element` is a type that construct_array_builtin or our table below knows.
    protect(|| unsafe {
        let (length, by_value, align) = element_layout(element);
        sys::construct_array(pointer, count, element, length, by_value, align) as Datum
    })
}

fn element_layout(element: Oid) -> (i32, bool, libc::c_char) {
    let (double, int) = (
        sys::TYPALIGN_DOUBLE as libc::c_char,
        sys::TYPALIGN_INT as libc::c_char,
    );
    match element {
        sys::INT8OID | sys::TIMESTAMPTZOID => (8, true, double),
        sys::INT4OID | sys::OIDOID => (4, true, int),
        _ => (-1, false, int),
    }
}

/// The elements of a one-dimensional array; a null element is `None`.
pub fn array_elements(datum: Datum, element: Oid) -> Result<Vec<Option<Datum>>> {
    let (length, by_value, align) = element_layout(element);
    // SAFETY: the caller passes an array of `element`; the two out-arrays are palloc'd.
    let (values, nulls, count) = protect(|| unsafe {
        let array = sys::pg_detoast_datum(datum as *mut sys::varlena).cast();
        let (mut values, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
        sys::deconstruct_array(
            array,
            element,
            length,
            by_value,
            align,
            &mut values,
            &mut nulls,
            &mut count,
        );
        (values, nulls, count)
    })?;
    let count = usize::try_from(count).unwrap_or(0);
    let mut elements = Vec::new();
    if elements.try_reserve_exact(count).is_err() {
        return Err(PgError::new(super::error::OUT_OF_MEMORY, "out of memory"));
    }
    for i in 0..count {
        // SAFETY: both arrays have `count` elements.
        let (value, null) = unsafe { (*values.add(i), *nulls.add(i)) };
        elements.push((!null).then_some(value));
    }
    Ok(elements)
}
