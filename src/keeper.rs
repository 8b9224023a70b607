//! The keeper of one database: it finds work that no commit has announced.
//!
//! It is logged in as the bootstrap superuser, runs nothing but statements and scans of ours, and
//! never a job. It looks at the queue when it starts, when a job becomes due, when somebody asks,
//! and after each nap, unless no transaction of the server has changed anything since the last
//! look. A look makes lanes pending and wakes their workers; ends jobs whose owners may have no
//! session; charges attempts to jobs whose process died; forgets old history.

use crate::execute;
use crate::logic::counters::Ending;
use crate::logic::low_water::LowWater;
use crate::pg::catalog::{self, Barred, Extension};
use crate::pg::datum::{Micros, Oid};
use crate::pg::error::{
    ADMIN_SHUTDOWN, CRASH_SHUTDOWN, INSUFFICIENT_PRIVILEGE, INVALID_AUTHORIZATION,
    OBJECT_NOT_IN_PREREQUISITE_STATE, PgError, Result,
};
use crate::pg::log::{self, Level};
use crate::pg::{activity, clock, guc, identity, latch, marks, session, wait_event, xact};
use crate::queue::claim::{Avoid, Candidate, Jobs};
use crate::queue::manage::{self, Live, Taken};
use crate::queue::queues;
use crate::queue::settle::{self, Attempt, Verdict};
use crate::queue::wake;
use crate::schedule;
use crate::settings;
use crate::shared::{CHARGES, Charge, Death, Known, Phase, SHARED, SLOTS, SlotId};

/// Rows of history that one transaction forgets, so that it never holds anybody up.
const PRUNE_ROWS: i64 = 1000;
/// How often history is looked through.
const PRUNE_EVERY: Micros = 60_000_000;

/// The life of a keeper.
pub fn main(id: SlotId, database: Oid) -> Result<()> {
    activity::application_name("my_worker keeper");
    session::hold_cancels();
    guc::override_setting(c"search_path", c"pg_catalog, pg_temp")?;
    guc::override_setting(c"default_transaction_isolation", c"read committed")?;
    guc::override_setting(c"default_transaction_read_only", c"off")?;
    let mut keeper = Keeper {
        id,
        database,
        seen: 0,
        last_look: 0,
        last_nap: 0,
        last_prune: 0,
    };
    if !keeper.introduce()? {
        return Ok(());
    }
    while keeper.turn()? {}
    Ok(())
}

struct Keeper {
    id: SlotId,
    database: Oid,
    /// Transactions of the server that had completed at the last look.
    seen: u64,
    last_look: Micros,
    /// When the last nap ended, by a look or by finding that nothing has changed.
    last_nap: Micros,
    last_prune: Micros,
}

impl Keeper {
    /// Finds out whether the database has the extension, and tells the launcher.
    fn introduce(&self) -> Result<bool> {
        let seen = catalog::completed_transactions();
        let asked = self.take_requests();
        let found = xact::transaction(|| {
            activity::introduce(None)?;
            catalog::extension()
        })?;
        let current = found.is_some_and(|extension| extension.is_current);
        if found.is_some() && !current && asked {
            log::report_hint(
                Level::Log,
                OBJECT_NOT_IN_PREREQUISITE_STATE,
                "jobs wait: the library and the extension \"my_worker\" have different versions",
                "Use ALTER EXTENSION my_worker UPDATE, or install the library that fits.",
            )?;
        }
        if current {
            self.begin_service();
        } else {
            self.end_service(seen);
        }
        Ok(current)
    }

    /// Before the catalogs are read: what is asked for from here on counts again. False if nobody
    /// has asked.
    fn take_requests(&self) -> bool {
        let database = self.database;
        let asked = SHARED.write(|state| {
            let entry = state.database(database)?;
            let was_absent = entry.known == Known::Absent;
            if was_absent {
                // Another keeper follows should this one not come to an answer.
                entry.known = Known::Nothing;
            }
            entry.probe = false;
            Some(std::mem::take(&mut entry.look) || !was_absent)
        });
        asked.flatten() == Some(true)
    }

