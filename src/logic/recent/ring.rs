//! Closed minutes, as records one behind the other in a ring of bytes. A place in it is how many bytes were
//! ever written before it; a record that ends behind the last byte goes on at the first one.

use super::record::{DATABASE, FIXED, Writer};
use super::{DAY, Minute, Record, Tally, Whose};

/// How many bytes there are. A record of a quiet minute takes some 40, one of a thousand jobs some 200.
pub const BYTES: usize = 16 << 20;

/// How much of the ring is read or changed by one hold of the lock.
const STEP: usize = 1 << 16;

/// How many minutes' places are remembered.
const MINUTES: usize = DAY as usize;

/// From where on the records of a minute stand.
#[derive(Clone, Copy)]
#[repr(C)]
struct Begin {
    minute: Minute,
    place: u64,
}

/// Where the records stand. Zero bytes are the first state.
#[repr(C)]
pub struct Edges {
    /// The place of the oldest record.
    start: u64,
    /// The place behind the newest one.
    end: u64,
    /// Records of less than a day that have given way, and counts for which there was no room.
    gave_way: u64,
    /// The latest minute of those, and one; 0: none has.
    whole_since: Minute,
    /// Of each minute, at the place that it has in a day. Zero bytes are a minute of long ago.
    begins: [Begin; MINUTES],
}

impl Edges {
    #[cfg(test)]
    pub(super) fn empty() -> Edges {
        Edges {
            start: 0,
            end: 0,
            gave_way: 0,
            whole_since: 0,
            begins: [Begin {
                minute: 0,
                place: 0,
            }; MINUTES],
        }
    }

    /// A place before all records of that minute and of later ones.
    pub(super) fn place_since(&self, first: Minute) -> u64 {
        let later = self.begins.iter().filter(|begin| begin.minute >= first);
        later.map(|begin| begin.place).min().unwrap_or(self.end)
    }

    /// The first minute of which nothing has given way; `None` if nothing has.
    pub(super) fn whole_since(&self) -> Option<Minute> {
        (self.gave_way > 0).then_some(self.whole_since)
    }

    /// How many records of less than a day have given way, and counts found no room.
    pub(super) fn gave_way(&self) -> u64 {
        self.gave_way
    }
}

/// The ring, to be changed.
pub(super) struct Ring<'a> {
    pub(super) edges: &'a mut Edges,
    pub(super) bytes: &'a mut [u8],
}

