//! What is counted of each queue: how jobs ended, how long they waited and ran. Fixed size, for
//! shared memory, and as bytes, for the file that carries it over a restart.

use super::Micros;
use super::histogram::{self, BUCKETS};

/// How many queues of the server are counted at a time.
pub const QUEUES: usize = 128;

/// First bytes of the file: what it is, and its version.
const MAGIC: &[u8; 8] = b"mw_stat2";

/// In place of a role: jobs of several roles were counted.
pub const SEVERAL_ROLES: u32 = u32::MAX;

/// How one execution ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The job did its work.
    Completed,
    /// It failed for good.
    Failed,
    /// It failed and is tried again.
    Retried,
    /// Somebody cancelled it.
    Cancelled,
    /// It asked to come again later: no end, and not counted.
    Snoozed,
}

impl Ending {
    /// Whether the job has ended, too.
    pub fn is_final(self) -> bool {
        !matches!(self, Ending::Retried | Ending::Snoozed)
    }
}

/// One execution, with all that takes time worked out before a lock is taken.
#[derive(Clone, Copy)]
pub struct Mark {
    end: Ending,
    wait: Micros,
    run: Micros,
    wait_bucket: usize,
    run_bucket: usize,
}

impl Mark {
    /// An execution that began `wait` after it was due and took `run`.
    pub fn new(end: Ending, wait: Micros, run: Micros) -> Self {
        Mark {
            end,
            wait,
            run,
            wait_bucket: histogram::bucket_of(wait),
            run_bucket: histogram::bucket_of(run),
        }
    }
}

impl Mark {
    /// Whether the job has ended, too.
    pub fn is_final(&self) -> bool {
        self.end.is_final()
    }

    /// How it ended.
    pub fn end(&self) -> Ending {
        self.end
    }

    /// The buckets of the times that it waited and ran.
    pub fn buckets(&self) -> (usize, usize) {
        (self.wait_bucket, self.run_bucket)
    }
}

/// Durations of one kind.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Times {
    sum: i64,
    counts: [u32; BUCKETS],
}

/// Mean and percentiles, in milliseconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Summary {
    /// Arithmetic mean.
    pub mean: f64,
    /// Half took no longer.
    pub p50: f64,
    /// 95 of 100 took no longer.
    pub p95: f64,
    /// 99 of 100 took no longer.
    pub p99: f64,
}

impl Times {
    /// Nothing counted.
    pub const NONE: Times = Times {
        sum: 0,
        counts: [0; BUCKETS],
    };

    /// Adds how long an execution ran.
    pub fn add_run(&mut self, mark: &Mark) {
        self.add(mark.run, mark.run_bucket);
    }

    /// Adds all that another one has counted.
    pub fn merge(&mut self, other: &Times) {
        self.sum = self.sum.saturating_add(other.sum);
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
    }

    fn add(&mut self, duration: Micros, bucket: usize) {
        self.sum = self.sum.saturating_add(duration);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count = count.saturating_add(1);
        }
    }

    /// `None` before the first one.
    pub fn summary(&self) -> Option<Summary> {
        let counts: Vec<u64> = self.counts.iter().map(|n| u64::from(*n)).collect();
        let total: u64 = counts.iter().sum();
        let at = |q| histogram::percentile(&counts, q).map(|us| us / 1000.0);
        if total == 0 {
            return None;
        }
        Some(Summary {
            mean: self.sum as f64 / total as f64 / 1000.0,
            p50: at(0.5)?,
            p95: at(0.95)?,
            p99: at(0.99)?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.sum.to_le_bytes());
        for count in &self.counts {
            out.extend(count.to_le_bytes());
        }
    }

    fn read(&mut self, from: &mut Reader) -> Option<()> {
        self.sum = i64::from_le_bytes(from.take()?);
        for count in &mut self.counts {
            *count = u32::from_le_bytes(from.take()?);
        }
        Some(())
    }
}

/// The counters of one queue.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Counters {
    /// Jobs that did their work.
    pub completed: i64,
    /// Jobs that failed for good.
    pub failed: i64,
    /// Attempts that failed and are tried again.
    pub retried: i64,
    /// Jobs that somebody cancelled.
    pub cancelled: i64,
    /// When a job last failed for good; 0: never.
    pub failed_at: Micros,
    /// From due to start, of each execution.
    pub wait: Times,
    /// From start to end, of each execution.
    pub run: Times,
}

impl Counters {
    /// Nothing counted.
    pub const NONE: Counters = Counters {
        completed: 0,
        failed: 0,
        retried: 0,
        cancelled: 0,
        failed_at: 0,
        wait: Times::NONE,
        run: Times::NONE,
    };

    /// Counts an execution that ended at `now`.
    pub fn add(&mut self, mark: &Mark, now: Micros) {
        if mark.end == Ending::Snoozed {
            return;
        }
        self.add_end(mark.end, 1, now);
        self.wait.add(mark.wait, mark.wait_bucket);
        self.run.add(mark.run, mark.run_bucket);
    }

    /// Counts ends without an execution.
    pub fn add_end(&mut self, end: Ending, count: i64, now: Micros) {
        if end == Ending::Failed {
            self.failed_at = now;
        }
        let counter = match end {
            Ending::Completed => &mut self.completed,
            Ending::Failed => &mut self.failed,
            Ending::Retried => &mut self.retried,
            Ending::Cancelled => &mut self.cancelled,
            Ending::Snoozed => return,
        };
        *counter = counter.saturating_add(count);
    }
}

