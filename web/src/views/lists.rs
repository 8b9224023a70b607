//! Lists of jobs: those that a filter finds, and dead letters.

use std::collections::HashMap;

use maud::{Markup, html};

use super::layout::button;
use super::table::{job_link, queue_link, status};
use crate::door::Viewer;
use crate::fmt::{encode, maybe_estimate, maybe_moment};
use crate::search::{Filter, Found, Line};
use crate::seat::Abilities;
use crate::snapshot::Queue;

pub fn jobs(filter: &Filter, found: &Found) -> Markup {
    html! {
        (form(filter))
        (table_of(&found.lines))
        (more(filter, found))
    }
}

fn table_of(lines: &[Line]) -> Markup {
    html! {
        table.list.jobs {
            thead { tr {
                th.num { "Id" } th { "Status" } th { "Queue" } th { "Runs" } th { "Key" } th { "Owner" }
                th.num { "Attempts" } th { "When" } th { "Payload or error" }
            } }
            tbody.rows { (rows(lines)) }
        }
    }
}

pub fn rows(lines: &[Line]) -> Markup {
    html! {
        @for line in lines {
            tr data-row {
                td.num data-label="Id" { (job_link(line.id)) }
                @for (name, class, label, content) in cells(line) {
                    td id=(format!("job-{}-{name}", line.id)) class=(class) data-label=(label) { (content) }
                }
            }
        }
    }
}

fn cells(line: &Line) -> Vec<(&'static str, &'static str, &'static str, Markup)> {
    let attempts = match line.max_attempts {
        Some(most) => format!("{}/{most}", line.attempts),
        None => line.attempts.to_string(),
    };
    let what = line.what.as_deref().or(line.kind.as_deref());
    // A narrow screen leaves out what says nothing.
    let clip = |text: Option<&str>| if text.is_some() { "clip" } else { "clip none" };
    let percent = line.progress.map(|percent| format!(" {percent:.0} %"));
    vec![
        (
            "status",
            "state",
            "Status",
            html! { (status(&line.status)) @if let Some(percent) = percent { (percent) } },
        ),
        ("queue", "clip", "Queue", queue_link(&line.queue)),
        (
            "what",
            clip(what),
            "Runs",
            html! { code { (what.unwrap_or("–")) } },
        ),
        (
            "key",
            clip(line.key.as_deref()),
            "Key",
            html! { (line.key.as_deref().unwrap_or("–")) },
        ),
        ("owner", "clip", "Owner", html! { (line.owner) }),
        ("attempts", "num", "Attempts", html! { (attempts) }),
        ("when", "when", "When", when(line)),
        (
            "text",
            "clip wide",
            "Payload",
            html! {
                @match (&line.error, line.status.as_str()) {
                    (Some(error), status) if status != "completed" => span.bad { (error) },
                    _ => code { (line.payload) },
                }
            },
        ),
    ]
}

fn when(line: &Line) -> Markup {
    match line.status.as_str() {
        "processing" => {
            html! { "since " (line.started_at.map_or_else(|| html! { "–" }, crate::fmt::since)) }
        }
        "pending" | "blocked" => maybe_moment(line.run_at.or(line.created_at)),
        _ => maybe_moment(line.finished_at),
    }
}

fn address(filter: &Filter) -> String {
    let pairs: Vec<_> = filter
        .fields()
        .iter()
        .filter(|(_, v)| !v.is_empty())
        .map(|(n, v)| format!("{n}={}", encode(v)))
        .collect();
    pairs.join("&")
}