    /// Tells the launcher that there is something to serve.
    fn begin_service(&self) {
        let database = self.database;
        SHARED.write(|state| {
            if let Some(entry) = state.database(database) {
                entry.known = Known::Present;
                entry.look = true;
            }
        });
    }

    /// Tells the launcher that there was nothing to serve when so many transactions had completed.
    /// The workers go, too.
    fn end_service(&self, seen: u64) {
        let (database, now) = (self.database, clock::now());
        let wake = SHARED.write(|state| {
            if let Some(entry) = state.database(database) {
                entry.known = Known::Absent;
                entry.absent_at = now;
                entry.absent_seen = seen;
                entry.waits_for_lane = false;
            }
            state.dismiss_workers(database);
            state.drop_lanes()
        });
        wake.flatten().into_iter().for_each(latch::wake);
    }

    fn turn(&mut self) -> Result<bool> {
        let offset = settings::CLOCK_OFFSET.get();
        if guc::reload_if_asked()? && settings::CLOCK_OFFSET.get() != offset {
            // Look at once: schedules may be due by their new clock.
            (self.last_nap, self.seen) = (0, 0);
        }
        session::forget_cancel();
        if self.must_leave() {
            return Ok(false);
        }
        if settings::ENABLED.get() && self.should_look() {
            activity::running(b"looking for due jobs");
            activity::title(b"looking for due jobs");
            if !self.look()? {
                return Ok(false);
            }
            activity::idle();
        }
        activity::title(b"idle");
        self.sleep()?;
        Ok(true)
    }

    fn must_leave(&self) -> bool {
        let id = self.id;
        SHARED.write(|state| state.begin_turn(id, Phase::Idle)) != Some(true)
    }

    /// Whether somebody asked, something is due, or a nap is over in which the server changed.
    fn should_look(&mut self) -> bool {
        let now = clock::now();
        let (asked, due) = SHARED
            .write(|state| match state.database(self.database) {
                Some(entry) => {
                    let due = entry.next_due != 0 && entry.next_due <= now;
                    (std::mem::take(&mut entry.look), due)
                }
                None => (false, false),
            })
            .unwrap_or((false, false));
        // A nap that lies ahead: the clock was set back.
        let napped = !(0..nap()).contains(&now.saturating_sub(self.last_nap));
        if napped {
            self.last_nap = now;
        }
        asked || due || (napped && catalog::completed_transactions() != self.seen)
    }

    fn sleep(&self) -> Result<()> {
        let now = clock::now();
        let due = SHARED.read(|state| {
            let entry = state
                .databases
                .iter()
                .find(|entry| entry.oid == self.database);
            entry.map_or((0, false), |entry| (entry.next_due, entry.look))
        });
        let (due, asked) = due.unwrap_or((0, false));
        if asked && settings::ENABLED.get() {
            return latch::check_for_interrupts();
        }
        let nap = self.last_nap.saturating_add(nap()).min(now + nap());
        let until = match (settings::ENABLED.get(), due) {
            // Nothing is looked for: sleep, whatever is due.
            (false, _) => now.saturating_add(self::nap()),
            (true, 0) => nap,
            (true, due) => nap.min(due),
        };
        let wait_ms = (until.saturating_sub(now).max(0) + 999) / 1000;
        latch::wait(Some(wait_ms), wait_event::keeper_main())
    }

