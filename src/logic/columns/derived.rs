//! What follows from the list of a job's columns: lists and places.
//!
//! The compiler runs it: an index that is out of bounds, or a sum that is too large, is an error of the build.

use super::{Column, JOB_COLUMNS, Presence, Stored, TABLE_COUNT, TABLES, history, job};

/// How many of the first columns of the list stand in `_jobs`.
#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
pub(super) const fn live_before(turns: usize) -> usize {
    let (mut turn, mut count) = (0, 0);
    while turn < turns {
        count += JOB_COLUMNS[turn].is_live() as usize;
        turn += 1;
    }
    count
}

/// How many of them stand in `history`.
#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
pub(super) const fn past_before(turns: usize) -> usize {
    let (mut turn, mut count) = (0, 0);
    while turn < turns {
        count += JOB_COLUMNS[turn].is_past() as usize;
        turn += 1;
    }
    count
}

#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
pub(super) const fn live_columns() -> [Column; job::COUNT] {
    let mut columns = [JOB_COLUMNS[0].column; job::COUNT];
    let mut turn = 0;
    while turn < JOB_COLUMNS.len() {
        if JOB_COLUMNS[turn].is_live() {
            columns[live_before(turn)] = JOB_COLUMNS[turn].column;
        }
        turn += 1;
    }
    columns
}

#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
pub(super) const fn past_columns() -> [Column; history::COUNT] {
    let mut columns = [JOB_COLUMNS[0].column; history::COUNT];
    let mut turn = 0;
    while turn < JOB_COLUMNS.len() {
        if JOB_COLUMNS[turn].is_past() {
            columns[past_before(turn)] = JOB_COLUMNS[turn].column;
        }
        turn += 1;
    }
    columns
}

/// How so many columns stand in a row.
#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
pub(super) const fn stored<const COUNT: usize>(columns: &[Column]) -> [Stored; COUNT] {
    let mut all = [columns[0].kind.stored(); COUNT];
    let mut index = 0;
    while index < COUNT {
        all[index] = columns[index].kind.stored();
        index += 1;
    }
    all
}

#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
pub(super) const fn table_names() -> [&'static str; TABLE_COUNT] {
    let mut names = [""; TABLE_COUNT];
    let mut index = 0;
    while index < TABLE_COUNT {
        names[index] = TABLES[index].name;
        index += 1;
    }
    names
}

#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
pub(super) const fn in_jobs() -> [i32; history::COUNT] {
    let mut places = [0; history::COUNT];
    let mut turn = 0;
    while turn < JOB_COLUMNS.len() {
        if JOB_COLUMNS[turn].is_live() && JOB_COLUMNS[turn].is_past() {
            places[past_before(turn)] = live_before(turn) as i32 + 1;
        }
        turn += 1;
    }
    places
}

#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
pub(super) const fn given_count() -> usize {
    let (mut turn, mut count) = (0, 0);
    while turn < JOB_COLUMNS.len() {
        count += JOB_COLUMNS[turn].is_given() as usize;
        turn += 1;
    }
    count
}

#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
pub(super) const fn given() -> [i32; given_count()] {
    let mut places = [0; given_count()];
    let (mut turn, mut count) = (0, 0);
    while turn < JOB_COLUMNS.len() {
        if JOB_COLUMNS[turn].is_given() {
            places[count] = live_before(turn) as i32 + 1;
            count += 1;
        }
        turn += 1;
    }
    places
}

#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
pub(super) const fn filled() -> u64 {
    let (mut turn, mut filled) = (0, 0);
    while turn < JOB_COLUMNS.len() {
        let column = JOB_COLUMNS[turn];
        let is_filled = column.is_past() && !matches!(column.column.presence, Presence::Maybe);
        filled |= (is_filled as u64) << past_before(turn);
        turn += 1;
    }
    filled
}

#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
pub(super) const fn live_filled() -> u64 {
    let (mut turn, mut filled) = (0, 0);
    while turn < JOB_COLUMNS.len() {
        let column = JOB_COLUMNS[turn];
        let is_filled = column.is_live() && matches!(column.column.presence, Presence::Always);
        filled |= (is_filled as u64) << live_before(turn);
        turn += 1;
    }
    filled
}
