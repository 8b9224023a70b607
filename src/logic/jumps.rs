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
    /// How far the clock was set back since the last look, if it was. It says `now`, the other one `steady`.
    pub fn set_back(&mut self, now: Micros, steady: Micros) -> Option<Micros> {
        let ahead = now.saturating_sub(steady);
        let before = self.ahead.replace(ahead)?;
        let by = before.saturating_sub(ahead);
        (by > SLOWED).then_some(by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_goes_on_is_not_set_back() {
        let mut jumps = Jumps::default();
        assert_eq!(jumps.set_back(1_000_000_000, 5_000_000), None);
        assert_eq!(jumps.set_back(1_000_000_000, 5_000_000), None);
        assert_eq!(jumps.set_back(1_060_000_000, 65_000_000), None);
        // Slowed down by 5 ms in a minute, each minute.
        assert_eq!(jumps.set_back(1_119_995_000, 125_000_000), None);
        assert_eq!(jumps.set_back(1_179_990_000, 185_000_000), None);
    }

    #[test]
    fn a_jump_ahead_is_told_once_it_is_taken_back() {
        let mut jumps = Jumps::default();
        assert_eq!(jumps.set_back(1_000_000_000, 5_000_000), None);
        assert_eq!(jumps.set_back(4_600_000_000, 5_100_000), None);
        // Later than at the first look, and an hour before the second.
        assert_eq!(
            jumps.set_back(1_060_000_000, 65_000_000),
            Some(3_599_900_000)
        );
        assert_eq!(jumps.set_back(1_061_000_000, 66_000_000), None);
    }

    #[test]
    fn a_jump_back_is_told_though_the_clock_went_on_in_between() {
        let mut jumps = Jumps::default();
        assert_eq!(jumps.set_back(1_000_000_000, 5_000_000), None);
        // A minute has passed, and the clock says ten seconds.
        assert_eq!(jumps.set_back(1_010_000_000, 65_000_000), Some(50_000_000));
    }

    #[test]
    fn the_ends_of_time_are_no_overflow() {
        let mut jumps = Jumps::default();
        assert_eq!(jumps.set_back(Micros::MAX, Micros::MIN), None);
        assert_eq!(jumps.set_back(Micros::MIN, Micros::MAX), Some(Micros::MAX));
        assert_eq!(jumps.set_back(Micros::MIN, Micros::MAX), None);
    }
}
