//! A schedule's rule: a cron expression, or `every <interval>`, behind one `next_after`.
//!
//! The text of an interval is the server's to read ("90 min", "1 day 02:00", "PT5M"), so parsing
//! goes in two steps: [`parse`] tells the two kinds apart, and for the second the caller has the
//! server convert the rest and builds an [`Every`] of the parts.
//!
//! `every` counts from an anchor, the moment at which the schedule was made: due times are
//! anchor + k x interval, never the time of the last run + interval, so nothing drifts.

use std::fmt;

use super::calendar;
use super::cron::{CronError, CronExpr};
use super::zone::{self, Resolved, Zone};
use super::{MICROS_PER_SEC, Micros, Timestamp};

/// The shortest interval of `every`, in microseconds.
pub const MIN_EVERY: Micros = MICROS_PER_SEC;

/// The longest part of an interval: a thousand years.
const MAX_MONTHS: i32 = 12_000;
const MAX_DAYS: i32 = 365_250;
const MAX_MICROS: Micros = MAX_DAYS as Micros * MICROS_PER_DAY;

/// February, except in leap years.
const MIN_DAYS_OF_MONTH: i64 = 28;

const MICROS_PER_DAY: Micros = calendar::SECS_PER_DAY * MICROS_PER_SEC;

/// What a schedule text says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A cron expression or an `@` name.
    Cron(CronExpr),
    /// `every` and this interval, which the server is to read.
    Every(&'a str),
}

/// A schedule text that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleError {
    /// Not a cron expression.
    Cron(CronError),
    /// `every` with nothing behind it.
    NoInterval,
    /// An interval with a part below zero.
    Negative,
    /// An interval below [`MIN_EVERY`].
    TooShort,
    /// An interval of more than a thousand years.
    TooLong,
    /// A rule that has no due time, such as 30 February.
    NeverDue,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuleError::Cron(error) => error.fmt(f),
            RuleError::NoInterval => f.write_str("interval after \"every\" is missing"),
            RuleError::Negative => f.write_str("schedule interval must not be negative"),
            RuleError::TooShort => f.write_str("schedule interval must be at least one second"),
            RuleError::TooLong => f.write_str("schedule interval must not exceed 1000 years"),
            RuleError::NeverDue => f.write_str("schedule is never due"),
        }
    }
}

impl RuleError {
    /// A sentence for the error's hint.
    pub fn hint(&self) -> String {
        let hint = match self {
            RuleError::Cron(error) => return error.hint(),
            RuleError::NoInterval => "Write it as in \"every 10 seconds\".",
            RuleError::Negative => "Every part of the interval must be zero or more.",
            RuleError::TooShort => "For shorter periods let the job itself loop.",
            RuleError::TooLong => "Use a shorter interval.",
            RuleError::NeverDue => "No month of the schedule has such a day.",
        };
        hint.to_owned()
    }
}

/// Tells `every <interval>` from a cron expression, and parses the latter.
pub fn parse(text: &str) -> Result<Parsed<'_>, RuleError> {
    let trimmed = text.trim_ascii();
    match trimmed.split_at_checked("every".len()) {
        Some((word, rest)) if word.eq_ignore_ascii_case("every") && starts_blank(rest) => {
            match rest.trim_ascii() {
                "" => Err(RuleError::NoInterval),
                interval => Ok(Parsed::Every(interval)),
            }
        }
        _ => CronExpr::parse(text)
            .map(Parsed::Cron)
            .map_err(RuleError::Cron),
    }
}

/// Whether a text that should be a name is a schedule by its form.
pub fn looks_like_schedule(text: &str) -> bool {
    match parse(text) {
        Ok(Parsed::Cron(_)) => true,
        Ok(Parsed::Every(interval)) => interval.starts_with(|c: char| c.is_ascii_digit()),
        Err(_) => false,
    }
}

fn starts_blank(rest: &str) -> bool {
    rest.bytes().next().is_none_or(|b| b.is_ascii_whitespace())
}