    /// Looks at everything; false if the extension is gone.
    fn look(&mut self) -> Result<bool> {
        self.seen = catalog::completed_transactions();
        self.last_look = clock::now();
        self.last_nap = self.last_look;
        let (database, seen) = (self.database, self.seen);
        // From here on a commit that announces something earlier counts again. A lane whose worker
        // could not start is only asked for again if this look finds a job that may run.
        SHARED.write(|state| {
            if let Some(entry) = state.database(database) {
                entry.next_due = 0;
                entry.seen = seen;
            }
            for lane in state.lanes.iter_mut().filter(|l| l.database == database) {
                lane.pending &= lane.failures == 0;
                lane.told = false;
            }
        });
        self.charge_the_dead()?;
        self.settle_orphans()?;
        catalog::forget_extension();
        let found = xact::transaction(|| match catalog::extension()? {
            Some(extension) if extension.is_current => self.find_work(&extension).map(Some),
            _ => Ok(None),
        })?;
        let Some(barred) = found else {
            self.end_service(self.seen);
            return Ok(false);
        };
        for (owner, reason) in barred {
            self.end_jobs_of(owner, &reason)?;
        }
        if let Some(due) = schedule::fire::look()? {
            SHARED.write(|state| state.due_at(database, due));
        }
        self.prune()?;
        execute::log_held_back()?;
        activity::flush_statistics()?;
        Ok(true)
    }

    /// Makes the lanes of roles with due jobs pending, and notes the next due time. Answers the
    /// roles that may not have a session, with the reason.
    fn find_work(&self, extension: &Extension) -> Result<Vec<(Oid, PgError)>> {
        let jobs = Jobs::open(extension)?;
        let mut barred = Vec::new();
        let mut owner = 0;
        while let Some(next) = jobs.next_owner(owner)? {
            owner = next;
            let reason = bar(owner)?;
            self.find_work_of(extension, &jobs, owner, reason.is_none())?;
            barred.extend(reason.map(|reason| (owner, reason)));
        }
        jobs.close()?;
        Ok(barred)
    }

    /// Notes the next due time of a role's jobs, and asks for a worker if some are due.
    fn find_work_of(
        &self,
        extension: &Extension,
        jobs: &Jobs,
        owner: Oid,
        may_run: bool,
    ) -> Result<()> {
        let now = clock::now();
        let mut avoid = Avoid {
            jobs: self.not_to_take(),
            ..Avoid::default()
        };
        let mut queue = jobs.next_queue(owner, None, None)?;
        while let Some(name) = queue {
            if let Some(settings) = queues::find(extension, name)?
                && !settings.paused
            {
                let low = &mut LowWater::default();
                let due = may_run
                    && !jobs
                        .look::<Candidate>(owner, &settings, now, 1, &mut avoid, low)?
                        .is_empty();
                let next = jobs.next_due(owner, name, now)?;
                self.announce(owner, due, next);
            }
            queue = jobs.next_queue(owner, Some(name), None)?;
        }
        Ok(())
    }

    fn announce(&self, owner: Oid, due: bool, next: Micros) {
        let database = self.database;
        let wake = SHARED.write(|state| {
            if next != 0
                && let Some(entry) = state.database(database)
                && (entry.next_due == 0 || next < entry.next_due)
            {
                entry.next_due = next;
            }
            if due {
                // It may be a job whose COMMIT nobody announced.
                state.demand(database, owner, Micros::MIN, 0)
            } else {
                None
            }
        });
        wake.flatten().into_iter().for_each(latch::wake);
    }

    /// Jobs that run now, sorted.
    fn running(&self) -> Vec<i64> {
        let mut ids = Vec::with_capacity(SLOTS);
        SHARED.read(|state| ids.extend(state.running_in(self.database)));
        ids.sort_unstable();
        ids
    }

    /// Those, and jobs that are still to be charged, sorted.
    fn not_to_take(&self) -> Vec<i64> {
        let mut ids = Vec::with_capacity(SLOTS + CHARGES);
        SHARED.read(|state| {
            ids.extend(state.running_in(self.database));
            ids.extend(state.charged(self.database));
        });
        ids.sort_unstable();
        ids
    }

