//! The types of columns.

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `boolean`
    Boolean,
    /// `integer`
    Integer,
    /// `bigint`
    Bigint,
    /// `text`
    Text,
    /// `jsonb`
    Jsonb,
    /// `timestamptz`
    Timestamptz,
    /// `interval`
    Interval,
    /// `regrole`
    Regrole,
    /// `bigint[]`
    Bigints,
    /// `text[]`
    Texts,
}

impl Kind {
    /// How a value stands in a row.
    pub(super) const fn stored(self) -> Stored {
        let (length, alignment) = match self {
            Kind::Boolean => (1, 1),
            Kind::Integer | Kind::Regrole => (4, 4),
            Kind::Bigint | Kind::Timestamptz => (8, 8),
            Kind::Interval => (16, 8),
            Kind::Text | Kind::Jsonb | Kind::Texts => (0, 4),
            Kind::Bigints => (0, 8),
        };
        Stored { length, alignment }
    }

    /// As SQL names it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Boolean => "boolean",
            Kind::Integer => "integer",
            Kind::Bigint => "bigint",
            Kind::Text => "text",
            Kind::Jsonb => "jsonb",
            Kind::Timestamptz => "timestamptz",
            Kind::Interval => "interval",
            Kind::Regrole => "regrole",
            Kind::Bigints => "bigint[]",
            Kind::Texts => "text[]",
        }
    }
}

/// How values of a type stand in a row, as `MwStored` of `sys/shim.h` has it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// In bytes; 0: each has a length of its own.
    pub length: u8,
    /// In bytes.
    pub alignment: u8,
}
