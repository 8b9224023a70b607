//! The fields of a cron expression: their names, ranges and values, and what is said when one
//! is wrong.

use std::fmt;

use super::limits::{self, MAX_SCHEDULE_BYTES};

/// A cron expression that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CronError {
    /// Nothing but blanks.
    Empty,
    /// More than [`MAX_SCHEDULE_BYTES`].
    TooLong,
    /// Neither five nor six fields.
    FieldCount(usize),
    /// An `@` name that is not known.
    UnknownMacro(String),
    /// A part of a field that is none of the grammar's items.
    Syntax {
        /// Which field.
        field: Field,
        /// The item, made printable.
        item: String,
    },
    /// A value outside of its field's range.
    OutOfRange {
        /// Which field.
        field: Field,
        /// The item, made printable.
        item: String,
    },
    /// A step that is not a number from 1.
    BadStep {
        /// Which field.
        field: Field,
        /// The item, made printable.
        item: String,
    },
    /// A range whose end lies before its start, in a field that does not wrap.
    Backwards {
        /// Which field.
        field: Field,
        /// The item, made printable.
        item: String,
    },
}

impl fmt::Display for CronError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CronError::Empty => write!(f, "schedule must not be empty"),
            CronError::TooLong => {
                write!(
                    f,
                    "schedule must not be longer than {MAX_SCHEDULE_BYTES} bytes"
                )
            }
            CronError::FieldCount(n) => {
                write!(f, "cron expression must have five or six fields, not {n}")
            }
            CronError::UnknownMacro(name) => write!(f, "schedule name \"{name}\" is not known"),
            CronError::Syntax { field, item } => {
                write!(f, "invalid value \"{item}\" in the {} field", field.name())
            }
            CronError::OutOfRange { field, item } => {
                write!(
                    f,
                    "value \"{item}\" is out of range for the {} field",
                    field.name()
                )
            }
            CronError::BadStep { field, item } => {
                write!(f, "invalid step \"{item}\" in the {} field", field.name())
            }
            CronError::Backwards { field, item } => {
                write!(
                    f,
                    "range \"{item}\" in the {} field runs backwards",
                    field.name()
                )
            }
        }
    }
}

impl CronError {
    /// A sentence for the error's hint.
    pub fn hint(&self) -> String {
        match self {
            CronError::Empty | CronError::TooLong | CronError::FieldCount(_) => {
                "Write \"minute hour day-of-month month day-of-week\", with the second first if \
                 there are six fields, or \"@daily\", or \"every 10 seconds\"."
                    .to_owned()
            }
            CronError::UnknownMacro(_) => {
                "The names are @hourly, @daily, @midnight, @weekly, @monthly, @yearly and \
                 @annually."
                    .to_owned()
            }
            CronError::Syntax { field, .. } | CronError::OutOfRange { field, .. } => {
                format!(
                    "The {} field takes {}, lists, ranges and steps.",
                    field.name(),
                    field.takes()
                )
            }
            CronError::BadStep { .. } => {
                "A step is a whole number from 1, as in \"*/5\".".to_owned()
            }
            CronError::Backwards { .. } => {
                "Write it as two ranges, as in \"22-23,0-6\".".to_owned()
            }
        }
    }
}

/// The six fields of a cron expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// 0-59, only in expressions of six fields.
    Second,
    /// 0-59.
    Minute,
    /// 0-23.
    Hour,
    /// 1-31 and `L`.
    DayOfMonth,
    /// 1-12 or jan-dec.
    Month,
    /// 0-7 or sun-sat.
    DayOfWeek,
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Field {
    fn name(self) -> &'static str {
        match self {
            Field::Second => "second",
            Field::Minute => "minute",
            Field::Hour => "hour",
            Field::DayOfMonth => "day-of-month",
            Field::Month => "month",
            Field::DayOfWeek => "day-of-week",
        }
    }

    fn takes(self) -> &'static str {
        match self {
            Field::Second | Field::Minute => "0 to 59",
            Field::Hour => "0 to 23",
            Field::DayOfMonth => "1 to 31, L for the last day",
            Field::Month => "1 to 12 or jan to dec",
            Field::DayOfWeek => "0 to 7 (0 and 7 are Sunday) or sun to sat",
        }
    }

    /// First and last value. A Sunday written as 7 counts as one past the end, which is 0.
    pub(super) fn bounds(self) -> (u32, u32) {
        match self {
            Field::Second | Field::Minute => (0, 59),
            Field::Hour => (0, 23),
            Field::DayOfMonth => (1, 31),
            Field::Month => (1, 12),
            Field::DayOfWeek => (0, 6),
        }
    }

    /// How many values the field has.
    pub(super) fn cycle(self) -> u32 {
        let (first, last) = self.bounds();
        last.saturating_sub(first).saturating_add(1)
    }

    /// Whether a range may run over the end of the field into its start.
    pub(super) fn wraps(self) -> bool {
        matches!(self, Field::Month | Field::DayOfWeek)
    }

    pub(super) fn is_day(self) -> bool {
        matches!(self, Field::DayOfMonth | Field::DayOfWeek)
    }

    pub(super) fn syntax(self, item: &str) -> CronError {
        CronError::Syntax {
            field: self,
            item: limits::printable(item),
        }
    }

    pub(super) fn backwards(self, item: &str) -> CronError {
        CronError::Backwards {
            field: self,
            item: limits::printable(item),
        }
    }

    /// The value of a three-letter name.
    fn named(self, text: &str) -> Option<u32> {
        let find = |names: &[&str]| names.iter().position(|n| n.eq_ignore_ascii_case(text));
        let index = match self {
            Field::Month => find(&MONTHS).map(|i| i.saturating_add(1)),
            Field::DayOfWeek => find(&WEEKDAYS),
            _ => None,
        };
        index.and_then(|i| u32::try_from(i).ok())
    }

    /// One value. A weekday of 7 stays 7 here: as a range's end it differs from 0.
    pub(super) fn value(self, text: &str) -> Result<u32, CronError> {
        if let Some(value) = self.named(text) {
            return Ok(value);
        }
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits {
            return Err(self.syntax(text));
        }
        let (low, high) = self.bounds();
        let high = if self == Field::DayOfWeek { 7 } else { high };
        match text.parse() {
            Ok(value) if (low..=high).contains(&value) => Ok(value),
            _ => Err(CronError::OutOfRange {
                field: self,
                item: limits::printable(text),
            }),
        }
    }

    pub(super) fn step(self, text: &str) -> Result<u32, CronError> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(step) if digits && step > 0 => Ok(step),
            _ => Err(CronError::BadStep {
                field: self,
                item: limits::printable(text),
            }),
        }
    }
}

/// One field as parsed: bit n stands for value n.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Values {
    /// The values named.
    pub mask: u64,
    /// Contains a bare `*` or `?`: the field restricts nothing.
    pub any: bool,
    /// Contains a `*` of any kind, also one with a step.
    pub star: bool,
    /// Contains `L`.
    pub last_day: bool,
}

/// The bit that stands for a value.
pub(super) fn bit(value: u32) -> u64 {
    1_u64.checked_shl(value).unwrap_or(0)
}
