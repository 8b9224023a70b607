//! Which jobs that others come after have ended, and how: what the keeper reads of `_dependencies`.

use std::collections::{BTreeMap, BTreeSet};

use crate::pg::catalog::Extension;
use crate::pg::datum::{ToDatum, types};
use crate::pg::error::Result;
use crate::pg::spi::{Row, Statement};

use super::after::array;
use super::as_owner;

// The subqueries of these statements have limits so that each is a look by the index, whatever the server takes
// the tables to be like.

/// What has become of the job `a.id`: `live`, or how it ended. What is gone without a trace has completed.
macro_rules! state {
    () => {
        "CASE WHEN q.id IS NULL THEN coalesce(h.status, 'completed') \
         WHEN q.status = 'failed' OR q.origin IS NOT NULL THEN 'failed' ELSE 'live' END"
    };
}

/// The message of a job that was cancelled since one that it comes after had failed: it names that one.
macro_rules! cause {
    () => {
        "CASE WHEN h.status = 'cancelled' AND h.errors -> -1 ->> 'sqlstate' = 'MW003' \
         AND (h.errors -> -1 ->> 'at')::pg_catalog.timestamptz = h.finished_at THEN h.last_error END"
    };
}

macro_rules! standing_of_a {
    () => {
        " LEFT JOIN LATERAL (SELECT j.id, j.status, j.origin FROM my_worker._jobs AS j \
         WHERE j.id = a.id LIMIT 1) AS q ON true \
         LEFT JOIN LATERAL (SELECT p.status, p.errors, p.last_error, p.finished_at FROM my_worker.history AS p \
         WHERE q.id IS NULL AND p.id = a.id ORDER BY p.finished_at DESC LIMIT 1) AS h ON true "
    };
}

/// Of the jobs that `a` names: those that have ended, each with the jobs that come after it (of `$1` those behind
/// `$2`), at most `$3`; and those that have not.
macro_rules! after_those_of_a {
    () => {
        concat!(
            "SELECT s.id, e.job, s.state, s.cause FROM (SELECT a.id, ",
            state!(),
            " AS state, ",
            cause!(),
            " AS cause FROM a",
            standing_of_a!(),
            "WHERE a.id IS NOT NULL) AS s LEFT JOIN LATERAL (\
             SELECT d.job FROM my_worker._dependencies AS d WHERE s.state <> 'live' AND d.after = s.id \
             AND (s.id > $1 OR d.job > $2) ORDER BY d.job LIMIT $3) AS e ON true ORDER BY s.id, e.job LIMIT $3"
        )
    };
}

/// Of one job.
static AFTER_ONE: Statement = Statement::new(
    concat!("WITH a (id) AS (SELECT $1) ", after_those_of_a!()),
    &[types::INT8, types::INT8, types::INT8],
);

/// Of up to `$5` jobs from `$1` to `$4`, one after the other by the index.
static AFTER_SOME: Statement = Statement::new(
    concat!(
        "WITH RECURSIVE a (id, turn) AS (\
         (SELECT d.after, 1 FROM my_worker._dependencies AS d WHERE d.after >= $1 AND d.after <= $4 \
         ORDER BY d.after LIMIT 1) \
         UNION ALL SELECT (SELECT d.after FROM my_worker._dependencies AS d WHERE d.after > a.id AND d.after <= $4 \
         ORDER BY d.after LIMIT 1), a.turn + 1 FROM a WHERE a.id IS NOT NULL AND a.turn < $5) ",
        after_those_of_a!()
    ),
    &[
        types::INT8,
        types::INT8,
        types::INT8,
        types::INT8,
        types::INT4,
    ],
);

/// What jobs up to `$3` wait for, behind a row of the table.
static OF_JOBS: Statement = Statement::new(
    "SELECT d.job, d.after FROM my_worker._dependencies AS d WHERE (d.job, d.after) > ($1, $2) \
     AND d.job <= $3 ORDER BY d.job, d.after LIMIT $4",
    &[types::INT8, types::INT8, types::INT8, types::INT8],
);

static STATES: Statement = Statement::new(
    concat!(
        "SELECT a.id, ",
        state!(),
        ", ",
        cause!(),
        " FROM pg_catalog.unnest($1) AS a (id)",
        standing_of_a!()
    ),
    &[types::INT8_ARRAY],
);

