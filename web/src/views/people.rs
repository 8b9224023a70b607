//! Who works: processes of the server, consumers outside of it; and what handlers and settings say.

use std::collections::HashMap;

use maud::{Markup, html};

use super::layout::part;
use super::table::{job_link, progress, queue_link};
use crate::columns::columns;
use crate::fmt::{count, maybe_count, maybe_millis, maybe_moment, since};
use crate::snapshot::{Process, Snapshot, Work};

pub fn processes(snapshot: &Snapshot) -> Markup {
    html! {
        (part(&snapshot.processes, |_| html! {
            table.list.processes {
                thead { tr {
                    th.num { "Process" } th { "Kind" } th { "State" } th { "Database" } th { "Role" } th.num { "Job" } th { "Queue" }
                    th { "Runs" } th.num { "For" } th { "Progress" } th.num { "Jobs done" } th.num { "Alive" }
                } }
                tbody #processes { (process_rows(snapshot)) }
            }
        }))
        @if let Err(error) = &snapshot.at_work { p.hint { "What runs is not for this role: " (error.text()) } }
    }
}

fn process_rows(snapshot: &Snapshot) -> Markup {
    let all = snapshot.processes.as_ref().ok();
    html! {
        @for p in all.iter().flat_map(|all| all.iter()).filter(|p| !p.is_consumer()) {
            @let work = work(snapshot, p);
            tr data-row {
                td.num data-label="Process" { (p.pid.map_or_else(|| "–".to_owned(), |pid| pid.to_string())) }
                td data-label="Kind" { (p.kind) }
                td data-label="State" { (state(p)) }
                td.clip data-label="Database" { (p.database.as_deref().unwrap_or("–")) }
                td.clip data-label="Role" { (p.role.as_deref().unwrap_or("–")) }
                td.num data-label="Job" { @match p.job { Some(id) => (job_link(id)), None => "–" } }
                td data-label="Queue" { @match &p.queue { Some(queue) => (queue_link(queue)), None => "–" } }
                td.clip data-label="Runs" { code { (what(snapshot, p, work).unwrap_or("–")) } }
                td.num data-label="For" { @match p.job_since { Some(at) if p.job.is_some() => (since(at)), _ => "–" } }
                td.moving data-label="Progress" { @match work { Some(w) => (progress(w.progress, w.message.as_deref())), None => "–" } }
                td.num data-label="Jobs done" { (maybe_count(p.jobs_done)) }
                td.num data-label="Alive" { @match p.since { Some(at) => (since(at)), None => "–" } }
            }
        }
    }
}

fn work<'a>(snapshot: &'a Snapshot, process: &Process) -> Option<&'a Work> {
    snapshot.at_work.as_ref().ok()?.get(&process.job?)
}

/// What it calls: the job says it, or its queue.
fn what<'a>(snapshot: &'a Snapshot, process: &Process, work: Option<&'a Work>) -> Option<&'a str> {
    let settings = snapshot.settings.as_ref().ok();
    let queue = || settings?.get(process.queue.as_ref()?)?.handler.as_deref();
    work?.what.as_deref().or_else(queue)
}

fn state(process: &Process) -> Markup {
    let state = process.state.as_deref().unwrap_or("–");
    let class = if state == "running" && process.job.is_some() {
        "busy"
    } else {
        "off"
    };
    html! { span.status.(class) { (state) } }
}

pub fn consumers(snapshot: &Snapshot) -> Markup {
    html! {
        p.hint { "Sessions of clients that hold jobs or wait for some. Leases for a time stand at their jobs: "
            a href="/jobs?status=processing" { "jobs in progress" } "." }
        (part(&snapshot.processes, |_| html! {
            table.list.consumers {
                thead { tr {
                    th.num { "Process" } th { "Application" } th { "State" } th { "Role" } th.num { "Job" } th { "Queue" } th.num { "For" } th { "Progress" }
                    th.num { "Jobs done" } th.num { "Since" }
                } }
                tbody #consumers { (consumer_rows(snapshot)) }
            }
        }))
    }
}

