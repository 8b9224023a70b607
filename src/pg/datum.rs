//! Values of the server as Rust values, for the types that we use.
//!
//! A [`Datum`] carries its SQL type and is made here or by what reads from the server. So a number is
//! not taken for a pointer: what reads a value as a type that it is not answers an error.
//!
//! Pass-by-value types are plain casts. What is variable-length stays in the server's memory and
//! is copied only where the text is short by nature (names, messages).

use std::marker::PhantomData;

use super::error::{DATATYPE_MISMATCH, PgError, Result};
use super::guard::{protect, text};
use crate::sys;

/// A value as the server passes it, with its SQL type. What it points to, if its type is passed by
/// reference, is there for `'a`: as long as the row or the SPI connection that it was read from. One
/// that this file makes is in the memory context that was current then, and lives as long as that.
#[derive(Clone, Copy)]
pub struct Datum<'a> {
    raw: sys::Datum,
    of: Oid,
    memory: PhantomData<&'a [u8]>,
}

impl<'a> Datum<'a> {
    /// What an AFTER trigger returns, or a function that returns `void`.
    pub const VOID: Datum<'static> = Datum::by_value(0, sys::VOIDOID);

    /// A value that is no pointer.
    const fn by_value(raw: sys::Datum, of: Oid) -> Self {
        Datum {
            raw,
            of,
            memory: PhantomData,
        }
    }

    /// A value that the server gave us.
    ///
    /// # Safety
    /// It is one of the type `of`, not NULL, and what it points to is there for `'a`.
    pub(super) const unsafe fn new(raw: sys::Datum, of: Oid) -> Self {
        Datum::by_value(raw, of)
    }

    /// As the server passes it.
    pub(super) const fn raw(self) -> sys::Datum {
        self.raw
    }

    /// Whether it can stand where a value of that type is expected: it is of that type, or both are
    /// numbers passed by value, of which every pattern of bits is one.
    pub(super) fn fits(self, expected: Oid) -> bool {
        self.of == expected || (is_number(self.of) && is_number(expected))
    }

    /// An error if it cannot.
    pub(super) fn check(self, expected: Oid) -> Result<()> {
        if self.fits(expected) {
            return Ok(());
        }
        let name = name(expected);
        let message = format!("a value that should be of type {name} is of another type");
        Err(PgError::new(DATATYPE_MISMATCH, message)
            .hint("Give the columns of my_worker's tables the types that the extension gave them."))
    }
}

fn name(of: Oid) -> &'static str {
    match of {
        types::TEXT => "text",
        types::JSONB => "jsonb",
        types::INTERVAL => "interval",
        types::INT8_ARRAY => "bigint[]",
        types::TEXT_ARRAY => "text[]",
        types::TIMESTAMPTZ_ARRAY => "timestamp with time zone[]",
        types::JSONB_ARRAY => "jsonb[]",
        _ => "number",
    }
}

fn is_number(of: Oid) -> bool {
    matches!(
        of,
        sys::BOOLOID
            | sys::INT4OID
            | sys::INT8OID
            | sys::OIDOID
            | sys::REGROLEOID
            | sys::FLOAT4OID
            | sys::FLOAT8OID
            | sys::TIMESTAMPTZOID
    )
}

/// As [`Datum::raw`]; NULL is 0, which the server does not look at.
pub(super) fn raw(value: Option<Datum<'_>>) -> sys::Datum {
    value.map_or(0, Datum::raw)
}

/// Refuses values that cannot stand where some of those types are expected; NULLs can.
pub(super) fn check(values: &[Option<Datum<'_>>], expected: &[Oid]) -> Result<()> {
    if values.len() != expected.len() {
        return Err(PgError::internal("values are not as many as their types"));
    }
    let mut pairs = values.iter().zip(expected);
    pairs.try_for_each(|(value, expected)| value.map_or(Ok(()), |value| value.check(*expected)))
}

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
            Kind::Texts => TEXT_ARRAY,
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
    /// `double precision`
    pub const FLOAT8: Oid = sys::FLOAT8OID;
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
    fn datum(self) -> Datum<'static>;
}

