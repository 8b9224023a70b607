//! What is counted of a queue and role in a minute, and the record that it becomes: length, minute and
//! database, then numbers of variable length, and of each histogram the buckets that are not empty.

use super::{Minute, Whose};
use crate::logic::counters::{Ending, Mark};
use crate::logic::histogram::BUCKETS;

/// Bytes of a record before the numbers of variable length.
pub(super) const FIXED: usize = 10;
/// Where the database stands, which is set to 0 when that is forgotten.
pub(super) const DATABASE: u64 = 6;
/// The longest record: six numbers, and two full histograms.
const LONGEST: usize = FIXED + 6 * 5 + 2 * (2 + BUCKETS * (2 + 5));

/// Jobs that ended, by how, and how long they waited and ran.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Tally {
    /// Jobs that did their work.
    pub completed: u32,
    /// Jobs that failed for good.
    pub failed: u32,
    /// Attempts that failed and are tried again.
    pub retried: u32,
    /// Jobs that somebody cancelled.
    pub cancelled: u32,
    wait: [u32; BUCKETS],
    run: [u32; BUCKETS],
}

impl Tally {
    /// Nothing counted.
    pub const NONE: Tally = Tally {
        completed: 0,
        failed: 0,
        retried: 0,
        cancelled: 0,
        wait: [0; BUCKETS],
        run: [0; BUCKETS],
    };

    /// Counts an execution.
    pub(super) fn add(&mut self, mark: &Mark) {
        if mark.end() == Ending::Snoozed {
            return;
        }
        self.add_end(mark.end(), 1);
        let (wait, run) = mark.buckets();
        for count in [self.wait.get_mut(wait), self.run.get_mut(run)] {
            count.into_iter().for_each(|n| *n = n.saturating_add(1));
        }
    }

    /// Counts ends without an execution.
    pub(super) fn add_end(&mut self, end: Ending, count: i64) {
        let counter = match end {
            Ending::Completed => &mut self.completed,
            Ending::Failed => &mut self.failed,
            Ending::Retried => &mut self.retried,
            Ending::Cancelled => &mut self.cancelled,
            Ending::Snoozed => return,
        };
        *counter = counter.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// How jobs ended: completed, failed, retried, cancelled.
    pub fn counts(&self) -> [u32; 4] {
        [self.completed, self.failed, self.retried, self.cancelled]
    }

    /// The times waited and run: buckets that are not empty, with their counts.
    pub fn times(&self) -> [impl Iterator<Item = (usize, u32)> + Clone; 2] {
        [&self.wait, &self.run].map(|counts| {
            let all = counts.iter().copied().enumerate();
            all.filter(|(_, count)| *count > 0)
        })
    }
}

/// A record in the making.
pub(super) struct Writer {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Writer {
    /// The record of a tally. Allocates nothing.
    pub(super) fn of(minute: Minute, whose: Whose, tally: &Tally) -> Writer {
        let mut writer = Writer {
            bytes: [0; LONGEST],
            length: 2,
        };
        writer.put(&minute.to_le_bytes());
        writer.put(&whose.database.to_le_bytes());
        writer.number(whose.queue as u32);
        writer.number(whose.role);
        tally.counts().into_iter().for_each(|n| writer.number(n));
        for times in tally.times() {
            writer.number(times.clone().count() as u32);
            let mut next = 0_usize;
            for (bucket, count) in times {
                writer.number(bucket.saturating_sub(next) as u32);
                writer.number(count);
                next = bucket.saturating_add(1);
            }
        }
        let length = (writer.length as u16).to_le_bytes();
        for (to, from) in writer.bytes.iter_mut().zip(length) {
            *to = from;
        }
        writer
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn put(&mut self, bytes: &[u8]) {
        let room = self.bytes.iter_mut().skip(self.length);
        room.zip(bytes).for_each(|(to, from)| *to = *from);
        self.length = self.length.saturating_add(bytes.len());
    }

    /// Seven bits a byte, the lowest first; the highest bit says that more follow.
    fn number(&mut self, mut number: u32) {
        while number >= 0x80 {
            self.put(&[(number & 0x7f) as u8 | 0x80]);
            number >>= 7;
        }
        self.put(&[number as u8]);
    }
}

/// A record as a reader finds it.
pub struct Record<'a> {
    /// Its minute.
    pub minute: Minute,
    /// Its database; 0: it was forgotten.
    pub database: u32,
    numbers: &'a [u8],
}

impl<'a> Record<'a> {
    /// Takes the first one off; `None` if the bytes do not hold a whole one.
    pub(super) fn take(bytes: &mut &'a [u8]) -> Option<Record<'a>> {
        let length = u16::from_le_bytes(*bytes.first_chunk()?);
        let (record, rest) = bytes.split_at_checked(usize::from(length))?;
        let mut fixed = record.get(2..FIXED)?;
        let minute = i32::from_le_bytes(*fixed.first_chunk()?);
        fixed = fixed.get(4..)?;
        let database = u32::from_le_bytes(*fixed.first_chunk()?);
        *bytes = rest;
        Some(Record {
            minute,
            database,
            numbers: record.get(FIXED..)?,
        })
    }

    /// Queue and role.
    pub fn whose(&mut self) -> Whose {
        Whose {
            database: self.database,
            queue: self.number() as i32,
            role: self.number(),
        }
    }

    /// The next number; 0 behind the last one.
    pub(super) fn number(&mut self) -> u32 {
        let mut number = 0_u32;
        for shift in (0..32).step_by(7) {
            let Some((byte, rest)) = self.numbers.split_first() else {
                break;
            };
            self.numbers = rest;
            number |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        number
    }
}
