//! Schedules: what ran, what runs next, and a try of an expression.

use std::collections::HashMap;

use maud::{Markup, html};
use serde::Deserialize;
use tokio_postgres::Row;

use super::layout::{button, fault};
use super::table::{job_link, queue_link, status};
use crate::columns::columns;
use crate::door::Viewer;
use crate::fault::Fault;
use crate::fmt::{count, encode, maybe_moment, millis, moment, utc};
use crate::seat::Abilities;

pub const ON_A_PAGE: usize = 25;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Wish {
    pub q: String,
    pub after: String,
    pub id: i64,
}

columns! {
    #[derive(Debug)]
    pub struct Schedule {
        pub id: i64,
        pub name: String,
        owner: String,
        schedule: String,
        timezone: String,
        what: Option<String>,
        queue: String,
        active: bool,
        next: Option<f64>,
        last: Option<f64>,
        last_status: Option<String>,
        last_job: Option<i64>,
        overlap: String,
        catchup: String,
        disabled: Option<String>,
        runs: Option<i64>,
        duration: Option<f64>,
        error: Option<String>,
        held: Option<i32>,
    }
}

/// One run of a schedule.
#[derive(Debug)]
pub struct Run {
    id: i64,
    status: String,
    started: Option<f64>,
    finished: Option<f64>,
}

impl Run {
    pub fn read(row: &Row) -> Result<(i64, Self), Fault> {
        let run = Run {
            id: row.try_get(1)?,
            status: row.try_get(2)?,
            started: row.try_get(3)?,
            finished: row.try_get(4)?,
        };
        Ok((row.try_get(0)?, run))
    }
}

/// Where a page of schedules stands.
pub fn address(wish: &Wish) -> String {
    format!(
        "/schedules?q={}&after={}&id={}",
        encode(&wish.q),
        encode(&wish.after),
        wish.id
    )
}

pub fn live(wish: &Wish) -> String {
    format!(
        "page=schedules&name={}&keys={}&id={}",
        encode(&wish.q),
        encode(&wish.after),
        wish.id
    )
}

