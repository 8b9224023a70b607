//! One job.

use maud::{Markup, html};
use tokio_postgres::Row;

use super::layout::{button, fault};
use super::table::{job_link, progress, queue_link, status};
use crate::columns::columns;
use crate::door::Viewer;
use crate::fault::Fault;
use crate::fmt::{maybe_moment, millis, moment, now, since};
use crate::seat::Abilities;

columns! {
    #[derive(Debug)]
    pub struct Job {
        pub id: i64,
        pub queue: String,
        pub status: String,
        pub handler: Option<String>,
        pub command: Option<String>,
        pub payload: Option<String>,
        pub priority: i32,
        pub run_at: Option<f64>,
        pub created_at: Option<f64>,
        pub started_at: Option<f64>,
        pub finished_at: Option<f64>,
        pub attempts: i32,
        pub max_attempts: Option<i32>,
        pub timeout: Option<String>,
        pub unique_key: Option<String>,
        pub owner: String,
        pub last_error: Option<String>,
        pub result: Option<String>,
        pub pid: Option<i32>,
        pub progress: Option<f32>,
        pub message: Option<String>,
        pub kind: Option<String>,
        pub headers: Option<String>,
        pub group_key: Option<String>,
        pub consumer: Option<String>,
        pub lease_until: Option<f64>,
        pub after: Option<Vec<i64>>,
        pub after_failed: Option<String>,
        pub expires_at: Option<f64>,
        pub origin: Option<String>,
        pub schedule: Option<i64>,
        pub waits_for: Option<String>,
    }
}

impl Job {
    fn is_over(&self) -> bool {
        matches!(self.status.as_str(), "completed" | "failed" | "cancelled")
    }
}

