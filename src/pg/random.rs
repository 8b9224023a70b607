//! Chance: cheap where nothing depends on its quality, else from the machine's source.

use super::clock;
use super::error::{PgError, Result};
use super::local::Local;
use crate::sys;

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

/// So many numbers that nobody can guess. An error if the machine has no source of them.
pub fn secret(count: usize) -> Result<Vec<u64>> {
    let mut numbers = vec![0u64; count];
    let (bytes, length) = (numbers.as_mut_ptr(), size_of_val(numbers.as_slice()));
    // SAFETY: fills so many bytes of the array.
    if unsafe { sys::pg_strong_random(bytes.cast(), length) } {
        return Ok(numbers);
    }
    Err(PgError::internal("could not generate random values"))
}