    /// Fails the due jobs of a role that may have no session, in small transactions. Those that
    /// wait for other consumers, or in a paused queue, stay.
    fn end_jobs_of(&self, owner: Oid, reason: &PgError) -> Result<()> {
        loop {
            let ended = xact::transaction(|| {
                let Some(extension) = catalog::hold_extension()? else {
                    return Ok(0);
                };
                let jobs = manage::due_jobs_of(&extension, owner, 100)?;
                for job in &jobs {
                    let ended = job.attempts.saturating_add(1);
                    let attempt = Attempt {
                        job: job.id,
                        attempts: job.attempts,
                        ended,
                        started: 0,
                    };
                    if settle::fail_for_good(&extension, &attempt, reason)? == Verdict::Failed {
                        manage::count_at_commit(&extension, &job.queue, Ending::Failed)?;
                        let names = execute::names(job.id, &job.queue, job.handler.as_deref());
                        execute::log_failure(&names, ended, reason)?;
                    }
                }
                Ok(jobs.len())
            })?;
            if ended == 0 {
                return Ok(());
            }
            let jobs = if ended == 1 { "job" } else { "jobs" };
            let why = reason.summary();
            log::report(Level::Log, &format!("{ended} {jobs} failed: {why}"))?;
        }
    }

    /// Charges an attempt to each job of this database whose process died in the middle of it. Jobs
    /// that somebody has locked keep their charge until a later look: whoever ends a transaction with
    /// a lock has changed the server, so there is one after the nap.
    fn charge_the_dead(&self) -> Result<()> {
        let mut charges: Vec<Charge> = Vec::with_capacity(CHARGES);
        SHARED.read(|state| {
            let ours = state
                .charges
                .iter()
                .filter(|c| c.job != 0 && c.database == self.database);
            charges.extend(ours);
        });
        for charge in charges {
            if !xact::transaction(|| self.charge(&charge))? {
                continue;
            }
            SHARED.write(|state| state.end_charge(&charge));
            for left in marks::left_behind() {
                if left.job == charge.job && left.database == charge.database {
                    marks::clear_if_left(left);
                }
            }
        }
        Ok(())
    }

    /// False if somebody has the job's row.
    fn charge(&self, charge: &Charge) -> Result<bool> {
        let Some(extension) = catalog::hold_extension()? else {
            return Ok(true);
        };
        let live = match manage::take(&extension, charge.job)? {
            Taken::Live(live) => live,
            Taken::Gone => return Ok(true),
            Taken::Locked => return Ok(false),
        };
        if charge.attempts >= 0 && charge.attempts != live.attempts {
            return Ok(true);
        }
        let error = match charge.death {
            Death::Crash => crashed(),
            Death::Stops => PgError::new(
                ADMIN_SHUTDOWN,
                "the worker process was terminated again and again while it ran the job",
            ),
        };
        self.end_attempt(&extension, charge.job, &live, &error)?;
        Ok(true)
    }

    /// Charges the attempt that is not settled to a job whose process is gone.
    fn end_attempt(
        &self,
        extension: &Extension,
        job: i64,
        live: &Live,
        error: &PgError,
    ) -> Result<()> {
        let ended = live.attempts.saturating_add(i32::from(!live.claimed));
        let attempt = Attempt {
            job,
            attempts: live.attempts,
            ended,
            started: 0,
        };
        let verdict = settle::fail(extension, &live.queue, &attempt, live.max_attempts, error)?;
        match verdict {
            Verdict::Retry => wake::count_at_commit(live.queue.id, Ending::Retried)?,
            Verdict::Failed => wake::count_at_commit(live.queue.id, Ending::Failed)?,
            Verdict::Gone => {}
        }
        let names = execute::names(job, &live.queue.name, live.handler.as_deref());
        let why = error.summary();
        log::report(Level::Log, &format!("{names} is charged an attempt: {why}"))
    }

