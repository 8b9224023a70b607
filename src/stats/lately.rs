//! `queue_minutes`, `handler_stats` and how far back they go.
//!
//! Both are counted by role, and a caller gets the sum over the roles whose jobs it may see. So it learns
//! nothing of others, not even that there was something.

use std::collections::{BTreeMap, HashMap};

use crate::logic::recent::{self, DAY, Folded, Handler, Minutes, Reach, Runs};
use crate::pg::datum::{Micros, Oid};
use crate::pg::error::Result;
use crate::pg::{bgworker, clock};
use crate::queue::extension;
use crate::shared::{self, SHARED};

use super::queues;
use super::sight::Sight;

/// The minutes that the caller sees, and the queues that there are.
pub struct Lately {
    minutes: Minutes,
    names: HashMap<i32, Vec<u8>>,
}

impl Lately {
    /// The beginning of each minute, the queue's name, and what ended. Those of queues that were dropped are
    /// left out.
    pub fn rows(&self) -> impl Iterator<Item = (Micros, &[u8], &Folded)> {
        self.minutes
            .0
            .iter()
            .filter_map(|((minute, queue), folded)| {
                let name = self.names.get(queue)?;
                Some((recent::begin_of(*minute), name.as_slice(), folded))
            })
    }
}

/// From the minute of that time on.
pub fn minutes(since: Micros) -> Result<Lately> {
    check_preload()?;
    let names = queues::names(&extension()?)?;
    let now = recent::minute_of(clock::now());
    let first = now.saturating_sub(DAY).saturating_add(1);
    let within = first.max(recent::minute_of(since))..=now;
    let minutes = shared::recent::minutes(bgworker::my_database(), within, sees()?)?;
    Ok(Lately {
        minutes,
        names: names
            .into_iter()
            .map(|named| (named.id, named.name))
            .collect(),
    })
}

/// The handlers of jobs that the caller sees, by name.
pub fn handlers() -> Result<Vec<Handler>> {
    check_preload()?;
    let mut sums: BTreeMap<(Option<Vec<u8>>, u8), Handler> = BTreeMap::new();
    for handler in shared::recent::handlers(bgworker::my_database(), sees()?)? {
        let key = (handler.name().map(<[u8]>::to_vec), handler.runs as u8);
        let sum = sums.entry(key);
        sum.and_modify(|sum| sum.merge(&handler)).or_insert(handler);
    }
    Ok(sums.into_values().collect())
}

/// What such a job runs, as the view says it.
pub fn runs(handler: &Handler) -> &'static str {
    match handler.runs {
        Runs::Handler => "handler",
        Runs::Command => "command",
        Runs::Consumer => "consumer",
    }
}

/// How far back each of them goes.
pub fn reach() -> Result<[(&'static str, Reach); 2]> {
    let reach = shared::recent::reach(clock::now());
    let (minutes, handlers) = reach.ok_or_else(shared::not_preloaded)?;
    Ok([("queue_minutes", minutes), ("handler_stats", handlers)])
}

fn check_preload() -> Result<()> {
    match SHARED.is_attached() {
        true => Ok(()),
        false => Err(shared::not_preloaded()),
    }
}

/// Whether the caller sees jobs of a role; each is looked up once.
fn sees() -> Result<impl FnMut(Oid) -> Result<bool>> {
    let sight = Sight::of_caller()?;
    let mut known: HashMap<Oid, bool> = HashMap::new();
    Ok(move |role| {
        if let Some(sees) = known.get(&role) {
            return Ok(*sees);
        }
        let sees = sight.sees(role)?;
        known.insert(role, sees);
        Ok(sees)
    })
}
