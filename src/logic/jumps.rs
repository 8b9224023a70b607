//! Whether the clock was set back between two looks at it: a clock that is never set tells how much time has passed.

use super::Micros;

/// By so much the clock may fall behind without having been set back: it is slowed down now and then.
const SLOWED: Micros = 10_000;

/// See the module.
#[derive(Default)]
pub struct Jumps {
    /// How far the clock was ahead of the one that is never set, at the last look.
    ahead: Option<Micros>,
}

impl Jumps {
    /// Whether the clock was set back since the last look. It says `now`, the other one `steady`.
    pub fn is_set_back(&mut self, now: Micros, steady: Micros) -> bool {
        let ahead = now.saturating_sub(steady);
        let before = self.ahead.replace(ahead);
        before.is_some_and(|before| ahead < before.saturating_sub(SLOWED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_goes_on_is_not_set_back() {
        let mut jumps = Jumps::default();
        assert!(!jumps.is_set_back(1_000_000_000, 5_000_000));
        assert!(!jumps.is_set_back(1_000_000_000, 5_000_000));
        assert!(!jumps.is_set_back(1_060_000_000, 65_000_000));
        // Slowed down by 5 ms in a minute, each minute.
        assert!(!jumps.is_set_back(1_119_995_000, 125_000_000));
        assert!(!jumps.is_set_back(1_179_990_000, 185_000_000));
    }

    #[test]
    fn a_jump_ahead_is_told_once_it_is_taken_back() {
        let mut jumps = Jumps::default();
        assert!(!jumps.is_set_back(1_000_000_000, 5_000_000));
        assert!(!jumps.is_set_back(4_600_000_000, 5_100_000));
        // Later than at the first look, and an hour before the second.
        assert!(jumps.is_set_back(1_060_000_000, 65_000_000));
        assert!(!jumps.is_set_back(1_061_000_000, 66_000_000));
    }

    #[test]
    fn a_jump_back_is_told_though_the_clock_went_on_in_between() {
        let mut jumps = Jumps::default();
        assert!(!jumps.is_set_back(1_000_000_000, 5_000_000));
        // A minute has passed, and the clock says ten seconds.
        assert!(jumps.is_set_back(1_010_000_000, 65_000_000));
    }

    #[test]
    fn the_ends_of_time_are_no_overflow() {
        let mut jumps = Jumps::default();
        assert!(!jumps.is_set_back(Micros::MAX, Micros::MIN));
        assert!(jumps.is_set_back(Micros::MIN, Micros::MAX));
        assert!(!jumps.is_set_back(Micros::MIN, Micros::MAX));
    }
}
