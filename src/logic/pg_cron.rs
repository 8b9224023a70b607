//! What a schedule text of pg_cron means, and the text of ours that means the same.
//!
//! pg_cron reads its texts by Vixie cron's code (`entry.c`), with `$` for the last day of the month and
//! `30 seconds` added. This module reads them as that code does, quirks included: what follows the fifth field
//! is ignored, and so is what follows an item ([`read`]). What its releases read differently is refused. What it does with
//! an entry stands in `pg_cron.c` (`ShouldRunTask`): each minute is compared with the wall clock, so a reading
//! that the clock jumps over is never due, and one that comes twice is due twice. Two day fields must both
//! match as soon as one of them begins with a star.
//!
//! [`Entry::text`] writes an entry in our grammar, and [`Entry::differs`] finds the first instant at which the
//! two are not the same, for which only the nights matter in which clocks are set.

mod read;

use std::fmt;

use super::calendar::{self, SECS_PER_DAY};
use super::cron::CronExpr;
use super::cron_field::bit;
use super::zone::{self, UtcSecs, Zone};
use super::{MICROS_PER_SEC, Timestamp};

pub use read::read;

/// How far ahead clocks are looked at: after 28 years weekdays and dates come together again.
const YEARS_AHEAD: i64 = 28;
/// A zone that is set and set back within this time is not seen to change.
const STEP: i64 = 7 * SECS_PER_DAY;
/// So long before and after a change of the clock due times may differ; with the last day of the month, which
/// pg_cron finds by looking 24 hours ahead, for longer.
const AROUND: i64 = 4 * 3600;
const AROUND_LAST_DAY: i64 = 26 * 3600;

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// What a text means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// So many seconds after the last start.
    Every(u32),
    /// By the wall clock.
    Entry(Entry),
}

/// Why a text has no counterpart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// pg_cron cannot read it, and never runs the job.
    Unreadable,
    /// `@reboot`.
    Reboot,
    /// `@yearly`, `@annually`.
    Yearly,
    /// A range whose end lies before its start.
    Backwards,
    /// Both day fields restrict, and a day must match both.
    BothDays,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Unreadable => "pg_cron cannot read the schedule",
            Refusal::Reboot => "it runs when the server starts, which no schedule here does",
            Refusal::Yearly => {
                "releases of pg_cron differ: since 1.6 they never run it, before that on 1 January; \
                 schedule it as \"0 0 1 1 *\""
            }
            Refusal::Backwards => "releases of pg_cron differ about a range that runs backwards",
            Refusal::BothDays => {
                "a day must match both the day of month and the day of week, which no schedule here says"
            }
        })
    }
}

/// An entry: one bit for each value of a field, and which days count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    last_day: bool,
    /// A day must match both day fields; else one of them.
    both: bool,
}

/// A field: its first and last value and its names.
#[derive(Clone, Copy)]
struct Field {
    first: u32,
    last: u32,
    names: &'static [&'static str],
}

const MINUTE: Field = Field {
    first: 0,
    last: 59,
    names: &[],
};
const HOUR: Field = Field {
    first: 0,
    last: 23,
    names: &[],
};
const DAY: Field = Field {
    first: 1,
    last: 31,
    names: &[],
};
const MONTH: Field = Field {
    first: 1,
    last: 12,
    names: &MONTHS,
};
/// 0 and 7 are Sunday.
const WEEKDAY: Field = Field {
    first: 0,
    last: 7,
    names: &WEEKDAYS,
};
/// The same as it is written.
const WEEKDAY_ONCE: Field = Field {
    first: 0,
    last: 6,
    names: &WEEKDAYS,
};

impl Field {
    fn all(self) -> u64 {
        spread(self.first, self.last, 1)
    }

    fn has(self, value: u32) -> bool {
        (self.first..=self.last).contains(&value)
    }
}

/// The values low, low + step, ... up to high.
fn spread(low: u32, high: u32, step: u32) -> u64 {
    let values = (low..=high).step_by(usize::try_from(step.max(1)).unwrap_or(1));
    values.fold(0, |mask, value| mask | bit(value))
}

impl Entry {
    /// The text of ours that means the same on days without a change of the clock: that of pg_cron itself
    /// where it can be, `L` in place of `$`, or the values one by one.
    pub fn text(&self, original: &str) -> Result<(String, CronExpr), Refusal> {
        let written = self.written()?;
        let expr = CronExpr::parse(&written).map_err(|_| Refusal::Unreadable)?;
        let original = original.trim_ascii();
        for text in [original.to_owned(), original.replace('$', "L")] {
            if CronExpr::parse(&text) == Ok(expr) {
                return Ok((text, expr));
            }
        }
        Ok((written, expr))
    }