/// An interval of `every`, in the three parts of PostgreSQL's `interval`.
///
/// Months and days are counted on the wall clock of the schedule's zone, microseconds in elapsed
/// time: `every 1 day` keeps its time of day when clocks change, `every 24 hours` does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Every {
    months: i32,
    days: i32,
    micros: Micros,
}

impl Every {
    /// Checks the parts: none negative, one second at least, a thousand years each at most.
    pub fn new(months: i32, days: i32, micros: Micros) -> Result<Every, RuleError> {
        if months < 0 || days < 0 || micros < 0 {
            return Err(RuleError::Negative);
        }
        if months > MAX_MONTHS || days > MAX_DAYS || micros > MAX_MICROS {
            return Err(RuleError::TooLong);
        }
        if months == 0 && days == 0 && micros < MIN_EVERY {
            return Err(RuleError::TooShort);
        }
        Ok(Every {
            months,
            days,
            micros,
        })
    }

    /// The first of anchor, anchor + interval, anchor + 2 x interval ... that is later than
    /// `after`. None: `after` or the result is beyond the last time that the server knows.
    pub fn next_after(
        &self,
        anchor: Timestamp,
        after: Timestamp,
        zone: &dyn Zone,
    ) -> Option<Timestamp> {
        if !in_range(anchor) || !in_range(after) {
            return None;
        }
        if after < anchor {
            return Some(anchor);
        }
        let next = if self.months == 0 && self.days == 0 {
            let times = after
                .checked_sub(anchor)?
                .checked_div(self.micros)?
                .checked_add(1)?;
            self.micros.checked_mul(times)?.checked_add(anchor)?
        } else {
            self.search(anchor, after, zone)?
        };
        Some(next).filter(|t| in_range(*t))
    }

    /// Finds the least k whose due time is later than `after`, by halving: due times grow with k.
    fn search(&self, anchor: Timestamp, after: Timestamp, zone: &dyn Zone) -> Option<Timestamp> {
        // A due time that no number can hold is later than any that can be asked for.
        let is_later = |k: i64| self.due(anchor, k, zone).is_none_or(|t| t > after);
        // Divided by the shortest length of the interval the time in between gives k, with one or two
        // more where clocks change.
        let days = after.checked_sub(anchor)?.checked_div(MICROS_PER_DAY)?;
        let shortest = i64::from(self.months)
            .saturating_mul(MIN_DAYS_OF_MONTH)
            .saturating_add(i64::from(self.days));
        let most = days.checked_div(shortest.max(1))?.checked_add(3)?;
        let (mut low, mut high) = (0_i64, most);
        while high.saturating_sub(low) > 1 {
            let middle = low.midpoint(high);
            if is_later(middle) {
                high = middle;
            } else {
                low = middle;
            }
        }
        self.due(anchor, high, zone).filter(|t| *t > after)
    }

    /// anchor + k x interval: months, then days on the wall clock, then microseconds.
    fn due(&self, anchor: Timestamp, k: i64, zone: &dyn Zone) -> Option<Timestamp> {
        let second = anchor.div_euclid(MICROS_PER_SEC);
        let fraction = anchor.rem_euclid(MICROS_PER_SEC);
        let (day, second) = calendar::split(zone::to_local(zone, second));
        let months = i64::from(self.months).checked_mul(k)?;
        let date = calendar::add_months(calendar::civil_from_days(day), months);
        let day = calendar::days_from_civil(date.year, date.month, date.day);
        let day = day.checked_add(i64::from(self.days).checked_mul(k)?)?;
        let at = match zone::resolve(zone, calendar::join(day, second)) {
            Resolved::Once(at) | Resolved::Repeated { first: at, .. } => at,
            Resolved::Skipped { change, .. } => change,
        };
        let elapsed = self.micros.checked_mul(k)?.checked_add(fraction)?;
        at.checked_mul(MICROS_PER_SEC)?.checked_add(elapsed)
    }
}

/// Whether schedules know this instant: finite, and a time that the server knows, or a few years before.
pub(super) fn in_range(t: Timestamp) -> bool {
    (calendar::MIN_LOCAL..=calendar::MAX_LOCAL).contains(&t.div_euclid(MICROS_PER_SEC))
}

