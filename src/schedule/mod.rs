//! Schedules: rules that enqueue jobs in time.
//!
//! A schedule is a row of `my_worker._schedules`; users see it through the view
//! `my_worker.schedules`. The row says when it is due next (`next_run_at`) and which of its jobs
//! are unfinished (`row`). `define` writes and checks rows, `manage` is the rest of the SQL functions, and
//! `fire` is what the keeper does with rows that are due: the decision is `logic::schedule`'s, and
//! jobs and the new `next_run_at` commit together. `hold` keeps runs
//! that must not overlap one after the other.
//!
//! **Whose.** A name is unique for its owner, the role that called `schedule()`; the jobs are that
//! role's, whoever the keeper is logged in as.
//!
//! **Two clocks.** For tests `my_worker.clock_offset` moves the clock that schedules go by, and
//! nothing else. What a row holds is in that moved time; what leaves this module, the `run_at` of
//! jobs and the times at which the keeper wakes, is in real time ([`real`]).

mod define;
pub mod fire;
pub mod hold;
pub mod import;
mod manage;
mod plan;
mod row;
mod together;

pub use define::{Definition, schedule};
pub use manage::{next_runs, pause, resume, run_now, unschedule};

use crate::logic::columns::{SCHEDULES, schedule as column};
use crate::logic::rule::{self, Every, Parsed, Rule, RuleError};
use crate::logic::zone::Zone;
use crate::pg::datum::{self, Micros, ToDatum};
use crate::pg::error::{INVALID_PARAMETER_VALUE, PgError, QUERY_CANCELED, Result};
use crate::pg::fmgr::TriggerRow;
use crate::pg::timezone::Timezone;
use crate::pg::{clock, identity};
use crate::queue::handler::quoted;
use crate::queue::{any_extension, home, is_restore, wake};
use crate::settings;
use crate::shared::SHARED;

const SECS_PER_DAY: u32 = 86_400;

/// The `run_at` of a held job.
const HELD: Micros = Micros::MAX;

/// Now, by the clock that schedules go by.
pub fn now() -> Micros {
    clock::moved(settings::CLOCK_OFFSET.get())
}

/// Up to when a due time that was fired is believed at `now`, although it lies ahead: the clock was set
/// back by a little, and what is done is not done again. What lies further ahead was fired by a clock
/// that was wrong, and is forgotten when the schedule is defined again or resumed.
fn believable(now: Micros) -> Micros {
    now.saturating_add(3_600_000_000)
}

/// Up to when a stored due time may lie ahead, where a rule that begins at `now` is due at `next`.
/// Months differ in length, so this is generous.
fn near(now: Micros, next: Micros) -> Micros {
    next.saturating_add(next.saturating_sub(now))
}

/// A time of the schedules' clock in real time.
pub fn real(time: Micros) -> Micros {
    if time == Micros::MAX || time == Micros::MIN {
        return time;
    }
    time.saturating_sub(Micros::from(settings::CLOCK_OFFSET.get()).saturating_mul(1_000_000))
}

/// The trigger of the table, BEFORE INSERT OR UPDATE of each row: the keeper learns of the due
/// time at COMMIT, whoever wrote the row.
pub fn written(row: &mut TriggerRow) -> Result<()> {
    row.check(&SCHEDULES)?;
    let extension = any_extension()?;
    let home = row.get(column::HOME).map(datum::as_i64);
    let is_restored = !row.is_update && !identity::is_ours() && is_restore()?;
    if is_restored && home == Some(extension.birth.home()) {
        row.set(&[(column::HOME, Some(home::RESTORED.datum()))])?;
        return wake::look_at_commit();
    }
    if !home::is_own_home(home) {
        // It came with a copy: the keeper finds that out.
        return wake::look_at_commit();
    }
    let active = row.get(column::ACTIVE).is_some_and(datum::as_bool);
    match row.get(column::NEXT_RUN_AT) {
        Some(next) if active => wake::due_at_commit(real(datum::as_i64(next))),
        _ => Ok(()),
    }
}

/// For the launcher, which alone has no settings but the server's: tells sessions the server's
/// time zone.
pub fn publish_timezone() {
    let name = Timezone::of_session().name();
    SHARED.write(|state| state.timezone.set(&name));
}

/// The time zone of that name, or the server's.
fn timezone(name: Option<&[u8]>) -> Result<Timezone> {
    match name {
        Some(name) => known_timezone(name),
        None => servers_timezone(),
    }
}

fn known_timezone(name: &[u8]) -> Result<Timezone> {
    // The server takes numbers of up to a week for a zone; our clocks are less than a day apart.
    let is_sane = |zone: &Timezone| zone.offset_at(0).unsigned_abs() < SECS_PER_DAY;
    Timezone::find(name)?.filter(is_sane).ok_or_else(|| {
        PgError::new(
            INVALID_PARAMETER_VALUE,
            quoted("time zone ", name, " is not known"),
        )
        .hint("See pg_timezone_names for the names that the server knows.")
    })
}

/// As the launcher published it; without a launcher (not preloaded, hot standby) this session's.
fn servers_timezone() -> Result<Timezone> {
    let name = SHARED.read(|state| state.timezone);
    match name {
        Some(name) if !name.get().is_empty() => known_timezone(name.get()),
        _ => Ok(Timezone::of_session()),
    }
}

/// Reads a schedule text; `anchor` is what `every` counts from.
fn parse_rule(schedule: &[u8], anchor: Micros) -> Result<Rule> {
    let text = ascii(schedule);
    match rule::parse(&text).map_err(|error| refused(schedule, &error))? {
        Parsed::Cron(expr) => Ok(Rule::Cron(expr)),
        Parsed::Every(interval) => {
            let (months, days, micros) = interval_parts(schedule, interval)?;
            let every =
                Every::new(months, days, micros).map_err(|error| refused(schedule, &error))?;
            Ok(Rule::Every { every, anchor })
        }
    }
}

/// The grammar is ASCII in every encoding that a server can have; what is not, no rule matches.
fn ascii(text: &[u8]) -> String {
    let character = |byte: &u8| {
        if byte.is_ascii() {
            char::from(*byte)
        } else {
            '?'
        }
    };
    text.iter().map(character).collect()
}

/// The server reads the interval: `10 seconds`, `1 day 02:00`, `PT5M`.
fn interval_parts(schedule: &[u8], interval: &str) -> Result<(i32, i32, Micros)> {
    match datum::interval_datum(interval.as_bytes()) {
        Ok(interval) => datum::interval_parts(interval),
        Err(error) if error.sqlstate == QUERY_CANCELED => Err(error),
        Err(error) => Err(PgError::new(INVALID_PARAMETER_VALUE, error.message)
            .detail(shown(schedule))
            .hint("Write an interval after \"every\", as in \"every 10 seconds\".")),
    }
}

fn refused(schedule: &[u8], error: &RuleError) -> PgError {
    PgError::new(INVALID_PARAMETER_VALUE, error.to_string())
        .detail(shown(schedule))
        .hint(error.hint())
}

/// The schedule text as a DETAIL.
fn shown(schedule: &[u8]) -> Vec<u8> {
    let end = datum::clip_length(schedule, 200);
    quoted(
        "The schedule is ",
        schedule.get(..end).unwrap_or_default(),
        ".",
    )
}
