//! The keeper of one database: it finds work that no commit has announced.
//!
//! It is logged in as the bootstrap superuser, runs nothing but statements and scans of ours, and
//! never a job. It looks when it starts, when something becomes due, when somebody asks, and after
//! each nap, unless no transaction of the server has changed anything since the last look.
//!
//! Its duties are cut so that none keeps another waiting. Those that others wait for go first in
//! each turn of the loop: the *unblocker* of jobs that come after others, the *finder* of due jobs and the *firer* of
//! due schedules. Then one *chore* takes one step, some 20 ms at most: the releaser of runs that wait for an earlier
//! one, the charger of the dead, the settler of orphans, the ender of jobs of roles that may have no session, the
//! expirer of jobs that come too late, the pruner of the history. A duty that is not done keeps the keeper awake; one without work costs
//! nothing. No row and no error ends the keeper: a row that cannot be dealt with is set aside or left
//! out (`fence`), a duty that fails is put off.

mod charger;
mod duty;
mod ender;
mod expirer;
mod fence;
mod finder;
mod gate;
mod naps;
mod pruner;
mod reclaimer;
mod rerunner;
mod service;
mod settler;
mod unblocker;

use crate::pg::datum::{Micros, Oid};
use crate::pg::error::{PgError, Result};
use crate::pg::fault::fault;
use crate::pg::log::{self, Level};
use crate::pg::{activity, clock, guc, latch, session, wait_event};
use crate::queue::report;
use crate::schedule::fire::{Firer, Left};
use crate::schedule::hold::Releaser;
use crate::settings;
use crate::shared::{CHARGES, Phase, SHARED, SLOTS, SlotId, consumers};

use charger::Charger;
use duty::{CHORES, DUTIES, Duty, Trouble, URGENT};
use ender::Ender;
use expirer::Expirer;
use fence::LeftOut;
use finder::Finder;
use gate::Gate;
use naps::Naps;
use pruner::Pruner;
use reclaimer::Reclaimer;
use rerunner::Rerunner;
use settler::Settler;
use unblocker::Unblocker;

/// So long a step of a duty may take, for those that can tell.
const STEP: Micros = 15_000;
/// How long a duty rests after an error; less where the tests have errors on purpose.
const REST: Micros = if cfg!(feature = "faults") {
    300_000
} else {
    10_000_000
};
/// How often the log hears of a duty's errors.
const LOG_EVERY: Micros = 60_000_000;

/// The life of a keeper.
pub fn main(id: SlotId, database: Oid) -> Result<()> {
    activity::application_name("my_worker keeper");
    session::hold_cancels();
    guc::override_setting(c"search_path", c"pg_catalog, pg_temp")?;
    guc::override_setting(c"default_transaction_isolation", c"read committed")?;
    guc::override_setting(c"default_transaction_read_only", c"off")?;
    let mut keeper = Keeper::new(id, database);
    if !keeper.introduce()? {
        return Ok(());
    }
    while keeper.turn()? {}
    Ok(())
}

struct Keeper {
    id: SlotId,
    database: Oid,
    naps: Naps,
    gate: Gate,
    finder: Finder,
    firer: Firer,
    releaser: Releaser,
    charger: Charger,
    reclaimer: Reclaimer,
    rerunner: Rerunner,
    settler: Settler,
    ender: Ender,
    expirer: Expirer,
    unblocker: Unblocker,
    pruner: Pruner,
    /// Schedules that are left alone for a while.
    left: Left,
    /// Jobs that cannot be dealt with.
    left_out: LeftOut,
    /// The chore that comes next if it has work.
    next_chore: usize,
    /// It has done something since it slept.
    stirred: bool,
    troubles: [Trouble; DUTIES],
}

