//! `retry_on` and `fail_on` of a queue: which errors of its jobs are tried again.

use crate::logic::retry_rules::{self, Codes, MOST_CODES};
use crate::pg::datum::{self, Datum, types};
use crate::pg::error::{INVALID_PARAMETER_VALUE, PgError, Result};

use super::handler::quoted;

/// Refuses a setting that has something else than SQLSTATEs and classes of them.
pub(super) fn check(name: &str, value: Datum<'_>) -> Result<()> {
    let elements = datum::array_elements(value, types::TEXT)?;
    if elements.len() > MOST_CODES {
        let message = format!("{name} must not have more than {MOST_CODES} elements");
        return Err(PgError::new(INVALID_PARAMETER_VALUE, message)
            .hint("A class of two characters stands for all its codes."));
    }
    for element in elements {
        let Some(element) = element else {
            let message = format!("{name} must not contain null values");
            return Err(PgError::new(INVALID_PARAMETER_VALUE, message));
        };
        let code = datum::as_text(element)?;
        if !retry_rules::is_code(&code) {
            let message = quoted(&format!("{name} must not contain "), &code, "");
            return Err(PgError::new(INVALID_PARAMETER_VALUE, message).hint(
                "It takes SQLSTATEs of five characters, as '23505', and classes of two, as '40', in digits and capital letters.",
            ));
        }
    }
    Ok(())
}

/// A setting as it stands in the table.
pub(super) fn read(value: Datum<'_>) -> Result<Codes> {
    let elements = datum::array_elements(value, types::TEXT)?;
    let codes = elements.into_iter().flatten().map(datum::as_text);
    codes.collect::<Result<Vec<_>>>().map(Codes::new)
}
