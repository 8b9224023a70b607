//! The settings of a queue as SQL passes them: checks them, and writes the statements that store them.

use crate::logic::columns::queue as column;
use crate::logic::limits;
use crate::logic::queue_settings::{self, SETTINGS, Setting};
use crate::pg::datum::{self, Datum, Micros, Oid, ToDatum, types};
use crate::pg::error::{INVALID_PARAMETER_VALUE, NULL_VALUE_NOT_ALLOWED, PgError, Result};
use crate::pg::spi::{Rows, Statement};

use super::handler::{self, Named, quoted};
use super::{allowed, queues, rules};

/// How many arguments the statements take: name, settings, owner of the handler.
const COUNT: usize = SETTINGS.len() + 2;

/// Their types.
const TYPES: [Oid; COUNT] = argument_types();

#[allow(clippy::indexing_slicing)]
const fn argument_types() -> [Oid; COUNT] {
    let mut all = [types::TEXT; COUNT];
    let mut index = 0;
    while index < SETTINGS.len() {
        all[index + 1] = types::oid(SETTINGS[index].declared().kind);
        index += 1;
    }
    all[COUNT - 1] = types::REGROLE;
    all
}

/// What the statements answer: [`check_together`] reads it.
const TOGETHER: &str = "RETURNING per_key, fifo, rate, rate_period IS NOT NULL, id";

/// Adds a queue, if there is none of that name.
pub(super) static CREATE: Statement = Statement::made(
    || {
        let names: Vec<&str> = SETTINGS.iter().map(Setting::name).collect();
        let values: Vec<String> = (1..=COUNT).map(|n| format!("${n}")).collect();
        format!(
            "INSERT INTO my_worker.queues (name, {}, handler_owner) VALUES ({}) \
             ON CONFLICT (name) DO NOTHING {TOGETHER}",
            names.join(", "),
            values.join(", ")
        )
    },
    &TYPES,
);

/// Changes those settings that are not NULL.
pub(super) static ALTER: Statement = Statement::made(
    || {
        let set = SETTINGS.iter().zip(2..).map(|(setting, n)| {
            let name = setting.name();
            format!("{name} = coalesce(${n}, {name})")
        });
        format!(
            "UPDATE my_worker.queues SET {}, \
             handler_owner = CASE WHEN $2 IS NULL THEN handler_owner ELSE ${COUNT} END \
             WHERE name = $1 {TOGETHER}",
            set.collect::<Vec<_>>().join(", ")
        )
    },
    &TYPES,
);

/// Puts settings back to their defaults: those whose names stand in the second argument.
pub(super) static RESET: Statement = Statement::made(
    || {
        let reset = |name: &str, default: Option<&str>, column: &str| {
            let default = default.unwrap_or("NULL");
            format!("{column} = CASE WHEN '{name}' = ANY ($2) THEN {default} ELSE {column} END")
        };
        let set = SETTINGS
            .iter()
            .map(|setting| reset(setting.name(), setting.default, setting.name()));
        format!(
            "UPDATE my_worker.queues SET {}, {} WHERE name = $1 {TOGETHER}",
            set.collect::<Vec<_>>().join(", "),
            reset("handler", None, "handler_owner")
        )
    },
    &[types::TEXT, types::TEXT_ARRAY],
);

/// The name of a queue and values of its settings.
pub struct Given<'a> {
    /// The name.
    pub name: Vec<u8>,
    /// In the order of [`SETTINGS`]; `None`: NULL was passed.
    pub values: [Option<Datum<'a>>; SETTINGS.len()],
}

