//! The server's clock. The one place that asks for the time.

use std::time::Instant;

use once_cell::sync::OnceCell;

use super::datum::Micros;
use crate::sys;

/// Of `timestamptz`.
pub(super) const MICROS_PER_MS: Micros = 1_000;

/// Now, as `clock_timestamp()` has it.
pub fn now() -> Micros {
    // SAFETY: reads the clock.
    unsafe { sys::GetCurrentTimestamp() }
}

/// The time by a clock that is never set, from the first call in this process on.
pub fn steady() -> Micros {
    static FIRST: OnceCell<Instant> = OnceCell::new();
    let passed = FIRST.get_or_init(Instant::now).elapsed();
    Micros::try_from(passed.as_micros()).unwrap_or(Micros::MAX)
}

/// Now, as schedules see it: moved by `offset_secs`, which is zero but for tests.
pub fn moved(offset_secs: i32) -> Micros {
    now().saturating_add(Micros::from(offset_secs).saturating_mul(1_000_000))
}

/// The start of the open transaction, as `now()` has it.
pub fn transaction_start() -> Micros {
    // SAFETY: reads process-local state.
    unsafe { sys::GetCurrentTransactionStartTimestamp() }
}

/// Makes `statement_timestamp()` be now.
pub fn start_statement() {
    // SAFETY: writes process-local state.
    unsafe { sys::SetCurrentStatementStartTimestamp() }
}

/// The start of the client's statement, as `statement_timestamp()` has it.
pub fn statement_start() -> Micros {
    // SAFETY: reads process-local state.
    unsafe { sys::GetCurrentStatementStartTimestamp() }
}
