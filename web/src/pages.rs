//! The pages: each asks the viewer's seat for what it shows, and has a view draw it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio_postgres::types::Type;

use crate::App;
use crate::door::Viewer;
use crate::fault::Fault;
use crate::fmt::encode;
use crate::minutes;
use crate::search::{self, Filter};
use crate::seat::{Abilities, Seat};
use crate::snapshot::Snapshot;
use crate::views::detail::{Attempt, Job, Whole};
use crate::views::layout::{self, Page};
use crate::views::people::{Handler, Setting};
use crate::views::schedules::{Run, Schedule};
use crate::views::{detail, lists, overview as over, people, queue as one_queue, schedules as plans};

const JOB: &str = include_str!("sql/job.sql");
const ATTEMPTS: &str = include_str!("sql/attempts.sql");
const FOLLOWERS: &str = include_str!("sql/followers.sql");
const WHY: &str = "SELECT my_worker.why($1)";
const SCHEDULES: &str = include_str!("sql/schedules.sql");
const RUNS: &str = include_str!("sql/runs.sql");
const PREVIEW: &str = "SELECT extract(epoch FROM r)::float8, to_char(r, 'Dy YYYY-MM-DD HH24:MI:SS TZ') \
    FROM my_worker.next_runs($1, 5, nullif($2, '')) AS r";
const HANDLERS: &str = include_str!("sql/handlers.sql");
const SETTINGS: &str = include_str!("sql/settings.sql");

/// A list's length, and how long a walk may take before it asks, and after.
const ON_A_PAGE: usize = 50;
const FIRST_WALK: Duration = Duration::from_millis(50);
const FURTHER_WALK: Duration = Duration::from_secs(1);
/// The longest for what is good to have beside a job.
const ASIDE: Duration = Duration::from_millis(50);

/// The answer to a request for a page: the page, or what was in its way.
fn finish(viewer: &Viewer, result: Result<(Arc<Abilities>, Page), Fault>) -> Response {
    match result {
        Ok((can, page)) => layout::frame(viewer, Some(&can), page).into_response(),
        Err(fault) => {
            let status = if fault.is_away() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
            eprintln!("my_worker_web: a page: {}", fault.code());
            (status, layout::trouble(viewer, &fault)).into_response()
        }
    }
}

/// What almost every page begins with: who the role is, and a look.
async fn begin(seat: &Seat) -> Result<(Arc<Abilities>, Arc<Snapshot>), Fault> {
    let can = seat.abilities().await?;
    match can.extension.as_deref() {
        None => {
            return Err(Fault::own(format!(
                "the extension my_worker is not in database {}: CREATE EXTENSION my_worker",
                can.database
            )));
        }
        Some(version) if version.starts_with("1.0") => {
            return Err(Fault::own("the extension is older than 1.1: ALTER EXTENSION my_worker UPDATE"));
        }
        Some(_) => {}
    }
    Ok((can, seat.look().await?))
}

fn page(title: &str, menu: &'static str, live: impl Into<String>, snapshot: &Snapshot, body: maud::Markup) -> Page {
    Page { title: title.to_owned(), menu, live: live.into(), body, health: layout::health(Some(snapshot)) }
}

pub async fn overview(viewer: Viewer, Query(wish): Query<over::Wish>) -> Response {
    let result = async {
        let (can, snapshot) = begin(&viewer.seat).await?;
        let body = over::body(&viewer, &can, &snapshot, &wish);
        Ok((can, page("Overview", "/", over::live(&snapshot, &wish), &snapshot, body)))
    };
    let result = result.await;
    finish(&viewer, result)
}

#[derive(Deserialize)]
pub struct Name {
    #[serde(default)]
    name: String,
}

