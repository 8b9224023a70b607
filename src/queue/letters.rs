//! Which queue names which as its dead-letter queue: no circles, and none that is not there.

use crate::pg::catalog::Extension;
use crate::pg::datum::{self, types};
use crate::pg::error::{INVALID_PARAMETER_VALUE, OBJECT_IN_USE, PgError, Result};
use crate::pg::spi::{Spi, Statement};
use crate::pg::{table, xact};

use super::handler::quoted;
use super::queues;

/// No queue has this number: it stands for which names which.
const NAMES: i32 = 0;

/// Whether a queue comes back to itself, and the name that it gives if no queue has it.
static CHECK: Statement = Statement::new(
    "WITH RECURSIVE chain (name) AS (\
     SELECT q.dead_letter FROM my_worker.queues AS q WHERE q.name = $1 AND q.dead_letter IS NOT NULL \
     UNION SELECT q.dead_letter FROM chain AS c JOIN my_worker.queues AS q ON q.name = c.name \
     WHERE q.dead_letter IS NOT NULL) \
     SELECT EXISTS (SELECT FROM chain AS c WHERE c.name = $1), (SELECT q.dead_letter FROM my_worker.queues AS q \
     WHERE q.name = $1 AND NOT EXISTS (SELECT FROM my_worker.queues AS d WHERE d.name = q.dead_letter))",
    &[types::TEXT],
);

static NAMED_BY: Statement = Statement::new(
    "SELECT pg_catalog.string_agg(pg_catalog.format('\"%s\"', q.name), ', ' ORDER BY q.name) \
     FROM my_worker.queues AS q WHERE q.dead_letter = $1 AND q.name <> $1",
    &[types::TEXT],
);

/// Before a queue names another one, or one is dropped: until this transaction ends nobody else does that.
pub(super) fn hold_names(extension: &Extension) -> Result<()> {
    table::hold_object(extension.queues, NAMES, true)
}

/// After a queue has named its dead-letter queue: refuses one that is not there, and a circle.
pub(super) fn check(spi: &Spi, queue: &[u8]) -> Result<()> {
    let argument = [Some(datum::text_datum(queue)?)];
    let (is_circle, missing) = xact::with_latest_snapshot(|| {
        let rows = spi.read(&CHECK, &argument)?;
        Ok(match rows.first() {
            Some(row) => (row.bool(1), row.text(2)?),
            None => (false, None),
        })
    })?;
    if let Some(missing) = missing {
        return Err(queues::unknown(&missing));
    }
    if is_circle {
        let message = quoted("queue ", queue, " would be its own dead-letter queue");
        return Err(PgError::new(INVALID_PARAMETER_VALUE, message)
            .hint("A job that fails again and again must come to an end: take a queue that does not lead back."));
    }
    Ok(())
}

/// Refuses to drop a queue that others name.
pub(super) fn refuse_named(spi: &Spi, queue: &[u8]) -> Result<()> {
    let argument = [Some(datum::text_datum(queue)?)];
    let names = xact::with_latest_snapshot(|| {
        let rows = spi.read(&NAMED_BY, &argument)?;
        rows.first().map_or(Ok(None), |row| row.text(1))
    })?;
    let Some(names) = names else { return Ok(()) };
    let message = quoted("queue ", queue, " is the dead-letter queue of others");
    let detail = [b"Jobs come to it from ".as_slice(), &names, b"."].concat();
    Err(PgError::new(OBJECT_IN_USE, message)
        .detail(detail)
        .hint("Take the setting away with my_worker.reset_queue(name, 'dead_letter')."))
}