pub fn body(
    viewer: &Viewer,
    can: &Abilities,
    wish: &Wish,
    all: &[Schedule],
    runs: &HashMap<i64, Vec<Run>>,
) -> Markup {
    html! {
        form.filter method="get" role="search" {
            label { span { "Schedule" } input #filter type="search" name="q" value=(wish.q) placeholder="part of a name"; }
            button { "Show" }
        }
        div #schedules { (inside(viewer, can, wish, all, runs)) }
        (trial())
    }
}

/// What an open page shows anew when something has changed.
pub fn inside(
    viewer: &Viewer,
    can: &Abilities,
    wish: &Wish,
    all: &[Schedule],
    runs: &HashMap<i64, Vec<Run>>,
) -> Markup {
    let shown = all.get(..ON_A_PAGE).unwrap_or(all);
    html! {
        @if shown.is_empty() { p.empty { "There is no schedule here. " code { "my_worker.schedule()" } " makes one." } }
        @else { (table(viewer, can, shown, runs)) }
        @if all.len() > ON_A_PAGE && let Some(last) = shown.last() {
            @let next = Wish { q: wish.q.clone(), after: last.name.clone(), id: last.id };
            nav.pager { a href=(address(&next)) { "Next" } }
        }
    }
}

fn table(
    viewer: &Viewer,
    can: &Abilities,
    shown: &[Schedule],
    runs: &HashMap<i64, Vec<Run>>,
) -> Markup {
    let may = |name: &str| !viewer.seat.read_only && can.may(name);
    let acts = may("run_now") || may("pause_schedule");
    html! {
        table.list.schedules {
            thead { tr {
                th { "Schedule" } th { "Runs" } th { "When" } th { "Next" } th { "Last" } th { "Last fifty" }
                @if acts { th.acts { span.quiet { "Actions" } } }
            } }
            tbody { @for s in shown {
                tr data-row id=(format!("schedule-{}", s.id)) {
                    th scope="row" {
                        (s.name) " "
                        @if s.disabled.is_some() { span.tag.bad { "disabled" } } @else if !s.active { span.tag.warn { "paused" } }
                        div.hint { (s.owner) ", queue " (queue_link(&s.queue)) }
                    }
                    td.clip data-label="Runs" { code title=(s.what.as_deref().unwrap_or("")) { (s.what.as_deref().unwrap_or("–")) } }
                    td data-label="When" { code { (s.schedule) } div.hint { (s.timezone) " · overlap " (s.overlap) " · catch-up " (s.catchup) } }
                    td data-label="Next" { (maybe_moment(s.next)) }
                    td data-label="Last" { (last(s)) }
                    td.strip data-label="Last fifty" { (strip(runs.get(&s.id).map(Vec::as_slice).unwrap_or_default())) }
                    @if acts { td.acts data-label="" { (switches(viewer, s)) } }
                }
            } }
        }
    }
}

fn last(s: &Schedule) -> Markup {
    html! {
        @if let Some(state) = &s.last_status { (status(state)) " " }
        @if let Some(id) = s.last_job { (job_link(id)) " " }
        (maybe_moment(s.last))
        div.hint {
            (count(s.runs.unwrap_or(0))) @if s.runs == Some(1) { " run" } @else { " runs" }
            @if let Some(duration) = s.duration { ", the last took " (millis(duration * 1000.0)) }
            @if s.held.unwrap_or(0) > 0 { ", " (s.held.unwrap_or(0)) " wait" }
        }
        @if let Some(text) = s.disabled.as_ref().or(s.error.as_ref()) { div.bad.clip { (text) } }
    }
}

fn switches(viewer: &Viewer, s: &Schedule) -> Markup {
    let fields = [("name", s.name.as_str()), ("owner", s.owner.as_str())];
    html! {
        (button(viewer, "run_now", "Run now", &fields))
        @if s.active && s.disabled.is_none() { (button(viewer, "pause_schedule", "Pause", &fields)) }
        @else { (button(viewer, "resume_schedule", "Resume", &fields)) }
    }
}

/// A bar a run, the latest on the right: its height is how long it took.
fn strip(runs: &[Run]) -> Markup {
    let took = |run: &Run| {
        run.finished
            .zip(run.started)
            .map_or(0.0, |(to, from)| (to - from).max(0.0))
    };
    let longest = runs.iter().map(took).fold(0.001, f64::max);
    let failed = runs.iter().filter(|run| run.status == "failed").count();
    let text = format!(
        "{} runs, {failed} failed, the longest took {}",
        runs.len(),
        millis(longest * 1000.0)
    );
    html! {
        svg viewBox="0 0 150 24" role="img" aria-label=(text) {
            title { (text) }
            path.base d="M0 23.5H150" {}
            @for (place, run) in runs.iter().enumerate() {
                @let height = 4.0 + 18.0 * (took(run) / longest).sqrt();
                a href=(format!("/job/{}", run.id)) tabindex="-1" {
                    rect.(class(&run.status)) x=((50 - runs.len() + place) * 3) y=(format!("{:.1}", 24.0 - height)) width="2" height=(format!("{height:.1}")) {
                        title { "job " (run.id) " " (run.status) " " (run.finished.map(utc).unwrap_or_default()) ", took " (millis(took(run) * 1000.0)) }
                    }
                }
            }
        }
    }
}

fn class(status: &str) -> &'static str {
    match status {
        "completed" => "good",
        "failed" => "bad",
        _ => "off",
    }
}

fn trial() -> Markup {
    html! {
        section.trial {
            h2 { "Try an expression" }
            form.filter method="get" action="/schedules/preview" {
                label { span { "Expression" } input name="schedule" placeholder="0 3 * * mon-fri, @daily, every 10 minutes" autocomplete="off" spellcheck="false"
                    hx-get="/schedules/preview" hx-trigger="input changed delay:250ms" hx-include="closest form" hx-target="#preview" hx-swap="innerHTML"; }
                label { span { "Time zone" } input name="timezone" placeholder="the server's" autocomplete="off" spellcheck="false"
                    hx-get="/schedules/preview" hx-trigger="input changed delay:250ms" hx-include="closest form" hx-target="#preview" hx-swap="innerHTML"; }
                button { "Show" }
            }
            div #preview aria-live="polite" { p.hint { "The next runs appear here." } }
        }
    }
}

pub fn preview(runs: Result<Vec<(f64, String)>, Fault>) -> Markup {
    html! {
        @match runs {
            Ok(runs) if runs.is_empty() => p.hint { "It is never due." },
            Ok(runs) => ol.plain.num { @for (at, text) in runs { li { (text) " · " (moment(at)) } } },
            Err(error) => (fault(&error)),
        }
    }
}