pub async fn queue(viewer: Viewer, Query(Name { name }): Query<Name>) -> Response {
    let result = async {
        let (can, snapshot) = begin(&viewer.seat).await?;
        let day = match can.may("queue_minutes") {
            true => minutes::day(&mut viewer.seat.open().await?, &name).await,
            false => Err(Fault::own("this server keeps no minutes, or not for this role")),
        };
        let body = one_queue::body(&viewer, &can, &snapshot, &name, day);
        let live = format!("page=queue&name={}", encode(&name));
        Ok((can, page(&format!("Queue {name}"), "/", live, &snapshot, body)))
    };
    let result = result.await;
    finish(&viewer, result)
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Jobs {
    status: String,
    queue: String,
    kind: String,
    handler: String,
    owner: String,
    key: String,
    text: String,
    below: Option<i64>,
}

impl Jobs {
    fn filter(self) -> Filter {
        let Jobs { status, queue, kind, handler, owner, key, text, below: _ } = self;
        Filter { status, queue, kind, handler, owner, key, text }
    }
}

pub async fn jobs(viewer: Viewer, Query(wish): Query<Jobs>) -> Response {
    let result = async {
        let (can, snapshot) = begin(&viewer.seat).await?;
        let below = wish.below;
        let filter = wish.filter();
        let time = if below.is_some() { FURTHER_WALK } else { FIRST_WALK };
        let found = search::walk(&viewer.seat, &filter, below, ON_A_PAGE, time).await?;
        let body = lists::jobs(&filter, &found);
        Ok((can, page("Jobs", "/jobs", lists::live(&found), &snapshot, body)))
    };
    let result = result.await;
    finish(&viewer, result)
}

/// The rest of a list, for the script: the same without a frame.
pub async fn more_jobs(viewer: Viewer, Query(wish): Query<Jobs>) -> Response {
    let below = wish.below;
    let filter = wish.filter();
    match search::walk(&viewer.seat, &filter, below, ON_A_PAGE, FURTHER_WALK).await {
        Ok(found) => lists::went_on(&filter, &found).into_response(),
        Err(fault) => layout::fault(&fault).into_response(),
    }
}

pub async fn job(viewer: Viewer, Path(id): Path<i64>) -> Response {
    let result = async {
        let (can, snapshot) = begin(&viewer.seat).await?;
        let (live, body) = match whole_job(&viewer.seat, &can, id).await? {
            Some(whole) => (format!("page=job&id={id}"), detail::body(&viewer, &can, &whole)),
            None => (
                String::new(),
                maud::html! { p.empty { "There is no such job: it never was, is gone, or is not to be seen." } },
            ),
        };
        Ok((can, page(&format!("Job {id}"), "/jobs", live, &snapshot, body)))
    };
    let result = result.await;
    finish(&viewer, result)
}

/// A job's page as it is now, for who has it open.
pub async fn job_piece(viewer: &Viewer, id: i64) -> Result<Option<String>, Fault> {
    let can = viewer.seat.abilities().await?;
    let whole = whole_job(&viewer.seat, &can, id).await?;
    // The page's forms lead back to the job, not to its events.
    let viewer = Viewer {
        seat: viewer.seat.clone(),
        token: viewer.token.clone(),
        by_login: viewer.by_login,
        said: None,
        here: format!("/job/{id}"),
    };
    Ok(whole.map(|whole| detail::inside(&viewer, &can, &whole).into_string()))
}

async fn whole_job(seat: &Seat, can: &Abilities, id: i64) -> Result<Option<Whole>, Fault> {
    let mut session = seat.open().await?;
    let Some(row) = session.often(JOB, &[&id]).await?.into_iter().next() else { return Ok(None) };
    let job = Job::read(&row)?;
    let attempts = session.often(ATTEMPTS, &[&id]).await?;
    let why = match can.may("why") && job.finished_at.is_none() {
        true => session
            .often(WHY, &[&id])
            .await
            .and_then(|rows| Ok(rows.first().map(|row| row.try_get(0)).transpose()?.flatten())),
        false => Ok(None),
    };
    let followers = session.rows_within(ASIDE, FOLLOWERS, &[(&id, Type::INT8)]).await;
    Ok(Some(Whole {
        job,
        attempts: attempts.iter().map(Attempt::read).collect::<Result<_, _>>()?,
        why,
        followers: followers.and_then(|rows| rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()),
    }))
}

pub async fn schedules(viewer: Viewer, Query(wish): Query<plans::Wish>) -> Response {
    let result = async {
        let (can, snapshot) = begin(&viewer.seat).await?;
        let mut session = viewer.seat.open().await?;
        let rows = session.often(SCHEDULES, &[&wish.q, &wish.after, &wish.id]).await?;
        let all: Vec<Schedule> = rows.iter().map(Schedule::read).collect::<Result<_, _>>()?;
        let ids: Vec<i64> = all.iter().take(plans::ON_A_PAGE).map(|s| s.id).collect();
        let mut runs: HashMap<i64, Vec<Run>> = HashMap::new();
        for row in session.often(RUNS, &[&ids]).await? {
            let (id, run) = Run::read(&row)?;
            runs.entry(id).or_default().push(run);
        }
        drop(session);
        let body = plans::body(&viewer, &can, &wish, &all, &runs);
        Ok((can, page("Schedules", "/schedules", "page=schedules", &snapshot, body)))
    };
    let result = result.await;
    finish(&viewer, result)
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
pub struct Expression {
    schedule: String,
    timezone: String,
}

pub async fn preview(viewer: Viewer, Query(wish): Query<Expression>) -> Response {
    if wish.schedule.trim().is_empty() {
        return plans::preview(Err(Fault::own("Type an expression."))).into_response();
    }
    let result = async {
        let params = [(&wish.schedule as _, Type::TEXT), (&wish.timezone as _, Type::TEXT)];
        let rows = viewer.seat.open().await?.rows(PREVIEW, &params).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    };
    plans::preview(result.await).into_response()
}

pub async fn processes(viewer: Viewer) -> Response {
    let result = async {
        let (can, snapshot) = begin(&viewer.seat).await?;
        let body = people::processes(&snapshot);
        Ok((can, page("Processes", "/processes", "page=processes", &snapshot, body)))
    };
    let result = result.await;
    finish(&viewer, result)
}

pub async fn consumers(viewer: Viewer) -> Response {
    let result = async {
        let (can, snapshot) = begin(&viewer.seat).await?;
        let body = people::consumers(&snapshot);
        Ok((can, page("Consumers", "/consumers", "page=consumers", &snapshot, body)))
    };
    let result = result.await;
    finish(&viewer, result)
}

/// Dead-letter queues are those that others name.
pub async fn dead(viewer: Viewer) -> Response {
    let result = async {
        let (can, snapshot) = begin(&viewer.seat).await?;
        let settings = snapshot.settings.as_ref().map_err(Clone::clone)?;
        let mut names: Vec<&String> = settings.values().filter_map(|s| s.dead_letter.as_ref()).collect();
        names.sort();
        names.dedup();
        let mut all = Vec::new();
        for name in names.into_iter().take(20) {
            let mut from: Vec<_> =
                settings.iter().filter(|(_, s)| s.dead_letter.as_ref() == Some(name)).map(|(n, _)| n.clone()).collect();
            from.sort();
            let filter = Filter { queue: name.clone(), status: "pending".to_owned(), ..Filter::default() };
            let found = search::walk(&viewer.seat, &filter, None, 10, FIRST_WALK / 2).await?;
            let waiting = snapshot.queues.as_ref().ok().and_then(|q| q.get(name)).and_then(|q| q.pending);
            all.push(lists::Dead { name: name.clone(), from, waiting, found });
        }
        let body = lists::dead(&viewer, &can, &all);
        Ok((can, page("Dead letters", "/dead", "page=dead", &snapshot, body)))
    };
    let result = result.await;
    finish(&viewer, result)
}

pub async fn handlers(viewer: Viewer) -> Response {
    let result = async {
        let (can, snapshot) = begin(&viewer.seat).await?;
        let body = match can.may("handler_stats") {
            true => {
                let rows = viewer.seat.open().await?.often(HANDLERS, &[]).await?;
                people::handlers(&rows.iter().map(handler).collect::<Result<Vec<_>, _>>()?)
            }
            false => layout::fault(&Fault::own("this server keeps no statistics of handlers, or not for this role")),
        };
        Ok((can, page("Handlers", "/handlers", "page=handlers", &snapshot, body)))
    };
    let result = result.await;
    finish(&viewer, result)
}

fn handler(row: &tokio_postgres::Row) -> Result<Handler, Fault> {
    Ok(Handler {
        name: row.try_get(0)?,
        runs: row.try_get(1)?,
        calls: row.try_get(2)?,
        failures: row.try_get(3)?,
        last: row.try_get(4)?,
        times: [row.try_get(5)?, row.try_get(6)?, row.try_get(7)?, row.try_get(8)?],
    })
}

pub async fn settings(viewer: Viewer, State(app): State<Arc<App>>) -> Response {
    let result = async {
        let (can, snapshot) = begin(&viewer.seat).await?;
        let rows = viewer.seat.open().await?.often(SETTINGS, &[]).await?;
        let all = rows.iter().map(setting).collect::<Result<Vec<_>, _>>()?;
        let yes = |on: bool| if on { "yes" } else { "no" }.to_owned();
        let facts = [
            ("Role", can.role.clone()),
            ("Database", can.database.clone()),
            ("Server", format!("PostgreSQL {}{}", can.server, if can.standby { ", standby" } else { "" })),
            ("Extension", can.extension.clone().unwrap_or_default()),
            ("Dashboard", env!("CARGO_PKG_VERSION").to_owned()),
            ("Read only", yes(viewer.seat.read_only)),
            ("Viewers log in", yes(app.door.asks())),
            ("Longest statement", format!("{} ms", app.args.statement_timeout.as_millis())),
            ("The last look took", crate::fmt::millis(snapshot.cost.as_secs_f64() * 1000.0)),
        ];
        let body = people::settings(&all, &facts);
        Ok((can, page("Settings", "/settings", "page=settings", &snapshot, body)))
    };
    let result = result.await;
    finish(&viewer, result)
}

fn setting(row: &tokio_postgres::Row) -> Result<Setting, Fault> {
    Ok(Setting {
        name: row.try_get(0)?,
        value: row.try_get(1)?,
        unit: row.try_get(2)?,
        source: row.try_get(3)?,
        context: row.try_get(4)?,
        text: row.try_get(5)?,
    })
}

pub async fn missing(viewer: Viewer) -> Response {
    let page = Page {
        title: "No such page".to_owned(),
        body: maud::html! { p { a href="/" { "To the overview" } } },
        ..Page::default()
    };
    (StatusCode::NOT_FOUND, layout::frame(&viewer, None, page)).into_response()
}