impl ToDatum for bool {
    fn datum(self) -> Datum<'static> {
        Datum::by_value(sys::Datum::from(self), types::BOOL)
    }
}
impl ToDatum for i32 {
    fn datum(self) -> Datum<'static> {
        Datum::by_value(self as sys::Datum, types::INT4)
    }
}
impl ToDatum for u32 {
    fn datum(self) -> Datum<'static> {
        Datum::by_value(self as sys::Datum, types::OID)
    }
}
impl ToDatum for i64 {
    fn datum(self) -> Datum<'static> {
        Datum::by_value(self as sys::Datum, types::INT8)
    }
}
impl ToDatum for f32 {
    fn datum(self) -> Datum<'static> {
        Datum::by_value(self.to_bits() as sys::Datum, sys::FLOAT4OID)
    }
}
impl ToDatum for f64 {
    fn datum(self) -> Datum<'static> {
        Datum::by_value(self.to_bits() as sys::Datum, sys::FLOAT8OID)
    }
}

/// `bigint` or `timestamptz`.
pub fn as_i64(datum: Datum<'_>) -> i64 {
    datum.raw as i64
}
/// `integer`.
pub fn as_i32(datum: Datum<'_>) -> i32 {
    datum.raw as i32
}
/// `oid`, `regrole`.
pub fn as_oid(datum: Datum<'_>) -> Oid {
    datum.raw as Oid
}
/// `boolean`.
pub fn as_bool(datum: Datum<'_>) -> bool {
    datum.raw & 0xff != 0
}
/// `real`.
pub fn as_f32(datum: Datum<'_>) -> f32 {
    f32::from_bits(datum.raw as u32)
}

/// The bytes of a `text` as an owned copy, without aborting on lack of memory. Detoasts.
pub fn as_text(datum: Datum<'_>) -> Result<Vec<u8>> {
    datum.check(types::TEXT)?;
    varlena_bytes(datum)
}

/// Reads the bytes of a `text` in place, or if it does not stand there as it is, in a copy.
pub fn with_text<T>(datum: Datum<'_>, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
    datum.check(types::TEXT)?;
    match in_place(datum) {
        Some(bytes) => Ok(read(bytes)),
        None => Ok(read(&varlena_bytes(datum)?)),
    }
}

/// The bytes of a value of variable length, where they stand as they are.
fn in_place(datum: Datum<'_>) -> Option<&[u8]> {
    let mut length = 0;
    // SAFETY: the caller knows its type; the shim answers what lies within the value, which lives as long as the datum.
    unsafe {
        let bytes = sys::mw_plain_bytes(datum.raw, &mut length);
        (!bytes.is_null()).then(|| std::slice::from_raw_parts(bytes.cast::<u8>(), length))
    }
}

/// What a value of variable length is made of.
fn varlena_bytes(datum: Datum<'_>) -> Result<Vec<u8>> {
    let is_known = [types::TEXT, types::JSONB, types::INT8_ARRAY].contains(&datum.of);
    if !is_known {
        return Err(PgError::internal(
            "a value is not known to be of variable length",
        ));
    }
    if let Some(bytes) = in_place(datum) {
        return copy_bytes(bytes);
    }
    let pointer = datum.raw as *mut sys::varlena;
    // SAFETY: a varlena by its type; the packed form is it or a palloc'd copy.
    let packed = protect(|| unsafe { sys::pg_detoast_datum_packed(pointer) })?;
    // SAFETY: a valid varlena of that many bytes.
    let bytes = unsafe {
        std::slice::from_raw_parts(
            sys::mw_vardata_any(packed.cast()).cast::<u8>(),
            sys::mw_varsize_any_exhdr(packed.cast()),
        )
    };
    copy_bytes(bytes)
}

/// Whether two values of one column are the same: numbers, or what is stored of others, detoasted. Two forms of
/// one value, where its type has such, are not.
pub fn are_same(one: Option<Datum<'_>>, other: Option<Datum<'_>>) -> Result<bool> {
    let (Some(one), Some(other)) = (one, other) else {
        return Ok(one.is_none() && other.is_none());
    };
    one.check(other.of)?;
    if is_number(one.of) {
        return Ok(one.raw == other.raw);
    }
    if one.of == types::INTERVAL {
        return Ok(interval_parts(one)? == interval_parts(other)?);
    }
    Ok(varlena_bytes(one)? == varlena_bytes(other)?)
}

/// Whether a `text` that stands there as it is, as any short one does, is those bytes; a value of another type is not.
pub fn text_is(datum: Datum<'_>, bytes: &[u8]) -> bool {
    datum.of == types::TEXT && in_place(datum) == Some(bytes)
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

/// A `timestamptz`.
pub fn timestamptz(time: Micros) -> Datum<'static> {
    Datum::by_value(time as sys::Datum, types::TIMESTAMPTZ)
}

