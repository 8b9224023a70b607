//! What tables share.

use std::hash::{DefaultHasher, Hash, Hasher};

use maud::{Markup, html};

use crate::fmt::encode;

/// A short name for a row by what it is of: part of its cells' ids.
pub fn key(of: &str) -> String {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

pub fn queue_link(queue: &str) -> Markup {
    html! { a href=(format!("/queue?name={}", encode(queue))) { (queue) } }
}

pub fn job_link(id: i64) -> Markup {
    html! { a.num href=(format!("/job/{id}")) { (id) } }
}

pub fn status(status: &str) -> Markup {
    html! { span.status.(class(status)) { (status) } }
}

fn class(status: &str) -> &'static str {
    match status {
        "completed" => "good",
        "failed" => "bad",
        "processing" => "busy",
        "cancelled" => "off",
        "blocked" => "warn",
        _ => "wait",
    }
}

/// How far a job is. An SVG, since a style of its own is not allowed to any element here.
pub fn progress(percent: Option<f32>, message: Option<&str>) -> Markup {
    html! {
        @if let Some(percent) = percent {
            span.progress {
                svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" {
                    rect.all width="100" height="6" {}
                    rect.done width=(format!("{percent:.1}")) height="6" {}
                }
                span.num { (format!("{percent:.0} %")) }
            }
        }
        @if let Some(message) = message { " " span.message { (message) } }
    }
}
