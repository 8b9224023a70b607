//! Wall clock readings and instants.
//!
//! The server knows the rules of its time zones; this layer asks it one question only: the
//! offset from UTC at an instant ([`Zone`]). All else follows from it: what the wall clock reads
//! at an instant, and which instant a reading stands for, which may be none (the clock was set
//! forward over it) or two (the clock was set back over it).
//!
//! Limit: of two changes of one zone within 48 hours only one is seen, as in PostgreSQL itself.
//! No zone has had that since zones are kept.

use super::calendar::{LocalSecs, SECS_PER_DAY};
use super::{MICROS_PER_SEC, Timestamp};

/// A time zone.
pub trait Zone {
    /// Seconds east of UTC at instant `t` (Berlin: 3600 in winter).
    ///
    /// `t` may lie up to two days outside of the range that callers ask about. Must give the
    /// same answer for the same instant.
    fn offset_at(&self, t: Timestamp) -> i32;
}

/// An instant in whole seconds since 2000-01-01 00:00:00 UTC.
pub type UtcSecs = i64;

/// What instants a wall clock reading stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// Exactly one.
    Once(UtcSecs),
    /// None: at `change` the clock jumps forward over it, to `until`.
    Skipped {
        /// The instant of the jump: the next valid one after the reading.
        change: UtcSecs,
        /// What the clock reads right after the jump.
        until: LocalSecs,
    },
    /// Two: at `change` the clock is set back from `until` to `from`.
    Repeated {
        /// The earlier of the two instants, before `change`.
        first: UtcSecs,
        /// The later one, at or after `change`.
        second: UtcSecs,
        /// The instant at which the clock is set back.
        change: UtcSecs,
        /// The first reading that is repeated.
        from: LocalSecs,
        /// The first reading that is no longer repeated.
        until: LocalSecs,
    },
}

/// Seconds east of UTC; implausible answers of a zone are clamped to a day.
pub fn offset(zone: &dyn Zone, at: UtcSecs) -> i64 {
    let seconds = zone.offset_at(at.saturating_mul(MICROS_PER_SEC));
    i64::from(seconds).clamp(-SECS_PER_DAY, SECS_PER_DAY)
}

/// What the wall clock reads at an instant.
pub fn to_local(zone: &dyn Zone, at: UtcSecs) -> LocalSecs {
    at.saturating_add(offset(zone, at))
}

/// Which instants a wall clock reading stands for.
///
/// Offsets are below a day, so the offsets a day before and a day after the reading (taken as
/// if it were UTC) are the only ones that can apply to it.
pub fn resolve(zone: &dyn Zone, local: LocalSecs) -> Resolved {
    let before = offset(zone, local.saturating_sub(SECS_PER_DAY));
    let after = offset(zone, local.saturating_add(SECS_PER_DAY));
    let with_before = local.saturating_sub(before);
    let with_after = local.saturating_sub(after);
    if before == after {
        return Resolved::Once(with_before);
    }
    match (
        offset(zone, with_before) == before,
        offset(zone, with_after) == after,
    ) {
        (true, true) if with_before < with_after => {
            repeated(zone, with_before, with_after, before, after)
        }
        (true, false) => Resolved::Once(with_before),
        (_, true) => Resolved::Once(with_after),
        (false, false) => {
            let change = change_between(zone, with_after, with_before);
            Resolved::Skipped {
                change,
                until: change.saturating_add(after),
            }
        }
    }
}

fn repeated(zone: &dyn Zone, first: i64, second: i64, before: i64, after: i64) -> Resolved {
    let change = change_between(zone, first, second);
    Resolved::Repeated {
        first,
        second,
        change,
        from: change.saturating_add(after),
        until: change.saturating_add(before),
    }
}

