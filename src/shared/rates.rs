//! How fast the jobs of queues may start: see `logic::rates`. A lock of its own guards it; who holds it takes
//! no other.

use crate::logic::rates::{Buckets, Entry, Head, Key, Limit, QUEUES, Started, State};
use crate::pg::datum::Micros;
use crate::pg::shmem_array::SharedArray;
use crate::pg::{bgworker, clock};
use crate::settings;

static MEMORY: SharedArray<Head, Entry> = SharedArray::new(c"my_worker_rates");

/// Asks for the memory. From the request hook only.
pub fn request() {
    let keys = usize::try_from(settings::MAX_RATE_KEYS.get()).unwrap_or(0);
    MEMORY.request(QUEUES.saturating_add(keys));
}

/// Finds or creates the memory. From the startup hook only.
pub fn attach() {
    MEMORY.attach();
}

fn write<R>(f: impl FnOnce(&mut Buckets) -> R) -> Option<R> {
    MEMORY.write(|head, entries| f(&mut Buckets { head, entries }))
}

/// The server is a primary: starts are known from now on.
pub fn begin(now: Micros) {
    write(|buckets| buckets.begin(now));
}

/// How a bucket stands; without preload nothing may start.
pub fn peek(key: &Key, limit: &Limit) -> State {
    let is_primary = !bgworker::in_recovery();
    let state = write(|buckets| {
        let now = clock::now();
        if is_primary {
            buckets.begin(now);
        }
        buckets.peek(key, limit, now)
    });
    state.unwrap_or(State {
        count: 0,
        next: Micros::MAX,
        no_room: false,
    })
}

/// Starts up to so many, now or at a time that was now a moment ago.
pub fn start(key: &Key, limit: &Limit, at: Option<Micros>, wanted: usize) -> Started {
    let started = write(|buckets| {
        let now = clock::now();
        buckets.start(key, limit, (now, at.unwrap_or(now)), wanted)
    });
    started.unwrap_or(Started {
        count: 0,
        at: 0,
        next: Micros::MAX,
    })
}

/// Takes back what came to nothing.
pub fn give_back(key: &Key, count: usize, next: Micros) {
    write(|buckets| buckets.give_back(key, count, next));
}

/// Whether a key of that queue must wait.
pub fn is_any_waiting(database: u32, queue: i32) -> bool {
    write(|buckets| buckets.is_any_waiting(database, queue, clock::now())).unwrap_or(false)
}
