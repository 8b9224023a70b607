//! Conditions of an index scan, for the types that our tables' keys have.

use std::marker::PhantomData;

use super::datum::{Datum, Oid, types};
use super::error::{DATATYPE_MISMATCH, PgError, Result};
use super::guard::protect;
use crate::sys;

/// How a key compares.
#[derive(Clone, Copy)]
pub enum Compare {
    /// column = value
    Equal,
    /// column > value
    Greater,
    /// column < value
    Less,
}

/// One condition on a leading column of the index. Columns count from 1. A text that it compares with is
/// there for `'a`.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    raw: sys::ScanKeyData,
    /// The type that the column must have; 0: the value is not of the type that the key compares.
    of: Oid,
    value: PhantomData<&'a [u8]>,
}

impl<'a> Key<'a> {
    fn new(
        column: i16,
        compare: Compare,
        functions: [u32; 3],
        (of, collation): (Oid, Oid),
        value: sys::Datum,
    ) -> Self {
        let [equal, greater, less] = functions;
        let (strategy, function) = match compare {
            Compare::Equal => (sys::BTEqualStrategyNumber, equal),
            Compare::Greater => (sys::BTGreaterStrategyNumber, greater),
            Compare::Less => (sys::BTLessStrategyNumber, less),
        };
        // SAFETY: all-zero is a valid ScanKeyData, which the call fills in; the function is a
        // built-in one, so its look-up does not fail.
        unsafe {
            let mut key: sys::ScanKeyData = std::mem::zeroed();
            sys::ScanKeyEntryInitialize(
                &mut key,
                0,
                column,
                strategy as sys::StrategyNumber,
                INVALID,
                collation,
                function,
                value,
            );
            Key::whole(key, of)
        }
    }

    const fn whole(raw: sys::ScanKeyData, of: Oid) -> Self {
        let value = PhantomData;
        Key { raw, of, value }
    }

    /// A condition on an `oid` column.
    pub fn oid(column: i16, compare: Compare, value: Oid) -> Self {
        Key::new(
            column,
            compare,
            [sys::F_OIDEQ, sys::F_OIDGT, sys::F_OIDLT],
            (types::OID, 0),
            value as sys::Datum,
        )
    }

    /// A condition on an `integer` column.
    pub fn int4(column: i16, compare: Compare, value: i32) -> Self {
        Key::new(
            column,
            compare,
            [sys::F_INT4EQ, sys::F_INT4GT, sys::F_INT4LT],
            (types::INT4, 0),
            value as sys::Datum,
        )
    }

    /// A condition on a `bigint` column.
    pub fn int8(column: i16, compare: Compare, value: i64) -> Self {
        Key::new(
            column,
            compare,
            [sys::F_INT8EQ, sys::F_INT8GT, sys::F_INT8LT],
            (types::INT8, 0),
            value as sys::Datum,
        )
    }

    /// A condition on a `timestamptz` column.
    pub fn timestamp(column: i16, compare: Compare, value: i64) -> Self {
        let functions = [
            sys::F_TIMESTAMPTZ_EQ,
            sys::F_TIMESTAMPTZ_GT,
            sys::F_TIMESTAMPTZ_LT,
        ];
        Key::new(
            column,
            compare,
            functions,
            (types::TIMESTAMPTZ, 0),
            value as sys::Datum,
        )
    }

    /// A condition on a `text COLLATE "C"` column.
    pub fn text(column: i16, compare: Compare, value: Datum<'a>) -> Self {
        Key::of_text(column, compare, sys::C_COLLATION_OID, value)
    }

    /// A condition on a `text` column of the database's own collation.
    pub fn word(column: i16, compare: Compare, value: Datum<'a>) -> Self {
        Key::of_text(column, compare, sys::DEFAULT_COLLATION_OID, value)
    }

    fn of_text(column: i16, compare: Compare, collation: Oid, value: Datum<'a>) -> Self {
        let functions = [sys::F_TEXTEQ, sys::F_TEXT_GT, sys::F_TEXT_LT];
        let of = if value.fits(types::TEXT) {
            types::TEXT
        } else {
            0
        };
        Key::new(column, compare, functions, (of, collation), value.raw())
    }

    /// `(a, b, c) >= (x, y, z)` for three columns in a row of types integer, timestamptz and
    /// bigint, as nodeIndexscan.c makes a row comparison. Lives as long as the current memory context.
    pub fn from_place(column: i16, x: i32, y: i64, z: i64) -> Result<Self> {
        let members = [
            (sys::F_BTINT4CMP, x as sys::Datum, 0),
            (sys::F_TIMESTAMPTZ_CMP, y as sys::Datum, 0),
            (sys::F_BTINT8CMP, z as sys::Datum, sys::SK_ROW_END),
        ];
        let strategy = sys::BTGreaterEqualStrategyNumber as sys::StrategyNumber;
        // SAFETY: room for all members, each of which is filled in; all-zero is a valid header.
        let list = protect(|| unsafe {
            let list = sys::palloc(members.len() * size_of::<sys::ScanKeyData>());
            let list = list.cast::<sys::ScanKeyData>();
            for (i, (compare, value, end)) in members.into_iter().enumerate() {
                let flags = (sys::SK_ROW_MEMBER | end) as i32;
                let column = column + i as i16;
                let key = list.add(i);
                sys::ScanKeyEntryInitialize(
                    key, flags, column, strategy, INVALID, INVALID, compare, value,
                );
            }
            list
        })?;
        // SAFETY: all-zero is a valid ScanKeyData.
        let mut key: sys::ScanKeyData = unsafe { std::mem::zeroed() };
        key.sk_flags = sys::SK_ROW_HEADER as i32;
        key.sk_attno = column;
        key.sk_strategy = strategy;
        key.sk_argument = list as sys::Datum;
        Ok(Key::whole(key, types::INT4))
    }

    /// As the server has it, for an index whose columns are described so.
    ///
    /// # Safety
    /// The description is alive.
    pub(super) unsafe fn raw(self, index: sys::TupleDesc) -> Result<sys::ScanKeyData> {
        let column = i32::from(self.raw.sk_attno);
        let columns = match self.raw.sk_flags as u32 & sys::SK_ROW_HEADER {
            0 => &[self.of][..],
            _ => &ROW[..],
        };
        for (column, expected) in (column..).zip(columns.iter().copied()) {
            // SAFETY: as the caller says.
            let of = unsafe { sys::mw_column_type(index, column) };
            if of != expected && (of, expected) != (types::REGROLE, types::OID) {
                return Err(misfit());
            }
        }
        Ok(self.raw)
    }
}

fn misfit() -> PgError {
    PgError::new(
        DATATYPE_MISMATCH,
        "an index of my_worker is on columns of other types",
    )
    .hint("Give the columns of my_worker's tables the types that the extension gave them.")
}

const INVALID: Oid = 0;
/// What [`Key::from_place`] compares.
const ROW: [Oid; 3] = [types::INT4, types::TIMESTAMPTZ, types::INT8];
