//! When a cron expression is due.
//!
//! Two questions. [`CronExpr::next_local`] looks at the calendar only: the next wall clock
//! reading that matches. [`CronExpr::next_after`] finds the next instant, in a zone whose clock
//! is set forward and back.
//!
//! **Days.** A day field restricts unless it contains a bare `*` (or is `?`). If both the day of
//! month and the day of week restrict, a day that matches EITHER is due (POSIX). `*/2` restricts:
//! it names every other day. Vixie cron, and pg_cron with it, treats `*/2` like `*` here and
//! wants both fields to match; we side with POSIX and croniter. So we do where one field names all
//! its values and the other has a star: `*/6` with `0-6` means every sixth day, not every day.
//!
//! **Clock changes.** An expression whose hour field names particular hours runs by the wall
//! clock, and each reading counts once:
//!
//! - a reading that the clock jumps over is due at the jump, the next valid instant; several of
//!   them, or one that is due at that instant anyway, are due once (`30 2 * * *` where 02:00
//!   becomes 03:00 is due at 03:00);
//! - a reading that comes twice is due the first time only.
//!
//! An expression that covers all 24 hours (`*`, `0-23`, `*/1`) means "at this minute of every
//! hour, whatever it is called": skipped readings are not made up for, repeated ones are due
//! both times, so `*/10 * * * *` goes on every ten minutes through either night. This is the ISC
//! cron rule, with the hour field alone deciding. croniter does the same, but for one thing: it
//! runs fixed times twice when the clock is set back.
//!
//! An expression that is never due (`0 0 30 2 *`) gives None after one look at each month of the
//! 400 years in which the calendar repeats.

use super::calendar::{self, LocalSecs, MAX_LOCAL, MIN_LOCAL, MONTHS_IN_CYCLE};
use super::cron_field::{Values, bit};
use super::zone::{self, Resolved, UtcSecs, Zone};
use super::{MICROS_PER_SEC, Timestamp};

pub use super::cron_field::{CronError, Field};

/// How many readings in a row may turn out to lie before the instant asked for. An honest zone
/// needs two; a zone that contradicts itself must not make the search endless.
const MAX_TRIES: u32 = 100;

const ALL_HOURS: u64 = (1 << 24) - 1;
const ALL_DAYS: u64 = (1 << 32) - 2;
const ALL_WEEKDAYS: u64 = (1 << 7) - 1;

/// A parsed cron expression: one bit per value of each field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CronExpr {
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    last_day: bool,
    any_day: bool,
    any_weekday: bool,
}

/// What becomes of readings that the clock jumps over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Skipped {
    RunAtTheJump,
    Drop,
}

impl CronExpr {
    pub(super) fn new(fields: [Values; 6]) -> CronExpr {
        let [seconds, minutes, hours, days, months, weekdays] = fields;
        CronExpr {
            seconds: seconds.mask,
            minutes: minutes.mask,
            hours: hours.mask,
            days: days.mask,
            months: months.mask,
            weekdays: weekdays.mask,
            last_day: days.last_day,
            any_day: days.any || (days.mask == ALL_DAYS && weekdays.star),
            any_weekday: weekdays.any || (weekdays.mask == ALL_WEEKDAYS && days.star),
        }
    }

    /// The first due instant after `after`, in whole seconds. None: never again as long as the server
    /// counts time, or `after` is infinite or outside of that.
    ///
    /// Strictly later than `after`, so that feeding results back gives each due time once.
    pub fn next_after(&self, after: Timestamp, zone: &dyn Zone) -> Option<Timestamp> {
        let now = after.div_euclid(MICROS_PER_SEC);
        if !(MIN_LOCAL..=MAX_LOCAL).contains(&now) {
            return None;
        }
        let next = if self.hours == ALL_HOURS {
            self.next_by_elapsed_time(now, zone)
        } else {
            self.next_by_wall_clock(now, zone)
        };
        // West of Greenwich the last readings stand for instants beyond.
        next.filter(|at| *at <= MAX_LOCAL)?
            .checked_mul(MICROS_PER_SEC)
    }

    /// The first matching wall clock reading after `after`, up to the last one.
    pub fn next_local(&self, after: LocalSecs) -> Option<LocalSecs> {
        let start = after.checked_add(1)?;
        if !(MIN_LOCAL..=MAX_LOCAL).contains(&start) {
            return None;
        }
        let (day, second) = calendar::split(start);
        if self.covers(day)
            && let Some(second) = self.second_from(second)
        {
            return Some(calendar::join(day, second));
        }
        let day = self.day_after(day)?;
        Some(calendar::join(day, self.second_from(0)?))
    }

