//! One look at what goes on: what the server's shared memory says of queues and processes. Pages are
//! drawn from it, and live pages again and again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::Row;

use crate::columns::columns;
use crate::fault::Fault;
use crate::minutes::Minutes;
use crate::pace::{COUNTS_LAST, DEAR, For, HEALTH_LASTS, LOOPS_COUNT, Pace, long_ago};
use crate::seat::{Seat, Session};

const QUEUE_STATS: &str = include_str!("sql/queue_stats.sql");
const PROCESSES: &str = include_str!("sql/processes.sql");
const AT_WORK: &str = include_str!("sql/at_work.sql");
const QUEUES: &str = include_str!("sql/queues.sql");
const PAUSED: &str = "SELECT q.name, q.paused FROM my_worker.queues AS q";
const HEALTH: &str = "SELECT h.\"check\", h.ok, h.detail FROM my_worker.health() AS h";

/// Settings of queues are read from a table, so more rarely.
const SETTINGS_LAST: Duration = Duration::from_secs(5);
/// A part that the role may not see is a fault of that part alone.
pub type Part<T> = Result<Arc<T>, Fault>;

#[derive(Clone)]
pub struct Snapshot {
    pub at: Instant,
    /// What the statements took that each look makes.
    pub cost: Duration,
    pub queues: Part<BTreeMap<String, Queue>>,
    pub processes: Part<Vec<Process>>,
    pub at_work: Part<HashMap<i64, Work>>,
    pub settings: Part<HashMap<String, Settings>>,
    pub health: Part<Vec<Check>>,
    pub minutes: Part<Minutes>,
    /// Whether `queues` says how many jobs wait, or the first count is still to come.
    pub is_counted: bool,
    counts: Pace,
    checks: Pace,
    rest: Pace,
    settings_at: Instant,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Queue {
    pub pending: Option<i64>,
    pub scheduled: Option<i64>,
    /// These two are estimates.
    pub estimated: bool,
    pub processing: Option<i64>,
    pub blocked: Option<i64>,
    pub limited: bool,
    pub oldest: Age,
    pub completed: Option<i64>,
    pub failed: Option<i64>,
    pub retried: Option<i64>,
    pub cancelled: Option<i64>,
    pub wait: [Option<f64>; 3],
    pub run: [Option<f64>; 3],
}

/// Seconds. It grows all the time, which is no difference between two looks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Age(pub Option<f64>);

impl PartialEq for Age {
    fn eq(&self, other: &Self) -> bool {
        self.0.is_some() == other.0.is_some()
    }
}

columns! {
    #[derive(Clone, Debug, PartialEq)]
    pub struct Process {
        pub pid: Option<i32>,
        pub kind: String,
        pub database: Option<String>,
        pub role: Option<String>,
        pub state: Option<String>,
        pub job: Option<i64>,
        pub queue: Option<String>,
        pub job_since: Option<f64>,
        pub jobs_done: Option<i64>,
        pub since: Option<f64>,
        pub application: Option<String>,
    }
}

impl Process {
    pub fn is_consumer(&self) -> bool {
        self.kind == "consumer"
    }
}

columns! {
    #[derive(Clone, Debug, PartialEq)]
    pub struct Work {
        pub job: i64,
        pub pid: i32,
        pub what: Option<String>,
        pub progress: Option<f32>,
        pub message: Option<String>,
        pub queue: String,
        pub owner: String,
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    pub paused: bool,
    pub handler: Option<String>,
    pub concurrency: Option<i32>,
    pub rate: Option<i32>,
    pub rate_period: Option<String>,
    pub dead_letter: Option<String>,
    pub fifo: bool,
    pub per_key: Option<i32>,
    /// The others, by name, as text.
    pub rest: Vec<(&'static str, String)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    pub name: String,
    pub ok: bool,
    pub detail: String,
}

impl Snapshot {
    /// Reads anew; what seldom changes, or is dear, is taken over from the last one while it is
    /// fresh. Fails as a whole only when the server is away.
    pub async fn read(seat: &Seat, last: Option<&Snapshot>, whom: For) -> Result<Self, Fault> {
        let mut session = seat.open().await?;
        let mut next = last.cloned().unwrap_or_else(Snapshot::empty);
        let begin = Instant::now();
        next.processes = part(processes(&mut session).await)?;
        next.at_work = part(at_work(&mut session).await)?;
        let minutes = last.and_then(|last| last.minutes.as_ref().ok());
        next.minutes = part(Minutes::read(&mut session, minutes).await)?;
        next.cost = begin.elapsed();
        next.rest.took(next.cost);
        if next.settings_at.elapsed() >= SETTINGS_LAST {
            next.settings = part(settings(&mut session).await)?;
            next.settings_at = Instant::now();
        }
        next.count(&mut session, whom, last.is_none()).await?;
        next.check(&mut session, whom, last.is_none()).await?;
        next.at = Instant::now();
        Ok(next)
    }

    async fn count(
        &mut self,
        session: &mut Session<'_>,
        whom: For,
        first: bool,
    ) -> Result<(), Fault> {
        // The loop makes up for a first count that a page had no time for.
        let limit = match whom {
            For::Loop if !self.is_counted => Some(LOOPS_COUNT),
            _ => self.counts.limit(whom, COUNTS_LAST, first),
        };
        let Some(limit) = limit else { return Ok(()) };
        let begin = Instant::now();
        let found = part(queues(session, limit).await)?;
        self.counts.took(begin.elapsed());
        self.is_counted = !matches!(&found, Err(fault) if fault.is_timeout());
        if self.is_counted {
            self.queues = found;
            return Ok(());
        }
        self.counts.cost = self.counts.cost.max(DEAR * 2);
        if first {
            let names = self.settings.iter().flat_map(|all| all.keys());
            self.queues = Ok(Arc::new(
                names.map(|name| (name.clone(), Queue::default())).collect(),
            ));
        }
        Ok(())
    }

    async fn check(
        &mut self,
        session: &mut Session<'_>,
        whom: For,
        first: bool,
    ) -> Result<(), Fault> {
        // Health counts as well: where a count takes long, the loop brings both.
        if whom == For::Page && !self.is_counted {
            return Ok(());
        }
        let Some(limit) = self.checks.limit(whom, HEALTH_LASTS, first) else {
            return Ok(());
        };
        let begin = Instant::now();
        let found = part(health(session, limit).await)?;
        self.checks.took(begin.elapsed());
        if first && matches!(&found, Err(fault) if fault.is_timeout()) {
            // The loop has more patience, and looks at once.
            self.checks.at = long_ago();
        } else {
            self.health = found;
        }
        Ok(())
    }

    fn empty() -> Self {
        let none = || Fault::own("It follows in a moment.");
        Snapshot {
            at: Instant::now(),
            cost: Duration::ZERO,
            queues: Err(none()),
            processes: Err(none()),
            at_work: Err(none()),
            settings: Err(none()),
            health: Err(none()),
            minutes: Err(none()),
            is_counted: false,
            counts: Pace::new(),
            checks: Pace::new(),
            rest: Pace::new(),
            settings_at: long_ago(),
        }
    }

    /// When the loop looks again.
    pub fn pause(&self, (least, most): (Duration, Duration)) -> Duration {
        self.rest.pause((least, most))
    }

    /// Whether something has begun, ended or come since that one: if not, no row needs another look.
    pub fn differs(&self, last: &Snapshot) -> bool {
        !same(&self.queues, &last.queues)
            || !same(&self.processes, &last.processes)
            || !same(&self.at_work, &last.at_work)
    }

    /// Has the next look read again what an action may have changed; not what is dear.
    pub fn forget(mut self) -> Self {
        self.at = long_ago();
        self.settings_at = long_ago();
        for pace in [&mut self.counts, &mut self.checks] {
            if pace.cost < DEAR {
                pace.at = long_ago();
            }
        }
        self
    }
}

fn same<T: PartialEq>(a: &Part<T>, b: &Part<T>) -> bool {
    match (a, b) {
        (Ok(a), Ok(b)) => a == b,
        (a, b) => a.is_err() == b.is_err(),
    }
}

/// A refusal stays with its part; that the server is away concerns all.
fn part<T>(result: Result<T, Fault>) -> Result<Part<T>, Fault> {
    match result {
        Ok(value) => Ok(Ok(Arc::new(value))),
        Err(fault) if fault.is_away() => Err(fault),
        Err(fault) => Ok(Err(fault)),
    }
}

async fn queues(
    session: &mut Session<'_>,
    limit: Duration,
) -> Result<BTreeMap<String, Queue>, Fault> {
    session
        .often_within(limit, QUEUE_STATS)
        .await?
        .iter()
        .map(queue)
        .collect()
}

fn queue(row: &Row) -> Result<(String, Queue), Fault> {
    let queue = Queue {
        pending: row.try_get(1)?,
        scheduled: row.try_get(2)?,
        estimated: row.try_get::<_, Option<bool>>(17)?.unwrap_or(false),
        processing: row.try_get(3)?,
        blocked: row.try_get(4)?,
        limited: row.try_get::<_, Option<bool>>(5)?.unwrap_or(false),
        oldest: Age(row.try_get(6)?),
        completed: row.try_get(7)?,
        failed: row.try_get(8)?,
        retried: row.try_get(9)?,
        cancelled: row.try_get(10)?,
        wait: [row.try_get(11)?, row.try_get(12)?, row.try_get(13)?],
        run: [row.try_get(14)?, row.try_get(15)?, row.try_get(16)?],
    };
    Ok((row.try_get(0)?, queue))
}

async fn processes(session: &mut Session<'_>) -> Result<Vec<Process>, Fault> {
    session
        .often(PROCESSES, &[])
        .await?
        .iter()
        .map(Process::read)
        .collect()
}

async fn at_work(session: &mut Session<'_>) -> Result<HashMap<i64, Work>, Fault> {
    let mut found = HashMap::new();
    for row in session.often(AT_WORK, &[]).await? {
        let work = Work::read(&row)?;
        found.insert(work.job, work);
    }
    Ok(found)
}

/// Readers of statistics may see the names and what is paused, and nothing else.
async fn settings(session: &mut Session<'_>) -> Result<HashMap<String, Settings>, Fault> {
    match session.often(QUEUES, &[]).await {
        Ok(rows) => rows.iter().map(setting).collect(),
        Err(fault) if fault.is_denied() => session
            .often(PAUSED, &[])
            .await?
            .iter()
            .map(|row| {
                Ok((
                    row.try_get(0)?,
                    Settings {
                        paused: row.try_get(1)?,
                        ..Settings::default()
                    },
                ))
            })
            .collect(),
        Err(fault) => Err(fault),
    }
}

fn setting(row: &Row) -> Result<(String, Settings), Fault> {
    let mut rest = Vec::new();
    let texts = [
        ("backoff", 5),
        ("backoff_max", 6),
        ("timeout", 7),
        ("retention", 8),
        ("retry_on", 17),
        ("fail_on", 18),
    ];
    for (name, place) in texts {
        if let Some(text) = row.try_get(place)? {
            rest.push((name, text));
        }
    }
    for (name, place) in [
        ("max_attempts", 4),
        ("burst", 13),
        ("jobs_per_savepoint", 16),
    ] {
        if let Some(number) = row.try_get::<_, Option<i32>>(place)? {
            rest.push((name, number.to_string()));
        }
    }
    rest.push((
        "rate_per_key",
        if row.try_get(14)? { "on" } else { "off" }.to_owned(),
    ));
    let settings = Settings {
        paused: row.try_get(1)?,
        handler: row.try_get(2)?,
        concurrency: row.try_get(3)?,
        per_key: row.try_get(9)?,
        fifo: row.try_get(10)?,
        rate: row.try_get(11)?,
        rate_period: row.try_get(12)?,
        dead_letter: row.try_get(15)?,
        rest,
    };
    Ok((row.try_get(0)?, settings))
}

async fn health(session: &mut Session<'_>, limit: Duration) -> Result<Vec<Check>, Fault> {
    let rows = session.often_within(limit, HEALTH).await?;
    rows.iter()
        .map(|row| {
            let ok = row.try_get::<_, Option<bool>>(1)?.unwrap_or(false);
            Ok(Check {
                name: row.try_get(0)?,
                ok,
                detail: row.try_get::<_, Option<String>>(2)?.unwrap_or_default(),
            })
        })
        .collect()
}
