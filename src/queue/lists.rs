//! The lists of columns within statements, as `logic::columns` declares them.

use crate::logic::columns::{GIVEN, HISTORY, Home, IN_JOBS, JOB_COLUMNS, JOBS, JobColumn, Retried};
use crate::logic::columns::{history, job};
use crate::pg::datum::{Oid, types};

/// The types of the columns of `history`, in order.
pub const HISTORY_TYPES: [Oid; history::COUNT] = history_types();

/// The types of the columns of `_jobs`, in order.
pub const JOB_TYPES: [Oid; job::COUNT] = job_types();

/// The types of the columns of [`GIVEN`], in order.
pub const GIVEN_TYPES: [Oid; GIVEN.len()] = given_types();

/// Those of [`GIVEN`], and one more.
#[allow(clippy::indexing_slicing)]
pub const fn given_types_and(last: Oid) -> [Oid; GIVEN.len() + 1] {
    let mut all = [last; GIVEN.len() + 1];
    let mut index = 0;
    while index < GIVEN.len() {
        all[index] = GIVEN_TYPES[index];
        index += 1;
    }
    all
}

/// Those of [`GIVEN`] where a statement takes many values of one column at once.
#[allow(clippy::indexing_slicing)]
pub const fn given_types_with(place: i32, other: Oid) -> [Oid; GIVEN.len()] {
    let mut all = GIVEN_TYPES;
    let mut index = 0;
    while index < GIVEN.len() {
        if GIVEN[index] == place {
            all[index] = other;
        }
        index += 1;
    }
    all
}

#[allow(clippy::indexing_slicing)]
const fn history_types() -> [Oid; history::COUNT] {
    let mut all = [0; history::COUNT];
    let mut index = 0;
    while index < all.len() {
        all[index] = types::oid(HISTORY.columns[index].kind);
        index += 1;
    }
    all
}

#[allow(clippy::indexing_slicing)]
const fn job_types() -> [Oid; job::COUNT] {
    let mut all = [0; job::COUNT];
    let mut index = 0;
    while index < all.len() {
        all[index] = types::oid(JOBS.columns[index].kind);
        index += 1;
    }
    all
}

#[allow(clippy::indexing_slicing)]
const fn given_types() -> [Oid; GIVEN.len()] {
    let mut all = [0; GIVEN.len()];
    let mut index = 0;
    while index < all.len() {
        all[index] = types::oid(JOBS.columns[GIVEN[index] as usize - 1].kind);
        index += 1;
    }
    all
}

/// INSERT of whole rows into the history, by parameters.
pub fn insert_history() -> String {
    let names: Vec<&str> = HISTORY.columns.iter().map(|column| column.name).collect();
    let values: Vec<String> = (1..=names.len()).map(|n| format!("${n}")).collect();
    let (names, values) = (names.join(", "), values.join(", "));
    format!("INSERT INTO my_worker.history ({names}) VALUES ({values})")
}

/// INSERT of a job that has ended into the history: its row is that of `from`, but for what `changes` says
/// of columns by their places in the history. What the job has no value for is left out.
pub fn insert_ended(from: &str, changes: &[(i32, &str)]) -> String {
    let mut names = Vec::new();
    let mut values = Vec::new();
    for ((column, in_jobs), place) in HISTORY.columns.iter().zip(IN_JOBS).zip(1..) {
        let changed = changes.iter().find(|change| change.0 == place);
        let value = match changed {
            Some((_, value)) => *value,
            None if in_jobs > 0 => column.name,
            None => continue,
        };
        names.push(column.name);
        values.push(value);
    }
    let (names, values) = (names.join(", "), values.join(", "));
    format!("INSERT INTO my_worker.history ({names}) SELECT {values} FROM {from}")
}

/// The columns that `retry()` brings back from the history.
pub fn retried() -> String {
    let is_kept = |one: &&JobColumn| one.home == Home::Both && one.retried == Retried::Kept;
    let kept = JOB_COLUMNS.iter().filter(is_kept);
    kept.map(|one| one.column.name)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The parameter that gives a column of a new job.
pub fn parameter(place: i32) -> String {
    let index = GIVEN.iter().position(|given| *given == place);
    format!("${}", index.map_or(0, |index| index.saturating_add(1)))
}

/// INSERT of a new job, whose parameters are the columns of [`GIVEN`]; `changes` says by place what is
/// stored in place of a parameter, which stands in it as `@`.
/// `more` says names and values of other columns.
pub fn insert_job(changes: &[(i32, &str)], more: &[(&str, &str)], rest: &str) -> String {
    let names = GIVEN.iter().map(|place| name(*place));
    let names = names.chain(more.iter().map(|more| more.0));
    let values = GIVEN.iter().map(|place| stored(*place, changes));
    let values = values.chain(more.iter().map(|more| more.1.to_string()));
    let names = names.collect::<Vec<_>>().join(", ");
    let values = values.collect::<Vec<_>>().join(", ");
    format!("INSERT INTO my_worker._jobs ({names}) SELECT {values} {rest}")
}

/// What an UPDATE of a job sets these columns to, by the same parameters and changes.
pub fn set_job(places: &[i32], changes: &[(i32, &str)]) -> String {
    let set = |place: &i32| format!("{} = {}", name(*place), stored(*place, changes));
    places.iter().map(set).collect::<Vec<_>>().join(", ")
}

/// The name of a column of a job.
fn name(place: i32) -> &'static str {
    let index = usize::try_from(place.saturating_sub(1)).ok();
    let column = index.and_then(|index| JOBS.columns.get(index));
    column.map_or("", |column| column.name)
}

/// What is stored in a column: its parameter, or what `changes` makes of that.
fn stored(place: i32, changes: &[(i32, &str)]) -> String {
    let changed = changes.iter().find(|change| change.0 == place);
    let value = changed.map_or("@", |change| change.1);
    value.replace('@', &parameter(place))
}