    fn written(&self) -> Result<String, Refusal> {
        let any_day = self.days == DAY.all();
        let any_weekday = self.weekdays == WEEKDAY_ONCE.all();
        let (days, weekdays) = match (any_day, any_weekday) {
            (false, false) if self.both => return Err(Refusal::BothDays),
            // Where one of them is enough, any day is.
            (true, false) | (false, true) if !self.both => ("*".to_owned(), "*".to_owned()),
            _ => (self.days_written(), values(WEEKDAY_ONCE, self.weekdays)),
        };
        let (minutes, hours) = (values(MINUTE, self.minutes), values(HOUR, self.hours));
        let months = values(MONTH, self.months);
        Ok(format!("{minutes} {hours} {days} {months} {weekdays}"))
    }

    fn days_written(&self) -> String {
        match self.last_day {
            true => "L".to_owned(),
            false => values(DAY, self.days),
        }
    }

    /// Whether pg_cron runs the job in the minute that begins then.
    pub fn is_due(&self, at: UtcSecs, zone: &dyn Zone) -> bool {
        let (day, second) = calendar::split(zone::to_local(zone, at));
        if self.minutes & bit(second / 60 % 60) == 0 || self.hours & bit(second / 3600) == 0 {
            return false;
        }
        let date = calendar::civil_from_days(day);
        if self.months & bit(date.month) == 0 {
            return false;
        }
        let by_date = self.days & bit(date.day) != 0 || self.last_day && is_last_day(at, zone);
        let by_weekday = self.weekdays & bit(calendar::weekday(day)) != 0;
        match self.both {
            true => by_date && by_weekday,
            false => by_date || by_weekday,
        }
    }

    /// The first minute, within a generation, at which pg_cron runs the job and `expr` is not due, or the
    /// reverse.
    pub fn differs(&self, expr: &CronExpr, zone: &dyn Zone, now: Timestamp) -> Option<UtcSecs> {
        let around = match self.last_day {
            true => AROUND_LAST_DAY,
            false => AROUND,
        };
        let now = now.div_euclid(MICROS_PER_SEC);
        changes(zone, now).into_iter().find_map(|change| {
            let minute = change.div_euclid(60).saturating_mul(60);
            let from = minute.saturating_sub(around).max(now);
            self.differs_within(expr, zone, from, minute.saturating_add(around))
        })
    }

    fn differs_within(
        &self,
        expr: &CronExpr,
        zone: &dyn Zone,
        from: UtcSecs,
        until: UtcSecs,
    ) -> Option<UtcSecs> {
        let from = from.saturating_add(59).div_euclid(60).saturating_mul(60);
        let after = from.saturating_mul(MICROS_PER_SEC).saturating_sub(1);
        let mut ours = expr.next_after(after, zone);
        let mut minute = from;
        while minute < until {
            let is_ours = ours == Some(minute.saturating_mul(MICROS_PER_SEC));
            if is_ours != self.is_due(minute, zone) {
                return Some(minute);
            }
            if is_ours {
                ours = ours.and_then(|at| expr.next_after(at, zone));
            }
            minute = minute.saturating_add(60);
        }
        None
    }
}

/// pg_cron looks whether it is the first in 24 hours.
fn is_last_day(at: UtcSecs, zone: &dyn Zone) -> bool {
    let tomorrow = zone::to_local(zone, at.saturating_add(SECS_PER_DAY));
    calendar::civil_from_days(calendar::split(tomorrow).0).day == 1
}

/// The instants at which the clock of a zone is set.
fn changes(zone: &dyn Zone, now: UtcSecs) -> Vec<UtcSecs> {
    let end = now.saturating_add(YEARS_AHEAD.saturating_mul(366 * SECS_PER_DAY));
    let (mut found, mut at) = (Vec::new(), now.saturating_sub(AROUND_LAST_DAY));
    while at < end {
        let next = at.saturating_add(STEP);
        if zone::offset(zone, at) != zone::offset(zone, next) {
            found.push(zone::change_between(zone, at, next));
        }
        at = next;
    }
    found
}

/// The values of a field as it is written: `*`, or a list of values and ranges.
fn values(field: Field, mask: u64) -> String {
    if mask == field.all() {
        return "*".to_owned();
    }
    let mut items: Vec<String> = Vec::new();
    let mut value = field.first;
    while value <= field.last {
        let length = mask.checked_shr(value).unwrap_or(0).trailing_ones();
        let end = value.saturating_add(length.saturating_sub(1));
        match length {
            0 => {}
            1 => items.push(value.to_string()),
            2 => items.push(format!("{value},{end}")),
            _ => items.push(format!("{value}-{end}")),
        }
        value = value.saturating_add(length.max(1));
    }
    items.join(",")
}

#[cfg(test)]
mod tests;
