//! Looking for work: which queue is next, which of its jobs, and what of it is announced so that the
//! other workers of the lane find theirs elsewhere.

use std::ops::Bound;
use std::rc::Rc;

use super::Worker;
use super::keys::KnownKeys;
use super::known::Known;
use crate::logic::low_water::Place;
use crate::logic::reach::{Reach, Reaches};
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Micros};
use crate::pg::error::Result;
use crate::pg::{clock, xact};
use crate::queue::claim::{Avoid, Candidate, Found, Jobs, Patience};
use crate::queue::permit;
use crate::queue::queues::{Kept, Queue};
use crate::queue::rates::Pace;
use crate::settings;
use crate::shared::{self, CHARGES, Kind, Phase, SHARED, SLOTS, State, Wake};

/// A queue whose jobs prove fast is taken from in rounds that grow up to this.
pub(super) const MAX_ROUND: usize = 1024;

/// So often a worker looks again that was slower than another, before it tries what it has found.
const LOOKS: usize = 3;

/// So many jobs that are for nobody a look passes by at once. Then it hears of what has come, and reads on.
const PATIENCE: usize = 10_000;

/// The first look of a batch, for those that follow it in the same transaction.
pub(super) struct Round {
    pub(super) candidates: Vec<Candidate>,
    pub(super) known: Known,
    /// Other workers shall come if a round is full.
    pub(super) crowds: bool,
    /// They may.
    pub(super) room: bool,
    /// How many jobs a round has at most.
    pub(super) limit: usize,
    /// The first round is announced.
    is_under_way: bool,
}

impl Worker {
    /// The next queue with due jobs that may run, in turn, and its first jobs.
    pub(super) fn next_work(
        &mut self,
        extension: &Extension,
        jobs: &Jobs,
    ) -> Result<Option<(Rc<Queue>, Round)>> {
        self.limited.forget();
        self.patience = Patience::of(PATIENCE);
        if let Some(name) = self.named_first(extension)?
            && let Some(found) = self.look_at(extension, jobs, &name)?
        {
            return Ok(Some(found));
        }
        let last = self.queue.take();
        let mut wrapped = last.is_none();
        let mut at = last.clone();
        loop {
            let next = self.queue_after(jobs, at.as_deref())?;
            let Some(name) =
                next.filter(|name| !wrapped || last.is_none() || Some(name) <= last.as_ref())
            else {
                if wrapped {
                    return Ok(None);
                }
                wrapped = true;
                at = None;
                continue;
            };
            if let Some(found) = self.look_at(extension, jobs, &name)? {
                return Ok(Some(found));
            }
            if self.patience.is_over() {
                self.queue = at;
                return Ok(None);
            }
            at = Some(name);
        }
    }

    /// The first jobs of a queue, if some may run.
    fn look_at(
        &mut self,
        extension: &Extension,
        jobs: &Jobs,
        name: &[u8],
    ) -> Result<Option<(Rc<Queue>, Round)>> {
        let Some(settings) = self.settings(extension, name)? else {
            self.known.remove(name);
            return Ok(None);
        };
        let round = self.first_round(extension, jobs, &settings)?;
        Ok(round.map(|round| {
            self.queue = Some(name.to_vec());
            (settings.queue, round)
        }))
    }

    /// The first queue behind `after` that has jobs, or had some when we last looked: looking for
    /// others reads nothing of its part of the index.
    fn queue_after(&self, jobs: &Jobs, after: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
        let lower = after.map_or(Bound::Unbounded, Bound::Excluded);
        let known = self
            .known
            .range::<[u8], _>((lower, Bound::Unbounded))
            .next();
        let known = known.map(|(name, _)| name.as_slice());
        let text = |name: Option<&[u8]>| name.map(datum::text_datum).transpose();
        let found = jobs.next_queue(self.role, text(after)?, text(known)?)?;
        match found {
            Some(name) => datum::as_text(name).map(Some),
            None => Ok(known.map(<[u8]>::to_vec)),
        }
    }

