//! A fence around each job that the keeper deals with: its error costs that job alone.

use std::collections::BTreeSet;

use crate::pg::catalog;
use crate::pg::error::{PgError, Result};
use crate::pg::fault::fault;
use crate::pg::log::{self, Level};
use crate::pg::xact;
use crate::queue::end::{self, END_NOT_WRITTEN, How};
use crate::queue::single;

/// The most jobs that are remembered; of more, each look tries some again.
const MOST: usize = 10_000;

/// Jobs that can neither be dealt with nor be set aside.
#[derive(Default)]
pub struct LeftOut(BTreeSet<i64>);

/// What came of a job.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dealt {
    /// It needs nothing more.
    Done,
    /// Somebody has its row, or an error passes: a later look comes back.
    Later,
}

impl LeftOut {
    /// Whether the job is left alone.
    pub fn has(&self, job: i64) -> bool {
        self.0.contains(&job)
    }

    /// Runs `body`, which deals with one job, in a transaction of its own. After an error that is the
    /// row's the job is set aside; if that fails, too, it is left out until this process ends.
    pub fn deal(&mut self, job: i64, body: impl FnOnce() -> Result<Dealt>) -> Result<Dealt> {
        if self.has(job) {
            return Ok(Dealt::Later);
        }
        let body = || {
            let dealt = body()?;
            fault!(Dealt);
            Ok(dealt)
        };
        match xact::transaction(body) {
            Ok(dealt) => {
                fault!(DealtDone);
                Ok(dealt)
            }
            Err(error) if error.passes() => Ok(Dealt::Later),
            Err(error) => self.set_aside(job, END_NOT_WRITTEN, &error),
        }
    }

    /// Sets a job aside, saying what is wrong about it and why.
    pub fn set_aside(&mut self, job: i64, what: &str, error: &PgError) -> Result<Dealt> {
        let set = xact::transaction(|| {
            let Some(extension) = catalog::hold_extension()? else {
                return Ok(true);
            };
            let Some(found) = single::find(&extension, job)? else {
                return Ok(false);
            };
            let of = found.end_of(!found.is_claimed);
            let written = end::write(&extension, &of, How::SetAside(what, error))?;
            Ok(written.tell_at_commit()?.is_some())
        });
        match set {
            Ok(true) => Ok(Dealt::Done),
            Ok(false) => Ok(Dealt::Later),
            Err(second) if second.passes() => Ok(Dealt::Later),
            Err(second) => {
                if self.0.len() < MOST {
                    self.0.insert(job);
                }
                let code = second.sqlstate.text();
                let text =
                    format!("job {job} is left out: it cannot be set aside, SQLSTATE {code}");
                log::report(Level::Log, &text)?;
                Ok(Dealt::Later)
            }
        }
    }
}
