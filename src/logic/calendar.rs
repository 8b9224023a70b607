//! Civil dates in the proleptic Gregorian calendar.
//!
//! A day is a number: 0 is 2000-01-01, a Saturday, as in PostgreSQL's `date`. A wall clock
//! reading is one number too, the seconds since 2000-01-01 00:00:00 on that clock, so that the
//! next second of a wall clock is `+ 1` and no zone is involved.

/// A wall clock reading: seconds since 2000-01-01 00:00:00 on a clock without a zone.
pub type LocalSecs = i64;

/// Seconds in a day on a wall clock.
pub const SECS_PER_DAY: i64 = 86_400;

/// The first wall clock reading that schedules know: -4800-01-01 00:00:00.
pub const MIN_LOCAL: LocalSecs = -2_483_649 * SECS_PER_DAY;

/// The last wall clock reading that schedules know: 294276-12-31 23:59:59, the last second of
/// `timestamptz` in UTC.
pub const MAX_LOCAL: LocalSecs = 106_751_983 * SECS_PER_DAY - 1;

/// Months in the 400 years after which the calendar repeats, weekdays included.
pub const MONTHS_IN_CYCLE: u32 = 4800;

/// The day of a wall clock reading, and the second in that day (0..86400).
pub fn split(local: LocalSecs) -> (i64, u32) {
    (
        local.div_euclid(SECS_PER_DAY),
        local.rem_euclid(SECS_PER_DAY) as u32,
    )
}

/// The wall clock reading of a second (0..86400) in a day.
pub fn join(day: i64, second: u32) -> LocalSecs {
    day.saturating_mul(SECS_PER_DAY)
        .saturating_add(i64::from(second))
}

/// A date; `month` is 1..=12 and `day` 1..=31, year 0 is 1 BC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// Astronomical year.
    pub year: i64,
    /// 1 is January.
    pub month: u32,
    /// Day of the month, from 1.
    pub day: u32,
}

/// The number of days in a month (28..=31).
pub const fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

const fn is_leap(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

/// The month after, as (year, month).
pub const fn month_after(year: i64, month: u32) -> (i64, u32) {
    if month >= 12 {
        (year.saturating_add(1), 1)
    } else {
        (year, month.saturating_add(1))
    }
}

/// The date `months` months later, its day cut to the length of that month, as PostgreSQL adds
/// intervals: 31 January and one month is 28 or 29 February.
pub fn add_months(date: Date, months: i64) -> Date {
    let index = date
        .year
        .saturating_mul(12)
        .saturating_add(i64::from(date.month));
    let index = index.saturating_sub(1).saturating_add(months);
    let year = index.div_euclid(12);
    let month = (index.rem_euclid(12) as u32).saturating_add(1);
    Date {
        year,
        month,
        day: date.day.min(days_in_month(year, month)),
    }
}

/// The weekday of a day: 0 is Sunday, 6 is Saturday.
pub const fn weekday(day: i64) -> u32 {
    day.saturating_add(6).rem_euclid(7) as u32
}

/// The number of a date's day. Exact for years within a million of 2000; others are clamped.
///
/// Counts in years that begin in March, so that the leap day is the last one of its year
/// (Howard Hinnant's algorithm).
#[expect(
    clippy::arithmetic_side_effects,
    reason = "the year is clamped, all terms are small"
)]
pub fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let month = i64::from(month.clamp(1, 12));
    let year = year.clamp(-1_000_000, 1_000_000) - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - DAYS_TO_2000
}

/// The date of a day. Exact for days within 400 million of 2000-01-01; others are clamped.
#[expect(
    clippy::arithmetic_side_effects,
    reason = "the day is clamped, all terms are small"
)]
pub fn civil_from_days(day: i64) -> Date {
    let days = day.clamp(-400_000_000, 400_000_000) + DAYS_TO_2000;
    let (era, doe) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let day_of_year = doe - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let month = (month_from_march + 2) % 12 + 1;
    Date {
        year: year_of_era + era * 400 + i64::from(month <= 2),
        month: month as u32,
        day: (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32,
    }
}

/// Days from 0000-03-01 to 2000-01-01.
const DAYS_TO_2000: i64 = 730_425;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::testing::Rng;

    fn date(year: i64, month: u32, day: u32) -> Date {
        Date { year, month, day }
    }

    #[test]
    fn known_days_have_known_numbers() {
        assert_eq!(days_from_civil(2000, 1, 1), 0);
        assert_eq!(days_from_civil(1970, 1, 1), -10_957);
        assert_eq!(days_from_civil(2024, 2, 29), 8825);
        assert_eq!(days_from_civil(-4800, 1, 1) * SECS_PER_DAY, MIN_LOCAL);
        assert_eq!(days_from_civil(294_277, 1, 1) * SECS_PER_DAY - 1, MAX_LOCAL);
    }

    #[test]
    fn every_day_of_a_cycle_follows_its_predecessor() {
        let mut expected = date(1899, 12, 31);
        for day in days_from_civil(1899, 12, 31)..days_from_civil(2300, 1, 1) {
            assert_eq!(civil_from_days(day), expected);
            assert_eq!(
                days_from_civil(expected.year, expected.month, expected.day),
                day
            );
            expected.day += 1;
            if expected.day > days_in_month(expected.year, expected.month) {
                let (year, month) = month_after(expected.year, expected.month);
                expected = date(year, month, 1);
            }
        }
    }

    #[test]
    fn weekdays_are_right_on_both_sides_of_the_epoch() {
        assert_eq!(weekday(0), 6);
        assert_eq!(weekday(-10_957), 4); // 1970-01-01 was a Thursday
        assert_eq!(weekday(days_from_civil(2026, 3, 1)), 0);
    }

    #[test]
    fn centuries_are_leap_every_fourth_time() {
        let lengths = [1900, 2000, 2023, 2024, 2100, 0, -4].map(|y| days_in_month(y, 2));
        assert_eq!(lengths, [28, 29, 28, 29, 28, 29, 29]);
    }

    #[test]
    fn adding_months_cuts_the_day() {
        assert_eq!(add_months(date(2024, 1, 31), 1), date(2024, 2, 29));
        assert_eq!(add_months(date(2024, 1, 31), 13), date(2025, 2, 28));
        assert_eq!(add_months(date(2024, 3, 15), -3), date(2023, 12, 15));
        assert_eq!(add_months(date(2024, 12, 1), 1), date(2025, 1, 1));
    }

    #[test]
    fn no_input_panics() {
        let mut rng = Rng::new(2);
        for _ in 0..100_000 {
            let n = rng.any_i64();
            let date = civil_from_days(n);
            let later = add_months(date, rng.any_i64());
            days_from_civil(later.year, later.month, later.day);
            let (day, second) = split(n);
            assert!(second < 86_400);
            join(day, second);
            assert!(weekday(n) < 7);
        }
    }
}
