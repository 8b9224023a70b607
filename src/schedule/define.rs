//! `schedule()`: checks a definition and writes it, by name and owner.
//!
//! Defining a schedule again with the same text and time zone keeps its `next_run_at` and what
//! `every` counts from, so that a deployment script that repeats its schedules delays none. A
//! paused schedule stays paused; one that was disabled for an error is enabled again. What lies
//! further ahead than the rule says is taken back, and so is a last due time that only a clock that
//! was far ahead can have brought ([`super::believable`]).

use crate::logic::limits;
use crate::logic::rule::{self, Rule, RuleError};
use crate::logic::schedule::{Catchup, Overlap};
use crate::pg::datum::{self, Datum, Oid, ToDatum, types};
use crate::pg::error::{INVALID_PARAMETER_VALUE, PgError, Result};
use crate::pg::identity;
use crate::pg::spi::Statement;
use crate::pg::timezone::Timezone;
use crate::queue::enqueue::{self, NewJob};
use crate::queue::handler::{self, Named, quoted};
use crate::queue::{admit, allowed, as_owner, bar, column, extension};

static UPSERT: Statement = Statement::new(
    "INSERT INTO my_worker._schedules AS s (name, owner, schedule, timezone, command, handler, \
     payload, queue, overlap, catchup, max_attempts, timeout, anchor, next_run_at, handler_owner) \
     VALUES ($1, $2, $3, $4, $5, $6, coalesce($7, '{}'::pg_catalog.jsonb), $8, $9, $10, $11, \
     $12, $13, $14, $17) \
     ON CONFLICT (owner, name) DO UPDATE SET \
     schedule = excluded.schedule, timezone = excluded.timezone, command = excluded.command, \
     handler = excluded.handler, payload = excluded.payload, queue = excluded.queue, \
     overlap = excluded.overlap, catchup = excluded.catchup, \
     max_attempts = excluded.max_attempts, timeout = excluded.timeout, \
     handler_owner = excluded.handler_owner, \
     anchor = CASE WHEN s.schedule = excluded.schedule \
     AND s.timezone = excluded.timezone \
     AND s.anchor <= $15 THEN s.anchor ELSE excluded.anchor END, \
     next_run_at = CASE WHEN NOT s.active AND s.disabled_reason IS NULL THEN NULL \
     WHEN s.schedule = excluded.schedule \
     AND s.timezone = excluded.timezone \
     AND coalesce(greatest(s.anchor, s.last_due) <= $15, true) \
     AND (s.last_due > $13 OR s.next_run_at <= $16) \
     THEN s.next_run_at ELSE excluded.next_run_at END, \
     last_due = CASE WHEN s.last_due <= $15 THEN s.last_due END, \
     active = (s.active OR s.disabled_reason IS NOT NULL), disabled_reason = NULL \
     RETURNING id",
    &[
        types::TEXT,
        types::REGROLE,
        types::TEXT,
        types::TEXT,
        types::TEXT,
        types::TEXT,
        types::JSONB,
        types::TEXT,
        types::TEXT,
        types::TEXT,
        types::INT4,
        types::INTERVAL,
        types::TIMESTAMPTZ,
        types::TIMESTAMPTZ,
        types::TIMESTAMPTZ,
        types::TIMESTAMPTZ,
        types::REGROLE,
    ],
);

/// The arguments of `schedule()`.
pub struct Definition<'a> {
    /// Its name.
    pub name: Vec<u8>,
    /// When it is due.
    pub schedule: Vec<u8>,
    /// What its jobs run.
    pub command: Option<Vec<u8>>,
    /// Or what they call, as the caller names it.
    pub handler: Option<Vec<u8>>,
    /// A `jsonb`; `None`: an empty object.
    pub payload: Option<Datum<'a>>,
    /// The jobs' queue.
    pub queue: Vec<u8>,
    /// A zone's name; `None`: the server's.
    pub timezone: Option<Vec<u8>>,
    /// See [`Overlap`].
    pub overlap: Vec<u8>,
    /// See [`Catchup`].
    pub catchup: Vec<u8>,
    /// As in `enqueue()`.
    pub max_attempts: Option<i32>,
    /// As in `enqueue()`, an `interval`.
    pub timeout: Option<Datum<'a>>,
}

