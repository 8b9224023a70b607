//! All queues at a glance.

use std::cmp::Reverse;
use std::collections::HashMap;

use maud::{Markup, html};
use serde::Deserialize;

use super::layout::{button, part};
use super::table::{key, queue_link};
use crate::door::Viewer;
use crate::fmt::{count, encode, maybe_count, maybe_estimate, maybe_millis, seconds};
use crate::minutes::{Minute, SHOWN};
use crate::seat::Abilities;
use crate::snapshot::{Queue, Settings, Snapshot};
use crate::spark;

const ON_A_PAGE: usize = 100;
/// As health() has it: a queue is behind when a job has been due for longer.
const BEHIND: f64 = 300.0;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Wish {
    pub q: String,
    pub sort: String,
    pub page: usize,
}

/// One queue with what is known of it.
pub struct Row<'a> {
    pub name: &'a str,
    pub queue: &'a Queue,
    pub settings: Option<&'a Settings>,
    minutes: &'a [Minute],
    last: i64,
}

impl<'a> Row<'a> {
    pub fn new(snapshot: &'a Snapshot, name: &'a str, queue: &'a Queue) -> Self {
        let minutes = snapshot.minutes.as_ref().ok();
        Row {
            name,
            queue,
            settings: snapshot
                .settings
                .as_ref()
                .ok()
                .and_then(|all| all.get(name)),
            minutes: minutes.map_or(&[], |m| m.of(name)),
            last: minutes.map_or(0, |m| m.last),
        }
    }

    fn paused(&self) -> bool {
        self.settings.is_some_and(|s| s.paused)
    }

    fn behind(&self) -> bool {
        self.queue.oldest.0.is_some_and(|age| age > BEHIND) && !self.paused()
    }

    fn failed_lately(&self) -> i64 {
        self.minutes.iter().map(|m| m.failed).sum()
    }

    fn done_lately(&self) -> i64 {
        self.minutes.iter().map(|m| m.completed).sum()
    }

    fn wait_lately(&self) -> Option<f64> {
        self.minutes.last().and_then(|m| m.wait)
    }

    /// What to look at first.
    fn need(&self) -> u8 {
        match () {
            () if self.behind() => 5,
            () if self.failed_lately() > 0 => 4,
            () if self.paused() || self.queue.limited => 3,
            () if self.queue.processing.unwrap_or(0) > 0 => 2,
            () if self.queue.pending.unwrap_or(0) > 0 => 1,
            () => 0,
        }
    }
}

pub fn body(viewer: &Viewer, can: &Abilities, snapshot: &Snapshot, wish: &Wish) -> Markup {
    html! {
        (alerts(snapshot))
        (totals(snapshot))
        (part(&snapshot.queues, |queues| {
            let mut rows: Vec<_> = queues.iter().map(|(name, queue)| Row::new(snapshot, name, queue)).collect();
            let all = rows.len();
            rows.retain(|row| row.name.contains(&wish.q));
            sort(&mut rows, &wish.sort);
            let of_filter = rows.len();
            let shown: Vec<_> = rows.into_iter().skip(wish.page.saturating_mul(ON_A_PAGE)).take(ON_A_PAGE).collect();
            html! {
                @if !snapshot.is_counted { p.hint { "So much waits that counting it takes a moment: the numbers come by themselves." } }
                (filter(wish, all, of_filter))
                (table(viewer, can, snapshot, &shown, wish))
                (pager(wish, of_filter))
            }
        }))
        (health(snapshot))
    }
}

fn sort(rows: &mut [Row], by: &str) {
    match by {
        "name" => {}
        "waiting" => rows.sort_by_key(|r| Reverse(r.queue.pending)),
        "failed" => rows.sort_by_key(|r| Reverse((r.failed_lately(), r.queue.failed))),
        "done" => rows.sort_by_key(|r| Reverse(r.done_lately())),
        _ => rows.sort_by_key(|r| Reverse((r.need(), r.queue.pending))),
    }
}

/// What the page's events are asked for: the keys of its queues.
pub fn live(snapshot: &Snapshot, wish: &Wish) -> String {
    let Ok(queues) = &snapshot.queues else {
        return "page=overview".to_owned();
    };
    let mut rows: Vec<_> = queues
        .iter()
        .map(|(name, queue)| Row::new(snapshot, name, queue))
        .collect();
    rows.retain(|row| row.name.contains(&wish.q));
    sort(&mut rows, &wish.sort);
    let keys: Vec<_> = rows
        .iter()
        .skip(wish.page.saturating_mul(ON_A_PAGE))
        .take(ON_A_PAGE)
        .map(|r| key(r.name))
        .collect();
    format!(
        "page=overview&keys={}&counting={}",
        keys.join("."),
        !snapshot.is_counted
    )
}