/// A `text` in the current memory context.
pub fn text_datum(bytes: &[u8]) -> Result<Datum<'static>> {
    let (pointer, length) = (bytes.as_ptr(), bytes.len().min(i32::MAX as usize) as i32);
    // SAFETY: the bytes live for the call and are copied.
    protect(|| unsafe {
        let text = sys::cstring_to_text_with_len(pointer.cast(), length);
        Datum::new(text as sys::Datum, types::TEXT)
    })
}

/// A `jsonb` in the current memory context, from its text.
pub fn jsonb_datum(json: &[u8]) -> Result<Datum<'static>> {
    let json = text(json);
    let pointer = json.as_ptr() as sys::Datum;
    // SAFETY: jsonb_in takes a C string; it lives for the call.
    protect(|| unsafe {
        let json = sys::DirectFunctionCall1Coll(Some(sys::jsonb_in), 0, pointer);
        Datum::new(json, types::JSONB)
    })
}

/// An `interval` as microseconds, with a month of 30 days and a day of 24 hours.
pub fn interval_micros(datum: Datum<'_>) -> Result<Micros> {
    let (months, days, micros) = interval_parts(datum)?;
    let days = i64::from(months) * 30 + i64::from(days);
    Ok(days.saturating_mul(86_400_000_000).saturating_add(micros))
}

/// An `interval` in its three parts: months, days, microseconds.
pub fn interval_parts(datum: Datum<'_>) -> Result<(i32, i32, Micros)> {
    datum.check(types::INTERVAL)?;
    // SAFETY: an interval, as was checked, which is passed by reference.
    let interval = unsafe { &*(datum.raw as *const sys::Interval) };
    Ok((interval.month, interval.day, interval.time))
}

/// An `interval` in the current memory context, from its text. Raises for what is none.
pub fn interval_datum(interval: &[u8]) -> Result<Datum<'static>> {
    let interval = text(interval);
    let pointer = interval.as_ptr() as sys::Datum;
    let no_modifier = -1i32 as sys::Datum;
    // SAFETY: interval_in takes a C string, which lives for the call, a type and a modifier.
    protect(|| unsafe {
        let function = Some(sys::interval_in as unsafe extern "C-unwind" fn(_) -> _);
        let value = sys::DirectFunctionCall3Coll(function, 0, pointer, 0, no_modifier);
        Datum::new(value, types::INTERVAL)
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
pub fn array_datum(values: &[Datum<'_>], element: Oid) -> Result<Datum<'static>> {
    let array = array_of(element)?;
    values.iter().try_for_each(|value| value.check(element))?;
    let raw: Vec<sys::Datum> = values.iter().map(|value| value.raw).collect();
    let (pointer, count) = (raw.as_ptr().cast_mut(), raw.len() as i32);
    // SAFETY: so many values of a type of which the table below knows the layout.
    protect(|| unsafe {
        let (length, by_value, align) = element_layout(element);
        let value = sys::construct_array(pointer, count, element, length, by_value, align);
        Datum::new(value as sys::Datum, array)
    })
}

/// The type of arrays of it.
fn array_of(element: Oid) -> Result<Oid> {
    Ok(match element {
        types::INT8 => types::INT8_ARRAY,
        types::TEXT => types::TEXT_ARRAY,
        types::TIMESTAMPTZ => types::TIMESTAMPTZ_ARRAY,
        types::JSONB => types::JSONB_ARRAY,
        _ => return Err(PgError::internal("no arrays of that type are known")),
    })
}

fn element_layout(element: Oid) -> (i32, bool, libc::c_char) {
    let (double, int) = (
        sys::TYPALIGN_DOUBLE as libc::c_char,
        sys::TYPALIGN_INT as libc::c_char,
    );
    match element {
        sys::INT8OID | sys::TIMESTAMPTZOID => (8, true, double),
        _ => (-1, false, int),
    }
}

/// The elements of a one-dimensional array; a null element is `None`.
pub fn array_elements<'a>(datum: Datum<'a>, element: Oid) -> Result<Vec<Option<Datum<'a>>>> {
    datum.check(array_of(element)?)?;
    let (length, by_value, align) = element_layout(element);
    let pointer = datum.raw as *mut sys::varlena;
    // SAFETY: an array of `element`, as was checked; the two out-arrays are palloc'd.
    let (values, nulls, count) = protect(|| unsafe {
        let array = sys::pg_detoast_datum(pointer).cast();
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
        let (value, null) = unsafe { (Datum::new(*values.add(i), element), *nulls.add(i)) };
        elements.push((!null).then_some(value));
    }
    Ok(elements)
}
