//! What the tests of this layer share: a small random number generator and time zones.

use super::calendar::{self, SECS_PER_DAY};
use super::zone::Zone;
use super::{MICROS_PER_SEC, Timestamp};

/// SplitMix64: deterministic, so that a failing property test fails again.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// In [low, high].
    pub fn range(&mut self, low: i64, high: i64) -> i64 {
        low + (self.next() % (high - low + 1) as u64) as i64
    }

    /// Any magnitude and sign, the ends of the type included.
    pub fn any_i64(&mut self) -> i64 {
        match self.next() % 16 {
            0 => i64::MIN,
            1 => i64::MAX,
            2 => 0,
            _ => (self.next() as i64) >> (self.next() % 64),
        }
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.next() as usize % from.len()]
    }
}

/// A zone given by its transitions: (instant in Unix seconds, offset in seconds east).
pub struct TableZone {
    pub first: i32,
    pub table: &'static [(i64, i32)],
}

/// Unix seconds of 2000-01-01 00:00:00 UTC.
pub const EPOCH_UNIX: i64 = 946_684_800;

impl Zone for TableZone {
    fn offset_at(&self, t: Timestamp) -> i32 {
        let unix = t.div_euclid(MICROS_PER_SEC) + EPOCH_UNIX;
        let before = self.table.partition_point(|(at, _)| *at <= unix);
        before
            .checked_sub(1)
            .map_or(self.first, |i| self.table[i].1)
    }
}

pub const UTC: TableZone = TableZone {
    first: 0,
    table: &[],
};

/// Europe/Berlin, 2024 to 2030.
pub const BERLIN: TableZone = TableZone {
    first: 3_600,
    table: &[
        (1_711_846_800, 7_200),
        (1_729_990_800, 3_600),
        (1_743_296_400, 7_200),
        (1_761_440_400, 3_600),
        (1_774_746_000, 7_200),
        (1_792_890_000, 3_600),
        (1_806_195_600, 7_200),
        (1_824_944_400, 3_600),
        (1_837_645_200, 7_200),
        (1_856_394_000, 3_600),
        (1_869_094_800, 7_200),
        (1_887_843_600, 3_600),
        (1_901_149_200, 7_200),
        (1_919_293_200, 3_600),
    ],
};

/// America/New_York, 2024 to 2030.
pub const NEW_YORK: TableZone = TableZone {
    first: -18_000,
    table: &[
        (1_710_054_000, -14_400),
        (1_730_613_600, -18_000),
        (1_741_503_600, -14_400),
        (1_762_063_200, -18_000),
        (1_772_953_200, -14_400),
        (1_793_512_800, -18_000),
        (1_805_007_600, -14_400),
        (1_825_567_200, -18_000),
        (1_836_457_200, -14_400),
        (1_857_016_800, -18_000),
        (1_867_906_800, -14_400),
        (1_888_466_400, -18_000),
        (1_899_356_400, -14_400),
        (1_919_916_000, -18_000),
    ],
};

/// Australia/Lord_Howe, 2024 to 2030.
pub const LORD_HOWE: TableZone = TableZone {
    first: 39_600,
    table: &[
        (1_712_415_600, 37_800),
        (1_728_142_200, 39_600),
        (1_743_865_200, 37_800),
        (1_759_591_800, 39_600),
        (1_775_314_800, 37_800),
        (1_791_041_400, 39_600),
        (1_806_764_400, 37_800),
        (1_822_491_000, 39_600),
        (1_838_214_000, 37_800),
        (1_853_940_600, 39_600),
        (1_869_663_600, 37_800),
        (1_885_995_000, 39_600),
        (1_901_718_000, 37_800),
        (1_917_444_600, 39_600),
    ],
};

/// The instant of a UTC date and time, `YYYY-MM-DD HH:MM[:SS]`.
pub fn utc(text: &str) -> Timestamp {
    let n: Vec<i64> = text
        .split(['-', ' ', ':'])
        .map(|s| s.parse().unwrap())
        .collect();
    let days = calendar::days_from_civil(n[0], n[1] as u32, n[2] as u32);
    let second = n.get(5).copied().unwrap_or(0);
    (days * SECS_PER_DAY + n[3] * 3600 + n[4] * 60 + second) * MICROS_PER_SEC
}

/// The UTC date and time of an instant, as [`utc`] reads it, with seconds.
pub fn show(t: Timestamp) -> String {
    let secs = t.div_euclid(MICROS_PER_SEC);
    let (day, second) = (secs.div_euclid(SECS_PER_DAY), secs.rem_euclid(SECS_PER_DAY));
    let date = calendar::civil_from_days(day);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let (year, month) = (date.year, date.month);
    format!(
        "{year:04}-{month:02}-{:02} {hour:02}:{minute:02}:{:02}",
        date.day,
        second % 60
    )
}
