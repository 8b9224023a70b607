//! Walks jobs downwards by id. A page of jobs that nobody filters is one look at an index; one with a
//! rare filter reads slices of ids for a while, says how far it came, and goes on when it is asked to.
//!
//! Slices, since no index answers such a filter, and since a role that sees a few of many rows has a
//! rare filter always: row-level security. A slice that took long makes the next one smaller, an
//! empty one makes it larger, so each ends within some milliseconds.

use std::time::{Duration, Instant};

use tokio_postgres::types::Type;

use crate::columns::columns;
use crate::fault::Fault;
use crate::seat::{Param, Seat};
use crate::snapshot::Snapshot;

/// What a viewer wants to see.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    pub status: String,
    pub queue: String,
    pub kind: String,
    pub handler: String,
    pub owner: String,
    pub key: String,
    pub text: String,
}

columns! {
    /// One job in a list.
    #[derive(Debug)]
    pub struct Line {
        pub id: i64,
        pub queue: String,
        pub status: String,
        pub what: Option<String>,
        pub kind: Option<String>,
        pub run_at: Option<f64>,
        pub created_at: Option<f64>,
        pub started_at: Option<f64>,
        pub finished_at: Option<f64>,
        pub attempts: i32,
        pub max_attempts: Option<i32>,
        pub key: Option<String>,
        pub owner: String,
        pub error: Option<String>,
        pub payload: String,
        pub progress: Option<f32>,
    }
}

#[derive(Debug, Default)]
pub struct Found {
    pub lines: Vec<Line>,
    /// Jobs below this id have not been looked at; None: there are no more.
    pub below: Option<i64>,
    pub took: Duration,
}

const LINE: &str = "SELECT j.id, j.queue, j.status, left(coalesce(j.handler, j.command), 160), j.kind, \
    extract(epoch FROM j.run_at)::float8, extract(epoch FROM j.created_at)::float8, \
    extract(epoch FROM j.started_at)::float8, extract(epoch FROM j.finished_at)::float8, j.attempts, j.max_attempts, \
    coalesce(j.unique_key, j.group_key), j.owner::text, left(j.last_error, 300), \
    CASE WHEN pg_column_size(j.payload) < 4000 THEN left(j.payload::text, 200) \
         ELSE pg_size_pretty(pg_column_size(j.payload)::bigint) END, j.progress \
    FROM my_worker.jobs AS j WHERE ";

/// The tables behind the view, each by its index; the view would sort some of its parts for it.
const NEWEST: &str = "SELECT greatest((SELECT q.id FROM my_worker._jobs AS q ORDER BY q.id DESC LIMIT 1), \
    (SELECT h.id FROM my_worker.history AS h ORDER BY h.id DESC LIMIT 1))";

const FIRST_OF: &str = include_str!("sql/first_of.sql");

/// One statement of a walk ends by then.
const STEP: Duration = Duration::from_millis(50);
const FIRST_SLICE: i64 = 4_000;
const LARGEST_SLICE: i64 = 1 << 40;

impl Filter {
    pub fn is_empty(&self) -> bool {
        *self == Filter::default()
    }