    /// Due jobs of a queue that this worker may start now, announced in its slot.
    fn first_round(
        &mut self,
        extension: &Extension,
        jobs: &Jobs,
        settings: &Kept,
    ) -> Result<Option<Round>> {
        let queue = &settings.queue;
        if queue.paused {
            return Ok(None);
        }
        let mut pace = self.pace(queue);
        let (allowed, spare) = pace.most(self.batch_size(queue));
        let most = allowed.max(1);
        let limit = KnownKeys::round(queue, most);
        let mut known = self.known.remove(&queue.name).unwrap_or_default();
        known.be_of(queue);
        self.adopt(queue, &mut known.low, &mut known.keys);
        known.patience = self.patience;
        let found = self.find(jobs, queue, limit, &mut known);
        self.patience = std::mem::take(&mut known.patience);
        self.reads_on = self.patience.is_over();
        self.put_up(queue, &known.low, &mut known.keys);
        let proved = known.proved;
        let mut behind = Known {
            low: known.low.clone(),
            skip: known.skip.clone(),
            keys: known.keys.clone(),
            ..Known::default()
        };
        self.known.insert(queue.name.clone(), known);
        let mut candidates = found?;
        if allowed == 0 && !candidates.is_empty() {
            self.limited.until(pace.next);
        }
        if allowed == 0 || candidates.is_empty() {
            return Ok(None);
        }
        let Some(room) = permit::enter(extension, queue, self.id)? else {
            return Ok(None);
        };
        // From here on a pause reaches the slot; one that came before is seen now.
        if !settings.is_open(extension)? {
            self.leave_queue();
            return Ok(None);
        }
        if queue.concurrency.is_some() {
            // What was found before we had the permit left out what its last holder meant to take
            // and did not: that goes first.
            candidates = self.find(jobs, queue, limit, &mut behind)?;
        }
        let mut round = Round {
            candidates: Vec::new(),
            known: behind,
            // A queue of unknown jobs may be done with by one worker; the overrun timer sees if not.
            crowds: room && proved && spare,
            room,
            limit: most,
            is_under_way: false,
        };
        let look = || self.find(jobs, queue, limit, &mut round.known.clone());
        round.candidates = self.secure(candidates, &round, limit, look)?;
        if round.candidates.is_empty() {
            self.leave_queue();
            return Ok(None);
        }
        round.is_under_way = true;
        Ok(Some(round))
    }

    /// What is behind `last`, or the next one alone, for the same transaction: the first round went
    /// so fast that there is time for more.
    pub(super) fn next_round(
        &self,
        jobs: &Jobs,
        queue: &Queue,
        first: &Round,
        last: Place,
        one: bool,
    ) -> Result<Vec<Candidate>> {
        if first.limit < self.most() {
            return Ok(Vec::new());
        }
        let limit = match one {
            true => 1,
            false => KnownKeys::round(queue, first.limit),
        };
        self.more(jobs, queue, first, last, limit)
    }

    /// Up to `limit` jobs behind `last`, announced.
    pub(super) fn more<F: Found>(
        &self,
        jobs: &Jobs,
        queue: &Queue,
        first: &Round,
        last: Place,
        limit: usize,
    ) -> Result<Vec<F>> {
        let look = || self.find(jobs, queue, limit, &mut first.known.behind(last));
        self.secure(look()?, first, limit, look)
    }

    /// Announces what was found, or what is found instead if another worker was faster.
    fn secure<F: Found>(
        &self,
        mut found: Vec<F>,
        round: &Round,
        limit: usize,
        look: impl Fn() -> Result<Vec<F>>,
    ) -> Result<Vec<F>> {
        for _ in 0..LOOKS {
            if found.is_empty() || self.announce(&found, round, limit) {
                break;
            }
            found = look()?;
        }
        Ok(found)
    }