impl Ring<'_> {
    /// Adds the record of a tally; the oldest ones give way. Answers how many bytes it takes.
    pub(super) fn append(&mut self, minute: Minute, whose: Whose, tally: &Tally) -> u64 {
        if tally.counts() == [0; 4] {
            return 0;
        }
        let record = Writer::of(minute, whose, tally);
        let record = record.bytes();
        if record.len() > self.bytes.len() {
            self.lose(minute);
            return 0;
        }
        while self.free() < record.len() {
            let Some((length, minute)) = self.oldest() else {
                return 0;
            };
            self.edges.start = self.edges.start.saturating_add(length);
            self.lose(minute);
        }
        let (end, length) = (self.edges.end, record.len() as u64);
        self.put(end, record);
        self.edges.end = end.saturating_add(length);
        length
    }

    /// Something of that minute is not there.
    pub(super) fn lose(&mut self, minute: Minute) {
        self.edges.whole_since = self.edges.whole_since.max(minute.saturating_add(1));
        self.edges.gave_way = self.edges.gave_way.saturating_add(1);
    }

    /// From here on records of that minute may come. If some have come before, since the clock was set back, they
    /// still count.
    pub(super) fn begin(&mut self, minute: Minute) {
        let index = minute.rem_euclid(DAY) as usize;
        let place = self.edges.end;
        if let Some(begin) = self.edges.begins.get_mut(index)
            && begin.minute != minute
        {
            *begin = Begin { minute, place };
        }
    }

    /// Forgets records of minutes before that one, as far as they are the oldest.
    pub(super) fn trim(&mut self, before: Minute) {
        while let Some((length, minute)) = self.oldest()
            && minute <= before
        {
            self.edges.start = self.edges.start.saturating_add(length);
        }
    }

    /// See [`super::Recent::forget_some`].
    pub(super) fn forget_some(&mut self, database: u32, from: u64) -> Option<u64> {
        let mut place = from.max(self.edges.start);
        let stop = place.saturating_add(STEP as u64);
        while place < self.edges.end {
            if place >= stop {
                return Some(place);
            }
            let at = place.saturating_add(DATABASE);
            if u32::from_le_bytes(self.get(at)) == database {
                self.put(at, &[0; 4]);
            }
            place = place.saturating_add(u64::from(u16::from_le_bytes(self.get(place))).max(1));
        }
        None
    }

    fn free(&self) -> usize {
        let used = self.edges.end.saturating_sub(self.edges.start);
        self.bytes.len().saturating_sub(used as usize)
    }

    /// Length and minute of the oldest record.
    fn oldest(&self) -> Option<(u64, Minute)> {
        let start = self.edges.start;
        let length = u64::from(u16::from_le_bytes(self.get(start)));
        let minute = i32::from_le_bytes(self.get(start.saturating_add(2)));
        (start < self.edges.end && length >= FIXED as u64).then_some((length, minute))
    }

    fn get<const N: usize>(&self, place: u64) -> [u8; N] {
        let mut found = [0; N];
        copy(self.bytes, place, &mut found);
        found
    }

    fn put(&mut self, place: u64, bytes: &[u8]) {
        let first = position(place, self.bytes.len());
        let room = self.bytes.len().saturating_sub(first).min(bytes.len());
        let (head, tail) = bytes.split_at(room);
        if let Some(to) = self.bytes.get_mut(first..first.saturating_add(room)) {
            to.copy_from_slice(head);
        }
        if let Some(to) = self.bytes.get_mut(..tail.len()) {
            to.copy_from_slice(tail);
        }
    }
}

fn position(place: u64, length: usize) -> usize {
    place.checked_rem(length as u64).unwrap_or(0) as usize
}

fn copy(bytes: &[u8], place: u64, into: &mut [u8]) {
    let first = position(place, bytes.len());
    let room = bytes.len().saturating_sub(first).min(into.len());
    let (head, tail) = into.split_at_mut(room);
    if let Some(from) = bytes.get(first..first.saturating_add(room)) {
        head.copy_from_slice(from);
    }
    if let Some(from) = bytes.get(..tail.len()) {
        tail.copy_from_slice(from);
    }
}

/// A reader's way through the ring, a part at a time, so that nobody waits long for the lock.
pub struct Walk {
    /// Copied, and not looked at yet.
    bytes: Vec<u8>,
    /// How many of them there are.
    length: usize,
    /// Where to begin, before that is looked up.
    first: Option<Minute>,
    /// The place behind them.
    place: u64,
}

impl Walk {
    /// From the records of that minute on.
    pub fn since(first: Minute) -> Walk {
        Walk {
            bytes: vec![0; 2 * STEP],
            length: 0,
            first: Some(first),
            place: 0,
        }
    }

    /// Copies the next part, under the lock; true if that is the last one. Allocates nothing.
    pub fn copy(&mut self, edges: &Edges, bytes: &[u8]) -> bool {
        if let Some(first) = self.first.take() {
            self.place = edges.place_since(first);
        }
        if self.place < edges.start {
            // What it was about to read has given way meanwhile.
            self.length = 0;
            self.place = edges.start;
        }
        let left = edges.end.saturating_sub(self.place) as usize;
        let more = left.min(STEP);
        let until = self.length.saturating_add(more);
        if let Some(into) = self.bytes.get_mut(self.length..until) {
            copy(bytes, self.place, into);
            self.length = until;
            self.place = self.place.saturating_add(more as u64);
        }
        more == left
    }

    /// Looks at all whole records that were copied, without the lock.
    pub fn each(&mut self, mut look: impl FnMut(Record<'_>)) {
        let mut rest = self.bytes.get(..self.length).unwrap_or_default();
        while let Some(record) = Record::take(&mut rest) {
            look(record);
        }
        let (kept, length) = (rest.len(), self.length);
        self.bytes
            .copy_within(length.saturating_sub(kept)..length, 0);
        self.length = kept;
    }
}
