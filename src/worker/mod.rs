//! A worker of the pool: logged in as one role of one database, it takes that role's due jobs,
//! lingers a little when there are none, and leaves.
//!
//! The launcher has taken a slot for it and passes it as the argument. Whoever enqueues wakes it
//! by its latch; what it finds then stands in the table. It owns no job outside of a transaction,
//! so it may die at any point. It ends with exit code 1, and the launcher starts another when there
//! is work.

mod batch;
pub mod blame;
mod commands;
mod keys;
mod known;
mod limited;
mod look;
mod passed;
mod renew;

use std::collections::BTreeMap;

use crate::counted;
use crate::execute::{Grant, Memory, command};
use crate::logic::keys::freed;
use crate::pg::datum::{Micros, Oid};
use crate::pg::error::Result;
use crate::pg::log::{self, Level};
use crate::pg::{activity, bgworker, clock, guc, latch, marks, session, stain, wait_event};
use crate::queue::claim::Patience;
use crate::queue::report;
use crate::settings;
use crate::shared::{
    self, Charge, Current, Death, Kind, Phase, SHARED, SeenArrivals, SlotId, Wake, own,
};
use known::Known;
use limited::Limited;
use passed::Passed;

/// A worker stays for a start that is so near, however short `my_worker.worker_idle_timeout` is.
const SOON_MS: i64 = 5_000;

/// Takes over the slot that was prepared for this process; `None` if it is no longer wanted.
pub fn attach(id: SlotId) -> Result<Option<(Kind, Oid, Oid)>> {
    let procno = latch::my_procno();
    let pid = bgworker::my_pid();
    own::set_slot(id);
    bgworker::before_exit(at_exit)?;
    Ok(SHARED
        .write(|state| {
            let slot = state.slot(id).filter(|slot| !slot.leaves())?;
            slot.pid = pid;
            slot.procno = procno;
            marks::keep(id.index);
            Some((slot.kind, slot.database, slot.role))
        })
        .flatten())
}

/// However the process ends: its slot is free, and the launcher looks whether work is left.
fn at_exit(code: i32) {
    let Some(id) = own::take_slot() else {
        return;
    };
    let (attempts, started) = marks::noted(id.index).unwrap_or((-1, 0));
    let now = clock::now();
    let (mut cancelled, mut cut_off) = (false, None);
    let wake: [Wake; 6] = SHARED.change(|state| {
        let [mut keeper, mut look, mut stopped] = [Wake::NOBODY; 3];
        let mut failed = [Wake::NOBODY; 2];
        if let Some(slot) = state.slot(id) {
            let (database, role) = (slot.database, slot.role);
            let (current, told, kind) = (slot.current(), slot.leaves(), slot.kind);
            let put_down = slot.put_down;
            let in_job = current.job().filter(|job| code != 0 && *job != put_down);
            cut_off = in_job.map(|job| (job, slot.queue));
            cancelled = matches!(current, Current::Cancelling(_));
            let meant = told || put_down != 0 || slot.phase == Phase::Stopping;
            if code != 0 && !meant {
                failed = state.start_failed(id, now);
            }
            // Before the slot is another's.
            end_note(id, cancelled);
            keeper = state.free_slot(id);
            if let Some(job) = current.job() {
                let uncounted = told || put_down != 0 || kind == Kind::Dynamic;
                let charge = |death| Charge {
                    job,
                    database,
                    attempts,
                    started,
                    death,
                };
                stopped = counted::stopped(state, role, charge(Death::Stops), uncounted);
                let death = match cancelled {
                    true => Some(Death::Cancelled),
                    false => (put_down == job).then_some(Death::Deaf),
                };
                if let Some(death) = death {
                    look = state.charge_now(charge(death));
                }
            }
        }
        let [first, second] = failed;
        let launcher = Wake::process(state.launcher_procno);
        [launcher, keeper, look, stopped, first, second]
    });
    wake.into_iter().for_each(shared::wake);
    if let Some((job, queue)) = cut_off {
        let queue = String::from_utf8_lossy(queue.get()).into_owned();
        let text = format!("job {job} (queue \"{queue}\") was cut off: its process has ended");
        let _ = log::report(Level::Log, &text);
    }
    let _ = report::log_held_back(true);
}

/// What is left of this process's note: nothing, unless its job was being cancelled, or is a command.
fn end_note(id: SlotId, cancelled: bool) {
    if cancelled {
        marks::leave(id.index);
    } else if command::is_running() {
        marks::leave_stopped(id.index);
    } else {
        marks::clear(id.index);
    }
}

/// The life of a worker.
pub fn main(id: SlotId, database: Oid, role: Oid) -> Result<()> {
    activity::application_name("my_worker worker");
    marks::excuse_on_quit(id.index);
    session::hold_cancels();
    session::preload_libraries()?;
    // What is there before any job does not count.
    stain::is_stained();
    let mut worker = Worker {
        id,
        database,
        role,
        memory: Memory::new()?,
        known: BTreeMap::new(),
        arrivals: SeenArrivals::default(),
        freed: freed::Read::default(),
        queue: None,
        named: 0,
        first: None,
        rested: false,
        patience: Patience::ENDLESS,
        reads_on: true,
        passed: Passed::default(),
        limited: Limited::default(),
        kept: Vec::new(),
        gone: false,
        alone: 0,
        role_settings: None,
        compared_at: 0,
    };
    while worker.turn()? {}
    report::log_held_back(true)
}

