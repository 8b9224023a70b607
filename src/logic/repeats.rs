//! Which lines of the log are worth writing: the same one at most once a second, with the number of
//! those that were held back meanwhile; and of what each deserves a line of its own so many a
//! second, with the ids of the others.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Micros;

/// The same line is written once in this time.
pub const EVERY: Micros = 1_000_000;

/// So many different lines are told apart.
const KINDS: usize = 16;

struct Kind {
    what: String,
    written: Micros,
    held: u32,
}

/// What was written lately.
pub struct Repeats(Vec<Kind>);

impl Repeats {
    /// Nothing yet.
    pub const NONE: Repeats = Repeats(Vec::new());

    /// Whether to write a line of this kind at `now`: the number held back since the last one, or
    /// `None` to hold this one back, too.
    pub fn admit(&mut self, what: &str, now: Micros) -> Option<u32> {
        if let Some(kind) = self.0.iter_mut().find(|kind| kind.what == what) {
            if now.saturating_sub(kind.written) < EVERY {
                kind.held = kind.held.saturating_add(1);
                return None;
            }
            kind.written = now;
            return Some(std::mem::take(&mut kind.held));
        }
        // With too many kinds nothing of a quiet one is lost: it is written, and not remembered.
        self.0
            .retain(|kind| kind.held > 0 || now.saturating_sub(kind.written) < EVERY);
        if self.0.len() < KINDS {
            self.0.push(Kind {
                what: what.to_string(),
                written: now,
                held: 0,
            });
        }
        Some(0)
    }

    /// Whether lines were held back of which nothing was told yet.
    pub fn holds(&self) -> bool {
        self.0.iter().any(|kind| kind.held > 0)
    }

    /// The kinds with lines that were held back for long enough, or at all, with their number.
    pub fn overdue(&mut self, now: Micros, at_once: bool) -> Vec<(String, u32)> {
        let late = |kind: &&mut Kind| {
            kind.held > 0 && (at_once || now.saturating_sub(kind.written) >= EVERY)
        };
        let overdue = self.0.iter_mut().filter(late);
        overdue
            .map(|kind| {
                kind.written = now;
                (kind.what.clone(), std::mem::take(&mut kind.held))
            })
            .collect()
    }
}

/// So many lines a second, of all processes that share it. Zero bytes are its first state.
#[derive(Debug, Default)]
pub struct Ration(AtomicU64);

/// How many.
const RATION: u64 = 10;

impl Ration {
    /// Whether one more may be written at `now`.
    pub fn admit(&self, now: Micros) -> bool {
        let second = (now / EVERY) as u64;
        let next = |word: u64| match word >> 8 {
            then if then != second => Some(second << 8 | 1),
            _ => (word & 0xff < RATION).then_some(word.saturating_add(1)),
        };
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        self.0.fetch_update(set, get, next).is_ok()
    }
}

/// So many ids stand in one line.
const IDS: usize = 1000;

/// Jobs whose lines were held back: one line a second tells of them.
pub struct Held {
    ids: Vec<i64>,
    count: u64,
    told: Micros,
}

impl Held {
    /// None yet.
    pub const NONE: Held = Held {
        ids: Vec::new(),
        count: 0,
        told: 0,
    };

    /// Whether there are some.
    pub fn holds(&self) -> bool {
        self.count > 0
    }

    /// One more.
    pub fn add(&mut self, job: i64, now: Micros) {
        if self.count == 0 && now.saturating_sub(self.told) >= EVERY {
            // Others follow within the second.
            self.told = now;
        }
        self.count = self.count.saturating_add(1);
        if self.ids.len() < IDS {
            self.ids.push(job);
        }
    }

    /// The line, if it is time for it, or at once.
    pub fn overdue(&mut self, now: Micros, at_once: bool) -> Option<String> {
        let early = (0..EVERY).contains(&now.saturating_sub(self.told));
        if self.count == 0 || (early && !at_once) {
            return None;
        }
        let (jobs, have) = match self.count {
            1 => ("job", "has"),
            _ => ("jobs", "have"),
        };
        let mut line = format!("{} more {jobs} {have} given up:", self.count);
        for (index, id) in self.ids.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            // Writing to a String does not fail.
            let _ = write!(line, "{comma} {id}");
        }
        if self.count > self.ids.len() as u64 {
            line.push_str(", and others");
        }
        self.ids.clear();
        (self.count, self.told) = (0, now);
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_counted_not_repeated() {
        let mut repeats = Repeats::NONE;
        assert_eq!(repeats.admit("a", 0), Some(0));
        assert_eq!(repeats.admit("a", 10), None);
        assert_eq!(repeats.admit("a", EVERY - 1), None);
        assert_eq!(repeats.admit("b", 10), Some(0));
        assert_eq!(repeats.admit("a", EVERY), Some(2));
        assert_eq!(repeats.admit("a", 3 * EVERY), Some(0));
    }

    #[test]
    fn what_was_held_back_is_told_later() {
        let mut repeats = Repeats::NONE;
        repeats.admit("a", 0);
        repeats.admit("a", 1);
        assert!(repeats.overdue(2, false).is_empty());
        assert_eq!(repeats.overdue(EVERY, false), [("a".to_string(), 1)]);
        assert!(repeats.overdue(3 * EVERY, false).is_empty());
    }

    #[test]
    fn many_kinds_are_all_written() {
        let mut repeats = Repeats::NONE;
        for n in 0..100 {
            assert_eq!(repeats.admit(&n.to_string(), 5), Some(0));
        }
        assert_eq!(repeats.admit("0", 6), None);
    }

    #[test]
    fn ten_lines_a_second() {
        let ration = Ration(AtomicU64::new(0));
        let admitted = |now| (0..100).filter(|_| ration.admit(now)).count();
        assert_eq!(admitted(5 * EVERY), 10);
        assert_eq!(admitted(6 * EVERY - 1), 0);
        assert_eq!(admitted(6 * EVERY), 10);
        // A clock that was set back begins a second, too.
        assert_eq!(admitted(EVERY), 10);
    }

    #[test]
    fn those_held_back_are_told_together() {
        let mut held = Held::NONE;
        let now = 100 * EVERY;
        held.add(7, now);
        assert_eq!(held.overdue(now, false), None);
        held.add(8, now + 1);
        let line = "2 more jobs have given up: 7, 8";
        assert_eq!(held.overdue(now + EVERY, false).as_deref(), Some(line));
        assert_eq!(held.overdue(now + 3 * EVERY, true), None);
        held.add(9, now + 3 * EVERY);
        let line = "1 more job has given up: 9";
        assert_eq!(held.overdue(now + 3 * EVERY, true).as_deref(), Some(line));
    }

    #[test]
    fn a_line_has_an_end() {
        let mut held = Held::NONE;
        (0..5000).for_each(|id| held.add(id, 0));
        let line = held.overdue(0, true).unwrap_or_default();
        assert!(line.starts_with("5000 more jobs") && line.ends_with(" 999, and others"));
    }
}
