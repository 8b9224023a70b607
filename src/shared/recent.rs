//! How jobs ended lately: see `logic::recent`. A lock of its own guards it; who holds it takes no other. Readers
//! copy a part at a time, so that nobody who counts waits long for them.

use crate::logic::counters::{Ending, Mark};
use crate::logic::recent::{
    BYTES, Called, HANDLERS, Handler, Head, Hint, Minutes, PLACES, Reach, Recent, Record, Tally,
    Walk, Whose,
};
use crate::pg::clock;
use crate::pg::datum::{Micros, Oid};
use crate::pg::error::Result;
use crate::pg::local::Local;
use crate::pg::shmem_array::SharedArray;

static MEMORY: SharedArray<Head, u8> = SharedArray::new(c"my_worker_recent");

/// How many entries of handlers are copied by one hold of the lock.
const SOME: usize = 16;

/// Where this process counted last: queues and handlers.
static HINTS: Local<(Hint, Hint)> = Local::new((0, 0));

/// Asks for the memory. From the request hook only.
pub fn request() {
    MEMORY.request(BYTES);
}

/// Finds or creates the memory. From the startup hook only.
pub fn attach() {
    if MEMORY.attach() {
        MEMORY.alone(|head, _| head.begun = clock::now());
    }
}

fn write<R>(f: impl FnOnce(&mut Recent) -> R) -> Option<R> {
    MEMORY.write(|head, bytes| f(&mut Recent { head, bytes }))
}

/// Counts executions of one queue's and role's jobs: all of them, and parts of them one behind the other by what
/// they called. Raises nothing, allocates nothing.
pub fn count<'a>(
    whose: Whose,
    marks: &[Mark],
    calls: impl Iterator<Item = (Option<&'a Called>, usize)>,
    now: Micros,
) {
    let (mut queue, mut handler) = HINTS.get();
    write(|recent| {
        recent.count(whose, marks, now, &mut queue);
        let (mut rest, of) = (marks, (whose.database, whose.role));
        for (called, count) in calls {
            let Some((part, behind)) = rest.split_at_checked(count) else {
                return;
            };
            rest = behind;
            if let Some(called) = called {
                let handlers = &mut recent.head.handlers;
                handlers.count(of, called, part, now, &mut handler);
            }
        }
    });
    HINTS.set((queue, handler));
}

/// Counts ends without an execution. Raises nothing, allocates nothing.
pub fn count_ends(whose: Whose, called: Option<&Called>, end: (Ending, i64), now: Micros) {
    write(|recent| {
        recent.count_ends(whose, end.0, end.1, now);
        if let Some(called) = called {
            let of = (whose.database, whose.role);
            recent.head.handlers.count_ends(of, called, end, now);
        }
    });
}

/// Forgets all of a database.
pub fn forget(database: Oid) {
    write(|recent| recent.forget(database));
    let mut place = Some(0);
    while let Some(from) = place {
        place = write(|recent| recent.forget_some(database, from)).flatten();
    }
}

/// The databases whose handlers were counted.
pub fn databases() -> Vec<Oid> {
    let mut found = Vec::with_capacity(HANDLERS);
    MEMORY.read(|head, _| found.extend(head.handlers.databases()));
    found.sort_unstable();
    found.dedup();
    found
}

/// The minutes of a database since that one, of roles that the caller `sees`.
pub fn minutes(
    database: Oid,
    within: std::ops::RangeInclusive<i32>,
    mut sees: impl FnMut(Oid) -> Result<bool>,
) -> Result<Minutes> {
    let mut minutes = Minutes::default();
    let mut walk = Walk::since(*within.start());
    // Room for all before the lock: nothing allocates under it.
    let mut open: Vec<(Whose, Tally)> = Vec::with_capacity(PLACES);
    let mut minute = 0;
    let mut outcome = Ok(());
    loop {
        let is_last = MEMORY.read(|head, bytes| {
            let is_last = walk.copy(&head.edges, bytes);
            if is_last {
                let (now, tallies) = head.open.of_database(database);
                minute = now;
                open.extend(tallies.map(|(whose, tally)| (whose, *tally)).take(PLACES));
            }
            is_last
        });
        walk.each(|mut record: Record<'_>| {
            if record.database != database || !within.contains(&record.minute) {
                return;
            }
            let whose = record.whose();
            match sees(whose.role) {
                Ok(true) => minutes.add_record(whose.queue, record),
                Ok(false) => {}
                Err(error) => outcome = Err(error),
            }
        });
        if is_last != Some(false) {
            break;
        }
    }
    outcome?;
    for (whose, tally) in open.iter().filter(|_| within.contains(&minute)) {
        if sees(whose.role)? {
            minutes.add_tally(minute, whose.queue, tally);
        }
    }
    Ok(minutes)
}

/// What was counted of the handlers of a database, for roles that the caller `sees`.
pub fn handlers(database: Oid, mut sees: impl FnMut(Oid) -> Result<bool>) -> Result<Vec<Handler>> {
    let mut places = Vec::with_capacity(HANDLERS);
    MEMORY.read(|head, _| places.extend(head.handlers.of_database(database)));
    let mut seen = Vec::with_capacity(places.len());
    for (place, owner) in places {
        if sees(owner)? {
            seen.push((place, owner));
        }
    }
    let mut found = Vec::with_capacity(seen.len());
    for some in seen.chunks(SOME) {
        MEMORY.read(|head, _| {
            let entry = |(place, owner): &(usize, Oid)| head.handlers.get(*place, database, *owner);
            found.extend(some.iter().filter_map(entry).copied());
        });
    }
    Ok(found)
}

/// How far back the minutes go, and how many handlers have given way; `None` without preload.
pub fn reach(now: Micros) -> Option<(Reach, Reach)> {
    MEMORY.read(|head, _| {
        let handlers = Reach {
            since: head.begun,
            gave_way: head.handlers.gave_way(),
        };
        (head.reach(now), handlers)
    })
}
