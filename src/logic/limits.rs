//! What is accepted: names, counts, keys, intervals; and how text is cut to size.
//!
//! Names and keys are bytes in the server's encoding, whatever that is: any name that PostgreSQL
//! allows for an identifier is fine, so only emptiness and length are checked. Priorities are not
//! checked at all: every integer is one.

use std::fmt;

use super::Micros;

/// Longest name of a queue or schedule, in bytes: NAMEDATALEN - 1.
pub const MAX_NAME_BYTES: usize = 63;

/// Longest `unique_key`, in bytes; with queue and owner it must fit into an index entry. An empty
/// one is a key like any other.
pub const MAX_UNIQUE_KEY_BYTES: usize = 1000;

/// Longest schedule text, in bytes.
pub const MAX_SCHEDULE_BYTES: usize = 1000;

/// Most attempts of a job: each failed one adds an entry to the job's `errors`.
pub const MAX_ATTEMPTS: i32 = 10_000;

/// Longest interval, in microseconds: a thousand years of twelve months of 30 days, which is what
/// the server takes `1000 years` for when it compares.
pub const MAX_INTERVAL: Micros = 360_000 * 86_400 * 1_000_000;

/// A value that was refused. `what` names it as the user does: `queue name`, `timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitError {
    /// Empty text.
    Empty {
        /// The refused argument.
        what: &'static str,
    },
    /// Text of more bytes than allowed.
    TooLong {
        /// The refused argument.
        what: &'static str,
        /// Bytes allowed.
        max: usize,
    },
    /// A number outside of its range.
    OutOfRange {
        /// The refused argument.
        what: &'static str,
        /// What was given.
        value: i32,
        /// Lowest value allowed.
        min: i32,
        /// Highest value allowed.
        max: i32,
    },
    /// An interval below zero.
    Negative {
        /// The refused argument.
        what: &'static str,
    },
    /// An interval of zero where that has no meaning.
    Zero {
        /// The refused argument.
        what: &'static str,
    },
    /// An interval below a millisecond.
    TooSmall {
        /// The refused argument.
        what: &'static str,
    },
    /// An interval above [`MAX_INTERVAL`].
    TooLarge {
        /// The refused argument.
        what: &'static str,
    },
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LimitError::Empty { what } => write!(f, "{what} must not be empty"),
            LimitError::TooLong { what, max } => {
                write!(f, "{what} must not be longer than {max} bytes")
            }
            LimitError::OutOfRange {
                what,
                value,
                min,
                max,
            } => {
                write!(f, "{what} must be between {min} and {max}, not {value}")
            }
            LimitError::Negative { what } => write!(f, "{what} must not be negative"),
            LimitError::Zero { what } => write!(f, "{what} must be greater than zero"),
            LimitError::TooSmall { what } => write!(f, "{what} must be at least 1 ms"),
            LimitError::TooLarge { what } => write!(f, "{what} must not exceed 1000 years"),
        }
    }
}

impl LimitError {
    /// A sentence for the error's hint, where there is something to add.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            LimitError::TooLong {
                what: "unique_key" | "group_key",
                ..
            } => Some("Use a hash of the long key."),
            _ => None,
        }
    }
}

/// Checks the name of a queue or schedule.
pub fn name(what: &'static str, name: &[u8]) -> Result<(), LimitError> {
    if name.is_empty() {
        return Err(LimitError::Empty { what });
    }
    fits(what, name, MAX_NAME_BYTES)
}

/// Checks a `unique_key`.
pub fn unique_key(key: &[u8]) -> Result<(), LimitError> {
    fits("unique_key", key, MAX_UNIQUE_KEY_BYTES)
}

/// Checks a `kind` or a `group_key`; an empty one is a text like any other.
pub fn short_text(what: &'static str, text: &[u8]) -> Result<(), LimitError> {
    fits(what, text, MAX_UNIQUE_KEY_BYTES)
}

fn fits(what: &'static str, text: &[u8], max: usize) -> Result<(), LimitError> {
    if text.len() > max {
        return Err(LimitError::TooLong { what, max });
    }
    Ok(())
}

/// Checks `max_attempts`: 1 to [`MAX_ATTEMPTS`].
pub fn max_attempts(value: i32) -> Result<(), LimitError> {
    in_range("max_attempts", value, 1, MAX_ATTEMPTS)
}

/// Checks a queue's `concurrency`: any number of jobs but none.
pub fn concurrency(value: i32) -> Result<(), LimitError> {
    in_range("concurrency", value, 1, i32::MAX)
}

/// Checks a number of which there must be at least one, such as a queue's `per_key`.
pub fn positive(what: &'static str, value: i32) -> Result<(), LimitError> {
    in_range(what, value, 1, i32::MAX)
}

