//! Jobs: lists of them, one of them, and dead letters.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use axum::extract::{Path, Query};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio_postgres::types::Type;

use super::{begin, finish, page};
use crate::door::Viewer;
use crate::fault::Fault;
use crate::pace::For;
use crate::search::{self, Filter};
use crate::seat::{Abilities, Seat};
use crate::snapshot::Snapshot;
use crate::views::detail::{Attempt, Job, Whole};
use crate::views::{detail, layout, lists};

const JOB: &str = include_str!("../sql/job.sql");
const ATTEMPTS: &str = include_str!("../sql/attempts.sql");
const FOLLOWERS: &str = include_str!("../sql/followers.sql");
const WHY: &str = "SELECT my_worker.why($1)";

/// A list's length, and how long a walk may take before it asks, and after.
const ON_A_PAGE: usize = 50;
const FIRST_WALK: Duration = Duration::from_millis(50);
const FURTHER_WALK: Duration = Duration::from_secs(1);
/// So many dead-letter queues are shown, and so many jobs of each.
const DEAD_QUEUES: usize = 20;
const DEAD_LETTERS: usize = 10;
/// The longest for what is good to have beside a job.
const ASIDE: Duration = Duration::from_millis(50);

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
        let Jobs {
            status,
            queue,
            kind,
            handler,
            owner,
            key,
            text,
            below: _,
        } = self;
        Filter {
            status,
            queue,
            kind,
            handler,
            owner,
            key,
            text,
        }
    }
}

pub async fn jobs(viewer: Viewer, Query(wish): Query<Jobs>) -> Response {
    let result = async {
        let (can, snapshot) = begin(&viewer.seat).await?;
        let below = wish.below;
        let filter = wish.filter();
        let time = if below.is_some() {
            FURTHER_WALK
        } else {
            FIRST_WALK
        };
        let mut found = search::walk(&viewer.seat, &filter, below, ON_A_PAGE, time).await?;
        search::name_handlers(&mut found.lines, &snapshot);
        let body = lists::jobs(&filter, &found);
        Ok((
            can,
            page("Jobs", "/jobs", lists::live(&found), &snapshot, body),
        ))
    };
    let result = result.await;
    finish(&viewer, result)
}

/// The rest of a list, for the script: the same without a frame.
pub async fn more(viewer: Viewer, Query(wish): Query<Jobs>) -> Response {
    let below = wish.below;
    let filter = wish.filter();
    match search::walk(&viewer.seat, &filter, below, ON_A_PAGE, FURTHER_WALK).await {
        Ok(mut found) => {
            if let Ok(snapshot) = viewer.seat.look(For::Page).await {
                search::name_handlers(&mut found.lines, &snapshot);
            }
            lists::went_on(&filter, &found).into_response()
        }
        Err(fault) => layout::fault(&fault).into_response(),
    }
}

pub async fn job(viewer: Viewer, Path(id): Path<i64>) -> Response {
    let result = async {
        let (can, snapshot) = begin(&viewer.seat).await?;
        let (live, body) = match whole_job(&viewer.seat, &can, id).await? {
            Some(whole) => (
                format!("page=job&id={id}"),
                detail::body(&viewer, &can, &whole),
            ),
            None => (
                String::new(),
                maud::html! { p.empty { "There is no such job: it never was, is gone, or is not to be seen." } },
            ),
        };
        Ok((
            can,
            page(&format!("Job {id}"), "/jobs", live, &snapshot, body),
        ))
    };
    let result = result.await;
    finish(&viewer, result)
}

/// A job's page as it is now, for who has it open.
pub async fn piece(viewer: &Viewer, id: i64) -> Result<Option<String>, Fault> {
    let can = viewer.seat.abilities().await?;
    let whole = whole_job(&viewer.seat, &can, id).await?;
    let viewer = viewer.at(format!("/job/{id}"));
    Ok(whole.map(|whole| detail::inside(&viewer, &can, &whole).into_string()))
}

async fn whole_job(seat: &Seat, can: &Abilities, id: i64) -> Result<Option<Whole>, Fault> {
    let mut session = seat.open().await?;
    let Some(row) = session.often(JOB, &[&id]).await?.into_iter().next() else {
        return Ok(None);
    };
    let job = Job::read(&row)?;
    let attempts = session.often(ATTEMPTS, &[&id]).await?;
    let why = match can.may("why") && job.finished_at.is_none() {
        true => session.often(WHY, &[&id]).await.and_then(|rows| {
            Ok(rows
                .first()
                .map(|row| row.try_get(0))
                .transpose()?
                .flatten())
        }),
        false => Ok(None),
    };
    let followers = session
        .rows_within(ASIDE, FOLLOWERS, &[(&id, Type::INT8)])
        .await;
    Ok(Some(Whole {
        job,
        attempts: attempts
            .iter()
            .map(Attempt::read)
            .collect::<Result<_, _>>()?,
        why,
        followers: followers.and_then(|rows| {
            rows.iter()
                .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
                .collect()
        }),
    }))
}

pub async fn dead(viewer: Viewer) -> Response {
    let result = async {
        let (can, snapshot) = begin(&viewer.seat).await?;
        let all = dead_letters(&viewer.seat, &snapshot).await?;
        let body = lists::dead(&viewer, &can, &all);
        Ok((
            can,
            page("Dead letters", "/dead", "page=dead", &snapshot, body),
        ))
    };
    let result = result.await;
    finish(&viewer, result)
}

/// What waits there now, for who has the page open.
pub async fn dead_piece(viewer: &Viewer, snapshot: &Snapshot) -> Result<String, Fault> {
    let can = viewer.seat.abilities().await?;
    let all = dead_letters(&viewer.seat, snapshot).await?;
    let viewer = viewer.at("/dead".to_owned());
    Ok(lists::dead_letters(&viewer, &can, &all).into_string())
}

/// Dead-letter queues are those that others name.
async fn dead_letters(seat: &Seat, snapshot: &Snapshot) -> Result<Vec<lists::Dead>, Fault> {
    let settings = snapshot.settings.as_ref().map_err(Clone::clone)?;
    let mut sources: BTreeMap<&String, Vec<String>> = BTreeMap::new();
    for (name, queue) in settings.iter() {
        if let Some(dead) = &queue.dead_letter {
            sources.entry(dead).or_default().push(name.clone());
        }
    }
    sources = sources.into_iter().take(DEAD_QUEUES).collect();
    let names: Vec<String> = sources.keys().map(|name| (*name).clone()).collect();
    let first = search::first_of(seat, &names, DEAD_LETTERS + 1).await?;
    let ids: Vec<i64> = first.iter().map(|(_, id)| *id).collect();
    let mut lines = search::these(seat, &ids).await?;
    search::name_handlers(&mut lines, snapshot);
    let mut by_id: HashMap<i64, search::Line> =
        lines.into_iter().map(|line| (line.id, line)).collect();
    let dead = |(name, mut from): (&String, Vec<String>)| {
        from.sort();
        let of_queue = first.iter().filter(|(queue, _)| queue == name);
        let mut lines: Vec<_> = of_queue.filter_map(|(_, id)| by_id.remove(id)).collect();
        let has_more = lines.len() > DEAD_LETTERS;
        lines.truncate(DEAD_LETTERS);
        let queues = snapshot.queues.as_ref().ok();
        lists::Dead {
            name: name.clone(),
            from,
            counted: queues.and_then(|all| all.get(name)).cloned(),
            lines,
            has_more,
        }
    };
    Ok(sources.into_iter().map(dead).collect())
}