    /// Settles commands that were claimed by processes that are gone.
    fn settle_orphans(&self) -> Result<()> {
        let claimed = xact::transaction(|| match catalog::hold_extension()? {
            Some(extension) => manage::claimed_commands(&extension),
            None => Ok(Vec::new()),
        })?;
        // A worker that has claimed one shows it until it is settled.
        let running = self.running();
        for job in claimed
            .into_iter()
            .filter(|job| running.binary_search(job).is_err())
        {
            let left = marks::left_behind();
            let left = left
                .iter()
                .find(|left| left.job == job && left.database == self.database);
            let told = left.is_some_and(|left| left.stopped || left.bystander);
            if xact::transaction(|| self.settle_orphan(job, told))? {
                left.copied().into_iter().for_each(marks::clear_if_left);
            }
        }
        Ok(())
    }

    /// A command that was told to stop costs no attempt, if it may run more than once at all. False
    /// if somebody has its row: a later look comes as for charges.
    fn settle_orphan(&self, job: i64, told: bool) -> Result<bool> {
        let Some(extension) = catalog::hold_extension()? else {
            return Ok(true);
        };
        let live = match manage::take(&extension, job)? {
            Taken::Live(live) if live.claimed => live,
            Taken::Live(_) | Taken::Gone => return Ok(true),
            Taken::Locked => return Ok(false),
        };
        if self.running().binary_search(&job).is_ok() {
            // Somebody has claimed it again meanwhile.
            return Ok(true);
        }
        if told && live.max_attempts > 1 {
            settle::release_command(&extension, job)?;
            return Ok(true);
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
        self.end_attempt(&extension, job, &live, &error)?;
        Ok(true)
    }

    /// Forgets finished jobs that are older than their queue keeps them.
    fn prune(&mut self) -> Result<()> {
        if self.last_look.saturating_sub(self.last_prune) < PRUNE_EVERY {
            return Ok(());
        }
        self.last_prune = self.last_look;
        loop {
            let gone = xact::transaction(|| match catalog::extension()? {
                Some(extension) => manage::prune(&extension, PRUNE_ROWS),
                None => Ok(0),
            })?;
            latch::check_for_interrupts()?;
            if gone < PRUNE_ROWS {
                return Ok(());
            }
        }
    }
}

/// What a job is told whose process died.
fn crashed() -> PgError {
    PgError::new(
        CRASH_SHUTDOWN,
        "the worker process died while it ran the job, or the server crashed",
    )
    .hint("The server's log says how it died.")
}

/// Why no job of the role can run, if so.
pub fn bar(owner: Oid) -> Result<Option<PgError>> {
    let name = || identity::role_name(owner);
    let error = match catalog::barred(owner)? {
        Some(Barred::Gone) => PgError::new(
            INVALID_AUTHORIZATION,
            format!("owner of the job was dropped (role with OID {owner})"),
        ),
        Some(Barred::NoLogin) => PgError::new(
            INVALID_AUTHORIZATION,
            format!("role \"{}\" is not permitted to log in", name()),
        )
        .hint("Use ALTER ROLE ... LOGIN, then my_worker.retry()."),
        Some(Barred::NoConnect) => PgError::new(
            INSUFFICIENT_PRIVILEGE,
            format!(
                "role \"{}\" is not permitted to connect to the database",
                name()
            ),
        )
        .hint("Use GRANT CONNECT ON DATABASE, then my_worker.retry()."),
        None if !settings::SUPERUSER_JOBS.get() && identity::role_is_superuser(owner)? => {
            PgError::new(
                INSUFFICIENT_PRIVILEGE,
                format!("jobs of superuser \"{}\" are not allowed", name()),
            )
            .hint("See the setting my_worker.superuser_jobs.")
        }
        None => return Ok(None),
    };
    Ok(Some(error))
}

/// The longest sleep between two looks.
fn nap() -> Micros {
    Micros::from(settings::NAPTIME.get()) * 1_000_000
}
