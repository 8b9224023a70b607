//! A worker's look for candidates in a queue.

use crate::logic::low_water::LowWater;
use crate::logic::reach::Reaches;
use crate::pg::datum::{self, Micros, Oid};
use crate::pg::error::Result;

use super::claim::{Found, Jobs, Walk, is_runnable};
use super::key_look::{self, KeyLook, Turn};
use super::queues::Queue;

/// What a look for candidates leaves out.
#[derive(Default)]
pub struct Avoid {
    /// What other workers have of the queue.
    pub others: Reaches,
    /// Jobs that run, or that somebody had locked; sorted.
    pub jobs: Vec<i64>,
    /// Those of these jobs that the look came upon.
    pub passed: Vec<i64>,
}

/// For what, and from where on.
pub struct Look<'a> {
    /// Whose jobs.
    pub owner: Oid,
    /// Due by then.
    pub now: Micros,
    /// At most so many.
    pub limit: usize,
    /// The marks.
    pub low: &'a mut LowWater,
    /// The keys of the jobs, where the queue goes by them.
    pub keys: Option<KeyLook<'a>>,
}

impl Jobs {
    /// Up to `limit` due jobs in order. The active snapshot is younger than what is to be avoided,
    /// so that what others have done with since is not seen.
    pub fn look<F: Found>(&self, queue: &Queue, look: Look, avoid: &mut Avoid) -> Result<Vec<F>> {
        let (now, limit, mut keys) = (look.now, look.limit, look.keys);
        let name = datum::text_datum(&queue.name)?;
        let mut found = Vec::with_capacity(limit);
        let stirred = match &mut keys {
            Some(keys) => keys.stirred(now, limit, |row, place| {
                let is_taken = avoid.others.end_of(place).is_some()
                    || avoid.jobs.binary_search(&place.id).is_ok();
                Ok((!is_taken).then(|| is_runnable(row, queue)))
            })?,
            None => Vec::new(),
        };
        self.walk_due(look.owner, name, now, look.low, |row, place| {
            if let Some(end) = avoid.others.end_of(place) {
                return Ok(Walk::Behind(end));
            }
            if avoid.jobs.binary_search(&place.id).is_ok() {
                avoid.passed.push(place.id);
                return Ok(Walk::On);
            }
            if !is_runnable(row, queue) {
                return Ok(Walk::Past);
            }
            let turn = match &mut keys {
                Some(keys) => keys.turn(row, place)?,
                None => Turn::Now(None),
            };
            let key = match turn {
                Turn::Now(key) => key,
                Turn::Passed => return Ok(Walk::Past),
                Turn::Later => return Ok(Walk::On),
            };
            let mut job = F::read(row, place)?;
            if let Some(key) = key {
                job.set_key(key);
            }
            found.push(job);
            Ok(if found.len() < limit {
                Walk::On
            } else {
                Walk::Enough
            })
        })?;
        Ok(key_look::merged(found, stirred, limit))
    }
}
