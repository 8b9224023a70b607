//! What a viewer can have done: each is one call of a function of the module, with his role's rights.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use tokio_postgres::types::Type;

use crate::App;
use crate::door::{Viewer, local};
use crate::fault::Fault;
use crate::fmt::count;
use crate::seat::Param;

#[derive(Deserialize)]
pub struct Order {
    token: String,
    #[serde(default)]
    back: String,
    #[serde(default)]
    id: i64,
    #[serde(default)]
    name: String,
    #[serde(default)]
    owner: String,
    #[serde(default)]
    n: i32,
}

/// One kind of action: its statement, and what to say of its answer.
struct Action {
    sql: &'static str,
    takes: Takes,
    done: &'static str,
    /// What false means; the server's own words come after it.
    not: &'static str,
}

enum Takes {
    Id,
    Name,
    NameAndOwner,
    NameAndNumber,
}

const fn action(sql: &'static str, takes: Takes, done: &'static str, not: &'static str) -> Action {
    Action {
        sql,
        takes,
        done,
        not,
    }
}

/// All that can be done here, by the last part of its address.
const ACTIONS: [(&str, Action); 9] = [
    (
        "cancel",
        action(
            "SELECT my_worker.cancel($1)::text",
            Takes::Id,
            "The job is cancelled.",
            "The job could not be cancelled: it has ended, or is not yours.",
        ),
    ),
    (
        "retry",
        action(
            "SELECT my_worker.retry($1)::text",
            Takes::Id,
            "The job is back in its queue.",
            "The job was not sent back.",
        ),
    ),
    (
        "run_soon",
        action(
            "SELECT my_worker.run_soon($1)::text",
            Takes::Id,
            "The job runs now.",
            "The job does not wait for a time any more.",
        ),
    ),
    (
        "pause_queue",
        action(
            "SELECT my_worker.pause_queue($1)::text",
            Takes::Name,
            "The queue is paused.",
            "",
        ),
    ),
    (
        "resume_queue",
        action(
            "SELECT my_worker.resume_queue($1)::text",
            Takes::Name,
            "The queue goes on.",
            "",
        ),
    ),
    (
        "redrive",
        action(
            "SELECT my_worker.redrive($1, $2)::text",
            Takes::NameAndNumber,
            "jobs were sent back.",
            "",
        ),
    ),
    (
        "pause_schedule",
        action(
            "SELECT my_worker.pause_schedule($1, $2::regrole)::text",
            Takes::NameAndOwner,
            "The schedule is paused.",
            "",
        ),
    ),
    (
        "resume_schedule",
        action(
            "SELECT my_worker.resume_schedule($1, $2::regrole)::text",
            Takes::NameAndOwner,
            "The schedule goes on.",
            "",
        ),
    ),
    (
        "run_now",
        action(
            "SELECT my_worker.run_now($1, $2::regrole)::text",
            Takes::NameAndOwner,
            "A run was enqueued: job",
            "",
        ),
    ),
];

pub async fn act(
    State(app): State<Arc<App>>,
    viewer: Viewer,
    Path(what): Path<String>,
    Form(order): Form<Order>,
) -> Response {
    if !viewer.has_token(&order.token) {
        return (
            StatusCode::FORBIDDEN,
            "this page is older than the dashboard: load it again\n",
        )
            .into_response();
    }
    let Some((_, action)) = ACTIONS.iter().find(|(name, _)| *name == what) else {
        return (StatusCode::NOT_FOUND, "there is no such action\n").into_response();
    };
    let (good, text) = match carry_out(&viewer, action, &order).await {
        Ok(said) => said,
        Err(fault) => {
            eprintln!("my_worker_web: {what}: {}", fault.code());
            (false, in_words(&fault))
        }
    };
    viewer.seat.live.forget();
    Redirect::to(&app.door.say(&viewer, local(&order.back), good, text)).into_response()
}

async fn carry_out(
    viewer: &Viewer,
    action: &Action,
    order: &Order,
) -> Result<(bool, String), Fault> {
    let n = order.n.clamp(1, 10_000);
    let params: Vec<Param> = match action.takes {
        Takes::Id => vec![(&order.id, Type::INT8)],
        Takes::Name => vec![(&order.name, Type::TEXT)],
        Takes::NameAndOwner => vec![(&order.name, Type::TEXT), (&order.owner, Type::TEXT)],
        Takes::NameAndNumber => vec![(&order.name, Type::TEXT), (&n, Type::INT4)],
    };
    let (value, notices) = viewer.seat.open().await?.act(action.sql, &params).await?;
    let (good, mut text) = match value.as_deref() {
        Some("true") => (true, action.done.to_owned()),
        Some("false") => (false, action.not.to_owned()),
        Some(number) if action.done.ends_with("job") => {
            (true, format!("{} {number}.", action.done))
        }
        Some(number) if action.done.starts_with("jobs") => (
            true,
            format!(
                "{} {}",
                number.parse().map_or_else(|_| number.to_owned(), count),
                action.done
            ),
        ),
        _ => (true, action.done.to_owned()),
    };
    for notice in notices {
        text.push(' ');
        text.push_str(&notice);
    }
    Ok((good, text))
}

fn in_words(fault: &Fault) -> String {
    let mut text = fault.text();
    if let Fault::Refused { detail, hint, .. } = fault {
        for more in [detail, hint].into_iter().flatten() {
            text.push(' ');
            text.push_str(more);
        }
    }
    text
}