fn consumer_rows(snapshot: &Snapshot) -> Markup {
    let all = snapshot.processes.as_ref().ok();
    let consumers: Vec<_> = all
        .iter()
        .flat_map(|all| all.iter())
        .filter(|p| p.is_consumer())
        .collect();
    html! {
        @if consumers.is_empty() { tr { td.empty colspan="10" { "No consumer holds or waits for a job now." } } }
        @for p in consumers {
            @let work = work(snapshot, p);
            tr data-row {
                td.num data-label="Process" { (p.pid.map_or_else(|| "–".to_owned(), |pid| pid.to_string())) }
                td.clip data-label="Application" { (p.application.as_deref().filter(|a| !a.is_empty()).unwrap_or("–")) }
                td data-label="State" { (state(p)) }
                td.clip data-label="Role" { (p.role.as_deref().unwrap_or("–")) }
                td.num data-label="Job" { @match p.job { Some(id) => (job_link(id)), None => "–" } }
                td data-label="Queue" { @match &p.queue { Some(queue) => (queue_link(queue)), None => "–" } }
                td.num data-label="For" { @match p.job_since { Some(at) if p.job.is_some() => (since(at)), _ => "–" } }
                td.moving data-label="Progress" { @match work { Some(w) => (progress(w.progress, w.message.as_deref())), None => "–" } }
                td.num data-label="Jobs done" { (maybe_count(p.jobs_done)) }
                td.num data-label="Since" { @match p.since { Some(at) => (since(at)), None => "–" } }
            }
        }
    }
}

pub fn process_changes(snapshot: &Snapshot, out: &mut HashMap<String, String>) {
    out.insert("processes".to_owned(), process_rows(snapshot).into_string());
}

pub fn consumer_changes(snapshot: &Snapshot, out: &mut HashMap<String, String>) {
    out.insert(
        "consumers".to_owned(),
        consumer_rows(snapshot).into_string(),
    );
}

/// What the calls of one handler came to.
#[derive(Debug)]
pub struct Handler {
    pub name: Option<String>,
    pub runs: Option<String>,
    pub calls: Option<i64>,
    pub failures: Option<i64>,
    pub last: Option<f64>,
    pub times: [Option<f64>; 4],
}

pub fn handlers(all: &[Handler]) -> Markup {
    html! {
        p.hint { "Counted since the server's start, by what runs." }
        div #handlers { (handler_table(all)) }
    }
}

pub fn handler_table(all: &[Handler]) -> Markup {
    html! {
        @if all.is_empty() { p.empty { "Nothing has been called yet." } }
        table.list.handlers {
            thead { tr {
                th { "Handler" } th { "Kind" } th.num { "Calls" } th.num { "Failures" } th.num { "Mean" } th.num { "p50" } th.num { "p95" } th.num { "p99" } th { "Last call" } th { "" }
            } }
            tbody { @for h in all {
                tr data-row {
                    th.clip scope="row" { code { (h.name.as_deref().unwrap_or("–")) } }
                    td data-label="Kind" { (h.runs.as_deref().unwrap_or("–")) }
                    td.num data-label="Calls" { (maybe_count(h.calls)) }
                    td.num data-label="Failures" { @if h.failures.unwrap_or(0) > 0 { strong.bad { (count(h.failures.unwrap_or(0))) } } @else { (maybe_count(h.failures)) } }
                    @for (time, name) in h.times.iter().zip(["Mean", "p50", "p95", "p99"]) { td.num data-label=(name) { (maybe_millis(*time)) } }
                    td data-label="Last call" { (maybe_moment(h.last)) }
                    td data-label="" { @if let Some(name) = &h.name { a.link href=(format!("/jobs?handler={}", crate::fmt::encode(name))) { "Jobs" } } }
                }
            } }
        }
    }
}

columns! {
    /// One setting of the server.
    #[derive(Debug)]
    pub struct Setting {
        pub name: String,
        pub value: String,
        pub unit: Option<String>,
        pub source: String,
        pub context: String,
        pub text: String,
    }
}

pub fn settings(all: &[Setting], facts: &[(&str, String)]) -> Markup {
    html! {
        h2 { "This dashboard" }
        dl.facts { @for (name, value) in facts { div { dt { (name) } dd { (value) } } } }
        h2 { "Settings of my_worker" }
        div #settings { (setting_table(all)) }
    }
}

pub fn setting_table(all: &[Setting]) -> Markup {
    html! {
        table.list.settings {
            thead { tr { th { "Name" } th { "Value" } th { "From" } th { "Changed by" } th { "Meaning" } } }
            tbody { @for s in all {
                tr data-row {
                    th scope="row" { code { (s.name) } }
                    td data-label="Value" { (s.value) @if let Some(unit) = &s.unit { " " (unit) } }
                    td data-label="From" { (s.source) }
                    td data-label="Changed by" { (s.context) }
                    td.wide data-label="Meaning" { (s.text) }
                }
            } }
        }
    }
}