/// When a schedule is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// By a cron expression.
    Cron(CronExpr),
    /// Every so often.
    Every {
        /// The interval.
        every: Every,
        /// The moment counted from.
        anchor: Timestamp,
    },
}

impl Rule {
    /// The first due instant strictly later than `after`; None: there is none that the server knows, or
    /// `after` is infinite.
    pub fn next_after(&self, after: Timestamp, zone: &dyn Zone) -> Option<Timestamp> {
        match self {
            Rule::Cron(expr) => expr.next_after(after, zone),
            Rule::Every { every, anchor } => every.next_after(*anchor, after, zone),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::testing::{BERLIN, LORD_HOWE, NEW_YORK, Rng, UTC, show, utc};

    const HOUR: Micros = 3600 * MICROS_PER_SEC;

    fn runs(every: Every, anchor: &str, zone: &dyn Zone, n: usize) -> Vec<String> {
        let rule = Rule::Every {
            every,
            anchor: utc(anchor),
        };
        let next = |t: &Timestamp| rule.next_after(*t, zone);
        std::iter::successors(next(&utc(anchor)), next)
            .take(n)
            .map(show)
            .collect()
    }

    #[test]
    fn every_is_told_from_cron() {
        assert_eq!(
            parse(" EVERY  10 seconds "),
            Ok(Parsed::Every("10 seconds"))
        );
        assert_eq!(parse("every\t1 day"), Ok(Parsed::Every("1 day")));
        assert!(matches!(parse("@daily"), Ok(Parsed::Cron(_))));
        assert!(matches!(parse("*/5 * * * *"), Ok(Parsed::Cron(_))));
        assert_eq!(parse("every  "), Err(RuleError::NoInterval));
        assert!(matches!(parse("everyday"), Err(RuleError::Cron(_))));
        assert!(matches!(parse("\u{e9}very 1 s"), Err(RuleError::Cron(_))));
        assert!(matches!(parse(""), Err(RuleError::Cron(CronError::Empty))));
    }

    #[test]
    fn a_name_is_no_schedule() {
        for text in ["* * * * *", "@daily", "every 5 minutes", " 0 3 * * mon"] {
            assert!(looks_like_schedule(text), "{text}");
        }
        for text in [
            "nightly",
            "every night",
            "tidy up",
            "",
            "1",
            "one two three four five",
        ] {
            assert!(!looks_like_schedule(text), "{text}");
        }
    }

    #[test]
    fn intervals_are_at_least_a_second() {
        assert_eq!(Every::new(0, 0, 999_999), Err(RuleError::TooShort));
        assert_eq!(Every::new(0, 0, 0), Err(RuleError::TooShort));
        assert_eq!(Every::new(0, -1, 25 * HOUR), Err(RuleError::Negative));
        assert_eq!(Every::new(0, 0, i64::MAX), Err(RuleError::TooLong));
        assert!(Every::new(0, 0, 1_000_000).is_ok() && Every::new(1, 0, 0).is_ok());
    }

    #[test]
    fn errors_speak_like_postgresql() {
        for error in [
            RuleError::Cron(CronError::Empty),
            RuleError::NoInterval,
            RuleError::Negative,
            RuleError::TooShort,
            RuleError::TooLong,
            RuleError::NeverDue,
        ] {
            let message = error.to_string();
            assert!(message.starts_with(char::is_lowercase) && !message.ends_with('.'));
            assert!(error.hint().ends_with('.'));
        }
    }

    #[test]
    fn elapsed_intervals_count_from_the_anchor() {
        let every = Every::new(0, 0, 10 * MICROS_PER_SEC).unwrap();
        let anchor = utc("2025-01-01 00:00:03");
        let next = |t| every.next_after(anchor, t, &UTC);
        assert_eq!(next(anchor), Some(utc("2025-01-01 00:00:13")));
        assert_eq!(
            next(utc("2025-01-01 00:00:12")),
            Some(utc("2025-01-01 00:00:13"))
        );
        assert_eq!(
            next(utc("2025-01-01 00:00:13")),
            Some(utc("2025-01-01 00:00:23"))
        );
        assert_eq!(next(utc("2024-06-01 00:00")), Some(anchor));
    }

    #[test]
    fn days_keep_the_time_of_day_and_hours_do_not() {
        let day = Every::new(0, 1, 0).unwrap();
        let spring = ["2025-03-30 10:00:00", "2025-03-31 10:00:00"];
        assert_eq!(runs(day, "2025-03-29 11:00", &BERLIN, 2), spring);
        let hours = Every::new(0, 0, 24 * HOUR).unwrap();
        let elapsed = ["2025-03-30 11:00:00", "2025-03-31 11:00:00"];
        assert_eq!(runs(hours, "2025-03-29 11:00", &BERLIN, 2), elapsed);
    }

    #[test]
    fn months_count_from_the_anchor_and_do_not_lose_days() {
        let month = Every::new(1, 0, 0).unwrap();
        let ends = [
            "2025-02-28 12:00:00",
            "2025-03-31 12:00:00",
            "2025-04-30 12:00:00",
        ];
        assert_eq!(runs(month, "2025-01-31 12:00", &UTC, 3), ends);
    }

    #[test]
    fn long_intervals_go_on_to_the_end_of_time() {
        for (years, runs) in [(1, 292_250), (10, 29_225), (100, 2_922), (1000, 292)] {
            let every = Every::new(years * 12, 0, 0).unwrap();
            let anchor = utc("2026-02-28 12:00");
            let next = |t: &Timestamp| every.next_after(anchor, *t, &BERLIN);
            let all = std::iter::successors(next(&anchor), next);
            assert_eq!(all.count(), runs, "every {years} years");
        }
        let days = Every::new(0, 365_000, 12 * HOUR).unwrap();
        let next = |t: &Timestamp| days.next_after(0, *t, &UTC);
        assert_eq!(std::iter::successors(next(&0), next).count(), 292);
    }

    #[test]
    fn infinite_times_have_no_successor() {
        let every = Every::new(0, 0, MIN_EVERY).unwrap();
        let anchor = utc("2025-01-01 00:00");
        assert_eq!(every.next_after(anchor, i64::MAX, &UTC), None);
        assert_eq!(every.next_after(anchor, i64::MIN, &UTC), None);
        assert_eq!(every.next_after(i64::MIN, anchor, &UTC), None);
    }

    #[test]
    fn results_increase_and_leave_nothing_out() {
        let mut rng = Rng::new(13);
        let (low, high) = (utc("2024-01-01 00:00"), utc("2030-12-31 00:00"));
        for _ in 0..20_000 {
            let parts = (
                rng.range(0, 3),
                rng.range(0, 9),
                rng.range(0, 30) * HOUR / 4,
            );
            let Ok(every) = Every::new(parts.0 as i32, parts.1 as i32, parts.2) else {
                continue;
            };
            let zone = *rng.pick(&[&UTC, &BERLIN, &NEW_YORK, &LORD_HOWE]);
            let anchor = rng.range(low, high);
            let mut t = rng.range(anchor, high);
            for _ in 0..4 {
                let next = every.next_after(anchor, t, zone).unwrap();
                assert!(next > t);
                assert_eq!(
                    every.next_after(anchor, rng.range(t, next - 1), zone),
                    Some(next)
                );
                t = next;
            }
        }
    }

    #[test]
    fn no_input_panics() {
        let mut rng = Rng::new(14);
        for _ in 0..100_000 {
            let parts = (rng.any_i64() as i32, rng.any_i64() as i32, rng.any_i64());
            let Ok(every) = Every::new(parts.0, parts.1, parts.2) else {
                continue;
            };
            let (anchor, t) = (rng.any_i64(), rng.any_i64());
            assert!(
                every
                    .next_after(anchor, t, &BERLIN)
                    .is_none_or(|next| next > t)
            );
        }
    }
}
