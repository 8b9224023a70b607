//! The pure layer: every decision that needs no server.
//!
//! What is here takes values and returns values: no I/O, no clock (`now` is an argument), no
//! global state, no `unsafe`. It compiles and is tested without PostgreSQL, so `cargo test` runs
//! all of it. The layers above fetch rows and read the clock, ask this layer what to do, and
//! write the answer back.
//!
//! Two rules hold everywhere below. Nothing panics: no `unwrap`, no indexing, no arithmetic that
//! can overflow (the lints at the end of this comment enforce it outside tests). Errors are
//! enums whose `Display` is a PostgreSQL primary message (lower case, no period) and whose
//! `hint()` is a full sentence.
//!
//! | module | decides |
//! |---|---|
//! | [`backoff`] | how long a failed job waits |
//! | [`calendar`] | civil dates: days, months, weekdays |
//! | [`columns`] | the columns of our tables |
//! | [`consumers`] | which session has which job, and whom a commit wakes |
//! | [`counters`] | what is counted of each queue, and how it is kept |
//! | [`cron`], [`cron_parse`], [`cron_field`] | when a cron expression is due; its grammar |
//! | [`histogram`] | which bucket a duration falls in, percentiles |
//! | [`home`] | whether a database is a copy of its files, or was moved by pg_upgrade |
//! | [`jumps`] | whether the clock was set back |
//! | [`keys`] | which jobs of a key may run at the same time, and which is next |
//! | [`limits`] | which names, counts and intervals are accepted |
//! | [`low_water`] | from where a claim reads its index |
//! | [`names`] | which lists of databases are accepted, and which names nobody has |
//! | [`pg_cron`] | what a schedule text of pg_cron means, and which of ours means the same |
//! | [`pool`] | which processes start, stay and leave |
//! | [`rates`] | when the next job of a queue, or of a key, may start |
//! | [`reach`] | which part of a queue is another worker's |
//! | [`recent`] | how jobs ended lately, by queue and minute, and by handler |
//! | [`repeats`] | which lines of the log are held back |
//! | [`rotation`] | what to forget of things that come round again |
//! | [`rule`] | cron expression or `every <interval>`, behind one `next_after` |
//! | [`schedule`] | which due times to enqueue now: catch-up and overlap |
//! | [`settled`] | one execution that is over |
//! | [`zone`] | wall clock to instant and back, gaps and repeats included |
//!
//! Time is a plain `i64` as in PostgreSQL, so that no conversion stands between a
//! `timestamptz` and the functions here.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

pub mod backoff;
pub mod calendar;
pub mod columns;
pub mod consumers;
pub mod counters;
pub mod cron;
pub mod cron_field;
pub mod cron_parse;
pub mod histogram;
pub mod home;
pub mod jumps;
pub mod keys;
pub mod limits;
pub mod low_water;
pub mod names;
pub mod pg_cron;
pub mod pool;
pub mod queue_settings;
pub mod rates;
pub mod reach;
pub mod recent;
pub mod repeats;
pub mod reruns;
pub mod retry_rules;
pub mod rotation;
pub mod rule;
pub mod schedule;
pub mod settled;
pub mod zone;

#[cfg(test)]
mod fuzzed;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod testing;

/// An instant: microseconds since 2000-01-01 00:00:00 UTC, PostgreSQL's `TimestampTz`.
pub type Timestamp = i64;

/// A length of time in microseconds.
pub type Micros = i64;

/// Microseconds in a second.
pub const MICROS_PER_SEC: Micros = 1_000_000;