/// What has become of a job that others come after.
#[derive(Clone, PartialEq, Eq)]
pub enum Fate {
    /// It has ended well.
    Well,
    /// It has failed, or was cancelled: the error that names it.
    Badly(Vec<u8>),
}

/// A row of `_dependencies` whose `after` has ended.
#[derive(Clone)]
pub struct Ended {
    /// The job that waits.
    pub job: i64,
    /// The one that has ended.
    pub after: i64,
    /// How.
    pub fate: Fate,
}

/// What a look came to.
#[derive(Default)]
pub struct Seen {
    /// What has ended.
    pub ended: Vec<Ended>,
    /// The last row that was read: its two ids, in the order of the look; `None`: there are no more.
    pub unread: Option<(i64, i64)>,
    /// How many rows there were.
    pub rows: usize,
}

/// Jobs in a range that have ended, and those that come after them: `from` is the first id, and of that one only
/// the jobs behind the second number.
pub fn after_ended(extension: &Extension, from: (i64, i64), to: i64, most: usize) -> Result<Seen> {
    as_owner(extension, |spi| {
        let turns = i32::try_from(most).unwrap_or(i32::MAX);
        let limit = (most as i64).datum();
        let mut arguments = vec![Some(from.0.datum()), Some(from.1.datum()), Some(limit)];
        let rows = if from.0 == to {
            spi.run(&AFTER_ONE, &arguments)?
        } else {
            arguments.extend([Some(to.datum()), Some(turns.datum())]);
            spi.run(&AFTER_SOME, &arguments)?
        };
        let mut seen = Seen::default();
        let mut last = None;
        let mut names = BTreeSet::new();
        for row in rows.iter() {
            let after = row.i64(1).unwrap_or(0);
            names.insert(after);
            seen.rows += 1;
            last = Some((after, row.i64(2).unwrap_or(i64::MAX)));
            if let (Some(job), Some(fate)) = (row.i64(2), fate(&row, after, 3)?) {
                seen.ended.push(Ended { job, after, fate });
            }
        }
        // At the limit of rows or of jobs there may be more.
        seen.unread = last.filter(|_| seen.rows >= most || names.len() >= most);
        Ok(seen)
    })
}

/// What the jobs in a range wait for and has ended, behind a row of the table. `note` is told of all that they
/// wait for, before it is asked whether it has ended.
pub fn of_jobs(
    extension: &Extension,
    behind: (i64, i64),
    to: i64,
    most: usize,
    note: impl FnOnce(&[i64]),
) -> Result<Seen> {
    as_owner(extension, |spi| {
        let arguments = [
            Some(behind.0.datum()),
            Some(behind.1.datum()),
            Some(to.datum()),
            Some((most as i64).datum()),
        ];
        let rows = spi.run(&OF_JOBS, &arguments)?;
        let pair = |row: Row<'_>| (row.i64(1).unwrap_or(0), row.i64(2).unwrap_or(0));
        let pairs: Vec<(i64, i64)> = rows.iter().map(pair).collect();
        let names: BTreeSet<i64> = pairs.iter().map(|(_, after)| *after).collect();
        let names: Vec<i64> = names.into_iter().collect();
        if names.is_empty() {
            return Ok(Seen::default());
        }
        note(&names);
        let mut fates = BTreeMap::new();
        for row in spi.run(&STATES, &[Some(array(&names)?)])?.iter() {
            let after = row.i64(1).unwrap_or(0);
            if let Some(fate) = fate(&row, after, 2)? {
                fates.insert(after, fate);
            }
        }
        let ended = pairs.iter().filter_map(|(job, after)| {
            let fate = fates.get(after)?.clone();
            let (job, after) = (*job, *after);
            Some(Ended { job, after, fate })
        });
        Ok(Seen {
            ended: ended.collect(),
            unread: pairs.last().copied().filter(|_| pairs.len() >= most),
            rows: pairs.len(),
        })
    })
}

/// How a job ended, from two columns of a row; `None` if it has not.
fn fate(row: &Row<'_>, after: i64, first: i32) -> Result<Option<Fate>> {
    let state = row.text(first)?.unwrap_or_default();
    Ok(match state.as_slice() {
        b"live" => None,
        b"completed" => Some(Fate::Well),
        how => Some(Fate::Badly(match row.text(first + 1)? {
            Some(cause) => cause,
            None => {
                let how = if how == b"failed" {
                    "failed"
                } else {
                    "was cancelled"
                };
                format!("job {after} {how}, which this job comes after").into_bytes()
            }
        })),
    })
}