impl<'a> Given<'a> {
    fn get(&self, column: i32) -> Option<Datum<'a>> {
        let mut all = SETTINGS.iter().zip(self.values);
        all.find(|(setting, _)| setting.column == column)?.1
    }

    /// Whether it names a dead-letter queue.
    pub(super) fn names_letters(&self) -> bool {
        self.get(column::DEAD_LETTER).is_some()
    }

    /// Refuses values that no queue can have.
    pub(super) fn check(&self) -> Result<()> {
        queues::check_name(&self.name)?;
        for (setting, value) in SETTINGS.iter().zip(self.values) {
            if let Some(value) = value {
                check_value(setting, value)?;
            }
        }
        Ok(())
    }

    /// Refuses NULL for a setting that a queue always has.
    pub(super) fn check_whole(&self) -> Result<()> {
        let mut all = SETTINGS.iter().zip(self.values);
        let missing = all.find(|(setting, value)| setting.default.is_some() && value.is_none());
        match missing {
            Some((setting, _)) => {
                let message = format!("{} must not be null", setting.name());
                Err(PgError::new(NULL_VALUE_NOT_ALLOWED, message))
            }
            None => Ok(()),
        }
    }

    /// After CREATE or ALTER: refuses settings that do not go together, and answers whether the queue has a rate.
    pub(super) fn check_together(&self, rows: &Rows<'_>) -> Result<bool> {
        let has_rate = check_together(rows)?;
        let needs_rate = [column::RATE_PERIOD, column::RATE_PER_KEY];
        let asks = |place: &&i32| match self.get(**place) {
            Some(value) if **place == column::RATE_PER_KEY => datum::as_bool(value),
            value => value.is_some(),
        };
        match needs_rate.iter().find(asks).filter(|_| !has_rate) {
            Some(place) => {
                let name = queue_settings::name(*place);
                Err(wrong(format!("{name} needs a rate")))
            }
            None => Ok(has_rate),
        }
    }

    /// The handler, found, so that a typing error shows now.
    pub(super) fn handler(&self) -> Result<Option<Named>> {
        let asked = self.get(column::HANDLER).map(datum::as_text).transpose()?;
        asked.as_deref().map(handler::name).transpose()
    }

    /// What the statements take.
    pub(super) fn arguments(&self, handler: Option<&Named>) -> Result<[Option<Datum<'a>>; COUNT]> {
        let mut all = [None; COUNT];
        let (name, rest) = (
            datum::text_datum(&self.name)?,
            SETTINGS.iter().zip(self.values),
        );
        let settings = rest.map(|(setting, value)| match (setting.column, handler) {
            (column::HANDLER, Some(handler)) => datum::text_datum(&handler.name).map(Some),
            _ => Ok(value),
        });
        let owner = handler
            .and_then(|handler| handler.owner)
            .map(ToDatum::datum);
        let values = std::iter::once(Ok(Some(name)))
            .chain(settings)
            .chain(std::iter::once(Ok(owner)));
        for (place, value) in all.iter_mut().zip(values) {
            *place = value?;
        }
        Ok(all)
    }
}

fn check_value(setting: &Setting, value: Datum<'_>) -> Result<()> {
    let name = setting.name();
    if matches!(setting.column, column::RETRY_ON | column::FAIL_ON) {
        return rules::check(name, value);
    }
    let micros = |value| -> Result<Micros> { datum::interval_micros(value) };
    allowed(match setting.column {
        column::CONCURRENCY => limits::concurrency(datum::as_i32(value)),
        column::MAX_ATTEMPTS => limits::max_attempts(datum::as_i32(value)),
        column::BACKOFF | column::BACKOFF_MAX | column::RETENTION => {
            limits::interval(name, micros(value)?)
        }
        column::TIMEOUT => limits::positive_interval(name, micros(value)?),
        column::PER_KEY | column::RATE | column::BURST => {
            limits::positive(name, datum::as_i32(value))
        }
        column::RATE_PERIOD => limits::rate_period(micros(value)?),
        column::JOBS_PER_SAVEPOINT => limits::jobs_per_savepoint(datum::as_i32(value)),
        column::DEAD_LETTER => limits::name(name, &datum::as_text(value)?),
        _ => Ok(()),
    })
}

/// Refuses settings of a stored queue that do not go together, and answers whether it has a rate.
pub(super) fn check_together(rows: &Rows<'_>) -> Result<bool> {
    let Some(row) = rows.first() else {
        return Ok(false);
    };
    let (per_key, is_fifo, rate, has_period) = (row.i32(1), row.bool(2), row.i32(3), row.bool(4));
    if is_fifo && per_key.is_some_and(|most| most > 1) {
        return Err(wrong("per_key must be 1 in a fifo queue".to_owned())
            .hint("Jobs of one key run one after the other there. Leave per_key out."));
    }
    if rate.is_some() && !has_period {
        return Err(wrong("rate needs a rate_period".to_owned())
            .hint("For 10 starts a second: rate := 10, rate_period := '1 s'."));
    }
    Ok(rate.is_some())
}

fn wrong(message: String) -> PgError {
    PgError::new(INVALID_PARAMETER_VALUE, message)
}

/// Refuses names that `reset_queue()` does not know.
pub(super) fn check_settings(names: &[Vec<u8>]) -> Result<()> {
    let is_unknown = |name: &&Vec<u8>| {
        let name = std::str::from_utf8(name);
        name.map_or(true, |name| queue_settings::find(name).is_none())
    };
    let Some(name) = names.iter().find(is_unknown) else {
        return Ok(());
    };
    let all: Vec<&str> = SETTINGS.iter().map(Setting::name).collect();
    let message = quoted("a queue has no setting ", name, "");
    Err(PgError::new(INVALID_PARAMETER_VALUE, message)
        .hint(format!("The settings are {}.", all.join(", "))))
}
