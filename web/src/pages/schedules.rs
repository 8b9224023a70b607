//! Schedules, and a try of an expression.

use std::collections::HashMap;

use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio_postgres::types::Type;

use super::{begin, finish, page};
use crate::door::Viewer;
use crate::fault::Fault;
use crate::seat::Seat;
use crate::views::schedules::{self as plans, Run, Schedule};

const SCHEDULES: &str = include_str!("../sql/schedules.sql");
const RUNS: &str = include_str!("../sql/runs.sql");
const PREVIEW: &str = "SELECT extract(epoch FROM r)::float8, to_char(r, 'Dy YYYY-MM-DD HH24:MI:SS TZ') \
    FROM my_worker.next_runs($1, 5, nullif($2, '')) AS r";

pub async fn schedules(viewer: Viewer, Query(wish): Query<plans::Wish>) -> Response {
    let result = async {
        let (can, snapshot) = begin(&viewer.seat).await?;
        let (all, runs) = these(&viewer.seat, &wish).await?;
        let body = plans::body(&viewer, &can, &wish, &all, &runs);
        Ok((
            can,
            page(
                "Schedules",
                "/schedules",
                plans::live(&wish),
                &snapshot,
                body,
            ),
        ))
    };
    let result = result.await;
    finish(&viewer, result)
}

/// The schedules of a page, and the last runs of each.
async fn these(
    seat: &Seat,
    wish: &plans::Wish,
) -> Result<(Vec<Schedule>, HashMap<i64, Vec<Run>>), Fault> {
    let mut session = seat.open().await?;
    let rows = session
        .often(SCHEDULES, &[&wish.q, &wish.after, &wish.id])
        .await?;
    let all: Vec<Schedule> = rows.iter().map(Schedule::read).collect::<Result<_, _>>()?;
    let ids: Vec<i64> = all.iter().take(plans::ON_A_PAGE).map(|s| s.id).collect();
    let mut runs: HashMap<i64, Vec<Run>> = HashMap::new();
    for row in session.often(RUNS, &[&ids]).await? {
        let (id, run) = Run::read(&row)?;
        runs.entry(id).or_default().push(run);
    }
    Ok((all, runs))
}

/// The page's schedules as they are now, for who has it open.
pub async fn piece(viewer: &Viewer, wish: &plans::Wish) -> Result<String, Fault> {
    let can = viewer.seat.abilities().await?;
    let (all, runs) = these(&viewer.seat, wish).await?;
    let viewer = viewer.at(plans::address(wish));
    Ok(plans::inside(&viewer, &can, wish, &all, &runs).into_string())
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
        let params = [
            (&wish.schedule as _, Type::TEXT),
            (&wish.timezone as _, Type::TEXT),
        ];
        let rows = viewer.seat.open().await?.rows(PREVIEW, &params).await?;
        rows.iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect()
    };
    plans::preview(result.await).into_response()
}