    /// Particular hours: each reading once, the skipped ones at the jump.
    fn next_by_wall_clock(&self, now: UtcSecs, zone: &dyn Zone) -> Option<UtcSecs> {
        let here = zone::to_local(zone, now);
        let from = match zone::resolve(zone, here) {
            // All repeated readings have had their first, only, turn.
            Resolved::Repeated { change, until, .. } if now >= change => until.saturating_sub(1),
            _ => here,
        };
        self.first_instant(from, now, zone, Skipped::RunAtTheJump)
    }

    /// Every hour: real readings only, the repeated ones both times.
    fn next_by_elapsed_time(&self, now: UtcSecs, zone: &dyn Zone) -> Option<UtcSecs> {
        let here = zone::to_local(zone, now);
        if let Resolved::Repeated {
            change,
            from,
            until,
            ..
        } = zone::resolve(zone, here)
        {
            let repeated = |local: &LocalSecs| *local < until;
            if let Some(local) = self.next_local(here).filter(repeated) {
                return Some(now.saturating_add(local.saturating_sub(here)));
            }
            let again = self.next_local(from.saturating_sub(1)).filter(repeated);
            if let (true, Some(local)) = (now < change, again) {
                return Some(change.saturating_add(local.saturating_sub(from)));
            }
        }
        self.first_instant(here, now, zone, Skipped::Drop)
    }

    /// The instant of the first reading after `from` that stands for one after `now`; the first
    /// of two.
    fn first_instant(
        &self,
        from: LocalSecs,
        now: UtcSecs,
        zone: &dyn Zone,
        skipped: Skipped,
    ) -> Option<UtcSecs> {
        let mut local = from;
        for _ in 0..MAX_TRIES {
            local = self.next_local(local)?;
            let at = match zone::resolve(zone, local) {
                Resolved::Once(at) | Resolved::Repeated { first: at, .. } => at,
                Resolved::Skipped { change, .. } if skipped == Skipped::RunAtTheJump => change,
                Resolved::Skipped { until, .. } => {
                    local = local.max(until.saturating_sub(1));
                    continue;
                }
            };
            if at > now {
                return Some(at);
            }
        }
        None
    }

    fn covers(&self, day: i64) -> bool {
        let date = calendar::civil_from_days(day);
        self.days_of(date.year, date.month) & bit(date.day) != 0
    }

    /// The first day after `day` that is covered.
    fn day_after(&self, day: i64) -> Option<i64> {
        let date = calendar::civil_from_days(day);
        let (mut year, mut month) = (date.year, date.month);
        let mut first = date.day.saturating_add(1);
        for _ in 0..=MONTHS_IN_CYCLE {
            if let Some(day) = value_from(self.days_of(year, month), first) {
                return Some(calendar::days_from_civil(year, month, day)).filter(in_range);
            }
            (year, month) = calendar::month_after(year, month);
            first = 1;
        }
        None
    }

    /// The days of a month that are covered, as bits.
    fn days_of(&self, year: i64, month: u32) -> u64 {
        if self.months & bit(month) == 0 {
            return 0;
        }
        let length = calendar::days_in_month(year, month);
        let last = if self.last_day { bit(length) } else { 0 };
        let by_date = self.days | last;
        let by_weekday = weekdays_in_month(self.weekdays, year, month);
        let days = match (self.any_day, self.any_weekday) {
            (true, true) => u64::MAX,
            (true, false) => by_weekday,
            (false, true) => by_date,
            (false, false) => by_date | by_weekday,
        };
        days & bit(length.saturating_add(1)).saturating_sub(2)
    }

    /// The first second of a day, from `second` on, that matches.
    fn second_from(&self, second: u32) -> Option<u32> {
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        if self.hours & bit(hour) != 0 {
            if self.minutes & bit(minute) != 0
                && let Some(second) = value_from(self.seconds, second)
            {
                return Some(second_of_day(hour, minute, second));
            }
            if let Some(minute) = value_from(self.minutes, minute.saturating_add(1)) {
                return Some(second_of_day(hour, minute, value_from(self.seconds, 0)?));
            }
        }
        let hour = value_from(self.hours, hour.saturating_add(1))?;
        let minute = value_from(self.minutes, 0)?;
        Some(second_of_day(hour, minute, value_from(self.seconds, 0)?))
    }
}