/// Checks a queue's `jobs_per_savepoint`: 1 to 1000.
pub fn jobs_per_savepoint(value: i32) -> Result<(), LimitError> {
    in_range("jobs_per_savepoint", value, 1, 1000)
}

/// Checks a queue's `rate_period`: at least a millisecond.
pub fn rate_period(value: Micros) -> Result<(), LimitError> {
    match value {
        1..1_000 => Err(LimitError::TooSmall {
            what: "rate_period",
        }),
        _ => positive_interval("rate_period", value),
    }
}

fn in_range(what: &'static str, value: i32, min: i32, max: i32) -> Result<(), LimitError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(LimitError::OutOfRange {
            what,
            value,
            min,
            max,
        })
    }
}

/// Checks an interval that may be zero, such as `backoff` or `retention`.
pub fn interval(what: &'static str, value: Micros) -> Result<(), LimitError> {
    match value {
        ..0 => Err(LimitError::Negative { what }),
        0..=MAX_INTERVAL => Ok(()),
        _ => Err(LimitError::TooLarge { what }),
    }
}

/// Checks an interval that must not be zero, such as `timeout`.
pub fn positive_interval(what: &'static str, value: Micros) -> Result<(), LimitError> {
    if value == 0 {
        Err(LimitError::Zero { what })
    } else {
        interval(what, value)
    }
}

/// A piece of the user's text, fit for a message in any encoding: at most 40 characters, those
/// that are not printable ASCII as `?`.
pub(super) fn printable(text: &str) -> String {
    let safe = |c: char| {
        if c == ' ' || c.is_ascii_graphic() {
            c
        } else {
            '?'
        }
    };
    let start: String = text.chars().take(40).map(safe).collect();
    if text.chars().nth(40).is_some() {
        start + "..."
    } else {
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_any_bytes_up_to_63() {
        assert_eq!(name("queue name", b"default"), Ok(()));
        assert_eq!(name("queue name", &[0xff; 63]), Ok(()));
        assert_eq!(name("queue name", "\u{1f600}\"; drop".as_bytes()), Ok(()));
        let long = name("queue name", &[b'x'; 64]).unwrap_err();
        assert_eq!(
            long.to_string(),
            "queue name must not be longer than 63 bytes"
        );
        let empty = name("schedule name", b"").unwrap_err();
        assert_eq!(empty.to_string(), "schedule name must not be empty");
    }

    #[test]
    fn keys_have_a_size() {
        assert_eq!(unique_key(&[b'k'; 1000]), Ok(()));
        assert_eq!(unique_key(b""), Ok(()));
        let long = unique_key(&[b'k'; 1001]).unwrap_err();
        assert_eq!(long.hint(), Some("Use a hash of the long key."));
    }

    #[test]
    fn counts_have_a_range() {
        assert_eq!(max_attempts(1), Ok(()));
        assert_eq!(max_attempts(10_000), Ok(()));
        let none = max_attempts(0).unwrap_err();
        assert_eq!(
            none.to_string(),
            "max_attempts must be between 1 and 10000, not 0"
        );
        assert!(max_attempts(10_001).is_err() && concurrency(0).is_err());
        assert_eq!(concurrency(1), Ok(()));
        assert_eq!(concurrency(i32::MAX), Ok(()));
        assert_eq!(jobs_per_savepoint(1000), Ok(()));
        assert!(jobs_per_savepoint(1001).is_err() && positive("per_key", 0).is_err());
    }

    #[test]
    fn intervals_are_not_negative() {
        assert_eq!(interval("retention", 0), Ok(()));
        assert_eq!(interval("retention", MAX_INTERVAL), Ok(()));
        let negative = interval("backoff", -1).unwrap_err();
        assert_eq!(negative.to_string(), "backoff must not be negative");
        let large = interval("backoff", i64::MAX).unwrap_err();
        assert_eq!(large.to_string(), "backoff must not exceed 1000 years");
        let zero = positive_interval("timeout", 0).unwrap_err();
        assert_eq!(zero.to_string(), "timeout must be greater than zero");
        assert!(positive_interval("timeout", -1).is_err());
        assert_eq!(positive_interval("timeout", 1), Ok(()));
        assert!(rate_period(0).is_err() && rate_period(-1).is_err());
        let short = rate_period(999).unwrap_err();
        assert_eq!(short.to_string(), "rate_period must be at least 1 ms");
        assert_eq!(rate_period(1_000), Ok(()));
    }

    #[test]
    fn echoed_text_is_short_ascii() {
        assert_eq!(printable("a b\u{e9}\n"), "a b??");
        assert_eq!(printable(&"x".repeat(41)), "x".repeat(40) + "...");
    }
}