impl Keeper {
    fn new(id: SlotId, database: Oid) -> Self {
        Keeper {
            id,
            database,
            naps: Naps::default(),
            gate: Gate::new(database),
            finder: Finder::new(database),
            firer: Firer::default(),
            releaser: Releaser::default(),
            charger: Charger::new(database),
            reclaimer: Reclaimer::new(database),
            rerunner: Rerunner::default(),
            settler: Settler::new(database),
            ender: Ender::default(),
            expirer: Expirer::new(database),
            unblocker: Unblocker::new(database),
            pruner: Pruner::default(),
            left: Left::default(),
            left_out: LeftOut::default(),
            next_chore: 0,
            stirred: false,
            troubles: [Trouble::default(); DUTIES],
        }
    }

    /// One turn of the loop: what is urgent, and a step of one chore; else a sleep. False to leave.
    fn turn(&mut self) -> Result<bool> {
        let standing = || (settings::CLOCK_OFFSET.get(), settings::RUN_COPIES.get());
        let before = standing();
        if guc::reload_if_asked()? && standing() != before {
            // Look at once: schedules may be due by their new clock, and copies run.
            self.naps.forget();
        }
        session::forget_cancel();
        if self.must_leave() {
            return Ok(false);
        }
        let mut worked = false;
        if settings::ENABLED.get() {
            self.begin_look()?;
            for duty in URGENT
                .into_iter()
                .filter(|duty| self.wants(*duty))
                .collect::<Vec<_>>()
            {
                worked = true;
                if !self.perform(duty)? {
                    return Ok(false);
                }
            }
            if let Some(chore) = self.choose_chore() {
                worked = true;
                self.perform(chore)?;
            }
        }
        if worked {
            self.stirred = true;
            latch::check_for_interrupts()?;
            return Ok(true);
        }
        if std::mem::take(&mut self.stirred) {
            report::log_held_back(false)?;
            self.ender.log()?;
            activity::flush_statistics()?;
        }
        activity::idle();
        activity::title(b"idle");
        self.sleep()?;
        Ok(true)
    }

    fn must_leave(&self) -> bool {
        let id = self.id;
        SHARED.write(|state| state.begin_turn(id, Phase::Idle)) != Some(true)
    }

    /// If somebody asked, something is due, or a nap is over in which the server changed, the duties
    /// begin anew.
    fn begin_look(&mut self) -> Result<()> {
        let now = clock::now();
        let own = self.due_times().any(|next| next <= now);
        let (mut news, mut refused) = (false, false);
        let announced = SHARED.write(|state| match state.database(self.database) {
            Some(entry) => {
                let asked = std::mem::take(&mut entry.look);
                news = entry.news;
                refused = asked && std::mem::take(&mut entry.consumer_refused);
                let due = own || (entry.next_due != 0 && entry.next_due <= now);
                if asked || due {
                    // From here on a commit that announces something earlier counts again.
                    entry.next_due = 0;
                }
                (asked, due)
            }
            None => (false, own),
        });
        let (asked, due) = announced.unwrap_or((false, own));
        if news {
            self.unblocker.hear();
        }
        if refused {
            consumers::tell_all(self.database);
        }
        let changed = self.naps.are_over(now);
        if !(asked || due || changed || self.gate.is_due(now)) {
            return Ok(());
        }
        let thorough = asked || changed;
        if thorough {
            let (database, seen) = (self.database, self.naps.look(now));
            SHARED.write(|state| {
                if let Some(entry) = state.database(database) {
                    entry.seen = seen;
                }
            });
        }
        fault!(Look);
        activity::running(b"looking for due jobs");
        activity::title(b"looking for due jobs");
        if self.gate.look()? {
            self.finder.next = 0;
            self.firer.next = 0;
            self.reclaimer.next = 0;
            self.expirer.next = 0;
            self.unblocker.want();
            self.rerunner.next = 0;
            return Ok(());
        }
        self.want_all(thorough, changed, now);
        Ok(())
    }

