//! A histogram of durations of fixed size, for shared memory.
//!
//! Buckets are spaced by octaves, twelve to each doubling, so that a bucket is at most 1/12 wide
//! of its lowest value and its middle is off by less than 5 % from anything in it. 456 buckets
//! reach from one microsecond to over three days; longer durations count in the last one.

use super::Micros;

/// Number of buckets.
pub const BUCKETS: usize = OCTAVES * PER_OCTAVE;

/// The first duration (in microseconds) that is beyond the last bucket: 76 hours.
pub const LIMIT: Micros = 1 << OCTAVES;

const OCTAVES: usize = 38;
const PER_OCTAVE: usize = 12;
const STEPS: i64 = PER_OCTAVE as i64;

/// The bucket of a duration in microseconds: 0..[`BUCKETS`]. What is below one microsecond, also
/// a negative duration of a clock that was set back, counts as one.
pub fn bucket_of(duration: Micros) -> usize {
    let value = duration.clamp(1, LIMIT.saturating_sub(1)).unsigned_abs();
    let octave = value.ilog2();
    let base = 1_u64.checked_shl(octave).unwrap_or(0);
    let above = value.saturating_sub(base).saturating_mul(PER_OCTAVE as u64);
    let within = above.checked_shr(octave).unwrap_or(0) as usize;
    (octave as usize)
        .saturating_mul(PER_OCTAVE)
        .saturating_add(within)
}

/// The duration in microseconds that stands for a bucket: the middle of those in it, so at most
/// 4.2 % from any of them. A bucket beyond the last counts as the last.
pub fn value_of(bucket: usize) -> f64 {
    let bucket = bucket.min(BUCKETS.saturating_sub(1));
    let lowest = lowest_of(bucket);
    let highest = lowest_of(bucket.saturating_add(1))
        .saturating_sub(1)
        .max(lowest);
    f64::midpoint(lowest as f64, highest as f64)
}

/// The least duration that counts in this bucket or a later one.
fn lowest_of(bucket: usize) -> Micros {
    let (octave, within) = (bucket / PER_OCTAVE, bucket % PER_OCTAVE);
    let base = 1_i64.checked_shl(octave as u32).unwrap_or(i64::MAX);
    // Rounded up: the bucket begins at the first whole microsecond that is in it.
    let above = base
        .saturating_mul(within as i64)
        .saturating_add(STEPS.saturating_sub(1));
    base.saturating_add(above / STEPS)
}

/// The duration in microseconds below or at which the fraction `q` (0..=1, clamped) of all
/// counted ones lies; by nearest rank. None: nothing was counted.
///
/// `counts[b]` is the count of bucket `b`; what is beyond [`BUCKETS`] is ignored.
pub fn percentile(counts: &[u64], q: f64) -> Option<f64> {
    let counts = counts.get(..BUCKETS).unwrap_or(counts);
    let total = counts.iter().fold(0_u64, |sum, n| sum.saturating_add(*n));
    let rank = (total as f64 * q.clamp(0.0, 1.0)).ceil() as u64;
    let rank = rank.clamp(1, total.max(1));
    let mut seen = 0_u64;
    for (bucket, count) in counts.iter().enumerate() {
        seen = seen.saturating_add(*count);
        if seen >= rank {
            return Some(value_of(bucket));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::testing::Rng;

    fn off_by(value: f64, from: Micros) -> f64 {
        (value - from as f64).abs() / from as f64
    }

    #[test]
    fn small_durations_are_exact() {
        for us in 1..=12 {
            assert_eq!(value_of(bucket_of(us)), us as f64);
        }
    }

    #[test]
    fn outliers_count_at_the_ends() {
        assert_eq!(bucket_of(i64::MIN), 0);
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(i64::MAX), BUCKETS - 1);
        assert_eq!(bucket_of(LIMIT - 1), BUCKETS - 1);
        const { assert!(LIMIT > 24 * 3600 * 1_000_000 && BUCKETS <= 512) };
    }

    #[test]
    fn buckets_grow_with_the_duration() {
        let mut rng = Rng::new(10);
        for _ in 0..100_000 {
            let us = rng.range(1, LIMIT - 2);
            assert!(bucket_of(us) <= bucket_of(us + 1));
        }
        for us in 1..100_000 {
            assert!(bucket_of(us) <= bucket_of(us + 1));
        }
    }

    #[test]
    fn a_bucket_stands_for_all_in_it_within_five_per_cent() {
        let mut rng = Rng::new(11);
        for _ in 0..200_000 {
            let us = (rng.range(1, LIMIT - 1) >> rng.range(0, 37)).max(1);
            let value = value_of(bucket_of(us));
            assert!(off_by(value, us) < 0.042, "{us} {value}");
            assert_eq!(bucket_of(value as i64), bucket_of(us), "{us}");
        }
    }

    #[test]
    fn no_counts_have_no_percentile() {
        assert_eq!(percentile(&[], 0.5), None);
        assert_eq!(percentile(&[0; BUCKETS], 0.5), None);
    }

    #[test]
    fn one_count_is_every_percentile() {
        let mut counts = [0; BUCKETS];
        counts[bucket_of(7)] = 1;
        for q in [-1.0, 0.0, 0.5, 1.0, 2.0, f64::NAN] {
            assert_eq!(percentile(&counts, q), Some(7.0));
        }
    }

    #[test]
    fn percentiles_are_near_those_of_the_samples() {
        let mut rng = Rng::new(12);
        for _ in 0..200 {
            let mut counts = [0; BUCKETS];
            let span = rng.range(1, 36);
            let mut samples: Vec<i64> = (0..1000).map(|_| rng.range(1, 1 << span)).collect();
            samples.iter().for_each(|us| counts[bucket_of(*us)] += 1);
            samples.sort_unstable();
            for (q, index) in [(0.5, 499), (0.95, 949), (0.99, 989), (1.0, 999)] {
                let got = percentile(&counts, q).unwrap();
                assert!(off_by(got, samples[index]) < 0.05);
            }
        }
    }

    #[test]
    fn huge_counts_do_not_overflow() {
        assert!(percentile(&[u64::MAX; BUCKETS], 0.99).is_some());
        assert!(percentile(&[u64::MAX; BUCKETS + 5], 1.0).is_some());
    }
}