/// The first instant in (low, high] whose offset is not that of `low`; `high` if there is none.
pub(super) fn change_between(zone: &dyn Zone, low: UtcSecs, high: UtcSecs) -> UtcSecs {
    let (old, mut low, mut high) = (offset(zone, low), low, high);
    while high.saturating_sub(low) > 1 {
        let middle = low.midpoint(high);
        if offset(zone, middle) == old {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::testing::{BERLIN, LORD_HOWE, NEW_YORK, Rng, TableZone, UTC, utc};

    fn secs(text: &str) -> i64 {
        utc(text) / MICROS_PER_SEC
    }

    #[test]
    fn utc_reads_itself() {
        let noon = secs("2025-06-01 12:00");
        assert_eq!(to_local(&UTC, noon), noon);
        assert_eq!(resolve(&UTC, noon), Resolved::Once(noon));
    }

    #[test]
    fn summer_and_winter_have_their_offsets() {
        let (winter, summer) = (secs("2025-01-10 12:00"), secs("2025-07-10 12:00"));
        assert_eq!(to_local(&BERLIN, winter), secs("2025-01-10 13:00"));
        assert_eq!(to_local(&BERLIN, summer), secs("2025-07-10 14:00"));
        assert_eq!(to_local(&NEW_YORK, winter), secs("2025-01-10 07:00"));
    }

    #[test]
    fn a_spring_gap_names_the_jump() {
        let gap = Resolved::Skipped {
            change: secs("2025-03-30 01:00"),
            until: secs("2025-03-30 03:00"),
        };
        for reading in [
            "2025-03-30 02:00:00",
            "2025-03-30 02:30:00",
            "2025-03-30 02:59:59",
        ] {
            assert_eq!(resolve(&BERLIN, secs(reading)), gap, "{reading}");
        }
        let (last, first) = (secs("2025-03-30 01:59:59"), secs("2025-03-30 03:00"));
        assert_eq!(
            resolve(&BERLIN, last),
            Resolved::Once(secs("2025-03-30 00:59:59"))
        );
        assert_eq!(
            resolve(&BERLIN, first),
            Resolved::Once(secs("2025-03-30 01:00"))
        );
    }

    #[test]
    fn an_autumn_repeat_names_both_instants() {
        let expected = Resolved::Repeated {
            first: secs("2025-10-26 00:30"),
            second: secs("2025-10-26 01:30"),
            change: secs("2025-10-26 01:00"),
            from: secs("2025-10-26 02:00"),
            until: secs("2025-10-26 03:00"),
        };
        assert_eq!(resolve(&BERLIN, secs("2025-10-26 02:30")), expected);
        let three = Resolved::Once(secs("2025-10-26 02:00"));
        assert_eq!(resolve(&BERLIN, secs("2025-10-26 03:00")), three);
    }

    #[test]
    fn half_hour_changes_work() {
        let gap = resolve(&LORD_HOWE, secs("2025-10-05 02:15"));
        let until = secs("2025-10-05 02:30");
        assert!(
            matches!(gap, Resolved::Skipped { until: u, .. } if u == until),
            "{gap:?}"
        );
        let twice = resolve(&LORD_HOWE, secs("2025-04-06 01:45"));
        assert!(matches!(twice, Resolved::Repeated { .. }), "{twice:?}");
    }

    #[test]
    fn a_day_lost_at_the_date_line_is_a_gap() {
        // Samoa had no 2011-12-30.
        let apia = TableZone {
            first: -36_000,
            table: &[(1_325_239_200, 50_400)],
        };
        let midnight = secs("2011-12-31 00:00");
        for reading in ["2011-12-30 00:00", "2011-12-30 12:00", "2011-12-30 23:59"] {
            let change = secs("2011-12-30 10:00");
            let gap = Resolved::Skipped {
                change,
                until: midnight,
            };
            assert_eq!(resolve(&apia, secs(reading)), gap, "{reading}");
        }
        assert_eq!(
            resolve(&apia, midnight),
            Resolved::Once(secs("2011-12-30 10:00"))
        );
    }

    #[test]
    fn resolving_inverts_reading() {
        let mut rng = Rng::new(3);
        for _ in 0..100_000 {
            let zone = *rng.pick(&[&BERLIN, &NEW_YORK, &LORD_HOWE]);
            let at = rng.range(secs("2024-01-01 00:00"), secs("2030-12-01 00:00"));
            match resolve(zone, to_local(zone, at)) {
                Resolved::Once(t) => assert_eq!(t, at),
                Resolved::Repeated {
                    first,
                    second,
                    change,
                    ..
                } => {
                    assert!(first < change && change <= second);
                    assert!(at == first || at == second);
                }
                Resolved::Skipped { .. } => panic!("{at} reads as a skipped time"),
            }
        }
    }

    #[test]
    fn a_lying_zone_does_no_harm() {
        struct Liar;
        impl Zone for Liar {
            fn offset_at(&self, t: Timestamp) -> i32 {
                (t as i32).wrapping_mul(0x9e37)
            }
        }
        let mut rng = Rng::new(4);
        for _ in 0..10_000 {
            resolve(&Liar, rng.any_i64());
        }
    }
}