    pub fn fields(&self) -> [(&'static str, &str); 7] {
        [
            ("status", &self.status),
            ("queue", &self.queue),
            ("kind", &self.kind),
            ("handler", &self.handler),
            ("owner", &self.owner),
            ("key", &self.key),
            ("text", &self.text),
        ]
    }

    /// Conditions on j from parameter $3 on, and these parameters. Values are never part of the text.
    fn conditions(&self) -> (String, Vec<&String>) {
        let mut sql = String::new();
        let mut values = Vec::new();
        match self.status.as_str() {
            "due" => sql.push_str(" AND j.status = 'pending' AND j.run_at <= now()"),
            "later" => sql.push_str(" AND j.status = 'pending' AND j.run_at > now()"),
            "" => {}
            status => {
                // A constant leaves out the other parts of the view.
                let known = [
                    "pending",
                    "blocked",
                    "processing",
                    "completed",
                    "failed",
                    "cancelled",
                ];
                let known = known
                    .iter()
                    .find(|known| **known == status)
                    .unwrap_or(&"none");
                sql.push_str(&format!(" AND j.status = '{known}'"));
            }
        }
        let others = [
            (&self.queue, "j.queue = $"),
            (&self.kind, "j.kind = $"),
            (
                &self.handler,
                "strpos(coalesce(j.handler, j.command), $) > 0",
            ),
            (
                &self.owner,
                "j.owner::oid = (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = $)",
            ),
            (&self.key, "(j.unique_key = $ OR j.group_key = $)"),
            (&self.text, "strpos(j.payload::text, $) > 0"),
        ];
        for (value, condition) in others {
            if !value.is_empty() {
                values.push(value);
                sql.push_str(" AND ");
                sql.push_str(&condition.replace('$', &format!("${}", values.len() + 2)));
            }
        }
        (sql, values)
    }
}

/// A job that names nothing to call runs its queue's handler.
pub fn name_handlers(lines: &mut [Line], snapshot: &Snapshot) {
    let Ok(settings) = &snapshot.settings else {
        return;
    };
    for line in lines.iter_mut().filter(|line| line.what.is_none()) {
        line.what = settings
            .get(&line.queue)
            .and_then(|queue| queue.handler.clone());
    }
}

/// Up to `most` jobs below an id (None: from the newest on), and no longer than `time` once it is known where
/// to begin.
pub async fn walk(
    seat: &Seat,
    filter: &Filter,
    below: Option<i64>,
    most: usize,
    time: Duration,
) -> Result<Found, Fault> {
    let begin = Instant::now();
    let mut found = Found::default();
    let mut hi = match below {
        Some(below) => below,
        None => match top(seat).await? {
            Some(top) => top,
            None => return Ok(found),
        },
    };
    let walk_begin = Instant::now();
    let mut span = if filter.is_empty() {
        4 * most as i64
    } else {
        FIRST_SLICE
    };
    while hi > i64::MIN + 1 && found.lines.len() < most {
        let lo = hi.saturating_sub(span).max(0);
        let want = most - found.lines.len();
        let slice_begin = Instant::now();
        // The connection is taken for one slice at a time: other viewers of the role come between.
        match slice(seat, filter, (lo, hi), want).await {
            Ok(lines) => {
                let is_full = lines.len() == want;
                hi = if is_full {
                    lines.last().map_or(lo, |line| line.id)
                } else {
                    lo
                };
                found.lines.extend(lines);
            }
            Err(fault) if fault.is_timeout() && span > 1 => {
                span = (span / 16).max(1);
                continue;
            }
            Err(fault) => return Err(fault),
        }
        found.took = begin.elapsed();
        if hi <= 0 {
            return Ok(found);
        }
        if walk_begin.elapsed() + slice_begin.elapsed() / 2 > time {
            break;
        }
        span = next_span(span, slice_begin.elapsed());
    }
    found.took = begin.elapsed();
    found.below = Some(hi);
    Ok(found)
}

/// Aims at slices of some milliseconds.
fn next_span(span: i64, took: Duration) -> i64 {
    match took.as_micros() {
        0..=1_500 => span.saturating_mul(8).min(LARGEST_SLICE),
        1_501..=6_000 => span.saturating_mul(2).min(LARGEST_SLICE),
        6_001..=15_000 => span,
        _ => (span / 2).max(1),
    }
}

async fn slice(
    seat: &Seat,
    filter: &Filter,
    (lo, hi): (i64, i64),
    most: usize,
) -> Result<Vec<Line>, Fault> {
    let (conditions, values) = filter.conditions();
    let sql = format!("{LINE}j.id < $1 AND j.id >= $2{conditions} ORDER BY j.id DESC LIMIT {most}");
    let mut params: Vec<Param> = vec![(&hi, Type::INT8), (&lo, Type::INT8)];
    params.extend(
        values
            .into_iter()
            .map(|value| -> Param { (value, Type::TEXT) }),
    );
    let rows = seat.open().await?.rows_within(STEP, &sql, &params).await?;
    rows.iter().map(Line::read).collect()
}

/// These jobs, as they are now.
pub async fn these(seat: &Seat, ids: &[i64]) -> Result<Vec<Line>, Fault> {
    let sql = format!("{LINE}j.id = ANY ($1)");
    let rows = seat
        .open()
        .await?
        .rows_within(STEP, &sql, &[(&ids, Type::INT8_ARRAY)])
        .await?;
    rows.iter().map(Line::read).collect()
}

/// The first to leave dead-letter queues, `most` of each: by queue, their ids. By the order of the claim's index,
/// since dead letters are old, and a walk from the newest job on may have millions of others before them.
pub async fn first_of(
    seat: &Seat,
    queues: &[String],
    most: usize,
) -> Result<Vec<(String, i64)>, Fault> {
    let params: [Param; 2] = [(&queues, Type::TEXT_ARRAY), (&(most as i64), Type::INT8)];
    let rows = seat
        .open()
        .await?
        .rows_within(STEP, FIRST_OF, &params)
        .await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}

/// Just above the newest job that the role sees. Where it sees a few of very many rows, even that is
/// a rare filter: then the power of two above them, by halving.
async fn top(seat: &Seat) -> Result<Option<i64>, Fault> {
    match seat.open().await?.rows_within(STEP / 2, NEWEST, &[]).await {
        Ok(rows) => {
            let newest = rows.first().map(|row| row.try_get::<_, Option<i64>>(0));
            return Ok(newest.transpose()?.flatten().map(|id| id + 1));
        }
        Err(fault) if fault.is_timeout() => {}
        Err(fault) => return Err(fault),
    }
    let any = "SELECT 1 FROM my_worker.jobs AS j WHERE j.id >= $1 LIMIT 1";
    let (mut low, mut high) = (0_u32, 62_u32);
    while low < high {
        let middle = (low + high) / 2;
        let there = match seat
            .open()
            .await?
            .rows_within(STEP / 5, any, &[(&(1_i64 << middle), Type::INT8)])
            .await
        {
            Ok(rows) => !rows.is_empty(),
            Err(fault) if fault.is_timeout() => true,
            Err(fault) => return Err(fault),
        };
        (low, high) = if there {
            (middle + 1, high)
        } else {
            (low, middle)
        };
    }
    Ok(Some(1 << low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_parameters() {
        let filter = Filter {
            queue: "a'; DROP".into(),
            key: "$1".into(),
            status: "x' OR true".into(),
            ..Filter::default()
        };
        let (sql, values) = filter.conditions();
        assert_eq!(
            sql,
            " AND j.status = 'none' AND j.queue = $3 AND (j.unique_key = $4 OR j.group_key = $4)"
        );
        assert_eq!(values, ["a'; DROP", "$1"]);
    }

    #[test]
    fn slices_fit_the_time() {
        assert!(next_span(1000, Duration::from_micros(300)) > 1000);
        assert!(next_span(1000, Duration::from_millis(40)) < 1000);
        assert_eq!(next_span(1, Duration::from_millis(40)), 1);
    }
}
