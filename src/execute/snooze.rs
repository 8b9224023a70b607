//! `snooze()` and `give_up()`: what a job says of its own end.
//!
//! What `snooze()` asks for shares the fate of the subtransaction that called it. Whoever has executed the job
//! takes it then.

use super::together;
use crate::logic::limits;
use crate::pg::datum::Micros;
use crate::pg::error::{GIVE_UP, OBJECT_NOT_IN_PREREQUISITE_STATE, PgError, Result};
use crate::pg::local::Local;
use crate::pg::xact::{self, End};
use crate::queue::allowed;
use crate::queue::scoped::Scoped;
use crate::shared::own;

/// What the open transaction has asked for, in the order in which it did.
static ASKED: Local<Scoped<Micros>> = Local::new(Scoped::EMPTY);
/// What transactions have asked for that a command has committed.
static COMMITTED: Local<Option<Micros>> = Local::new(None);

/// `snooze()`: the running job comes again after that delay, if this subtransaction and the job do well.
pub fn snooze(delay: Micros) -> Result<()> {
    require_job("snooze")?;
    allowed(limits::interval("delay", delay))?;
    together::need_locked()?;
    xact::on_end(at_end)?;
    ASKED.with(|asked| asked.push(delay));
    Ok(())
}

/// `give_up()`: the error that ends the running job as failed.
pub fn give_up(reason: Option<Vec<u8>>) -> Result<()> {
    require_job("give_up")?;
    let reason = reason.filter(|reason| !reason.is_empty());
    let reason = reason.unwrap_or_else(|| b"the job gave up".to_vec());
    Err(PgError::new(GIVE_UP, reason))
}

fn require_job(function: &str) -> Result<()> {
    match own::job() {
        Some(_) => Ok(()),
        None => Err(PgError::new(
            OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("{function}() can only be called within a job"),
        )),
    }
}

/// What was asked for last and not rolled back, once. Before a job starts: forgets it.
pub fn take() -> Option<Micros> {
    let committed = COMMITTED.take();
    ASKED.with(|asked| {
        if asked.is_empty() {
            return committed;
        }
        let all = std::mem::replace(asked, Scoped::EMPTY);
        all.iter().last().copied()
    })
}

fn at_end(end: End) -> Result<()> {
    match end {
        End::SubCommit { id, parent } => ASKED.with(|asked| asked.adopt(id, parent)),
        End::SubAbort { id } => drop(ASKED.with(|asked| asked.split_off(id))),
        End::Commit => {
            let asked = ASKED.replace(Scoped::EMPTY).iter().last().copied();
            COMMITTED.with(|committed| *committed = asked.or(*committed));
        }
        End::Abort | End::Prepare => ASKED.set(Scoped::EMPTY),
        End::BeforePrepare => {}
    }
    Ok(())
}
