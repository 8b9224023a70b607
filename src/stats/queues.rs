//! `queue_stats`: what waits in each queue, what runs, and what was counted.

use crate::logic::counters::Counters;
use crate::pg::bgworker;
use crate::pg::clock;
use crate::pg::datum::Micros;
use crate::pg::error::Result;
use crate::pg::spi::Statement;
use crate::queue::live::{self, Waiting};
use crate::queue::{as_owner, extension};
use crate::shared::{NAME_BYTES, Phase, SHARED, SLOTS, Text};

static QUEUES: Statement =
    Statement::new("SELECT name, id FROM my_worker.queues ORDER BY name", &[]);

/// One row of the view.
pub struct QueueRow {
    /// Its name, and what waits.
    pub waiting: Waiting,
    /// Jobs that run.
    pub processing: i64,
    /// What was counted since the server's start.
    pub counters: Box<Counters>,
}

/// All queues of this database.
pub fn rows() -> Result<Vec<QueueRow>> {
    let extension = extension()?;
    let queues = as_owner(&extension, |spi| {
        let rows = spi.read(&QUEUES, &[])?;
        rows.iter()
            .map(|row| Ok((row.text(1)?.unwrap_or_default(), row.i32(2).unwrap_or(0))))
            .collect::<Result<Vec<_>>>()
    })?;
    let running = running();
    let now: Micros = clock::now();
    let waiting = live::waiting(&extension, now, &running)?;
    Ok(queues
        .into_iter()
        .map(|(name, id)| {
            let mine = waiting.iter().find(|entry| entry.queue == name).cloned();
            let processing = running.iter().filter(|(_, queue)| *queue == name).count();
            QueueRow {
                waiting: Waiting {
                    queue: name,
                    ..mine.unwrap_or_default()
                },
                processing: processing as i64,
                counters: Box::new(super::counters(id)),
            }
        })
        .collect())
}

/// The jobs that run in this database, sorted, with their queues.
fn running() -> Vec<(i64, Vec<u8>)> {
    let database = bgworker::my_database();
    // Room for all before the lock: nothing allocates under it.
    let mut found = Vec::with_capacity(SLOTS);
    SHARED.read(|state| {
        for slot in state.slots.iter().filter(|slot| slot.database == database) {
            if let Some(job) = slot.current().job().filter(|_| slot.phase != Phase::Free) {
                found.push((job, slot.queue));
            }
        }
    });
    let named = |(job, queue): (i64, Text<NAME_BYTES>)| (job, queue.get().to_vec());
    let mut jobs: Vec<_> = found.into_iter().map(named).collect();
    jobs.sort_unstable();
    jobs
}