/// How far the search came, and the way on.
pub fn more(filter: &Filter, found: &Found) -> Markup {
    let ms = found.took.as_millis();
    html! {
        div #more {
            @match found.below {
                Some(below) => {
                    @let to = format!("{}&below={below}", address(filter));
                    a.link #go-on href=(format!("/jobs?{to}")) hx-get=(format!("/jobs/more?{to}")) hx-target="#more" hx-swap="outerHTML" {
                        "Go on below id " (below)
                    }
                    span.hint {
                        @if found.lines.len() < 50 { " Searched for " (ms) " ms, down to id " (below) "." }
                    }
                },
                None => span.hint { "No more jobs. Searched for " (ms) " ms." },
            }
        }
    }
}

/// What a click on "go on" brings: rows for the end of the table, and the way on in place of the old one.
pub fn went_on(filter: &Filter, found: &Found) -> Markup {
    html! {
        (more(filter, found))
        template { tbody hx-swap-oob="beforeend:tbody.rows" { (rows(&found.lines)) } }
    }
}

fn form(filter: &Filter) -> Markup {
    let statuses = [
        "",
        "due",
        "later",
        "blocked",
        "processing",
        "completed",
        "failed",
        "cancelled",
    ];
    html! {
        form.filter method="get" action="/jobs" role="search" {
            label { span { "Status" } select name="status" {
                @for status in statuses {
                    option value=(status) selected[filter.status == status] { @if status.is_empty() { "any" } @else { (status) } }
                }
            } }
            @for (name, label, value) in [("queue", "Queue", &filter.queue), ("handler", "Handler or command", &filter.handler),
                ("kind", "Kind", &filter.kind), ("owner", "Owner", &filter.owner), ("key", "Key", &filter.key), ("text", "Text in payload", &filter.text)] {
                label { span { (label) } input type="search" name=(name) value=(value) id=[(name == "queue").then_some("filter")] spellcheck="false"; }
            }
            button { "Show" }
            @if !filter.is_empty() { a.link href="/jobs" { "All" } }
        }
    }
}

pub fn live(found: &Found) -> String {
    let ids: Vec<_> = found.lines.iter().map(|line| line.id.to_string()).collect();
    format!("page=jobs&keys={}", ids.join("."))
}

pub fn changes(lines: &[Line], out: &mut HashMap<String, String>) {
    for line in lines {
        for (name, _, _, content) in cells(line) {
            out.insert(format!("job-{}-{name}", line.id), content.into_string());
        }
    }
}

/// A queue that takes the dead letters of others, and some of them.
pub struct Dead {
    pub name: String,
    pub from: Vec<String>,
    /// What the last count says of it.
    pub counted: Option<Queue>,
    /// Those that have waited longest.
    pub lines: Vec<Line>,
    pub has_more: bool,
}

pub fn dead(viewer: &Viewer, can: &Abilities, queues: &[Dead]) -> Markup {
    html! { div #dead { (dead_letters(viewer, can, queues)) } }
}

pub fn dead_letters(viewer: &Viewer, can: &Abilities, queues: &[Dead]) -> Markup {
    let may = !viewer.seat.read_only && can.may("redrive");
    html! {
        @if queues.is_empty() {
            p.empty { "No queue names another one as its " code { "dead_letter" } ". Jobs that have failed for good are " a href="/jobs?status=failed" { "in the history" } "." }
        }
        @for queue in queues {
            section {
                h2 { (queue_link(&queue.name)) }
                @let counted = queue.counted.clone().unwrap_or_default();
                p { span.num { (maybe_estimate(counted.pending, counted.estimated)) } " waiting; takes the jobs that fail for good in " (queue.from.join(", ")) "." }
                @if may {
                    div.acts {
                        (button(viewer, "redrive", "Send back the next 100", &[("name", &queue.name), ("n", "100")]))
                        (button(viewer, "redrive", "Send back up to 10,000", &[("name", &queue.name), ("n", "10000")]))
                    }
                }
                @if queue.lines.is_empty() { p.empty { "None waits." } }
                @else { (table_of(&queue.lines)) }
                @if queue.has_more { a.link href=(format!("/jobs?queue={}", encode(&queue.name))) { "All of them" } }
            }
        }
    }
}