struct Worker {
    id: SlotId,
    database: Oid,
    role: Oid,
    memory: Memory,
    /// The queues whose jobs it has looked for.
    known: BTreeMap<Vec<u8>, Known>,
    /// What of its lane's arrivals the marks in `known` account for.
    arrivals: SeenArrivals,
    /// How far it has heard of keys that were given back.
    freed: freed::Read,
    /// The queue of the last batch: the next one starts behind it.
    queue: Option<Vec<u8>>,
    /// The queue, by its id, that the last word of new jobs has named; 0: it has begun with that since.
    named: i32,
    /// The queue, by its id, that the next look begins with.
    first: Option<i32>,
    /// It has slept since its last look.
    rested: bool,
    /// How many more jobs that are for nobody its look passes by.
    patience: Patience,
    /// Its last look ended early, or there was none yet.
    reads_on: bool,
    /// When it tries again what somebody else had locked.
    passed: Passed,
    /// When it looks again for what its queue's rate holds back.
    limited: Limited,
    /// What rates have allowed to jobs that came to nothing with others, and are run alone next.
    kept: Vec<Grant>,
    /// It is to leave: the extension was dropped, the role may run nothing any more, or a job has left
    /// in this process what cannot be taken away.
    gone: bool,
    /// So many jobs are run one a transaction, since a batch failed as a whole.
    alone: usize,
    /// What ALTER ROLE and ALTER DATABASE ... SET said when this session began.
    role_settings: Option<u64>,
    /// When that was last compared.
    compared_at: Micros,
}

impl Worker {
    /// One turn of the loop: a batch, or a sleep. False to leave.
    fn turn(&mut self) -> Result<bool> {
        guc::reload_if_asked()?;
        latch::check_for_interrupts()?;
        session::forget_cancel();
        if self.must_leave() {
            return Ok(false);
        }
        let now = clock::now();
        let again = self.passed.take_turn(now);
        if again {
            self.known.values_mut().for_each(|known| known.skip.clear());
        }
        let again = self.limited.take_turn(now) || again;
        let woken_in_vain = self.rested && !again && !self.is_wanted();
        if settings::ENABLED.get() && !woken_in_vain && self.batch()? {
            return Ok(true);
        }
        self.known.values_mut().for_each(|known| known.skip.clear());
        if self.gone { Ok(false) } else { self.idle() }
    }

    fn must_leave(&self) -> bool {
        let (id, database, role) = (self.id, self.database, self.role);
        let stays = SHARED.write(|state| {
            let stays = state.begin_turn(id, Phase::Running);
            // What came while others left its reach alone nobody has looked at.
            if !stays
                && !self.rested
                && let Some(lane) = state.lane(database, role)
            {
                lane.set_pending();
            }
            stays
        });
        stays != Some(true)
    }

    /// Whether there may be work that nobody has looked at: what comes while it sleeps is announced.
    fn is_wanted(&self) -> bool {
        let (database, role) = (self.database, self.role);
        SHARED
            .write(|state| state.lane(database, role).is_none_or(|lane| lane.pending))
            .unwrap_or(true)
    }

    /// Sleeps until there may be work; false when it has slept for long enough.
    fn idle(&mut self) -> Result<bool> {
        let Some(watched) = self.go_idle() else {
            return Ok(true);
        };
        self.kept.clear();
        report::log_held_back(false)?;
        activity::idle();
        activity::title(b"idle");
        activity::flush_last_statistics()?;
        let since = clock::now();
        let stay_ms = i64::from(settings::IDLE_TIMEOUT.get()) * 1000;
        // While somebody has a job that is due it stays, unless others need its place; and while one is due
        // soon by its queue's rate.
        let again_ms = self.passed.rest_ms(since);
        let start_ms = watched.then(|| self.limited.rest_ms(since));
        let start_ms = start_ms.filter(|ms| *ms <= stay_ms.max(SOON_MS));
        let again_ms = again_ms.into_iter().chain(start_ms).min();
        let rest_ms = again_ms.unwrap_or(stay_ms);
        let sleep_ms = report::held_back_ms().map_or(rest_ms, |ms| ms.min(rest_ms));
        latch::wait(Some(sleep_ms), wait_event::worker_idle())?;
        self.rested = true;
        session::forget_cancel();
        let slept_ms = clock::now().saturating_sub(since) / 1000;
        Ok(again_ms.is_some() || slept_ms < stay_ms || !self.may_retire())
    }

    /// Idles from here on, unless there is work: `None`. Answers whether it is to look when the first of what
    /// rates hold back may start.
    fn go_idle(&self) -> Option<bool> {
        let enabled = settings::ENABLED.get();
        let (id, database, role) = (self.id, self.database, self.role);
        let (next, now) = (self.limited.next(), clock::now());
        let until = SHARED.write(|state| {
            let pending = state.lane(database, role).is_some_and(|lane| lane.pending);
            if pending && enabled {
                return None;
            }
            if let Some(slot) = state.slot(id) {
                slot.phase = Phase::Idle;
            }
            match enabled {
                true => Some(state.watch(id, (database, role), next, now)),
                false => Some(0),
            }
        });
        let until = until.unwrap_or(Some(0))?;
        self.limited.forget();
        self.limited.until(until);
        Some(until != 0)
    }

    /// Leaves, unless work came at the last moment.
    fn may_retire(&self) -> bool {
        let (id, database, role) = (self.id, self.database, self.role);
        SHARED
            .write(|state| {
                if state.lane(database, role).is_some_and(|lane| lane.pending) {
                    return false;
                }
                match state.slot(id) {
                    Some(slot) if slot.phase == Phase::Idle => {
                        slot.phase = Phase::Stopping;
                        true
                    }
                    Some(_) => false,
                    None => true,
                }
            })
            .unwrap_or(true)
    }
}