fn filter(wish: &Wish, all: usize, shown: usize) -> Markup {
    html! {
        form.filter method="get" role="search" {
            label { span { "Queue" } input #filter type="search" name="q" value=(wish.q) placeholder="part of a name"; }
            label { span { "Order" }
                select name="sort" {
                    @for (value, text) in [("", "what needs a look"), ("name", "name"), ("waiting", "waiting"), ("failed", "failed"), ("done", "done")] {
                        option value=(value) selected[wish.sort == value] { (text) }
                    }
                }
            }
            button { "Show" }
            span.hint { @if shown == all { (count(all as i64)) " queues" } @else { (count(shown as i64)) " of " (count(all as i64)) " queues" } }
        }
    }
}

fn pager(wish: &Wish, shown: usize) -> Markup {
    let pages = shown.div_ceil(ON_A_PAGE);
    let to = |page: usize| {
        format!(
            "/?q={}&sort={}&page={page}",
            encode(&wish.q),
            encode(&wish.sort)
        )
    };
    html! {
        @if pages > 1 {
            nav.pager aria-label="Pages of queues" {
                @if wish.page > 0 { a href=(to(wish.page - 1)) { "Before" } }
                span { "Page " (wish.page.saturating_add(1)) " of " (pages) }
                @if wish.page < pages - 1 { a href=(to(wish.page.saturating_add(1))) { "Next" } }
            }
        }
    }
}

fn table(
    viewer: &Viewer,
    can: &Abilities,
    snapshot: &Snapshot,
    rows: &[Row],
    wish: &Wish,
) -> Markup {
    let may = !viewer.seat.read_only && can.may("pause_queue");
    html! {
        @if rows.is_empty() { p.empty { "No queue is called like that." } }
        table.list.queues {
            thead { tr {
                th { "Queue" } th { "State" } th.num { "Waiting" } th.num { "Later" } th.num { "Blocked" } th.num { "Running" }
                th.num title="the oldest job that is due and does not run" { "Oldest" }
                th.chart title="bars: done and failed, on a square-root scale; line: wait p95" { "Last " (SHOWN) " min" }
                th.num { "Done" } th.num { "Failed" } th.num { "Wait p95" }
                @if may { th.acts { span.quiet { "Actions" } } }
            } }
            tbody { @for row in rows {
                @let k = key(row.name);
                tr data-row {
                    th scope="row" { (queue_link(row.name)) }
                    @for (name, class, label, content) in cells(row, snapshot.minutes.is_ok()) {
                        td id=(format!("{k}-{name}")) class=(class) data-label=(label) { (content) }
                    }
                    @if may { td.acts data-label="" { (switch(viewer, row, wish)) } }
                }
            } }
        }
    }
}

fn switch(viewer: &Viewer, row: &Row, _wish: &Wish) -> Markup {
    match row.paused() {
        true => button(viewer, "resume_queue", "Resume", &[("name", row.name)]),
        false => button(viewer, "pause_queue", "Pause", &[("name", row.name)]),
    }
}

type Cell = (&'static str, &'static str, &'static str, Markup);

/// The cells of a queue that change while one looks.
fn cells(row: &Row, has_minutes: bool) -> Vec<Cell> {
    let q = row.queue;
    let (done, failed, wait) = match has_minutes {
        true => (
            Some(row.done_lately()),
            Some(row.failed_lately()),
            row.wait_lately(),
        ),
        false => (q.completed, q.failed, q.wait[1]),
    };
    let chart = match has_minutes {
        true => spark::small(row.minutes, row.last, SHOWN as i64),
        false => html! { span.hint { "not kept" } },
    };
    let number = |name, label, number: Option<i64>, estimated: bool| {
        let zero = number.unwrap_or(0) == 0;
        let text = html! { span.zero[zero] { (maybe_estimate(number, estimated)) } };
        (name, "num", label, text)
    };
    let strong = |is_bad: bool, text: String| html! { span.bad[is_bad].strong[is_bad] { (text) } };
    let oldest = q.oldest.0.map_or_else(|| "–".to_owned(), seconds);
    vec![
        ("state", "state", "State", tags(row)),
        number("due", "Waiting", q.pending, q.estimated),
        number("later", "Later", q.scheduled, q.estimated),
        number("blocked", "Blocked", q.blocked, false),
        number("runs", "Running", q.processing, false),
        ("oldest", "num", "Oldest", strong(row.behind(), oldest)),
        ("chart", "chart", "Last hour", chart),
        ("done", "num", "Done", html! { (maybe_count(done)) }),
        (
            "failed",
            "num",
            "Failed",
            strong(failed.unwrap_or(0) > 0, maybe_count(failed)),
        ),
        ("wait", "num", "Wait p95", html! { (maybe_millis(wait)) }),
    ]
}

pub fn tags(row: &Row) -> Markup {
    html! {
        @if row.behind() { span.tag.bad { "behind" } " " }
        @if row.paused() { span.tag.warn { "paused" } " " }
        @if row.queue.limited { span.tag.warn { "limited" } " " }
        @if let Some(settings) = row.settings
            && let Some(most) = settings.concurrency
            && row.queue.processing.is_some_and(|runs| runs >= i64::from(most)) && row.queue.pending.unwrap_or(0) > 0 {
            span.tag title=(format!("at most {most} run at once")) { "full" }
        }
    }
}

/// Sums over all queues that the role sees.
fn totals(snapshot: &Snapshot) -> Markup {
    html! {
        dl.totals {
            @for (name, label, value, class) in sums(snapshot) {
                div { dt { (label) } dd.num.(class) id=(format!("sum-{name}")) { (value) } }
            }
        }
    }
}

type Sum = (&'static str, &'static str, Markup, &'static str);

fn sums(snapshot: &Snapshot) -> Vec<Sum> {
    let queues = || snapshot.queues.iter().flat_map(|all| all.values());
    let sum = |part: fn(&Queue) -> Option<i64>, estimated: bool| {
        let sum = queues().filter_map(part).reduce(|sum, x| sum + x);
        maybe_estimate(sum, estimated)
    };
    let estimated = queues().any(|queue| queue.estimated);
    let failed = lately(snapshot, |m| m.failed);
    let class = match failed {
        Some(number) if number > 0 => "bad",
        _ => "",
    };
    let done = lately(snapshot, |m| m.completed);
    vec![
        ("due", "Waiting", sum(|q| q.pending, estimated), ""),
        ("later", "Due later", sum(|q| q.scheduled, estimated), ""),
        ("blocked", "Blocked", sum(|q| q.blocked, false), ""),
        ("runs", "Running", sum(|q| q.processing, false), ""),
        ("workers", "Workers busy", workers(snapshot), ""),
        ("done", "Done, last hour", maybe_estimate(done, false), ""),
        (
            "failed",
            "Failed, last hour",
            maybe_estimate(failed, false),
            class,
        ),
    ]
}

/// What queues that the role sees did in the minutes that are shown.
fn lately(snapshot: &Snapshot, part: fn(&Minute) -> i64) -> Option<i64> {
    let minutes = snapshot.minutes.as_ref().ok()?;
    let names = snapshot.queues.iter().flat_map(|all| all.keys());
    Some(names.flat_map(|name| minutes.of(name)).map(part).sum())
}

fn workers(snapshot: &Snapshot) -> Markup {
    let Ok(all) = &snapshot.processes else {
        return html! { "–" };
    };
    let workers = || {
        all.iter()
            .filter(|p| p.kind == "worker" || p.kind == "dynamic")
    };
    let busy = workers().filter(|p| p.state.as_deref() == Some("running"));
    html! { (busy.count()) " of " (workers().count()) }
}

/// What is wrong, before anything else.
fn alerts(snapshot: &Snapshot) -> Markup {
    let checks = snapshot.health.iter().flat_map(|checks| checks.iter());
    html! {
        @for check in checks.filter(|check| !check.ok) {
            p.alert { strong { (check.name) } " " (short(&check.detail, 300)) }
        }
    }
}

/// A thousand queues that are behind make a long text.
fn short(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{} …", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn health(snapshot: &Snapshot) -> Markup {
    html! {
        section #health-list tabindex="-1" {
            h2 { "Health" }
            div #checks { (checks(snapshot)) }
        }
    }
}

fn checks(snapshot: &Snapshot) -> Markup {
    part(&snapshot.health, |checks| {
        html! {
            table.list.checks {
                thead { tr { th { "Check" } th { "State" } th { "Detail" } } }
                tbody { @for check in checks {
                    tr {
                        th scope="row" { (check.name) }
                        td data-label="State" { @if check.ok { span.tag.good { "ok" } } @else { span.tag.bad { "fails" } } }
                        td.wide data-label="" { (short(&check.detail, 2000)) }
                    }
                } }
            }
        }
    })
}

/// What an open page shows anew.
pub fn changes(snapshot: &Snapshot, keys: &str, out: &mut HashMap<String, String>) {
    out.insert("checks".to_owned(), checks(snapshot).into_string());
    for (name, _, value, _) in sums(snapshot) {
        out.insert(format!("sum-{name}"), value.into_string());
    }
    let wanted: std::collections::HashSet<&str> = keys.split('.').collect();
    for (name, queue) in snapshot.queues.iter().flat_map(|q| q.iter()) {
        let k = key(name);
        if wanted.contains(k.as_str()) {
            for (cell, _, _, content) in
                cells(&Row::new(snapshot, name, queue), snapshot.minutes.is_ok())
            {
                out.insert(format!("{k}-{cell}"), content.into_string());
            }
        }
    }
}
