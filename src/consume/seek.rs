//! Where a session of consumers looks for jobs: whose, in turn, and from which marks on.
//!
//! Marks spare a look the entries of jobs that are gone, and of those that others have out. What comes
//! before a mark later is announced (`logic::consumers::arrivals`); announcements that were lost are
//! made up for by a look without marks now and then.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use crate::logic::consumers::arrivals::{Came, ReadUpTo};
use crate::logic::consumers::waiting::{Kinds, Scope};
use crate::logic::consumers::{Channel, sooner};
use crate::logic::keys::Rule;
use crate::logic::keys::freed::{self, Freed, Since};
use crate::logic::keys::passed::Passed;
use crate::logic::low_water::LowWater;
use crate::logic::rates::Rate;
use crate::logic::rotation;
use crate::pg::catalog::Extension;
use crate::pg::clock;
use crate::pg::datum::{Micros, Oid};
use crate::pg::error::Result;
use crate::pg::local::Local;
use crate::pg::{bgworker, identity, xact};
use crate::queue::arrivals::hash_of;
use crate::queue::claim::Jobs;
use crate::queue::key_look::{self, HeldKeys, KeyLook};
use crate::queue::keys::{self, KeysOf};
use crate::queue::offer::{Offer, Wanted};
use crate::queue::queues::Queue;
use crate::shared::{SHARED, consumers};

use super::grants;

/// The most queues that a session remembers.
const MOST_QUEUES: usize = 64;
/// The most pairs of owner and kinds of a queue with marks.
const MOST_MARKS: usize = 256;
/// So often a look goes without marks. After one that took long, so many times as long passes.
const AFRESH: Micros = 10_000_000;
const REST: Micros = 20;

/// What a session knows of a queue.
#[derive(Default)]
struct Known {
    /// Up to when it has read what came.
    read: ReadUpTo,
    /// From where to look, by owner and kinds, and the keys whose jobs these marks pass.
    marks: BTreeMap<(Oid, u64), (LowWater, RefCell<Passed>)>,
    /// What the queue asked for of keys then, and the rate of each.
    rule: (Option<Rule>, Option<Rate>),
    /// Up to where it has heard of keys that were given back.
    freed: freed::Read,
    /// When it last looked without marks, and for how long.
    afresh: Micros,
    took: Micros,
    /// Whose turn it was last.
    last: Option<Oid>,
}

static KNOWN: Local<BTreeMap<(Oid, i32), Known>> = Local::new(BTreeMap::new());

/// Which jobs a session wants, for whom it asks.
pub struct Search {
    /// Which jobs it may have.
    pub scope: Scope,
    /// Who asks.
    pub caller: Oid,
    /// The kinds; empty: any.
    kinds: Vec<Vec<u8>>,
}

impl Search {
    /// For the role whose rights are in force.
    pub fn new(extension: &Extension, queue: &[u8], kinds: Vec<Vec<u8>>) -> Result<Self> {
        let caller = identity::current_role();
        let scope =
            if identity::role_is_superuser(caller)? || grants::holds(extension, caller, queue)? {
                Scope::All
            } else if identity::is_member_of_any(caller)? {
                Scope::Several(bgworker::my_pid())
            } else {
                Scope::Role(caller)
            };
        Ok(Search {
            scope,
            caller,
            kinds,
        })
    }

    /// The kinds as waiting sessions know them.
    pub fn kinds(&self) -> Kinds {
        let hashes: Vec<u32> = self.kinds.iter().map(|kind| hash_of(Some(kind))).collect();
        Kinds::of(&hashes)
    }