/// Whose counters an entry holds.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Key {
    /// 0: not in use.
    database: u32,
    queue: i32,
    /// Whose jobs were counted; 0: nobody's, or [`SEVERAL_ROLES`].
    role: u32,
    /// When it last counted anything.
    counted_at: Micros,
}

const FREE: Key = Key {
    database: 0,
    queue: 0,
    role: 0,
    counted_at: 0,
};

/// The counters of all queues of the server. Zero bytes are its first state. When there are more
/// queues than places, the one that has been idle for longest loses its counters.
#[repr(C)]
pub struct Board {
    keys: [Key; QUEUES],
    counters: [Counters; QUEUES],
}

impl Board {
    /// Nothing counted of any queue.
    #[cfg(test)]
    pub fn empty() -> Board {
        Board {
            keys: [FREE; QUEUES],
            counters: [Counters::NONE; QUEUES],
        }
    }

    fn position(&self, database: u32, queue: i32) -> Option<usize> {
        self.keys
            .iter()
            .position(|key| key.database == database && key.queue == queue && database != 0)
    }

    /// The counters of a queue, if it has any.
    pub fn find(&self, database: u32, queue: i32) -> Option<&Counters> {
        self.counters.get(self.position(database, queue)?)
    }

    /// Whose jobs the counters of a queue have counted: 0, a role or [`SEVERAL_ROLES`].
    pub fn role_of(&self, database: u32, queue: i32) -> u32 {
        let key = self
            .position(database, queue)
            .and_then(|at| self.keys.get(at));
        key.map_or(0, |key| key.role)
    }

    /// The counters of a queue, to count a job of that role in at `now`.
    pub fn of(
        &mut self,
        database: u32,
        queue: i32,
        role: u32,
        now: Micros,
    ) -> Option<&mut Counters> {
        if database == 0 || queue == 0 {
            return None;
        }
        let known = self.position(database, queue);
        let index = known.or_else(|| self.place())?;
        let (key, counters) = (self.keys.get_mut(index)?, self.counters.get_mut(index)?);
        if known.is_none() {
            *counters = Counters::NONE;
        }
        let role = match key.role {
            counted if known.is_some() && counted != role => SEVERAL_ROLES,
            _ => role,
        };
        *key = Key {
            database,
            queue,
            role,
            counted_at: now,
        };
        Some(counters)
    }

    /// A free place, else that of the queue that has been idle for longest.
    fn place(&self) -> Option<usize> {
        let places = self.keys.iter().enumerate();
        let oldest = places.min_by_key(|(_, key)| (key.database != 0, key.counted_at));
        oldest.map(|(index, _)| index)
    }

    /// Forgets the counters of a database.
    pub fn reset(&mut self, database: u32) {
        for key in self.keys.iter_mut().filter(|key| key.database == database) {
            *key = FREE;
        }
    }

    /// As bytes, with a sum of them at the end.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend((BUCKETS as u32).to_le_bytes());
        let used = self.keys.iter().filter(|key| key.database != 0).count();
        out.extend((used as u32).to_le_bytes());
        for (key, counters) in self.keys.iter().zip(&self.counters) {
            if key.database == 0 {
                continue;
            }
            out.extend(key.database.to_le_bytes());
            out.extend(key.queue.to_le_bytes());
            out.extend(key.role.to_le_bytes());
            out.extend(key.counted_at.to_le_bytes());
            for counter in [
                counters.completed,
                counters.failed,
                counters.retried,
                counters.cancelled,
                counters.failed_at,
            ] {
                out.extend(counter.to_le_bytes());
            }
            counters.wait.write(&mut out);
            counters.run.write(&mut out);
        }
        out.extend(checksum(&out).to_le_bytes());
        out
    }

    /// Takes over what [`Board::to_bytes`] wrote; false, and nothing taken over, if it did not.
    pub fn load(&mut self, bytes: &[u8]) -> bool {
        let loaded = self.try_load(bytes).is_some();
        if !loaded {
            self.keys = [FREE; QUEUES];
        }
        loaded
    }

    fn try_load(&mut self, bytes: &[u8]) -> Option<()> {
        let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
        let mut from = Reader(body);
        let fits = from.take::<8>()? == *MAGIC
            && u32::from_le_bytes(from.take()?) == BUCKETS as u32
            && checksum(body).to_le_bytes() == sum;
        let used = u32::from_le_bytes(from.take()?) as usize;
        if !fits || used > QUEUES {
            return None;
        }
        let places = self.keys.iter_mut().zip(&mut self.counters);
        for (key, counters) in places.take(used) {
            *counters = Counters::NONE;
            key.database = u32::from_le_bytes(from.take()?);
            key.queue = i32::from_le_bytes(from.take()?);
            key.role = u32::from_le_bytes(from.take()?);
            key.counted_at = i64::from_le_bytes(from.take()?);
            counters.completed = i64::from_le_bytes(from.take()?);
            counters.failed = i64::from_le_bytes(from.take()?);
            counters.retried = i64::from_le_bytes(from.take()?);
            counters.cancelled = i64::from_le_bytes(from.take()?);
            counters.failed_at = i64::from_le_bytes(from.take()?);
            counters.wait.read(&mut from)?;
            counters.run.read(&mut from)?;
        }
        from.0.is_empty().then_some(())
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
}

/// FNV-1a: against a file cut short or changed by accident.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
