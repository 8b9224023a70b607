//! What each queue did minute by minute, as the server's shared memory has it.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::fault::Fault;
use crate::fmt::now;
use crate::seat::Session;

const SINCE: &str = "SELECT m.queue, extract(epoch FROM m.minute)::float8, m.completed, m.failed, m.retried, m.wait_p95, m.run_p95 \
    FROM my_worker.queue_minutes_since(to_timestamp($1)) AS m ORDER BY m.minute";
const DAY: &str = "SELECT m.queue, extract(epoch FROM m.minute)::float8, m.completed, m.failed, m.retried, m.wait_p95, m.run_p95 \
    FROM my_worker.queue_minutes AS m WHERE m.queue = $1 ORDER BY m.minute";

/// How many minutes a small line shows.
pub const SHOWN: usize = 60;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Minutes {
    /// The last full or begun minute that was read, in minutes since 1970.
    pub last: i64,
    by_queue: HashMap<String, Vec<Minute>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Minute {
    /// Since 1970, in minutes.
    pub at: i64,
    pub completed: i64,
    pub failed: i64,
    pub retried: i64,
    pub wait: Option<f64>,
    pub run: Option<f64>,
}

impl Minutes {
    /// Reads what came since the last look, and keeps the last hour.
    pub async fn read(
        session: &mut Session<'_>,
        last: Option<&Arc<Minutes>>,
    ) -> Result<Self, Fault> {
        if !session.abilities().await?.may("queue_minutes_since") {
            return Err(Fault::own(
                "this server keeps no minutes: update the extension",
            ));
        }
        let now = this_minute();
        let oldest = now - SHOWN as i64 + 1;
        let mut minutes = last.map(|last| Minutes::clone(last)).unwrap_or_default();
        // The minute before may have been counted on after it was read.
        let since = if minutes.last >= oldest {
            minutes.last - 1
        } else {
            oldest
        };
        minutes.forget(oldest, since);
        minutes.last = now;
        for row in session.often(SINCE, &[&(since as f64 * 60.0)]).await? {
            let (queue, minute) = read(&row)?;
            minutes.by_queue.entry(queue).or_default().push(minute);
        }
        Ok(minutes)
    }

    /// Drops what is older than the first, and what is read anew from the second on.
    fn forget(&mut self, oldest: i64, since: i64) {
        self.by_queue.retain(|_, minutes| {
            minutes.retain(|minute| (oldest..since).contains(&minute.at));
            !minutes.is_empty()
        });
    }

    /// In order; minutes in which nothing ended are not there.
    pub fn of(&self, queue: &str) -> &[Minute] {
        self.by_queue
            .get(queue)
            .map(Vec::as_slice)
            .unwrap_or_default()
    }
}

/// All minutes of one queue that are kept, in order.
pub async fn day(session: &mut Session<'_>, queue: &str) -> Result<Vec<Minute>, Fault> {
    let rows = session.rows(DAY, &[(&queue, Type::TEXT)]).await?;
    rows.iter().map(|row| Ok(read(row)?.1)).collect()
}

pub fn this_minute() -> i64 {
    (now() / 60.0) as i64
}

fn read(row: &Row) -> Result<(String, Minute), Fault> {
    let minute = Minute {
        at: (row.try_get::<_, f64>(1)? / 60.0).round() as i64,
        completed: row.try_get::<_, Option<i64>>(2)?.unwrap_or(0),
        failed: row.try_get::<_, Option<i64>>(3)?.unwrap_or(0),
        retried: row.try_get::<_, Option<i64>>(4)?.unwrap_or(0),
        wait: row.try_get(5)?,
        run: row.try_get(6)?,
    };
    Ok((row.try_get(0)?, minute))
}
