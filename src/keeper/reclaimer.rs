//! The reclaimer: charges the attempts of consumers whose leases were lost, and gives the jobs back.
//! A session's lease is lost with the session, or when the attempt has taken too long; one for a time,
//! which stands in the job's row, when that is over.

use std::collections::VecDeque;

use super::STEP;
use super::fence::{Dealt, LeftOut};
use crate::logic::consumers::lease::{Lease, LeaseId, Loss, Stage};
use crate::logic::consumers::sooner;
use crate::pg::catalog;
use crate::pg::datum::{Micros, Oid};
use crate::pg::error::{
    ADMIN_SHUTDOWN, CONNECTION_FAILURE, CRASH_SHUTDOWN, IDLE_SESSION_TIMEOUT, PgError,
    QUERY_CANCELED, Result, TRANSACTION_ROLLBACK,
};
use crate::pg::{bgworker, clock, xact};
use crate::queue::due::Due;
use crate::queue::leases;
use crate::queue::single::{self, Standing, Taken};
use crate::shared::consumers;

use super::charger::end_attempt;

/// Leases that one look finds, and entries that it reads for those in rows.
const MOST: usize = 200;
const ENTRIES: i64 = 5000;
/// How soon a look comes back that has found more than it takes.
const SOON: Micros = 10_000;

/// What is to be charged.
enum Lost {
    /// A session's lease.
    Session(LeaseId, Lease),
    /// A lease in a job's row.
    InRow(i64),
}

/// See the module.
pub struct Reclaimer {
    database: Oid,
    wanted: bool,
    lost: VecDeque<Lost>,
    /// When the next lease or attempt ends; 0: none that is known.
    pub next: Micros,
}

impl Reclaimer {
    pub fn new(database: Oid) -> Self {
        Reclaimer {
            database,
            wanted: false,
            lost: VecDeque::new(),
            next: 0,
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
        if self.lost.is_empty() {
            self.next = 0;
            self.find_in_memory();
            self.find_in_rows()?;
        }
        let began = clock::now();
        while let Some(lost) = self.lost.pop_front() {
            match lost {
                Lost::Session(id, lease) => {
                    let dealt = left_out.deal(lease.key.job, || self.charge_session(id, &lease))?;
                    if dealt == Dealt::Done {
                        // The transaction has freed it, unless there was nothing to charge.
                        leases::free_lost(id);
                    } else {
                        self.next = sooner(self.next, clock::now().saturating_add(SOON));
                    }
                }
                Lost::InRow(job) => {
                    let mut early = 0;
                    let dealt = left_out.deal(job, || charge_row(job, &mut early))?;
                    self.next = sooner(self.next, early);
                    if dealt == Dealt::Later {
                        self.next = sooner(self.next, clock::now().saturating_add(SOON));
                    }
                }
            }
            if !(0..STEP).contains(&clock::now().saturating_sub(began)) {
                break;
            }
        }
        self.wanted = !self.lost.is_empty();
        Ok(())
    }

    fn find_in_memory(&mut self) {
        if !consumers::any_out() {
            return;
        }
        let (database, now) = (self.database, clock::now());
        let mut found = Vec::with_capacity(MOST);
        let next = consumers::write(|consumers| {
            let (_, next) = consumers.time_out(database, now);
            let lost = consumers.of_database(database);
            let lost = lost.filter(|l| l.stage == Stage::Lost && l.ender == 0);
            for lease in lost.take(MOST) {
                if let Some((id, _)) = consumers.find(lease.key) {
                    found.push((id, *lease));
                }
            }
            next
        });
        if found.len() == MOST {
            self.next = now.saturating_add(SOON);
        }
        self.next = sooner(self.next, next.unwrap_or(0));
        let found = found.into_iter();
        self.lost
            .extend(found.map(|(id, lease)| Lost::Session(id, lease)));
    }

    fn find_in_rows(&mut self) -> Result<()> {
        let now = clock::now();
        let found = xact::transaction(|| {
            let Some(extension) = catalog::hold_extension()? else {
                return Ok((Vec::new(), 0));
            };
            let due = Due::open(&extension)?;
            let found = due.ended_leases(now, MOST, ENTRIES)?;
            due.close()?;
            Ok(found)
        })?;
        self.next = sooner(self.next, found.1);
        self.lost.extend(found.0.into_iter().map(Lost::InRow));
        Ok(())
    }

    fn charge_session(&self, id: LeaseId, lease: &Lease) -> Result<Dealt> {
        let Some(extension) = catalog::hold_extension()? else {
            return Ok(Dealt::Done);
        };
        // Of an extension that was dropped meanwhile.
        if lease.key.table != extension.jobs {
            return Ok(Dealt::Done);
        }
        let live = match single::take(&extension, lease.key.job)? {
            Taken::Live(live) => live,
            Taken::Gone => return Ok(Dealt::Done),
            Taken::Locked => return Ok(Dealt::Later),
        };
        let is_same = live.lease.is_none() && live.attempts == lease.attempts;
        if is_same && !(lease.loss == Loss::Terminated && bgworker::is_shutting_down()) {
            end_attempt(&extension, &live, lease.since, &why(lease.loss))?;
        }
        leases::ended(id, true)?;
        Ok(Dealt::Done)
    }
}

/// `early`: when the lease ends, if the clock was set back since it was found to be over.
fn charge_row(job: i64, early: &mut Micros) -> Result<Dealt> {
    let Some(extension) = catalog::hold_extension()? else {
        return Ok(Dealt::Done);
    };
    let live = match single::take(&extension, job)? {
        Taken::Live(live) => live,
        Taken::Gone => return Ok(Dealt::Done),
        Taken::Locked => return Ok(Dealt::Later),
    };
    let Some(lease) = live.lease else {
        return Ok(Dealt::Done);
    };
    if lease.until > clock::now() {
        *early = lease.until;
        return Ok(Dealt::Done);
    }
    let error = match has_timed_out(&live, lease.started, lease.until) {
        true => why(Loss::TimedOut),
        false => PgError::new(
            IDLE_SESSION_TIMEOUT,
            "the lease ended before the consumer acknowledged the job",
        ),
    };
    end_attempt(&extension, &live, lease.started, &error)?;
    Ok(Dealt::Done)
}

fn has_timed_out(live: &Standing, started: Micros, until: Micros) -> bool {
    let timeout = live.timeout();
    timeout.is_some_and(|timeout| started.saturating_add(timeout) <= until)
}

/// What a job is told whose consumer has lost it.
fn why(loss: Loss) -> PgError {
    let (code, message) = match loss {
        Loss::TimedOut => (
            QUERY_CANCELED,
            "the attempt has taken longer than its time-out",
        ),
        Loss::Terminated => (ADMIN_SHUTDOWN, "the consumer's session was terminated"),
        Loss::Discarded => (CONNECTION_FAILURE, "the consumer's session was reset"),
        Loss::RolledBack => (
            TRANSACTION_ROLLBACK,
            "the transaction that received the job was rolled back several times in a row",
        ),
        Loss::Crashed => (CRASH_SHUTDOWN, "the process of the consumer's session died"),
        Loss::Disconnected | Loss::None => (CONNECTION_FAILURE, "the consumer has disconnected"),
    };
    PgError::new(code, message)
}
