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
mod tests;