    /// Keeps others from trying the same jobs; false if one of them has announced some of these.
    /// If as many were found as were looked for, others may help, and the launcher is woken unless
    /// it knows.
    fn announce<F: Found>(&self, found: &[F], round: &Round, limit: usize) -> bool {
        let places: Vec<Place> = found.iter().map(F::place).collect();
        let (Some(from), Some(to)) = (places.first().copied(), places.last().copied()) else {
            return true;
        };
        let crowded = found.len() == limit;
        // A look for one job alone tells nothing.
        let tells = limit > 1 || round.limit == 1;
        let (id, database, role) = (self.id, self.database, self.role);
        let now = clock::now();
        let limited = self.limited.next();
        let (published, wake) = SHARED.change(|state| {
            let unpublished = (false, Wake::NOBODY);
            let Some(queue_id) = state.slot(id).map(|slot| slot.queue_id) else {
                return unpublished;
            };
            let taken = |reach: Reach| reach.holds_any(&places);
            if self.others(state, queue_id, now).any(taken) {
                return unpublished;
            }
            if let Some(slot) = state.slot(id) {
                slot.extend_reach(Reach { from, to }, found.len());
            }
            let launcher = state.launcher_procno;
            let Some(lane) = state.lane(database, role).filter(|_| tells) else {
                return (true, Wake::NOBODY);
            };
            lane.note_start(limited);
            // More than this worker takes at once, and others may help with it.
            if crowded && round.room {
                lane.set_pending_in(queue_id);
            }
            let knows = std::mem::replace(&mut lane.crowded, crowded && round.crowds);
            let wake = lane.crowded && !(knows && round.is_under_way);
            (true, Wake::from(wake.then_some(launcher)))
        });
        shared::wake(wake);
        published
    }

    /// What other workers have of a queue.
    fn others(&self, state: &State, queue_id: i32, now: Micros) -> impl Iterator<Item = Reach> {
        let slots = state.used_slots().iter().enumerate();
        let others = slots.filter(move |(index, slot)| {
            *index != self.id.index
                && slot.queue_id == queue_id
                && slot.serves(Kind::Worker, self.database, self.role)
        });
        others.filter_map(move |(_, slot)| slot.respected_reach(now))
    }

    /// Up to `limit` due jobs of a queue that no other worker runs or is about to run.
    pub(super) fn find<F: Found>(
        &self,
        jobs: &Jobs,
        queue: &Queue,
        limit: usize,
        known: &mut Known,
    ) -> Result<Vec<F>> {
        let now = clock::now();
        // Room for all before the lock: nothing allocates under it.
        let mut others = Vec::with_capacity(SLOTS);
        let mut running = Vec::with_capacity(SLOTS + CHARGES);
        SHARED.read(|state| {
            others.extend(self.others(state, queue.id, now));
            running.extend(self.running(state));
            running.extend(state.charged(self.database));
        });
        let keys = known.keys.begin(self.id, queue, self.role);
        let mut avoid = Avoid {
            others: Reaches::new(others),
            jobs: running,
            passed: Vec::new(),
            pace: self.pace(queue),
            keys: None,
            behind: known.behind,
            patience: known.patience,
        };
        avoid.jobs.extend(&known.skip);
        avoid.jobs.sort_unstable();
        let (role, low) = (self.role, &mut known.low);
        let found = xact::with_next_snapshot(|| {
            avoid.keys = keys.as_ref().map(|keys| keys.look(jobs)).transpose()?;
            jobs.look(role, queue, now, limit, &mut avoid, low)
        })?;
        known.patience = avoid.patience;
        self.limited.until(avoid.pace.next);
        avoid.passed.sort_unstable();
        known
            .skip
            .retain(|id| avoid.passed.binary_search(id).is_ok());
        Ok(found)
    }

    /// The jobs that other processes of this database run.
    fn running(&self, state: &State) -> impl Iterator<Item = i64> {
        let slots = state.used_slots().iter().enumerate();
        let others = slots.filter(move |(index, slot)| {
            *index != self.id.index && slot.phase != Phase::Free && slot.database == self.database
        });
        others.filter_map(|(_, slot)| slot.current().job())
    }

    fn pace(&self, queue: &Queue) -> Pace {
        let allowed = self.kept.iter().map(|grant| grant.job.0);
        Pace::new(queue, self.role).with_allowed(allowed)
    }

    fn batch_size(&self, queue: &Queue) -> usize {
        let size = self.known.get(&queue.name).map_or(1, |known| known.size);
        if self.alone > 0 {
            1
        } else {
            size.clamp(1, self.most())
        }
    }

    /// The most jobs of one round.
    fn most(&self) -> usize {
        let most = usize::try_from(settings::MAX_ITEMS.get()).unwrap_or(1);
        most.clamp(1, MAX_ROUND)
    }

    fn leave_queue(&self) {
        let id = self.id;
        shared::tell(|state| state.leave_queue(id));
    }
}