/// One attempt that failed.
#[derive(Debug)]
pub struct Attempt {
    pub number: Option<String>,
    pub at: Option<f64>,
    pub sqlstate: Option<String>,
    pub message: Option<String>,
    pub more: [(&'static str, Option<String>); 3],
}

impl Attempt {
    pub fn read(row: &Row) -> Result<Self, Fault> {
        Ok(Attempt {
            number: row.try_get(0)?,
            at: row.try_get(1)?,
            sqlstate: row.try_get(2)?,
            message: row.try_get(3)?,
            more: [
                ("Detail", row.try_get(4)?),
                ("Hint", row.try_get(5)?),
                ("Context", row.try_get(6)?),
            ],
        })
    }
}

/// All that a job's page shows.
pub struct Whole {
    pub job: Job,
    pub attempts: Vec<Attempt>,
    pub why: Result<Option<String>, Fault>,
    pub followers: Result<Vec<(i64, String)>, Fault>,
}

pub fn body(viewer: &Viewer, can: &Abilities, whole: &Whole) -> Markup {
    html! {
        div #job { (inside(viewer, can, whole)) }
    }
}

/// What an open page shows anew when something has changed.
pub fn inside(viewer: &Viewer, can: &Abilities, whole: &Whole) -> Markup {
    let job = &whole.job;
    html! {
        p.lead {
            (status(&job.status)) " in " (queue_link(&job.queue)) " "
            span #job-progress { (progress(job.progress, job.message.as_deref())) }
        }
        (actions(viewer, can, job))
        @match &whole.why {
            Ok(Some(why)) if !job.is_over() => p.why { strong { "Why it waits: " } (why) },
            Err(error) if !error.is_denied() => (fault(error)),
            _ => {},
        }
        div.columns {
            section { h2 { "Attempts" } (timeline(job, &whole.attempts)) }
            section { h2 { "Facts" } (facts(job)) (order(job, &whole.followers)) }
        }
        h2 { "Payload" }
        pre tabindex="0" { (job.payload.as_deref().unwrap_or("–")) }
        @if let Some(command) = &job.command { h2 { "Command" } pre tabindex="0" { (command) } }
        @if let Some(headers) = &job.headers { h2 { "Headers" } pre tabindex="0" { (headers) } }
        @if let Some(result) = &job.result { h2 { "Result" } pre tabindex="0" { (result) } }
    }
}

fn actions(viewer: &Viewer, can: &Abilities, job: &Job) -> Markup {
    let id = job.id.to_string();
    let fields = [("id", id.as_str())];
    let may = |name: &str| !viewer.seat.read_only && can.may(name);
    let is_later = job.status == "pending" && job.run_at.is_some_and(|at| at > now());
    let retries = matches!(job.status.as_str(), "failed" | "cancelled")
        || job.origin.is_some() && !job.is_over();
    html! {
        div.acts {
            @if is_later && may("run_soon") { (button(viewer, "run_soon", "Run now", &fields)) }
            @if retries && may("retry") { (button(viewer, "retry", "Retry", &fields)) }
            @if !job.is_over() && may("cancel") { (button(viewer, "cancel", "Cancel", &fields)) }
        }
    }
}

fn timeline(job: &Job, attempts: &[Attempt]) -> Markup {
    html! {
        ol.timeline {
            @match job.status.as_str() {
                "processing" => li.busy {
                    "Runs" @if let Some(at) = job.started_at { " since " (since(at)) }
                    @if let Some(pid) = job.pid { " in process " span.num { (pid) } }
                    @if let Some(consumer) = &job.consumer { ", consumer " (consumer) }
                    @if let Some(until) = job.lease_until { ", its lease ends " (moment(until)) }
                },
                "completed" | "failed" | "cancelled" => li.end {
                    (status(&job.status)) " " (maybe_moment(job.finished_at))
                    @if let (Some(from), Some(to)) = (job.started_at, job.finished_at) { ", ran for " (millis((to - from) * 1000.0)) }
                },
                _ => li { "Due " (maybe_moment(job.run_at)) },
            }
            @for attempt in attempts { (failure(attempt)) }
            li { "Enqueued " (maybe_moment(job.created_at)) " by " (job.owner) }
        }
    }
}

fn failure(attempt: &Attempt) -> Markup {
    html! {
        li.bad {
            "Attempt " (attempt.number.as_deref().unwrap_or("?")) " failed " (maybe_moment(attempt.at))
            p.error { (attempt.message.as_deref().unwrap_or("")) " " code { (attempt.sqlstate.as_deref().unwrap_or("")) } }
            @for (name, text) in &attempt.more {
                @if let Some(text) = text { p.more { strong { (name) ": " } (text) } }
            }
        }
    }
}

fn facts(job: &Job) -> Markup {
    let most = job
        .max_attempts
        .map_or_else(|| "the queue's".to_owned(), |n| n.to_string());
    let mut all: Vec<(&str, Markup)> = vec![
        ("Owner", html! { (job.owner) }),
        (
            "Attempts",
            html! { span.num { (job.attempts) } " of " (most) },
        ),
        ("Priority", html! { span.num { (job.priority) } }),
    ];
    if job.command.is_none() {
        let queues = if job.kind.is_some() {
            "for a consumer"
        } else {
            "the queue's"
        };
        all.push((
            "Handler",
            html! { code { (job.handler.as_deref().unwrap_or(queues)) } },
        ));
    }
    let texts = [
        ("Kind", &job.kind),
        ("Unique key", &job.unique_key),
        ("Group key", &job.group_key),
        ("Timeout", &job.timeout),
        ("Failed in queue", &job.origin),
        ("Waits for", &job.waits_for),
        ("Last error", &job.last_error),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            all.push((name, html! { (text) }));
        }
    }
    if let Some(at) = job.expires_at {
        all.push(("Expires", moment(at)));
    }
    if let Some(id) = job.schedule {
        let to = html! { a href=(format!("/schedules#schedule-{id}")) { "number " (id) } };
        all.push(("Schedule", to));
    }
    html! { dl.facts { @for (name, value) in all { div { dt { (name) } dd { (value) } } } } }
}

fn order(job: &Job, followers: &Result<Vec<(i64, String)>, Fault>) -> Markup {
    html! {
        @if let Some(after) = &job.after {
            h3 { "Comes after" }
            p { @for id in after { (job_link(*id)) " " } }
            p.hint { "If one of them fails: " (job.after_failed.as_deref().unwrap_or("cancel")) }
        }
        @if let Ok(followers) = followers && !followers.is_empty() {
            h3 { "What comes after it" }
            ul.plain { @for (id, state) in followers { li { (job_link(*id)) " " (status(state)) } } }
        }
    }
}
