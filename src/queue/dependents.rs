//! Telling the keeper of jobs that have ended and that others may come after, once that is committed.
//!
//! A job without such costs a look at a number in shared memory, and where there are any in its database, at two
//! bits.

use crate::logic::settled::Settled;
use crate::pg::bgworker;
use crate::pg::datum::Oid;
use crate::shared::{self, About, News, SHARED, State, Wake};

use super::ended::Ended;

/// Ids that are so near become one range.
const NEAR: i64 = 64;

/// Adds an id to ranges of ids.
fn add(ranges: &mut Vec<(i64, i64)>, id: i64) {
    match ranges.last_mut() {
        Some((from, to)) if (*from..=to.saturating_add(NEAR)).contains(&id) => *to = id.max(*to),
        _ => ranges.push((id, id)),
    }
}

/// Tells of these executions, if a job has ended with one.
pub(super) fn tell_settled(settled: &[Settled]) {
    let database = bgworker::my_database();
    let ranges = SHARED.peek(|unlocked| {
        let asked = unlocked.dependents.asked(database)?;
        let mut ranges = Vec::new();
        let ended = settled.iter().filter(|s| s.outcome.is_final());
        for one in ended.filter(|s| asked.has(s.job)) {
            add(&mut ranges, one.job);
        }
        Some(ranges)
    });
    let ranges = ranges.flatten().unwrap_or_default();
    if !ranges.is_empty() {
        shared::tell(|state| tell_ranges(state, database, &ranges));
    }
}

/// Which ranges the ends of a transaction come to. Before the lock.
pub(super) fn ranges_of<'e>(ended: impl Iterator<Item = &'e Ended>) -> Vec<(i64, i64)> {
    let database = bgworker::my_database();
    let ranges = SHARED.peek(|unlocked| {
        let asked = unlocked.dependents.asked(database)?;
        let mut ranges = Vec::new();
        for one in ended {
            match one.range() {
                Some(range) => ranges.push(range),
                None => {
                    let jobs = one.jobs().iter().filter(|job| asked.has(**job));
                    jobs.for_each(|job| add(&mut ranges, *job));
                }
            }
        }
        Some(ranges)
    });
    ranges.flatten().unwrap_or_default()
}

/// Tells the keeper of ends; under the lock.
pub(super) fn tell_ranges(state: &mut State, database: Oid, ranges: &[(i64, i64)]) -> Wake {
    let mut wake = Wake::NOBODY;
    for (from, to) in ranges {
        // All name the same process.
        std::mem::replace(
            &mut wake,
            state.tell_news(News {
                database,
                about: About::Ended,
                from: *from,
                to: *to,
            }),
        )
        .is_awake();
    }
    wake
}

/// Tells the keeper of jobs that were enqueued and come after others; under the lock.
pub(super) fn tell_blocked(state: &mut State, database: Oid, (from, to): (i64, i64)) -> Wake {
    state.tell_news(News {
        database,
        about: About::Blocked,
        from,
        to,
    })
}
