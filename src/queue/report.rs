//! What the log says of jobs: ids and names, the codes of errors, and messages only if asked for.

use std::rc::Rc;

use crate::counted;
use crate::logic::counters::Ending;
use crate::logic::recent::{self, Called};
use crate::logic::repeats::{EVERY, Held, Repeats};
use crate::pg::datum::{Micros, Oid};
use crate::pg::error::{PgError, Result};
use crate::pg::local::Local;
use crate::pg::log::{self, Level};
use crate::pg::{catalog, clock, identity};
use crate::settings;
use crate::shared::SHARED;

/// What a job runs, as the log names it.
#[derive(Clone, Copy)]
pub enum Runs<'a> {
    /// A handler of this name.
    Handler(&'a [u8]),
    /// A command.
    Command,
    /// Nothing in the server: a consumer has it.
    Consumer,
    /// Whoever ends the job does not know, but may know how that is counted.
    Unknown(Option<&'a Rc<Called>>),
}

impl Runs<'_> {
    /// The same as it is counted; `None` where it is not known.
    pub fn called(self) -> Option<Rc<Called>> {
        match self {
            Runs::Handler(name) => Some(counted::called(recent::Runs::Handler, name)),
            Runs::Command => Some(counted::called(recent::Runs::Command, b"")),
            Runs::Consumer => Some(counted::called(recent::Runs::Consumer, b"")),
            Runs::Unknown(called) => called.cloned(),
        }
    }
}

/// A job in log lines: ids and names, never what it says.
pub fn names(job: i64, queue: &[u8], runs: Runs) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let what = match runs {
        Runs::Handler(handler) => format!(", handler {}", text(handler)),
        Runs::Command => ", command".to_string(),
        Runs::Consumer => ", consumer".to_string(),
        Runs::Unknown(_) => String::new(),
    };
    format!("job {job} (queue \"{}\"{what})", text(queue))
}

/// The line of any end, to be logged once that is committed; `None` if not all are to be logged.
pub(super) fn line(names: impl FnOnce() -> String, outcome: Ending, ran: Micros) -> Option<String> {
    if settings::LOG_JOBS.get() != settings::LOG_ALL {
        return None;
    }
    let what = match outcome {
        Ending::Completed => "completed",
        Ending::Retried => "will be retried",
        Ending::Failed => "failed",
        Ending::Cancelled => "was cancelled",
        Ending::Snoozed => "was snoozed",
    };
    let names = names();
    Some(format!(
        "{names} {what} after {:.3} ms",
        ran as f64 / 1000.0
    ))
}

/// Failures that were logged lately.
static REPEATS: Local<Repeats> = Local::new(Repeats::NONE);

/// A message may quote data, so the log gets it only if a setting says so.
fn message(error: &PgError) -> String {
    if settings::LOG_MESSAGES.get() {
        format!(": {}", String::from_utf8_lossy(&error.message))
    } else {
        String::new()
    }
}

/// Logs a failed attempt, those of one kind at most once a second.
pub fn log_failure(names: &str, attempt: i32, error: &PgError) -> Result<()> {
    if settings::LOG_JOBS.get() == settings::LOG_NONE {
        return Ok(());
    }
    let code = error.sqlstate.text();
    let place = names.split_once('(').map_or(names, |(_, place)| place);
    let kind = format!("({place} with SQLSTATE {code}");
    let now = clock::now();
    let all = settings::LOG_JOBS.get() == settings::LOG_ALL;
    let held = match REPEATS.with(|repeats| repeats.admit(&kind, now)) {
        None if !all => return Ok(()),
        Some(n) if n > 0 && !all => format!(" ({n} more like it)"),
        _ => String::new(),
    };
    let why = message(error);
    let text = format!("{names} failed in attempt {attempt} with SQLSTATE {code}{held}{why}");
    log::report(Level::Log, &text)
}

/// Logs an attempt that failed at COMMIT.
pub fn log_commit_failure(job: i64, queue: &[u8], error: &PgError) -> Result<()> {
    if settings::LOG_JOBS.get() == settings::LOG_NONE {
        return Ok(());
    }
    let (queue, code) = (String::from_utf8_lossy(queue), error.sqlstate.text());
    let why = message(error);
    let text = format!("job {job} (queue \"{queue}\") failed at COMMIT with SQLSTATE {code}{why}");
    log::report(Level::Log, &text)
}

/// A job that has failed for good, and the line of it.
pub struct Dead {
    job: i64,
    /// Empty if none is wanted.
    line: String,
    /// It was set aside, which is logged in any case.
    aside: Option<String>,
}

impl Dead {
    /// The same of a job that was set aside: `what` is wrong about it, and the error says why.
    pub(super) fn aside(self, what: &str, error: &PgError) -> Dead {
        let (job, code) = (self.job, error.sqlstate.text());
        Dead {
            aside: Some(format!("job {job} was set aside: {what}, SQLSTATE {code}")),
            ..self
        }
    }
}

/// The line of a job that has failed for good, to be logged once that is committed. In a
/// transaction.
pub(super) fn dead(
    job: i64,
    queue: &[u8],
    owner: Oid,
    attempts: i32,
    error: &PgError,
) -> Result<Dead> {
    if settings::LOG_JOBS.get() == settings::LOG_NONE {
        return Ok(Dead {
            job,
            line: String::new(),
            aside: None,
        });
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let plural = if attempts == 1 { "" } else { "s" };
    let line = format!(
        "job {job} gave up after {attempts} attempt{plural}: database \"{}\", queue \"{}\", \
         owner \"{}\", SQLSTATE {}{}",
        text(&catalog::current_database()?),
        text(queue),
        identity::role_name(owner)?,
        error.sqlstate.text(),
        message(error)
    );
    Ok(Dead {
        job,
        line,
        aside: None,
    })
}

/// Jobs whose line was held back.
static HELD: Local<Held> = Local::new(Held::NONE);

/// Logs that a job has failed for good: ten a second in the server, the others together.
pub(super) fn log_dead(dead: &Dead) -> Result<()> {
    let lines = dead.aside.iter().chain(Some(&dead.line));
    let mut lines = lines.filter(|line| !line.is_empty()).peekable();
    if lines.peek().is_none() {
        return Ok(());
    }
    let now = clock::now();
    let admitted = SHARED.peek(|unlocked| unlocked.deaths_told.admit(now));
    if admitted != Some(false) {
        return lines.try_for_each(|line| log::report(Level::Log, line));
    }
    if !dead.line.is_empty() {
        HELD.with(|held| held.add(dead.job, now));
    }
    log_held_dead(now, false)
}

fn log_held_dead(now: Micros, at_once: bool) -> Result<()> {
    match HELD.with(|held| held.overdue(now, at_once)) {
        Some(line) => log::report(Level::Log, &line),
        None => Ok(()),
    }
}

/// Milliseconds until it is time for [`log_held_back`], if it is to be at all: at most so long may
/// this process sleep.
pub fn held_back_ms() -> Option<i64> {
    let holds = HELD.with(|held| held.holds()) || REPEATS.with(|repeats| repeats.holds());
    holds.then_some(EVERY / 1000)
}

/// Logs how many failures were held back, of those kinds that have been quiet since; before this
/// process ends, of all.
pub fn log_held_back(at_end: bool) -> Result<()> {
    let now = clock::now();
    log_held_dead(now, at_end)?;
    for (kind, count) in REPEATS.with(|repeats| repeats.overdue(now, at_end)) {
        let jobs = if count == 1 { "job" } else { "jobs" };
        log::report(Level::Log, &format!("{count} more {jobs} {kind} failed"))?;
    }
    Ok(())
}
