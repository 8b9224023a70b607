//! The charger of the dead: writes down an attempt for each job of this database whose process died
//! in the middle of it. Jobs that somebody has locked keep their charge until a later look: whoever
//! ends a transaction with a lock has changed the server, so there is one after the nap.

use std::collections::VecDeque;

use super::STEP;
use super::fence::{Dealt, LeftOut};
use crate::pg::catalog::{self, Extension};
use crate::pg::datum::{Micros, Oid};
use crate::pg::error::{ADMIN_SHUTDOWN, CRASH_SHUTDOWN, PgError, QUERY_CANCELED, Result};
use crate::pg::log::{self, Level};
use crate::pg::{clock, marks};
use crate::queue::end::{self, How, Said};
use crate::queue::queues;
use crate::queue::single::{self, Standing, Taken};
use crate::shared::{self, CHARGES, Charge, Death, SHARED};

/// See the module.
pub struct Charger {
    database: Oid,
    wanted: bool,
    charges: VecDeque<Charge>,
}

impl Charger {
    pub fn new(database: Oid) -> Self {
        Charger {
            database,
            wanted: false,
            charges: VecDeque::with_capacity(CHARGES),
        }
    }

    pub fn want(&mut self) {
        self.wanted = true;
    }

    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Charges some.
    pub fn step(&mut self, left_out: &mut LeftOut) -> Result<()> {
        if self.charges.is_empty() {
            let (database, charges) = (self.database, &mut self.charges);
            SHARED.read(|state| {
                let ours = state.charges.iter();
                charges.extend(ours.filter(|c| c.job != 0 && c.database == database));
            });
        }
        let began = clock::now();
        while let Some(charge) = self.charges.pop_front() {
            if left_out.deal(charge.job, || deal(&charge))? == Dealt::Done {
                self.end(&charge);
            }
            if !(0..STEP).contains(&clock::now().saturating_sub(began)) {
                break;
            }
        }
        self.wanted = !self.charges.is_empty();
        Ok(())
    }

    /// Workers that were told by the COMMIT of the charge may have passed the job by, as one that is still to be
    /// charged: the finder looks again.
    fn end(&self, charge: &Charge) {
        shared::tell(|state| {
            state.end_charge(charge);
            state.ask_look(self.database)
        });
        for left in marks::left_behind() {
            if left.job == charge.job && left.database == charge.database {
                marks::clear_if_left(left);
            }
        }
    }
}

fn deal(charge: &Charge) -> Result<Dealt> {
    let Some(extension) = catalog::hold_extension()? else {
        return Ok(Dealt::Done);
    };
    let live = match single::take(&extension, charge.job)? {
        Taken::Live(live) => live,
        Taken::Gone => return Ok(Dealt::Done),
        Taken::Locked => return Ok(Dealt::Later),
    };
    let may_lack_claim = matches!(charge.death, Death::CrashInCommand | Death::Cancelled);
    let is_same =
        charge.attempts == live.attempts || may_lack_claim && live.lacks_claim(charge.attempts);
    if charge.attempts >= 0 && !is_same {
        return Ok(Dealt::Done);
    }
    let error = match charge.death {
        Death::Cancelled => {
            end_cancelled(&extension, &live, charge.started)?;
            return Ok(Dealt::Done);
        }
        Death::Deaf => PgError::new(
            QUERY_CANCELED,
            "the job did not heed the cancel of its time-out: its process was terminated",
        ),
        Death::Crash | Death::CrashInCommand => crashed(),
        Death::Stops => PgError::new(
            ADMIN_SHUTDOWN,
            "the worker process was terminated again and again while it ran the job",
        ),
    };
    end_attempt(&extension, &live, charge.started, &error)?;
    Ok(Dealt::Done)
}

/// Ends a job as cancelled whose process is gone: whoever cancelled it was told so.
fn end_cancelled(extension: &Extension, live: &Standing, started: Micros) -> Result<()> {
    let mut of = live.end_of(!live.is_claimed);
    of.attempt.started = started;
    end::write(extension, &of, How::Cancelled)?.tell_at_commit()?;
    Ok(())
}

/// Charges the attempt that is not settled to a job whose process is gone. `started`: when it began; 0:
/// nobody knows.
pub fn end_attempt(
    extension: &Extension,
    live: &Standing,
    started: Micros,
    error: &PgError,
) -> Result<()> {
    let mut of = live.end_of(!live.is_claimed);
    of.attempt.started = started;
    queues::look_at(extension, &live.queue_name)?;
    // What has taken too long has failed as any job that is cancelled by its time-out.
    let how = match error.sqlstate {
        QUERY_CANCELED => How::Failed(error, Said::Yes),
        _ => How::Died(error),
    };
    end::write(extension, &of, how)?.tell_at_commit()?;
    let (names, why) = (of.names(), error.summary());
    log::report(Level::Log, &format!("{names} is charged an attempt: {why}"))
}

/// What a job is told whose process died.
pub fn crashed() -> PgError {
    PgError::new(
        CRASH_SHUTDOWN,
        "the worker process died while it ran the job, or the server crashed",
    )
    .hint("The server's log says how it died.")
}