fn in_range(day: &i64) -> bool {
    calendar::join(*day, 0) <= MAX_LOCAL
}

fn second_of_day(hour: u32, minute: u32, second: u32) -> u32 {
    hour.saturating_mul(3600)
        .saturating_add(minute.saturating_mul(60))
        .saturating_add(second)
}

/// The lowest value in `mask` that is not below `from`.
fn value_from(mask: u64, from: u32) -> Option<u32> {
    let rest = mask & u64::MAX.checked_shl(from).unwrap_or(0);
    (rest != 0).then(|| rest.trailing_zeros())
}

/// The days of a month (bits 1..=35) that fall on `weekdays` (bits 0..=6).
fn weekdays_in_month(weekdays: u64, year: i64, month: u32) -> u64 {
    const FIVE_WEEKS: u64 = 1 | 1 << 7 | 1 << 14 | 1 << 21 | 1 << 28;
    let first = calendar::weekday(calendar::days_from_civil(year, month, 1));
    let doubled = weekdays | weekdays << 7;
    let week_from_first = doubled.checked_shr(first).unwrap_or(0) & 0x7f;
    week_from_first.wrapping_mul(FIVE_WEEKS) << 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::testing::{BERLIN, LORD_HOWE, NEW_YORK, Rng, TableZone, UTC, show, utc};

    fn cron(text: &str) -> CronExpr {
        CronExpr::parse(text).unwrap()
    }

    /// The next `n` due instants in UTC.
    fn runs(text: &str, zone: &dyn Zone, after: &str, n: usize) -> Vec<String> {
        let expr = cron(text);
        let next = |t: &Timestamp| expr.next_after(*t, zone);
        std::iter::successors(next(&utc(after)), next)
            .take(n)
            .map(show)
            .collect()
    }

    fn assert_runs(text: &str, zone: &dyn Zone, after: &str, expected: &[&str]) {
        let got = runs(text, zone, after, expected.len());
        assert_eq!(got, expected, "{text} after {after}");
    }

    #[test]
    fn plain_expressions_in_utc() {
        let after = "2025-06-13 12:34:56"; // a Friday
        for (text, next) in [
            ("* * * * *", "2025-06-13 12:35:00"),
            ("* * * * * *", "2025-06-13 12:34:57"),
            ("*/20 * * * * *", "2025-06-13 12:35:00"),
            ("0 9 * * mon-fri", "2025-06-16 09:00:00"),
            ("0 0 L * *", "2025-06-30 00:00:00"),
            ("0 0 29 2 *", "2028-02-29 00:00:00"),
            ("59 23 31 12 *", "2025-12-31 23:59:00"),
            ("30 12 13 6 *", "2026-06-13 12:30:00"),
            ("@weekly", "2025-06-15 00:00:00"),
        ] {
            assert_runs(text, &UTC, after, &[next]);
        }
    }

    #[test]
    fn either_day_field_is_enough() {
        let first_days = [
            "2025-06-02 00:00:00",
            "2025-06-09 00:00:00",
            "2025-06-13 00:00:00",
        ];
        assert_runs("0 0 13 * mon", &UTC, "2025-06-01 00:00", &first_days);
        let odd_or_monday = [
            "2025-06-02 00:00:00",
            "2025-06-03 00:00:00",
            "2025-06-05 00:00:00",
        ];
        assert_runs("0 0 */2 * 1", &UTC, "2025-06-01 00:00", &odd_or_monday);
        let mondays = ["2025-06-02 00:00:00", "2025-06-09 00:00:00"];
        assert_runs("0 0 ? * 1", &UTC, "2025-06-01 00:00", &mondays);
        assert_runs(
            "0 0 */1 * */7",
            &UTC,
            "2025-06-01 00:00",
            &["2025-06-08 00:00:00"],
        );
        assert_runs(
            "0 0 */9 * 1-7",
            &UTC,
            "2025-06-01 00:00",
            &["2025-06-10 00:00:00"],
        );
        assert_runs(
            "0 0 1-31 * 1",
            &UTC,
            "2025-06-01 00:00",
            &["2025-06-02 00:00:00", "2025-06-03 00:00:00"],
        );
    }

    #[test]
    fn the_instant_asked_for_is_not_an_answer() {
        assert_runs(
            "0 12 * * *",
            &UTC,
            "2025-06-13 12:00",
            &["2025-06-14 12:00:00"],
        );
        let almost = utc("2025-06-13 12:00") - 1;
        assert_eq!(
            cron("0 12 * * *").next_after(almost, &UTC),
            Some(almost + 1)
        );
    }

    #[test]
    fn skipped_readings_run_once_at_the_jump() {
        let jump = "2025-03-30 01:00:00";
        for text in [
            "30 2 * * *",
            "0 2 * * *",
            "*/10 2 * * *",
            "0 2,3 * * *",
            "15 30 2 * * *",
        ] {
            assert_eq!(runs(text, &BERLIN, "2025-03-30 00:59", 1), [jump], "{text}");
            assert!(runs(text, &BERLIN, jump, 1)[0].as_str() > jump);
        }
        let next_day = ["2025-03-30 01:00:00", "2025-03-31 00:30:00"];
        assert_runs("30 2 * * *", &BERLIN, "2025-03-29 12:00", &next_day);
    }

    #[test]
    fn repeated_readings_run_the_first_time() {
        let days = [
            "2025-10-25 00:30:00",
            "2025-10-26 00:30:00",
            "2025-10-27 01:30:00",
        ];
        assert_runs("30 2 * * *", &BERLIN, "2025-10-25 00:00", &days);
        let fast = ["2025-10-26 00:59:59", "2025-10-27 01:00:00"];
        assert_runs("* * 2 * * *", &BERLIN, "2025-10-26 00:59:58", &fast);
        // Asked in the middle of the second pass.
        assert_runs(
            "30 2 * * *",
            &BERLIN,
            "2025-10-26 01:15",
            &["2025-10-27 01:30:00"],
        );
    }

    #[test]
    fn every_hour_follows_elapsed_time() {
        let spring = ["2025-03-30 00:30:00", "2025-03-30 01:30:00"];
        assert_runs("30 * * * *", &BERLIN, "2025-03-30 00:00", &spring);
        let autumn = [
            "2025-10-26 00:30:00",
            "2025-10-26 01:30:00",
            "2025-10-26 02:30:00",
        ];
        assert_runs("30 0-23 * * *", &BERLIN, "2025-10-26 00:00", &autumn);
        let from_second_pass = ["2025-10-26 01:30:00", "2025-10-26 02:30:00"];
        assert_runs("30 * * * *", &BERLIN, "2025-10-26 01:00", &from_second_pass);
        for expected in 1..12 {
            let after = utc("2025-10-26 00:00") + (expected - 1) * 600 * MICROS_PER_SEC;
            let next = cron("*/10 * * * *").next_after(after, &BERLIN).unwrap();
            assert_eq!(next - after, 600 * MICROS_PER_SEC);
        }
    }

    #[test]
    fn half_hour_changes_keep_the_rules() {
        // 02:00 becomes 02:30 at 15:30 UTC.
        let before = "2025-10-04 15:20";
        assert_runs("15 2 * * *", &LORD_HOWE, before, &["2025-10-04 15:30:00"]);
        assert_runs("15 * * * *", &LORD_HOWE, before, &["2025-10-04 16:15:00"]);
    }

    #[test]
    fn a_lost_day_runs_once() {
        let apia = TableZone {
            first: -36_000,
            table: &[(1_325_239_200, 50_400)],
        };
        let days = [
            "2011-12-29 10:00:00",
            "2011-12-30 10:00:00",
            "2011-12-31 10:00:00",
        ];
        assert_runs("@daily", &apia, "2011-12-29 00:00", &days);
    }

    #[test]
    fn impossible_dates_are_never_due() {
        for text in [
            "0 0 30 2 *",
            "0 0 31 4,6,9,11 *",
            "0 0 31 2 ?",
            "0 0 30-31 feb *",
        ] {
            let started = std::time::Instant::now();
            assert_eq!(
                cron(text).next_after(utc("2025-01-01 00:00"), &BERLIN),
                None,
                "{text}"
            );
            assert!(started.elapsed().as_millis() < 100);
        }
    }

    #[test]
    fn rare_dates_are_found() {
        assert_runs(
            "0 0 29 2 *",
            &UTC,
            "2096-03-01 00:00",
            &["2104-02-29 00:00:00"],
        );
        assert_runs(
            "0 0 1 1 *",
            &UTC,
            "9998-06-01 00:00",
            &["9999-01-01 00:00:00", "10000-01-01 00:00:00"],
        );
        let last = MAX_LOCAL * MICROS_PER_SEC;
        let expr = cron("59 23 31 12 *");
        assert_eq!(expr.next_after(last, &UTC), None);
        assert_eq!(
            expr.next_after(last - 86_400 * MICROS_PER_SEC, &NEW_YORK),
            None
        );
        let end = cron("59 59 23 31 12 *").next_after(last - 1, &UTC);
        assert_eq!(end, Some(last));
    }

    #[test]
    fn infinite_and_distant_times_are_never_due() {
        let last = MAX_LOCAL * MICROS_PER_SEC;
        for t in [i64::MIN, i64::MAX, i64::MIN + 1, last, last + 1] {
            assert_eq!(cron("* * * * *").next_after(t, &BERLIN), None);
        }
        assert!(
            cron("* * * * *")
                .next_after(-211_813_488_000_000_000, &BERLIN)
                .is_some()
        );
    }

    fn random_expr(rng: &mut Rng) -> CronExpr {
        let mut field = |low: i64, high: i64, star: i64| match rng.range(0, 9) {
            n if n < star => "*".to_owned(),
            n if n % 3 == 0 => format!("*/{}", rng.range(1, 20)),
            n if n % 3 == 1 => {
                let from = rng.range(low, high);
                format!("{from}-{}", rng.range(from, high))
            }
            _ => format!("{},{}", rng.range(low, high), rng.range(low, high)),
        };
        let (s, m, h) = (field(0, 59, 2), field(0, 59, 3), field(0, 23, 4));
        let (dom, mon, dow) = (field(1, 31, 6), field(1, 12, 7), field(0, 7, 7));
        cron(&format!("{s} {m} {h} {dom} {mon} {dow}"))
    }

    #[test]
    fn results_increase_and_match() {
        let mut rng = Rng::new(6);
        let (low, high) = (utc("2024-01-01 00:00"), utc("2030-12-31 00:00"));
        for _ in 0..20_000 {
            let expr = random_expr(&mut rng);
            let zone = *rng.pick(&[&UTC, &BERLIN, &NEW_YORK, &LORD_HOWE]);
            let mut t = rng.range(low, high);
            for _ in 0..5 {
                let Some(next) = expr.next_after(t, zone) else {
                    break;
                };
                assert!(next > t && next % MICROS_PER_SEC == 0);
                let before = next - MICROS_PER_SEC;
                let local = zone::to_local(zone, next / MICROS_PER_SEC);
                let after_jump = zone.offset_at(before) < zone.offset_at(next);
                assert!(expr.next_local(local - 1) == Some(local) || after_jump);
                // Nothing is due in between, from wherever one looks.
                assert_eq!(expr.next_after(rng.range(t, next - 1), zone), Some(next));
                t = next;
            }
        }
    }

    #[test]
    fn local_search_agrees_with_trying_every_second() {
        let mut rng = Rng::new(7);
        for _ in 0..2_000 {
            let expr = random_expr(&mut rng);
            let from = rng.range(0, 30 * 365 * 86_400);
            let fits = |local: &i64| {
                let (day, second) = calendar::split(*local);
                expr.covers(day)
                    && expr.hours & bit(second / 3600) != 0
                    && expr.minutes & bit(second / 60 % 60) != 0
                    && expr.seconds & bit(second % 60) != 0
            };
            let slow = (from + 1..from + 7200).find(fits);
            let fast = expr.next_local(from).filter(|local| *local < from + 7200);
            assert_eq!(fast, slow);
        }
    }

    #[test]
    fn a_lying_zone_ends_the_search() {
        struct Liar;
        impl Zone for Liar {
            fn offset_at(&self, t: Timestamp) -> i32 {
                ((t / MICROS_PER_SEC) as i32).wrapping_mul(0x9e37_79b9_u32 as i32) % 50_000
            }
        }
        let mut rng = Rng::new(8);
        for _ in 0..5_000 {
            let (expr, t) = (random_expr(&mut rng), rng.any_i64());
            assert!(expr.next_after(t, &Liar).is_none_or(|next| next > t));
        }
    }
}
