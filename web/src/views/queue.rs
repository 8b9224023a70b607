//! One queue: its day, its settings, and what can be done to it.

use std::collections::HashMap;

use maud::{Markup, html};

use super::layout::{button, fault};
use super::overview::{Row, tags};
use crate::door::Viewer;
use crate::fault::Fault;
use crate::fmt::{encode, maybe_count, maybe_estimate, maybe_millis, seconds};
use crate::minutes::{Minute, this_minute};
use crate::seat::Abilities;
use crate::snapshot::Snapshot;
use crate::spark;

pub fn body(
    viewer: &Viewer,
    can: &Abilities,
    snapshot: &Snapshot,
    name: &str,
    day: Result<Vec<Minute>, Fault>,
) -> Markup {
    let Some(queue) = snapshot.queues.as_ref().ok().and_then(|all| all.get(name)) else {
        return html! { p.empty { "There is no queue of that name, or it is not to be seen." } };
    };
    let row = Row::new(snapshot, name, queue);
    let paused = row.settings.is_some_and(|s| s.paused);
    html! {
        div.acts {
            @if !viewer.seat.read_only && can.may("pause_queue") {
                @if paused { (button(viewer, "resume_queue", "Resume", &[("name", name)])) }
                @else { (button(viewer, "pause_queue", "Pause", &[("name", name)])) }
            }
            @for (status, label) in [("", "All jobs"), ("due", "Waiting"), ("processing", "Running"), ("failed", "Failed")] {
                a.link href=(format!("/jobs?queue={}&status={status}", encode(name))) { (label) }
            }
        }
        dl.totals {
            @for (cell, label, value) in figures(&row) {
                div { dt { (label) } dd.num id=(format!("queue-{cell}")) { (value) } }
            }
        }
        h2 { "The last day, minute by minute" }
        @match day {
            Ok(minutes) => { (spark::large(&minutes, this_minute(), 1440)) (busiest(&minutes)) },
            Err(error) => (fault(&error)),
        }
        (settings(&row))
    }
}

fn figures(row: &Row) -> Vec<(&'static str, &'static str, Markup)> {
    let q = row.queue;
    let three = |times: [Option<f64>; 3]| {
        html! { (maybe_millis(times[0])) " · " (maybe_millis(times[1])) " · " (maybe_millis(times[2])) }
    };
    vec![
        (
            "state",
            "State",
            html! { (tags(row)) @if row.settings.is_some_and(|s| !s.paused) && !q.limited { "open" } },
        ),
        ("due", "Waiting", maybe_estimate(q.pending, q.estimated)),
        (
            "later",
            "Due later",
            maybe_estimate(q.scheduled, q.estimated),
        ),
        ("blocked", "Blocked", html! { (maybe_count(q.blocked)) }),
        ("runs", "Running", html! { (maybe_count(q.processing)) }),
        (
            "oldest",
            "Oldest",
            html! { (q.oldest.0.map_or_else(|| "–".to_owned(), seconds)) },
        ),
        (
            "completed",
            "Completed",
            html! { (maybe_count(q.completed)) },
        ),
        ("failed", "Failed", html! { (maybe_count(q.failed)) }),
        ("retried", "Tried again", html! { (maybe_count(q.retried)) }),
        (
            "cancelled",
            "Cancelled",
            html! { (maybe_count(q.cancelled)) },
        ),
        ("wait", "Wait p50 · p95 · p99", three(q.wait)),
        ("run", "Run p50 · p95 · p99", three(q.run)),
    ]
}

/// The chart in words and figures, for whoever does not see it.
fn busiest(minutes: &[Minute]) -> Markup {
    let mut hours: Vec<(i64, i64, i64, Option<f64>)> = Vec::new();
    for minute in minutes {
        let hour = minute.at / 60;
        match hours.last_mut() {
            Some(last) if last.0 == hour => {
                last.1 += minute.completed;
                last.2 += minute.failed;
                last.3 = last.3.into_iter().chain(minute.wait).reduce(f64::max);
            }
            _ => hours.push((hour, minute.completed, minute.failed, minute.wait)),
        }
    }
    html! {
        details {
            summary { "Hour by hour" }
            table.list {
                thead { tr { th { "Hour (UTC)" } th.num { "Done" } th.num { "Failed" } th.num { "Slowest wait p95" } } }
                tbody { @for (hour, done, failed, wait) in hours.iter().rev() {
                    tr {
                        th scope="row" { (crate::fmt::utc(*hour as f64 * 3600.0)) }
                        td.num data-label="Done" { (maybe_count(Some(*done))) }
                        td.num data-label="Failed" { (maybe_count(Some(*failed))) }
                        td.num data-label="Slowest wait p95" { (maybe_millis(*wait)) }
                    }
                } }
            }
        }
    }
}

fn settings(row: &Row) -> Markup {
    let Some(s) = row.settings else {
        return html! {};
    };
    let none = || "–".to_owned();
    let number = |n: Option<i32>| n.map_or_else(none, |n| n.to_string());
    let mut all: Vec<(&str, String)> = vec![
        ("handler", s.handler.clone().unwrap_or_else(none)),
        ("concurrency", number(s.concurrency)),
        ("per_key", number(s.per_key)),
        ("fifo", if s.fifo { "on" } else { "off" }.to_owned()),
        (
            "rate",
            s.rate.map_or_else(none, |n| {
                format!("{n} in {}", s.rate_period.as_deref().unwrap_or("?"))
            }),
        ),
        ("dead_letter", s.dead_letter.clone().unwrap_or_else(none)),
    ];
    all.extend(s.rest.iter().cloned());
    html! {
        h2 { "Settings" }
        p.hint { "Change them by my_worker.alter_queue()." }
        dl.facts { @for (name, value) in all { div { dt { code { (name) } } dd { (value) } } } }
    }
}

pub fn changes(snapshot: &Snapshot, name: &str, out: &mut HashMap<String, String>) {
    if let Some(queue) = snapshot.queues.as_ref().ok().and_then(|all| all.get(name)) {
        for (cell, _, value) in figures(&Row::new(snapshot, name, queue)) {
            out.insert(format!("queue-{cell}"), value.into_string());
        }
    }
}
