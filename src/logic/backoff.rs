//! How long a failed job waits before its next attempt.
//!
//! base x 2^(attempt-1), capped, then spread by ten per cent either way so that jobs which
//! failed together do not come back together. The random number is the caller's: this function
//! is a table one could print.

use super::Micros;

/// The delay after a failed attempt, in microseconds.
///
/// `attempt` is the number of the attempt that failed, from 1 (0 counts as 1). `base` and `cap`
/// are microseconds; negative ones count as 0. `jitter` is a random number in [0, 1): 0.5 leaves
/// the capped delay as it is, 0 takes 10 % off, 1 adds 10 %; what is outside is clamped, NaN
/// counts as 0.5. The result is never negative, is within 10 % of `cap` at most, and saturates.
pub fn delay(base: Micros, cap: Micros, attempt: u32, jitter: f64) -> Micros {
    spread(capped(base.max(0), cap.max(0), attempt), jitter)
}

/// min(base x 2^(attempt-1), cap) without overflow.
fn capped(base: Micros, cap: Micros, attempt: u32) -> Micros {
    let doublings = attempt.saturating_sub(1);
    let factor = if doublings >= 63 {
        i64::MAX
    } else {
        1_i64.wrapping_shl(doublings)
    };
    base.saturating_mul(factor).min(cap)
}

/// Multiplies by 0.9 to 1.1. A float cast to an integer saturates, so nothing can overflow.
fn spread(delay: Micros, jitter: f64) -> Micros {
    let jitter = if jitter.is_nan() {
        0.5
    } else {
        jitter.clamp(0.0, 1.0)
    };
    let offset = delay as f64 * (jitter - 0.5) / 5.0;
    delay.saturating_add(offset as Micros).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::testing::Rng;

    const SECOND: Micros = 1_000_000;

    #[test]
    fn doubles_with_each_attempt() {
        let delays: Vec<_> = (1..=5)
            .map(|n| delay(5 * SECOND, 3600 * SECOND, n, 0.5) / SECOND)
            .collect();
        assert_eq!(delays, [5, 10, 20, 40, 80]);
    }

    #[test]
    fn stops_at_the_cap() {
        assert_eq!(delay(5 * SECOND, 60 * SECOND, 5, 0.5), 60 * SECOND);
        assert_eq!(delay(5 * SECOND, 60 * SECOND, u32::MAX, 0.5), 60 * SECOND);
        assert_eq!(delay(60 * SECOND, 5 * SECOND, 1, 0.5), 5 * SECOND);
    }

    #[test]
    fn attempt_zero_counts_as_the_first() {
        assert_eq!(delay(SECOND, 60 * SECOND, 0, 0.5), SECOND);
    }

    #[test]
    fn jitter_spreads_by_ten_per_cent() {
        assert_eq!(delay(100 * SECOND, 100 * SECOND, 1, 0.0), 90 * SECOND);
        assert_eq!(delay(100 * SECOND, 100 * SECOND, 1, 1.0), 110 * SECOND);
        assert_eq!(delay(100 * SECOND, 100 * SECOND, 1, f64::NAN), 100 * SECOND);
    }

    #[test]
    fn zero_base_or_cap_means_at_once() {
        assert_eq!(delay(0, 60 * SECOND, 40, 0.9), 0);
        assert_eq!(delay(5 * SECOND, 0, 40, 0.9), 0);
        assert_eq!(delay(-5, -7, 3, 0.9), 0);
    }

    #[test]
    fn any_input_gives_a_delay_near_the_capped_one() {
        let mut rng = Rng::new(1);
        for _ in 0..100_000 {
            let (base, cap) = (rng.any_i64(), rng.any_i64());
            let got = delay(base, cap, rng.next() as u32 % 100, rng.unit());
            assert!(got >= 0);
            assert!(
                got as f64 <= cap.max(0) as f64 * 1.1 + 1.0,
                "{base} {cap} {got}"
            );
        }
        assert!(delay(i64::MAX, i64::MAX, u32::MAX, 1.0) > 0);
    }
}
