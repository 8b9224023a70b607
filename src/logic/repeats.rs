//! Which lines of the log are worth writing: the same one at most once a second, with the number of
//! those that were held back meanwhile.

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

    /// The kinds with lines that were held back for long enough, with their number.
    pub fn overdue(&mut self, now: Micros) -> Vec<(String, u32)> {
        let late = |kind: &&mut Kind| kind.held > 0 && now.saturating_sub(kind.written) >= EVERY;
        let overdue = self.0.iter_mut().filter(late);
        overdue
            .map(|kind| {
                kind.written = now;
                (kind.what.clone(), std::mem::take(&mut kind.held))
            })
            .collect()
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
        assert!(repeats.overdue(2).is_empty());
        assert_eq!(repeats.overdue(EVERY), [("a".to_string(), 1)]);
        assert!(repeats.overdue(3 * EVERY).is_empty());
    }

    #[test]
    fn many_kinds_are_all_written() {
        let mut repeats = Repeats::NONE;
        for n in 0..100 {
            assert_eq!(repeats.admit(&n.to_string(), 5), Some(0));
        }
        assert_eq!(repeats.admit("0", 6), None);
    }
}
