//! The minutes of a database as a reader sees them: the tallies of several roles, and parts of a minute that
//! was closed early, added up.

use std::collections::BTreeMap;

use super::{Minute, Record, Tally};
use crate::logic::histogram;

/// How many durations fell into a bucket, by bucket.
#[derive(Default)]
struct Times(Vec<(u16, u64)>);

impl Times {
    fn add(&mut self, bucket: usize, count: u32) {
        let (bucket, count) = (bucket as u16, u64::from(count));
        match self.0.binary_search_by_key(&bucket, |(known, _)| *known) {
            Ok(at) => {
                if let Some((_, sum)) = self.0.get_mut(at) {
                    *sum = sum.saturating_add(count);
                }
            }
            Err(at) => self.0.insert(at, (bucket, count)),
        }
    }

    /// The duration in milliseconds at or below which the fraction `q` of all lies; by nearest rank.
    fn percentile(&self, q: f64) -> Option<f64> {
        let counts = || self.0.iter().map(|(_, count)| *count);
        let total: u64 = counts().fold(0, u64::saturating_add);
        let rank = ((total as f64 * q).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0_u64;
        for (bucket, count) in &self.0 {
            seen = seen.saturating_add(*count);
            if seen >= rank {
                return Some(histogram::value_of(usize::from(*bucket)) / 1000.0);
            }
        }
        None
    }
}

/// A queue's minute.
#[derive(Default)]
pub struct Folded {
    /// Completed, failed, retried, cancelled.
    pub counts: [i64; 4],
    wait: Times,
    run: Times,
}

impl Folded {
    /// From due to start, in milliseconds; `None` if nothing ran.
    pub fn wait_p95(&self) -> Option<f64> {
        self.wait.percentile(0.95)
    }

    /// From start to end.
    pub fn run_p95(&self) -> Option<f64> {
        self.run.percentile(0.95)
    }

    fn add_counts(&mut self, counts: [u32; 4]) {
        for (sum, count) in self.counts.iter_mut().zip(counts) {
            *sum = sum.saturating_add(i64::from(count));
        }
    }
}

/// Minutes by time and queue.
#[derive(Default)]
pub struct Minutes(pub BTreeMap<(Minute, i32), Folded>);

impl Minutes {
    /// Adds a tally of the open minute.
    pub fn add_tally(&mut self, minute: Minute, queue: i32, tally: &Tally) {
        if tally.counts() == [0; 4] {
            return;
        }
        let folded = self.0.entry((minute, queue)).or_default();
        folded.add_counts(tally.counts());
        let [wait, run] = tally.times();
        wait.for_each(|(bucket, count)| folded.wait.add(bucket, count));
        run.for_each(|(bucket, count)| folded.run.add(bucket, count));
    }

    /// Adds a closed one, whose queue and role were read.
    pub fn add_record(&mut self, queue: i32, mut record: Record<'_>) {
        let folded = self.0.entry((record.minute, queue)).or_default();
        let counts = [(); 4].map(|()| record.number());
        folded.add_counts(counts);
        for times in [&mut folded.wait, &mut folded.run] {
            let mut bucket = 0_usize;
            for _ in 0..record.number() {
                bucket = bucket.saturating_add(record.number() as usize);
                times.add(bucket, record.number());
                bucket = bucket.saturating_add(1);
            }
        }
    }
}