    /// All duties begin anew.
    fn want_all(&mut self, thorough: bool, napped: bool, now: Micros) {
        self.finder.want(thorough, napped);
        self.firer.want();
        self.releaser.want();
        self.charger.want();
        self.reclaimer.want();
        self.rerunner.want(now);
        self.settler.want();
        self.expirer.want(thorough);
        if thorough {
            self.unblocker.want();
        }
        self.pruner.want(now);
    }

    /// When a duty that does not rest has to begin anew, as far as the duties know.
    fn due_times(&self) -> impl Iterator<Item = Micros> {
        let known = [
            (Duty::Find, self.finder.next),
            (Duty::Fire, self.firer.next),
            (Duty::Reclaim, self.reclaimer.next),
            (Duty::Expire, self.expirer.next),
            (Duty::Rerun, self.rerunner.next),
        ];
        let awake = known.into_iter().filter(|(duty, _)| !self.rests(*duty));
        let again = self.gate.again;
        awake
            .map(|(_, next)| next)
            .chain([again])
            .filter(|next| *next != 0)
    }

    /// When the unblocker goes on by itself: no look of all duties is due then.
    fn unblocker_times(&self) -> impl Iterator<Item = Micros> {
        let [again, sweep] = self.unblocker.next();
        let times = [(Duty::Unblock, again), (Duty::Sweep, sweep)].into_iter();
        let goes_on = |(duty, time): &(Duty, Micros)| {
            *time != 0 && !self.gate.is_shut() && !self.rests(*duty)
        };
        times.filter(goes_on).map(|(_, time)| time)
    }

    fn wants(&self, duty: Duty) -> bool {
        if self.gate.is_shut() || self.rests(duty) {
            return false;
        }
        match duty {
            Duty::Find => self.finder.is_wanted(),
            Duty::Fire => self.firer.is_wanted(),
            Duty::Release => self.releaser.is_wanted(),
            Duty::Charge => self.charger.is_wanted(),
            Duty::Reclaim => self.reclaimer.is_wanted(),
            Duty::Rerun => self.rerunner.is_wanted(),
            Duty::Settle => self.settler.is_wanted(),
            Duty::Unblock => self.unblocker.is_wanted(),
            Duty::Sweep => self.unblocker.is_sweeping(),
            Duty::End => self.ender.is_wanted(),
            Duty::Expire => self.expirer.is_wanted(),
            Duty::Prune => self.pruner.is_wanted(),
        }
    }

    /// After an error; not for longer than it said, also if the clock was set back.
    fn rests(&self, duty: Duty) -> bool {
        let until = self.troubles.get(duty as usize).map_or(0, |t| t.until);
        until != 0 && (0..REST).contains(&until.saturating_sub(clock::now()))
    }

    /// The chores take turns.
    fn choose_chore(&mut self) -> Option<Duty> {
        let turns = (0..CHORES.len()).map(|turn| (self.next_chore + turn) % CHORES.len());
        let mut wanted = turns.filter_map(|index| Some((index, *CHORES.get(index)?)));
        let (index, chore) = wanted.find(|(_, chore)| self.wants(*chore))?;
        self.next_chore = index + 1;
        Some(chore)
    }