/// Makes or changes the caller's schedule of that name and answers its id.
pub fn schedule(definition: &Definition<'_>) -> Result<i64> {
    let caller = identity::current_role();
    refuse_forgotten_name(definition)?;
    check(definition)?;
    let handler = definition
        .handler
        .as_deref()
        .map(handler::name)
        .transpose()?;
    enqueue::check(&sample_job(definition))?;
    let zone = super::timezone(definition.timezone.as_deref())?;
    let now = super::now();
    let rule = super::parse_rule(&definition.schedule, now)?;
    let next = first_due(definition, &rule, zone, now)?;
    let arguments = arguments(definition, handler.as_ref(), caller, zone, [now, next])?;
    admit::refuse_restricted()?;
    admit::check_queue(&definition.queue)?;
    admit::warn_unserved()?;
    bar::warn(caller)?;
    as_owner(&extension()?, |spi| {
        let rows = spi.run(&UPSERT, &arguments)?;
        let id = rows.first().and_then(|row| row.i64(1));
        id.ok_or_else(|| PgError::internal("schedule() wrote no row"))
    })
}

fn first_due(definition: &Definition<'_>, rule: &Rule, zone: Timezone, now: i64) -> Result<i64> {
    rule.next_after(now, &zone)
        .ok_or_else(|| super::refused(&definition.schedule, &RuleError::NeverDue))
}

/// A caller who knows pg_cron may leave out the name: the schedule then stands in its place, and what
/// stands in the schedule's is none.
fn refuse_forgotten_name(definition: &Definition<'_>) -> Result<()> {
    let (name, schedule) = (
        super::ascii(&definition.name),
        super::ascii(&definition.schedule),
    );
    match rule::parse(&schedule) {
        Err(error) if rule::looks_like_schedule(&name) => {
            let call = "schedule(name, schedule, command)";
            Err(super::refused(&definition.schedule, &error)
                .hint(format!("The name comes first: my_worker.{call}.")))
        }
        _ => Ok(()),
    }
}

/// What needs no look-up.
fn check(definition: &Definition<'_>) -> Result<()> {
    allowed(limits::name("schedule name", &definition.name))?;
    if definition.command.is_some() == definition.handler.is_some() {
        return Err(PgError::new(
            INVALID_PARAMETER_VALUE,
            "exactly one of command and handler must be given",
        )
        .hint("A command is SQL text, a handler the name of a function."));
    }
    if Overlap::from_name(&definition.overlap).is_none() {
        return Err(unknown_name("overlap", &definition.overlap, Overlap::NAMES));
    }
    if Catchup::from_name(&definition.catchup).is_none() {
        return Err(unknown_name("catchup", &definition.catchup, Catchup::NAMES));
    }
    Ok(())
}

fn unknown_name(what: &str, value: &[u8], names: &str) -> PgError {
    PgError::new(
        INVALID_PARAMETER_VALUE,
        quoted(&format!("invalid value for {what}: "), value, ""),
    )
    .hint(format!("Available values: {names}."))
}

/// A job as the schedule will enqueue it, to check what they share.
fn sample_job<'a>(definition: &Definition<'a>) -> NewJob<'a> {
    let mut job = NewJob::new();
    let max_attempts = definition.max_attempts.map(ToDatum::datum);
    job.set(column::MAX_ATTEMPTS, max_attempts);
    job.set(column::TIMEOUT, definition.timeout);
    job
}

fn arguments<'a>(
    definition: &Definition<'a>,
    handler: Option<&Named>,
    owner: Oid,
    zone: Timezone,
    [anchor, next]: [i64; 2],
) -> Result<[Option<Datum<'a>>; 17]> {
    let text = |value: &[u8]| datum::text_datum(value).map(Some);
    let is_command = definition.command.is_some();
    // A command runs at most once unless its author says that it may run again.
    let max_attempts = definition.max_attempts.or(is_command.then_some(1));
    Ok([
        text(&definition.name)?,
        Some(owner.datum()),
        text(&definition.schedule)?,
        text(&zone.name())?,
        definition
            .command
            .as_deref()
            .map(datum::text_datum)
            .transpose()?,
        handler.map(|h| datum::text_datum(&h.name)).transpose()?,
        definition.payload,
        text(&definition.queue)?,
        text(&definition.overlap)?,
        text(&definition.catchup)?,
        max_attempts.map(ToDatum::datum),
        definition.timeout,
        Some(anchor.datum()),
        Some(next.datum()),
        Some(super::believable(anchor).datum()),
        Some(super::near(anchor, next).datum()),
        handler.and_then(|h| h.owner).map(ToDatum::datum),
    ])
}
