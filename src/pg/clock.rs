//! The server's clock. The one place that asks for the time.

use super::datum::Micros;
use crate::sys;

/// Now, as `clock_timestamp()` has it.
pub fn now() -> Micros {
    // SAFETY: reads the clock.
    unsafe { sys::GetCurrentTimestamp() }
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
