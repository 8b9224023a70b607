//! Chance, where nothing depends on its quality.

use super::clock;
use super::local::Local;

static STATE: Local<u64> = Local::new(0);

/// A number from 0 up to but not 1 (xorshift64*, seeded by clock and process).
pub fn unit() -> f64 {
    let mut x = STATE.get();
    if x == 0 {
        x = clock::now() as u64 ^ (u64::from(std::process::id()) << 32) | 1;
    }
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    STATE.set(x);
    (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
}
