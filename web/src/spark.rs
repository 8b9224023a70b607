//! Small charts as SVG, drawn on the server: no script, no jump when they change, sharp on any screen.

use maud::{Markup, html};

use crate::fmt::{count, millis, utc};
use crate::minutes::Minute;

/// Where a chart begins, how many minutes it shows, and its size in units of its own.
#[derive(Clone, Copy)]
pub struct Frame {
    pub first: i64,
    pub minutes: i64,
    pub width: f64,
    pub height: f64,
}

/// The last hour beside a queue's name: bars of what was done and what failed, a line of the wait's p95.
pub fn small(minutes: &[Minute], last: i64, shown: i64) -> Markup {
    let frame = Frame {
        first: last - shown + 1,
        minutes: shown,
        width: 120.0,
        height: 24.0,
    };
    let text = summary(minutes);
    html! {
        svg.spark viewBox="0 0 120 24" preserveAspectRatio="none" role="img" aria-label=(text) {
            title { (text) }
            path.base d="M0 23.5H120" {}
            (series(minutes, frame))
        }
    }
}

/// The same, larger, with its scale in words.
pub fn large(minutes: &[Minute], last: i64, shown: i64) -> Markup {
    let frame = Frame {
        first: last - shown + 1,
        minutes: shown,
        width: 1440.0,
        height: 120.0,
    };
    let most = minutes
        .iter()
        .map(|m| m.completed + m.failed)
        .max()
        .unwrap_or(0);
    let slowest = minutes.iter().filter_map(|m| m.wait).fold(0.0, f64::max);
    html! {
        figure.chart {
            svg viewBox="0 0 1440 120" preserveAspectRatio="none" role="img" aria-label=(summary(minutes)) {
                title { (summary(minutes)) }
                path.base d="M0 119.5H1440M0 60H1440M0 .5H1440" {}
                (series(minutes, frame))
            }
            figcaption {
                span { (utc(frame.first as f64 * 60.0)) }
                span {
                    i.key.done {} "done " i.key.failed {} "failed, top " (count(most)) " a minute"
                    " · " i.key.wait {} "wait p95, top " (millis(slowest))
                }
                span { "now" }
            }
        }
    }
}

fn summary(minutes: &[Minute]) -> String {
    if minutes.is_empty() {
        return "nothing has ended in this time".to_owned();
    }
    let sum = |part: fn(&Minute) -> i64| count(minutes.iter().map(part).sum());
    let slowest = minutes.iter().filter_map(|m| m.wait).fold(0.0, f64::max);
    format!(
        "{} done, {} failed, {} tried again; at most {} in a minute; wait p95 at most {}",
        sum(|m| m.completed),
        sum(|m| m.failed),
        sum(|m| m.retried),
        count(
            minutes
                .iter()
                .map(|m| m.completed + m.failed)
                .max()
                .unwrap_or(0)
        ),
        millis(slowest)
    )
}

/// Bars and line of these minutes. Counts are drawn on a square-root scale, so that a single failure
/// beside thousands of ends is still to be seen.
fn series(minutes: &[Minute], frame: Frame) -> Markup {
    let most = minutes
        .iter()
        .map(|m| m.completed + m.failed)
        .max()
        .unwrap_or(0)
        .max(1) as f64;
    let slowest = minutes.iter().filter_map(|m| m.wait).fold(1.0, f64::max);
    let floor = frame.height;
    let tall = |number: f64, top: f64| (number / top).sqrt() * (frame.height - 2.0);
    let step = frame.width / frame.minutes as f64;
    let (mut done, mut failed, mut wait) = (String::new(), String::new(), String::new());
    let mut before = None;
    for minute in minutes
        .iter()
        .filter(|m| (frame.first..frame.first + frame.minutes).contains(&m.at))
    {
        let x = (minute.at - frame.first) as f64 * step + step / 2.0;
        let all = tall((minute.completed + minute.failed) as f64, most);
        let bad = tall(minute.failed as f64, most).max(if minute.failed > 0 { 2.0 } else { 0.0 });
        if minute.completed > 0 {
            done.push_str(&format!(
                "M{x:.1} {:.1}V{:.1}",
                floor - bad,
                floor - all.max(1.0)
            ));
        }
        if minute.failed > 0 {
            failed.push_str(&format!("M{x:.1} {floor:.1}V{:.1}", floor - bad));
        }
        if let Some(ms) = minute.wait {
            let joins = before.is_some_and(|before| minute.at - before <= 1);
            let y = floor - tall(ms, slowest);
            wait.push_str(&format!("{}{x:.1} {y:.1}", if joins { "L" } else { "M" }));
            if !joins {
                wait.push_str("h.01");
            }
            before = Some(minute.at);
        }
    }
    html! {
        path.done d=(done) {}
        path.failed d=(failed) {}
        path.wait d=(wait) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_among_thousands_is_seen() {
        let minutes = [Minute {
            at: 100,
            completed: 50_000,
            failed: 1,
            ..Minute::default()
        }];
        let svg = small(&minutes, 100, 60).into_string();
        assert!(
            svg.contains("class=\"failed\" d=\"M119.0 24.0V22.0\""),
            "{svg}"
        );
    }

    #[test]
    fn what_is_out_of_the_frame_is_not_drawn() {
        let minutes = [Minute {
            at: 10,
            completed: 5,
            ..Minute::default()
        }];
        assert!(
            small(&minutes, 100, 60)
                .into_string()
                .contains("class=\"done\" d=\"\"")
        );
    }
}
