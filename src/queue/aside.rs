//! Setting jobs aside: they stay in `my_queue` as failed, since their end cannot be written. For the door for
//! ends (`end`) alone.

use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Datum, ToDatum, types};
use crate::pg::error::{PgError, Result};
use crate::pg::spi::Statement;
use crate::pg::{clock, guc, xact};

use super::{as_owner, capped};

/// Of a job whose end cannot be written down: what the attempt came to stays in its own row.
macro_rules! set_aside {
    ($more:literal) => {
        concat!(
            "UPDATE my_worker._jobs SET status = 'failed', unique_key = NULL, last_error = $2",
            $more,
            " WHERE ctid = ANY (ARRAY(SELECT ctid FROM my_worker._jobs \
             WHERE id = $1 AND status <> 'failed' \
             FOR UPDATE SKIP LOCKED))"
        )
    };
}

static SET_ASIDE: Statement = Statement::new(
    set_aside!(
        ", attempts = CASE WHEN status = 'processing' THEN attempts \
         ELSE least(attempts, 2147483646) + 1 END, \
         errors = coalesce(errors, '[]'::pg_catalog.jsonb) || \
         pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object(\
         'attempt', attempts::pg_catalog.int8 + \
         CASE WHEN status = 'processing' THEN 0 ELSE 1 END, \
         'at', $3, 'sqlstate', $4, 'message', $5, 'detail', $6, 'hint', $7, 'context', $8))"
    ),
    &[
        types::INT8,
        types::TEXT,
        types::TIMESTAMPTZ,
        types::TEXT,
        types::TEXT,
        types::TEXT,
        types::TEXT,
        types::TEXT,
    ],
);

/// The same where even that cannot be written: an index of a user's may refuse a long text, or a
/// trigger any change.
static SET_ASIDE_BARELY: Statement = Statement::new(set_aside!(""), &[types::INT8, types::TEXT]);

/// Sets a job aside: it stays in `my_queue` as `failed` until `retry()` or `purge_queue()`. `what` says
/// what is wrong about it, `error` says why. In a transaction; nothing else is undone. False if it is
/// gone, or somebody has its row.
pub fn set_aside(extension: &Extension, job: i64, what: &str, error: &PgError) -> Result<bool> {
    let code = error.sqlstate.text();
    let why = [what.as_bytes(), b": ", error.message.as_slice()].concat();
    let id = Some(job.datum());
    let full = xact::subtransaction(|| {
        let arguments = [
            id,
            Some(capped(&why)?),
            Some(clock::now().datum()),
            Some(datum::text_datum(code.as_bytes())?),
            Some(capped(&error.message)?),
            error.detail.as_deref().map(capped).transpose()?,
            error.hint.as_deref().map(capped).transpose()?,
            error.context.as_deref().map(capped).transpose()?,
        ];
        run_set_aside(extension, &SET_ASIDE, &arguments)
    });
    let set = match full {
        Ok(set) => set,
        Err(_) => {
            let why = format!("{what}: SQLSTATE {code}");
            let why = Some(datum::text_datum(why.as_bytes())?);
            let level = guc::Level::open();
            let set = guc::pass_by_triggers()
                .and_then(|()| run_set_aside(extension, &SET_ASIDE_BARELY, &[id, why]));
            level.end()?;
            set?
        }
    };
    Ok(set)
}

fn run_set_aside(
    extension: &Extension,
    statement: &Statement,
    arguments: &[Option<Datum<'_>>],
) -> Result<bool> {
    as_owner(extension, |spi| {
        let changed = spi.run(statement, arguments)?;
        Ok(changed.count() > 0)
    })
}