    fn kinds_hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.kinds.hash(&mut hasher);
        hasher.finish()
    }

    /// Up to `limit` due jobs, in order within each owner, and when the next one is due.
    pub fn look(
        &self,
        extension: &Extension,
        jobs: &Jobs,
        queue: &Queue,
        limit: usize,
    ) -> Result<Offer> {
        let now = clock::now();
        let channel = Channel {
            database: bgworker::my_database(),
            queue: queue.id,
        };
        let key = (extension.jobs, queue.id);
        let mut known = KNOWN.with(|all| {
            rotation::make_room(all, &key, MOST_QUEUES);
            all.remove(&key).unwrap_or_default()
        });
        let leased = known.begin(channel, now);
        known.hear_of_keys(queue);
        let wanted = Wanted {
            queue,
            kinds: &self.kinds,
            leased: &leased,
            now,
            limit,
        };
        let found = xact::with_next_snapshot(|| self.ask_owners(jobs, wanted, &mut known));
        if known.afresh == now {
            known.took = clock::now().saturating_sub(now);
        }
        KNOWN.with(|all| all.insert(key, known));
        found
    }

    /// Asks the owners one after the other, beginning behind the one whose turn it was last.
    fn ask_owners(&self, jobs: &Jobs, mut wanted: Wanted, known: &mut Known) -> Result<Offer> {
        if let Scope::Role(owner) = self.scope {
            return self.ask(jobs, owner, &wanted, known);
        }
        let limit = wanted.limit;
        let mut offer = Offer {
            jobs: Vec::new(),
            next: 0,
        };
        let begin = known.last;
        let mut at = begin;
        let mut wrapped = begin.is_none();
        while offer.jobs.len() < limit {
            let next = jobs.next_owner(at)?;
            let next = next.filter(|owner| !wrapped || begin.is_none_or(|begin| *owner <= begin));
            let Some(owner) = next else {
                if wrapped {
                    break;
                }
                (wrapped, at) = (true, None);
                continue;
            };
            at = Some(owner);
            if self.scope != Scope::All && !identity::has_rights_of(self.caller, owner)? {
                continue;
            }
            wanted.limit = limit - offer.jobs.len();
            let more = self.ask(jobs, owner, &wanted, known)?;
            if !more.jobs.is_empty() {
                known.last = Some(owner);
            }
            offer.jobs.extend(more.jobs);
            offer.next = sooner(offer.next, more.next);
        }
        Ok(offer)
    }

    fn ask(&self, jobs: &Jobs, owner: Oid, wanted: &Wanted, known: &mut Known) -> Result<Offer> {
        let of = KeysOf::of_look(wanted.queue, owner);
        let of_marks = (owner, self.kinds_hash());
        rotation::make_room(&mut known.marks, &of_marks, MOST_MARKS);
        let marks = known.marks.entry(of_marks);
        let none = || (LowWater::default(), RefCell::new(key_look::none_passed()));
        let marks = marks.or_insert_with(none);
        let (low, passed) = (&mut marks.0, &marks.1);
        let Some(of) = of else {
            return jobs.offer(owner, wanted, low, None);
        };
        // As of a moment before the snapshot that is active, or after: who gets a job asks again.
        let held = match of.rule.binds() {
            true => keys::held(&of, None),
            false => HeldKeys::default(),
        };
        let count = Cell::new(0);
        let look = KeyLook::new(jobs.keys()?, &of, &held, passed, true, &count);
        jobs.offer(owner, wanted, low, Some(look))
    }
}

impl Known {
    /// Before a snapshot is taken: notes which of the keys that were passed by were given back.
    fn hear_of_keys(&mut self, queue: &Queue) {
        let rule = (queue.by_key, queue.rate_of_keys());
        if self.rule != rule {
            self.marks.clear();
            self.rule = rule;
        }
        if !queue.tells_keys() {
            return;
        }
        let mut keys = Vec::with_capacity(Freed::ROOM);
        let read = &mut self.freed;
        let since = SHARED.read(|state| state.freed.since(read, &mut keys));
        for (_, passed) in self.marks.values_mut() {
            let passed = passed.get_mut();
            match since {
                Some(Since::These) => keys.iter().for_each(|key| passed.stir(*key)),
                _ => passed.stir_all(),
            }
        }
    }

    /// Before a snapshot is taken: steps the marks back to what has come; answers the jobs that are out.
    fn begin(&mut self, channel: Channel, now: Micros) -> Vec<i64> {
        let room = consumers::out();
        let mut leased = Vec::with_capacity(room);
        let read = &mut self.read;
        let came = consumers::write(|consumers| {
            let here = consumers.of_database(channel.database);
            leased.extend(here.map(|lease| lease.key.job).take(room));
            consumers.head.boards.since(channel, read, now)
        });
        leased.sort_unstable();
        let pause = self.took.saturating_mul(REST).max(AFRESH);
        let afresh = !(0..pause).contains(&now.saturating_sub(self.afresh));
        match came {
            Some(Came::Nothing) if !afresh => {}
            Some(Came::Since(run_at)) if !afresh => {
                let marks = self.marks.values_mut();
                marks.for_each(|(low, _)| low.step_back(run_at));
            }
            _ => {
                self.marks.clear();
                self.afresh = now;
            }
        }
        leased
    }
}
