//! What an open page hangs on: server-sent events with those of its pieces that have changed.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{Stream, unfold};
use serde::Deserialize;

use crate::App;
use crate::door::Viewer;
use crate::fault::Fault;
use crate::live::{self, Seen};
use crate::pace::{Pace, ROWS_LAST, ROWS_REST};
use crate::snapshot::Snapshot;
use crate::{pages, search, views};

/// What a page wants to hear of.
#[derive(Clone, Debug, Deserialize)]
pub struct Topic {
    page: String,
    #[serde(default)]
    keys: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    id: i64,
    /// The page was drawn before the first count: what needs a look is not known there.
    #[serde(default)]
    counting: bool,
}

/// Parts of an event: pieces are parted by the one, a piece's name and its HTML by the other.
const PIECE: char = '\u{1e}';
const NAME: char = '\u{1f}';

struct Listener {
    app: Arc<App>,
    headers: HeaderMap,
    viewer: Viewer,
    watcher: live::Viewer,
    topic: Topic,
    sent: HashMap<String, u64>,
    last: Option<Arc<Snapshot>>,
    /// Something has moved since the page's own rows were read.
    is_stale: bool,
    rows: Pace,
    lost: bool,
}

pub async fn live(
    State(app): State<Arc<App>>,
    viewer: Viewer,
    headers: HeaderMap,
    Query(topic): Query<Topic>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let watcher = live::watch(&viewer.seat);
    let listener = Listener {
        app,
        headers,
        viewer,
        watcher,
        topic,
        sent: HashMap::new(),
        last: None,
        is_stale: true,
        rows: Pace::new(),
        lost: false,
    };
    let stream = unfold(listener, |mut listener| async move {
        let event = listener.next().await?;
        Some((Ok(event), listener))
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}

impl Listener {
    /// The next event that the page should have; None when its viewer has logged out.
    async fn next(&mut self) -> Option<Event> {
        loop {
            self.watcher.seen.changed().await.ok()?;
            // Asked each time: a session that has ended hears no more.
            let (_, token) = self.app.door.seat_of(&self.headers)?;
            if token != self.viewer.token {
                return None;
            }
            let seen: Seen = self.watcher.seen.borrow_and_update().clone();
            match seen {
                Some(Ok(snapshot)) => {
                    let is_news =
                        self.topic.page == "away" || self.topic.counting && snapshot.is_counted;
                    if std::mem::replace(&mut self.lost, false) || is_news {
                        self.sent.clear();
                        return Some(Event::default().event("back").data("back"));
                    }
                    match self.changes(&snapshot).await {
                        Ok(Some(event)) => return Some(event),
                        Ok(None) => {}
                        Err(fault) if fault.is_away() => return Some(self.lose(&fault)),
                        // A read that took too long: the next look has it read again.
                        Err(_) => {}
                    }
                }
                Some(Err(fault)) if !self.lost => return Some(self.lose(&fault)),
                _ => {}
            }
        }
    }

    fn lose(&mut self, fault: &Fault) -> Event {
        self.lost = true;
        Event::default()
            .event("lost")
            .data(fault.text().replace(['\r', '\n'], " "))
    }

    /// Those pieces of the page that are not as they were sent.
    async fn changes(&mut self, snapshot: &Arc<Snapshot>) -> Result<Option<Event>, Fault> {
        let mut pieces = HashMap::new();
        pieces.insert(
            "health".to_owned(),
            views::layout::health(Some(snapshot)).into_string(),
        );
        let moved = self.last.as_ref().is_none_or(|last| snapshot.differs(last));
        self.is_stale |= moved || self.rows.at.elapsed() > ROWS_REST;
        self.pieces(snapshot, moved, &mut pieces).await?;
        if self.is_stale && self.rows.is_due(ROWS_LAST) {
            let begin = Instant::now();
            match self.rows(snapshot, &mut pieces).await {
                Ok(()) => self.is_stale = false,
                Err(fault) if fault.is_away() => return Err(fault),
                // A right that is missing, or a read that took too long: later again.
                Err(_) => {}
            }
            self.rows.took(begin.elapsed());
        }
        self.last = Some(snapshot.clone());
        let mut data = String::new();
        for (name, html) in pieces {
            let mut hasher = DefaultHasher::new();
            without_times(&html).hash(&mut hasher);
            let hash = hasher.finish();
            if self.sent.insert(name.clone(), hash) != Some(hash) {
                if !data.is_empty() {
                    data.push(PIECE);
                }
                data.push_str(&name);
                data.push(NAME);
                data.push_str(&html.replace('\r', " "));
            }
        }
        Ok((!data.is_empty()).then(|| Event::default().data(data)))
    }

    /// What some pages show is dear enough to have a pace of its own.
    async fn rows(
        &self,
        snapshot: &Snapshot,
        out: &mut HashMap<String, String>,
    ) -> Result<(), Fault> {
        let Topic {
            page,
            keys,
            name,
            id,
            counting: _,
        } = &self.topic;
        let html = match page.as_str() {
            "schedules" => {
                let wish = views::schedules::Wish {
                    q: name.clone(),
                    after: keys.clone(),
                    id: *id,
                };
                pages::schedules::piece(&self.viewer, &wish).await?
            }
            "dead" => pages::jobs::dead_piece(&self.viewer, snapshot).await?,
            "handlers" | "settings" => pages::piece(page, &self.viewer.seat).await?,
            _ => return Ok(()),
        };
        out.insert(page.clone(), html);
        Ok(())
    }

    /// Rows of tables are read again only when shared memory says that something has moved.
    async fn pieces(
        &self,
        snapshot: &Snapshot,
        moved: bool,
        out: &mut HashMap<String, String>,
    ) -> Result<(), Fault> {
        let topic = &self.topic;
        match topic.page.as_str() {
            "overview" => views::overview::changes(snapshot, &topic.keys, out),
            "queue" => views::queue::changes(snapshot, &topic.name, out),
            "processes" => views::people::process_changes(snapshot, out),
            "consumers" => views::people::consumer_changes(snapshot, out),
            "jobs" if moved => {
                let ids: Vec<i64> = topic
                    .keys
                    .split('.')
                    .filter_map(|id| id.parse().ok())
                    .take(200)
                    .collect();
                let mut lines = search::these(&self.viewer.seat, &ids).await?;
                search::name_handlers(&mut lines, snapshot);
                views::lists::changes(&lines, out);
            }
            "job" if moved => {
                if let Some(html) = pages::jobs::piece(&self.viewer, topic.id).await? {
                    out.insert("job".to_owned(), html);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Relative times tick in the browser, and are no reason to send a piece again: the text between a
/// time's tags is left out.
fn without_times(html: &str) -> String {
    let mut rest = html;
    let mut out = String::with_capacity(html.len());
    while let Some(begin) = rest.find("<time ") {
        let Some(open) = rest.get(begin..).and_then(|tail| tail.find('>')) else {
            break;
        };
        let Some(end) = rest.get(begin..).and_then(|tail| tail.find("</time>")) else {
            break;
        };
        out.push_str(rest.get(..begin + open).unwrap_or_default());
        rest = rest.get(begin + end..).unwrap_or_default();
        rest = rest.strip_prefix("</time>").unwrap_or(rest);
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_passes_is_no_change() {
        let at =
            |text: &str| without_times(&format!("<td><time data-at=\"1\">{text}</time> x</td>"));
        assert_eq!(at("1 s ago"), at("2 s ago"));
        assert_ne!(
            at("1 s ago"),
            without_times("<td><time data-at=\"2\">1 s ago</time> x</td>")
        );
    }
}
