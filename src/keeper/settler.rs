//! The settler: commands that were claimed by processes that are gone, and rows whose status only a
//! hand can have written.

use super::STEP;
use super::charger::{crashed, end_attempt};
use super::fence::{Dealt, LeftOut};
use crate::pg::catalog;
use crate::pg::datum::Oid;
use crate::pg::error::{ADMIN_SHUTDOWN, CHECK_VIOLATION, PgError, Result};
use crate::pg::{clock, marks, xact};
use crate::queue::due::{Due, Found};
use crate::queue::end::{self, CANNOT_BE_RUN};
use crate::queue::single::{self, Taken};
use crate::shared::{CHARGES, SHARED, SLOTS};

/// Rows that one step finds, and entries that it reads for them.
const MOST: usize = 50;
const ENTRIES: i64 = 5000;

/// See the module.
pub struct Settler {
    database: Oid,
    wanted: bool,
    /// What this look has left as it is, sorted: somebody has it, or it has no queue.
    passed: Vec<i64>,
}

impl Settler {
    pub fn new(database: Oid) -> Self {
        Settler {
            database,
            wanted: false,
            passed: Vec::new(),
        }
    }

    pub fn want(&mut self) {
        self.wanted = true;
        self.passed.clear();
    }

    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Settles some.
    pub fn step(&mut self, left_out: &mut LeftOut) -> Result<()> {
        self.wanted = false;
        // A worker that has claimed one shows it until it is settled, or a charge does.
        let mut avoid = self.running();
        avoid.extend(&self.passed);
        avoid.sort_unstable();
        let found = xact::transaction(|| {
            let Some(extension) = catalog::hold_extension()? else {
                return Ok(Vec::new());
            };
            let due = Due::open(&extension)?;
            let found = due.odd(&avoid, MOST, ENTRIES)?;
            due.close()?;
            Ok(found)
        })?;
        if found.len() < MOST {
            let listed: Vec<i64> = found.iter().map(|found| found.id).chain(avoid).collect();
            marks::forget_told(self.database, &listed);
        }
        self.wanted = !found.is_empty();
        let began = clock::now();
        // What this snapshot shows may have been claimed a moment ago.
        for found in found {
            if self.deal(&found, left_out)? == Dealt::Later {
                self.passed.push(found.id);
            }
            if !(0..STEP).contains(&clock::now().saturating_sub(began)) {
                break;
            }
        }
        Ok(())
    }

    fn deal(&self, found: &Found, left_out: &mut LeftOut) -> Result<Dealt> {
        let job = found.id;
        if left_out.has(job) {
            return Ok(Dealt::Later);
        }
        if found.status != b"processing" {
            let message = "the status of a job in the queue must be \"pending\" or \"processing\"";
            let error = PgError::new(CHECK_VIOLATION, message);
            return left_out.set_aside(job, CANNOT_BE_RUN, &error);
        }
        let mut left = marks::left_behind();
        left.retain(|left| left.job == job && left.database == self.database);
        let told = left.iter().any(|left| left.stopped || left.bystander);
        let dealt = left_out.deal(job, || self.settle(job, told))?;
        if dealt == Dealt::Done {
            left.into_iter().for_each(marks::clear_if_left);
        }
        Ok(dealt)
    }

    /// A command that was told to stop costs no attempt, if it may run more than once at all.
    fn settle(&self, job: i64, told: bool) -> Result<Dealt> {
        let Some(extension) = catalog::hold_extension()? else {
            return Ok(Dealt::Done);
        };
        let live = match single::take(&extension, job)? {
            Taken::Live(live) if live.is_claimed => live,
            Taken::Live(_) => return Ok(Dealt::Done),
            // It has ended, or its queue is not there, perhaps not yet: a dump is being restored.
            Taken::Gone | Taken::Locked => return Ok(Dealt::Later),
        };
        if self.running().contains(&job) {
            // Somebody has claimed it again meanwhile.
            return Ok(Dealt::Later);
        }
        if told && live.max_attempts() > 1 {
            end::release_command(&extension, job)?;
            return Ok(Dealt::Done);
        }
        let error = if told {
            PgError::new(
                ADMIN_SHUTDOWN,
                "the command was interrupted by a request to stop",
            )
            .hint("It may run once only; give it more max_attempts if it may run again.")
        } else {
            crashed()
        };
        end_attempt(&extension, &live, 0, &error)?;
        Ok(Dealt::Done)
    }

    /// Jobs that run now, and those that the charger is to deal with: it knows more of how they ended.
    fn running(&self) -> Vec<i64> {
        let mut ids = Vec::with_capacity(2 * SLOTS + CHARGES);
        SHARED.read(|state| {
            ids.extend(state.running_in(self.database));
            ids.extend(state.charged(self.database));
        });
        ids
    }
}