    /// Takes one step of a duty; false if the extension is gone.
    fn perform(&mut self, duty: Duty) -> Result<bool> {
        #[cfg(feature = "faults")]
        if let Err(error) = crate::pg::fault::at(duty.point()) {
            return self.put_off(duty, &error).map(|()| true);
        }
        let result = match duty {
            Duty::Find => self.finder.step(&mut self.ender),
            Duty::Fire => self.firer.step(&mut self.left).map(|()| true),
            Duty::Release => self.releaser.step(&mut self.left).map(|()| true),
            Duty::Charge => self.charger.step(&mut self.left_out).map(|()| true),
            Duty::Reclaim => self.reclaimer.step(&mut self.left_out).map(|()| true),
            Duty::Rerun => self.rerunner.step(&mut self.left_out).map(|()| true),
            Duty::Settle => self.settler.step(&mut self.left_out).map(|()| true),
            Duty::Unblock => self.unblocker.step(&mut self.left_out).map(|()| true),
            Duty::Sweep => self.unblocker.sweep(&mut self.left_out).map(|()| true),
            Duty::End => self.ender.step(&mut self.left_out).map(|()| true),
            Duty::Expire => self.expirer.step(&mut self.left_out).map(|()| true),
            Duty::Prune => self.pruner.step().map(|()| true),
        };
        if let Some(error) = self.finder.failed.take() {
            self.log_trouble(Duty::Find, "is incomplete", &error)?;
        }
        match result {
            Ok(true) => {
                if let Some(trouble) = self.troubles.get_mut(duty as usize) {
                    trouble.until = 0;
                }
                Ok(true)
            }
            Ok(false) => {
                self.end_service(self.naps.seen());
                Ok(false)
            }
            Err(error) => self.put_off(duty, &error).map(|()| true),
        }
    }

    /// An error of no single row: the duty rests, the others go on.
    fn put_off(&mut self, duty: Duty, error: &PgError) -> Result<()> {
        let until = clock::now().saturating_add(REST);
        if let Some(trouble) = self.troubles.get_mut(duty as usize) {
            trouble.until = until;
        }
        self.log_trouble(duty, "is put off", error)
    }

    /// Once a minute for each duty.
    fn log_trouble(&mut self, duty: Duty, what: &str, error: &PgError) -> Result<()> {
        let now = clock::now();
        let Some(trouble) = self.troubles.get_mut(duty as usize) else {
            return Ok(());
        };
        if trouble.logged != 0 && (0..LOG_EVERY).contains(&now.saturating_sub(trouble.logged)) {
            return Ok(());
        }
        trouble.logged = now;
        let text = format!("{} {what}: {}", duty.name(), error.summary());
        log::report(Level::Log, &text)
    }

    fn sleep(&self) -> Result<()> {
        let now = clock::now();
        let announced = SHARED.read(|state| {
            let mut entries = state.databases.iter();
            let entry = entries.find(|entry| entry.oid == self.database);
            entry.map_or((0, false), |entry| {
                (entry.next_due, entry.look || entry.news)
            })
        });
        let (due, asked) = announced.unwrap_or((0, false));
        // While this process gives way to work, the launcher has it back by then.
        if let Some(next) = self
            .due_times()
            .min()
            .filter(|next| due == 0 || *next < due)
        {
            SHARED
                .change(|state| state.due_at(self.database, next))
                .is_awake();
        }
        let enabled = settings::ENABLED.get();
        if asked && enabled {
            return latch::check_for_interrupts();
        }
        let rests = self.troubles.iter().map(|trouble| trouble.until);
        let rests = rests.filter(|until| *until > now);
        let announced = (due != 0).then_some(due);
        let until = match enabled {
            // Nothing is looked for: sleep, whatever is due.
            false => now.saturating_add(Naps::longest()),
            true => self
                .due_times()
                .chain(rests)
                .chain(self.unblocker_times())
                .chain(announced)
                .fold(self.naps.next(now), Micros::min),
        };
        let wait_ms = (until.saturating_sub(now).max(0) + 999) / 1000;
        let wait_ms = report::held_back_ms().map_or(wait_ms, |ms| ms.min(wait_ms));
        latch::wait(Some(wait_ms), wait_event::keeper_main())?;
        report::log_held_back(false)
    }
}

/// Jobs that run, and jobs that are still to be charged, sorted.
fn not_to_take(database: Oid) -> Vec<i64> {
    let mut ids = Vec::with_capacity(2 * SLOTS + CHARGES);
    SHARED.read(|state| {
        ids.extend(state.running_in(database));
        ids.extend(state.charged(database));
    });
    ids.sort_unstable();
    ids
}
