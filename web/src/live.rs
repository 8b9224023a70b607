//! Looks once a second while somebody looks, and not at all while nobody does. All viewers of a role
//! share one loop, its connection and what it saw.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::fault::Fault;
use crate::pace::For;
use crate::seat::Seat;
use crate::snapshot::Snapshot;

/// The last look: what was seen, or that the server is away.
pub type Seen = Option<Result<Arc<Snapshot>, Fault>>;

const BEAT: Duration = Duration::from_secs(1);
const SLOWEST: Duration = Duration::from_secs(10);
/// A page is drawn from a look that is no older.
const FRESH: Duration = Duration::from_millis(900);

pub struct Live {
    seen: watch::Sender<Seen>,
    viewers: Mutex<Viewers>,
}

#[derive(Default)]
struct Viewers {
    count: usize,
    has_loop: bool,
}

/// A viewer who looks; not any more when dropped.
pub struct Viewer {
    seat: Arc<Seat>,
    pub seen: watch::Receiver<Seen>,
}

impl Live {
    pub fn new() -> Self {
        Live {
            seen: watch::Sender::new(None),
            viewers: Mutex::default(),
        }
    }

    fn viewers<T>(&self, change: impl FnOnce(&mut Viewers) -> T) -> T {
        let mut viewers = self
            .viewers
            .lock()
            .unwrap_or_else(|broken| broken.into_inner());
        change(&mut viewers)
    }

    /// Has the next look read everything.
    pub fn forget(&self) {
        self.seen.send_if_modified(|seen| {
            if let Some(Ok(snapshot)) = seen {
                *snapshot = Arc::new(Snapshot::clone(snapshot).forget());
            }
            false
        });
    }
}

impl Seat {
    /// What goes on, as of now or a moment ago.
    pub async fn look(&self, whom: For) -> Result<Arc<Snapshot>, Fault> {
        let last = self.live.seen.borrow().clone();
        if let Some(Ok(last)) = &last
            && last.at.elapsed() < FRESH
            && (last.is_counted || whom == For::Page)
        {
            return Ok(last.clone());
        }
        let last = last.and_then(Result::ok);
        let seen = Snapshot::read(self, last.as_deref(), whom)
            .await
            .map(Arc::new);
        self.live.seen.send_replace(Some(seen.clone()));
        seen
    }
}

pub fn watch(seat: &Arc<Seat>) -> Viewer {
    let starts = seat.live.viewers(|viewers| {
        viewers.count += 1;
        !std::mem::replace(&mut viewers.has_loop, true)
    });
    if starts {
        tokio::spawn(beat(seat.clone()));
    }
    Viewer {
        seat: seat.clone(),
        seen: seat.live.seen.subscribe(),
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.seat.live.viewers(|viewers| viewers.count -= 1);
    }
}

async fn beat(seat: Arc<Seat>) {
    loop {
        let goes_on = seat.live.viewers(|viewers| {
            viewers.has_loop = viewers.count > 0;
            viewers.has_loop
        });
        if !goes_on {
            return;
        }
        let begin = Instant::now();
        let pause = match seat.look(For::Loop).await {
            Ok(snapshot) => snapshot.pause((BEAT, SLOWEST)),
            Err(_) => BEAT,
        };
        tokio::time::sleep(pause.saturating_sub(begin.elapsed())).await;
    }
}
