//! What a worker knows of the queues that it has looked at.

use super::Worker;
use super::keys::KnownKeys;
use crate::logic::low_water::{LowWater, Place};
use crate::logic::rotation;
use crate::pg::catalog::Extension;
use crate::pg::error::Result;
use crate::queue::claim::Patience;
use crate::queue::queues::{self, Kept, Queue};

/// The most queues that a worker remembers: some 1 MB of memory. Of the others a look reads all that waits.
const MAX_KNOWN: usize = 1024;

/// What a worker knows of a queue.
#[derive(Clone, Default)]
pub(super) struct Known {
    /// Its id.
    pub(super) id: i32,
    /// It has a handler for jobs that name none.
    pub(super) has_handler: bool,
    /// How many of its jobs to take at once; 0: not tried yet.
    pub(super) size: usize,
    /// It has run some.
    pub(super) proved: bool,
    /// From where to look for more.
    pub(super) low: LowWater,
    /// Jobs that somebody else had locked when we tried them, since we last slept.
    pub(super) skip: Vec<i64>,
    /// What it has passed by of jobs with a key.
    pub(super) keys: KnownKeys,
    /// What stands before this place, or at it, is left out.
    pub(super) behind: Option<Place>,
    /// How many jobs that are for nobody a look passes by.
    pub(super) patience: Patience,
    /// Its settings.
    pub(super) settings: Option<Kept>,
}

impl Known {
    /// As its queue is now: if other jobs of it are for us, what was passed is forgotten.
    pub(super) fn be_of(&mut self, queue: &Queue) {
        self.id = queue.id;
        let has_handler = queue.handler.is_some();
        if self.has_handler != has_handler || !self.keys.are_of(queue) {
            self.low = LowWater::default();
            self.has_handler = has_handler;
            self.keys = KnownKeys::new(queue);
        }
    }

    /// Whether its jobs may still be taken by what is known of it.
    pub(super) fn is_open(&self, extension: &Extension) -> Result<bool> {
        match &self.settings {
            Some(settings) if settings.is_current(extension) => settings.is_open(extension),
            _ => Ok(false),
        }
    }

    /// The same behind a job.
    pub(super) fn behind(&self, last: Place) -> Known {
        Known {
            low: self.low.behind(last),
            skip: self.skip.clone(),
            keys: self.keys.clone(),
            behind: Some(last),
            patience: Patience::ENDLESS,
            settings: None,
            ..*self
        }
    }
}

impl Worker {
    /// The queue that new jobs came into while it slept or read, if that is known.
    pub(super) fn named_first(&mut self, extension: &Extension) -> Result<Option<Vec<u8>>> {
        let Some(id) = self.first.take().filter(|id| *id != 0) else {
            return Ok(None);
        };
        match self.known.iter().find(|(_, known)| known.id == id) {
            Some((name, _)) => Ok(Some(name.clone())),
            None => queues::name_of(extension, id),
        }
    }

    /// A queue's settings as of this moment; `None` if there is no such queue.
    pub(super) fn settings(&mut self, extension: &Extension, name: &[u8]) -> Result<Option<Kept>> {
        let kept = self.known.get(name).and_then(|k| k.settings.as_ref());
        if let Some(kept) = kept.filter(|kept| kept.is_current(extension)) {
            return Ok(Some(kept.clone()));
        }
        let Some(read) = Kept::read(extension, name)? else {
            return Ok(None);
        };
        rotation::make_room(&mut self.known, name, MAX_KNOWN);
        let known = self.known.entry(name.to_vec()).or_default();
        known.settings = Some(read.clone());
        Ok(Some(read))
    }
}
