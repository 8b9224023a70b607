//! `reassign()`: hands the jobs and schedules of one role over to another one, as REASSIGN OWNED does with
//! what the server knows of.

use crate::pg::datum::{Oid, ToDatum, types};
use crate::pg::error::{
    INSUFFICIENT_PRIVILEGE, OBJECT_NOT_IN_PREREQUISITE_STATE, PgError, Result, UNDEFINED_OBJECT,
};
use crate::pg::identity;
use crate::pg::spi::Statement;
use crate::queue::handler::quoted;
use crate::queue::{as_owner, bar, extension};

/// One statement changes the rows and looks at what they call: nothing is enqueued in between. Answers how many,
/// and a function that the old owner could still change, or create, and so have run as the new one.
macro_rules! hand_over {
    ($change:literal) => {
        concat!(
            "WITH handed AS (",
            $change,
            " RETURNING handler) SELECT pg_catalog.count(*), \
             pg_catalog.min(h.handler) FILTER (WHERE p.oid IS NULL OR p.proowner = $1 AND $1 <> $2) \
             FROM handed AS h LEFT JOIN pg_catalog.pg_proc AS p ON p.oid = pg_catalog.to_regprocedure(h.handler)"
        )
    };
}

/// What runs stays who it is; a worker that has a row ends it first.
static HAND_JOBS: Statement = Statement::new(
    hand_over!("UPDATE my_worker._jobs SET owner = $2 WHERE owner = $1 AND status <> 'processing'"),
    &[types::REGROLE, types::REGROLE],
);

static HAND_SCHEDULES: Statement = Statement::new(
    hand_over!("UPDATE my_worker._schedules SET owner = $2 WHERE owner = $1"),
    &[types::REGROLE, types::REGROLE],
);

static IS_THERE: Statement = Statement::new(
    "SELECT FROM pg_catalog.pg_roles WHERE oid = $1",
    &[types::OID],
);

/// Hands them over, and answers how many there were.
pub fn reassign(old: Oid, new: Oid) -> Result<i64> {
    let found = extension()?;
    let caller = identity::current_role();
    let is_there = as_owner(&found, |spi| {
        Ok(spi.run(&IS_THERE, &[Some(new.datum())])?.count() > 0)
    })?;
    if !is_there {
        let message = format!("role with OID {new} does not exist");
        return Err(PgError::new(UNDEFINED_OBJECT, message));
    }
    if !identity::has_rights_of(caller, old)? || !identity::has_rights_of(caller, new)? {
        return Err(PgError::new(
            INSUFFICIENT_PRIVILEGE,
            "permission denied to reassign jobs and schedules",
        )
        .detail("Only roles with the rights of both owners may do that."));
    }
    bar::warn(new)?;
    let owners = [Some(old.datum()), Some(new.datum())];
    as_owner(&found, |spi| {
        let hand_over = |statement| {
            let rows = spi.run(statement, &owners)?;
            let Some(row) = rows.first() else {
                return Ok(0);
            };
            match row.text(2)? {
                Some(handler) => Err(unsafe_handler(&handler)),
                None => Ok(row.i64(1).unwrap_or(0)),
            }
        };
        Ok(hand_over(&HAND_JOBS)?.saturating_add(hand_over(&HAND_SCHEDULES)?))
    })
}

fn unsafe_handler(name: &[u8]) -> PgError {
    let message = quoted(
        "handler function ",
        name,
        " belongs to the old owner, or does not exist",
    );
    PgError::new(OBJECT_NOT_IN_PREREQUISITE_STATE, message)
        .detail("The old owner could change or create what runs as the new one.")
        .hint(
            "Hand the function over first, by REASSIGN OWNED or ALTER FUNCTION ... OWNER TO, or cancel what calls it.",
        )
}
