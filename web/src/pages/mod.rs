//! The pages: each asks the viewer's seat for what it shows, and has a view draw it.

pub mod jobs;
pub mod schedules;

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio_postgres::Row;

use crate::App;
use crate::door::Viewer;
use crate::fault::Fault;
use crate::fmt::{encode, millis};
use crate::minutes;
use crate::pace::For;
use crate::seat::{Abilities, Seat};
use crate::snapshot::Snapshot;
use crate::views::layout::{self, Page};
use crate::views::people::{Handler, Setting};
use crate::views::{overview as over, people, queue as one_queue};

const HANDLERS: &str = include_str!("../sql/handlers.sql");
const SETTINGS: &str = include_str!("../sql/settings.sql");

/// The answer to a request for a page: the page, or what was in its way.
fn finish(viewer: &Viewer, result: Result<(Arc<Abilities>, Page), Fault>) -> Response {
    match result {
        Ok((can, page)) => layout::frame(viewer, Some(&can), page).into_response(),
        Err(fault) => {
            let status = if fault.is_away() {
                StatusCode::SERVICE_UNAVAILABLE
            } else {
                StatusCode::OK
            };
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
            return Err(Fault::own(
                "the extension is older than 1.1: ALTER EXTENSION my_worker UPDATE",
            ));
        }
        Some(_) => {}
    }
    Ok((can, seat.look(For::Page).await?))
}

fn page(
    title: &str,
    menu: &'static str,
    live: impl Into<String>,
    snapshot: &Snapshot,
    body: maud::Markup,
) -> Page {
    Page {
        title: title.to_owned(),
        menu,
        live: live.into(),
        body,
        health: layout::health(Some(snapshot)),
    }
}

pub async fn overview(viewer: Viewer, Query(wish): Query<over::Wish>) -> Response {
    let result = async {
        let (can, snapshot) = begin(&viewer.seat).await?;
        let body = over::body(&viewer, &can, &snapshot, &wish);
        Ok((
            can,
            page(
                "Overview",
                "/",
                over::live(&snapshot, &wish),
                &snapshot,
                body,
            ),
        ))
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
            false => Err(Fault::own(
                "this server keeps no minutes, or not for this role",
            )),
        };
        let body = one_queue::body(&viewer, &can, &snapshot, &name, day);
        let live = format!("page=queue&name={}", encode(&name));
        Ok((
            can,
            page(&format!("Queue {name}"), "/", live, &snapshot, body),
        ))
    };
    let result = result.await;
    finish(&viewer, result)
}

pub async fn processes(viewer: Viewer) -> Response {
    let result = async {
        let (can, snapshot) = begin(&viewer.seat).await?;
        let body = people::processes(&snapshot);
        Ok((
            can,
            page("Processes", "/processes", "page=processes", &snapshot, body),
        ))
    };
    let result = result.await;
    finish(&viewer, result)
}

pub async fn consumers(viewer: Viewer) -> Response {
    let result = async {
        let (can, snapshot) = begin(&viewer.seat).await?;
        let body = people::consumers(&snapshot);
        Ok((
            can,
            page("Consumers", "/consumers", "page=consumers", &snapshot, body),
        ))
    };
    let result = result.await;
    finish(&viewer, result)
}

pub async fn handlers(viewer: Viewer) -> Response {
    let result = async {
        let (can, snapshot) = begin(&viewer.seat).await?;
        let body = match can.may("handler_stats") {
            true => people::handlers(&all_handlers(&viewer.seat).await?),
            false => layout::fault(&Fault::own(
                "this server keeps no statistics of handlers, or not for this role",
            )),
        };
        Ok((
            can,
            page("Handlers", "/handlers", "page=handlers", &snapshot, body),
        ))
    };
    let result = result.await;
    finish(&viewer, result)
}

async fn all_handlers(seat: &Seat) -> Result<Vec<Handler>, Fault> {
    let rows = seat.open().await?.often(HANDLERS, &[]).await?;
    rows.iter().map(handler).collect()
}

async fn all_settings(seat: &Seat) -> Result<Vec<Setting>, Fault> {
    let rows = seat.open().await?.often(SETTINGS, &[]).await?;
    rows.iter().map(Setting::read).collect()
}

/// The part of a page that is read from the server for it alone, for who has it open.
pub async fn piece(page: &str, seat: &Seat) -> Result<String, Fault> {
    let html = match page {
        "handlers" => people::handler_table(&all_handlers(seat).await?),
        _ => people::setting_table(&all_settings(seat).await?),
    };
    Ok(html.into_string())
}

fn handler(row: &Row) -> Result<Handler, Fault> {
    Ok(Handler {
        name: row.try_get(0)?,
        runs: row.try_get(1)?,
        calls: row.try_get(2)?,
        failures: row.try_get(3)?,
        last: row.try_get(4)?,
        times: [
            row.try_get(5)?,
            row.try_get(6)?,
            row.try_get(7)?,
            row.try_get(8)?,
        ],
    })
}

pub async fn settings(viewer: Viewer, State(app): State<Arc<App>>) -> Response {
    let result = async {
        let (can, snapshot) = begin(&viewer.seat).await?;
        let all = all_settings(&viewer.seat).await?;
        let yes = |on: bool| if on { "yes" } else { "no" }.to_owned();
        let facts = [
            ("Role", can.role.clone()),
            ("Database", can.database.clone()),
            (
                "Server",
                format!(
                    "PostgreSQL {}{}",
                    can.server,
                    if can.standby { ", standby" } else { "" }
                ),
            ),
            ("Extension", can.extension.clone().unwrap_or_default()),
            ("Dashboard", env!("CARGO_PKG_VERSION").to_owned()),
            ("Read only", yes(viewer.seat.read_only)),
            ("Viewers log in", yes(app.door.asks())),
            (
                "Longest statement",
                format!("{} ms", app.args.statement_timeout.as_millis()),
            ),
            (
                "The last look took",
                millis(snapshot.cost.as_secs_f64() * 1000.0),
            ),
        ];
        let body = people::settings(&all, &facts);
        Ok((
            can,
            page("Settings", "/settings", "page=settings", &snapshot, body),
        ))
    };
    let result = result.await;
    finish(&viewer, result)
}

pub async fn missing(viewer: Viewer) -> Response {
    let page = Page {
        title: "No such page".to_owned(),
        body: maud::html! { p { a href="/" { "To the overview" } } },
        ..Page::default()
    };
    (StatusCode::NOT_FOUND, layout::frame(&viewer, None, page)).into_response()
}
