//! How often what is dear is read: a share of the time, and never so that a viewer waits for it.

use std::time::{Duration, Instant};

/// A look may take a four-hundredth of the time; so may the count of what waits, and health: an open page
/// costs the server three quarters of a percent of a core at most.
const SHARE: u32 = 400;
pub const COUNTS_LAST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
pub const HEALTH_LASTS: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(120));
/// What an open page reads from tables, or for itself alone.
pub const ROWS_LAST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// So long after its last read it is read again, though nothing has moved: what a person changes, such as a
/// schedule that is paused, no shared memory tells.
pub const ROWS_REST: Duration = Duration::from_secs(15);
/// How long a page waits for the first count. With millions of waiting jobs in a thousand queues the
/// server takes longer: then the page comes without, and the loop brings it.
const FIRST_COUNT: Duration = Duration::from_millis(25);
/// The loop has more patience.
pub const LOOPS_COUNT: Duration = Duration::from_secs(5);
/// A count that takes longer is left to the loop.
pub const DEAR: Duration = Duration::from_millis(40);

/// Who wants to see.
#[derive(Clone, Copy, PartialEq)]
pub enum For {
    /// A page, whose viewer waits.
    Page,
    /// The loop behind open pages.
    Loop,
}

/// Something that may be dear: when it was read last, and what that takes.
#[derive(Clone, Copy)]
pub struct Pace {
    pub at: Instant,
    pub cost: Duration,
}

impl Pace {
    pub fn new() -> Self {
        Pace {
            at: long_ago(),
            cost: Duration::from_millis(2),
        }
    }

    /// How long until the next read.
    pub fn pause(&self, (least, most): (Duration, Duration)) -> Duration {
        (self.cost * SHARE).clamp(least, most)
    }

    pub fn is_due(&self, last: (Duration, Duration)) -> bool {
        self.at.elapsed() >= self.pause(last)
    }

    /// Falls at once and rises slowly: a busy machine makes single reads slow.
    pub fn took(&mut self, cost: Duration) {
        self.cost = cost.min(self.cost * 2);
        self.at = Instant::now();
    }

    /// How long this read may take; None: it is left out now.
    pub fn limit(&self, whom: For, last: (Duration, Duration), is_first: bool) -> Option<Duration> {
        match whom {
            For::Loop => self.is_due(last).then_some(LOOPS_COUNT),
            For::Page if is_first => Some(FIRST_COUNT),
            For::Page if self.cost > DEAR && self.at.elapsed() < last.1 * 2 => None,
            For::Page => self.is_due(last).then_some(LOOPS_COUNT),
        }
    }
}

pub fn long_ago() -> Instant {
    let now = Instant::now();
    now.checked_sub(Duration::from_secs(3600)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

    #[test]
    fn dear_reads_are_rare_and_left_to_the_loop() {
        let mut pace = Pace::new();
        for _ in 0..10 {
            pace.took(Duration::from_millis(100));
        }
        assert_eq!(pace.pause(LAST), Duration::from_secs(40));
        assert_eq!(pace.limit(For::Page, LAST, false), None);
        pace.at = long_ago();
        assert_eq!(pace.limit(For::Loop, LAST, false), Some(LOOPS_COUNT));
    }

    #[test]
    fn one_slow_read_changes_little() {
        let mut pace = Pace::new();
        pace.took(Duration::from_secs(3));
        assert!(pace.pause(LAST) <= Duration::from_secs(2));
        pace.took(Duration::from_millis(1));
        assert_eq!(pace.cost, Duration::from_millis(1));
    }
}
