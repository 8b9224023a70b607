//! Conditions of an index scan, for the types that our tables' keys have.

use super::datum::{Datum, Oid};
use super::error::Result;
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

/// One condition on a leading column of the index. Columns count from 1.
#[derive(Clone, Copy)]
pub struct Key(sys::ScanKeyData);

impl Key {
    fn new(
        column: i16,
        compare: Compare,
        functions: [u32; 3],
        collation: Oid,
        value: Datum,
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
            Key(key)
        }
    }

    /// A condition on an `oid` column.
    pub fn oid(column: i16, compare: Compare, value: Oid) -> Self {
        Key::new(
            column,
            compare,
            [sys::F_OIDEQ, sys::F_OIDGT, sys::F_OIDLT],
            0,
            value as Datum,
        )
    }

    /// A condition on an `integer` column.
    pub fn int4(column: i16, compare: Compare, value: i32) -> Self {
        Key::new(
            column,
            compare,
            [sys::F_INT4EQ, sys::F_INT4GT, sys::F_INT4LT],
            0,
            value as Datum,
        )
    }

    /// A condition on a `bigint` column.
    pub fn int8(column: i16, compare: Compare, value: i64) -> Self {
        Key::new(
            column,
            compare,
            [sys::F_INT8EQ, sys::F_INT8GT, sys::F_INT8LT],
            0,
            value as Datum,
        )
    }

    /// A condition on a `timestamptz` column.
    pub fn timestamp(column: i16, compare: Compare, value: i64) -> Self {
        let functions = [
            sys::F_TIMESTAMPTZ_EQ,
            sys::F_TIMESTAMPTZ_GT,
            sys::F_TIMESTAMPTZ_LT,
        ];
        Key::new(column, compare, functions, 0, value as Datum)
    }

    /// A condition on a `text COLLATE "C"` column. The value is a `text` that outlives the scan.
    pub fn text(column: i16, compare: Compare, value: Datum) -> Self {
        let functions = [sys::F_TEXTEQ, sys::F_TEXT_GT, sys::F_TEXT_LT];
        Key::new(column, compare, functions, sys::C_COLLATION_OID, value)
    }

    /// A condition on a `text` column of the database's own collation.
    pub fn word(column: i16, compare: Compare, value: Datum) -> Self {
        let functions = [sys::F_TEXTEQ, sys::F_TEXT_GT, sys::F_TEXT_LT];
        Key::new(
            column,
            compare,
            functions,
            sys::DEFAULT_COLLATION_OID,
            value,
        )
    }

    /// `(a, b, c) >= (x, y, z)` for three columns in a row of types integer, timestamptz and
    /// bigint, as nodeIndexscan.c makes a row comparison. Lives as long as the current memory context.
    pub fn from_place(column: i16, x: i32, y: i64, z: i64) -> Result<Self> {
        let members = [
            (sys::F_BTINT4CMP, x as Datum, 0),
            (sys::F_TIMESTAMPTZ_CMP, y as Datum, 0),
            (sys::F_BTINT8CMP, z as Datum, sys::SK_ROW_END),
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
        key.sk_argument = list as Datum;
        Ok(Key(key))
    }

    /// As the server has it.
    pub(super) fn raw(self) -> sys::ScanKeyData {
        self.0
    }
}

const INVALID: Oid = 0;
