//! How a worker of `key_world` looks for candidates, as workers of the server do.

use std::collections::HashMap;
use std::rc::Rc;

use super::key_world::{Job, Table, Worker, World, key, place_order};
use crate::logic::keys::verdict::Verdict;
use crate::logic::keys::{KeyId, Rule};
use crate::logic::low_water::{Place, Reading};

impl Worker {
    /// The jobs of a key that was given back, as `KeyLook::stirred` finds them.
    pub fn look_at_key(
        &mut self,
        id: KeyId,
        of: u64,
        rule: Rule,
        table: &Table,
        limit: usize,
        found: &mut Vec<Place>,
    ) -> Verdict {
        let verdict = World::judge(rule, &self.held, table, of);
        let (before, mut stays) = (found.len(), false);
        let jobs: Vec<Job> = match rule.is_fifo {
            true => table.values().cloned().collect(),
            false => place_order(table),
        };
        let jobs: Vec<Job> = jobs.into_iter().filter(|job| job.key == of).collect();
        let mut last: Option<Place> = None;
        let may = verdict != Verdict::Nothing;
        for job in jobs.iter().filter(|_| may) {
            let is_later = job.place.run_at > self.now;
            let taken = self.avoid.contains(&job.place.id);
            stays |= taken && !is_later;
            if is_later || taken || rule.is_fifo && last.is_some_and(|last| job.place < last) {
                match rule.is_fifo {
                    true => break,
                    false => continue,
                }
            }
            found.push(job.place);
            last = Some(job.place);
            if found.len() >= limit {
                break;
            }
        }
        if found.len() == before && !stays {
            match jobs.is_empty() && may {
                true => self.passed.forget(id),
                false => self.passed.settle(id),
            }
        }
        match rule.is_fifo && last.is_some() {
            true => Verdict::Nothing,
            false => verdict,
        }
    }

    /// A walk from the marks on, as `Jobs::look` makes it.
    pub fn walk(
        &mut self,
        rule: Rule,
        table: &Table,
        limit: usize,
        known: &mut HashMap<u64, Verdict>,
        found: &mut Vec<Place>,
    ) {
        let mut walked = 0;
        for stretch in self.low.stretches() {
            let mut reading = Reading::new(&mut self.low, &stretch, self.now);
            let within = |job: &&Job| {
                stretch.from.is_none_or(|from| job.place >= from)
                    && stretch.below.is_none_or(|below| job.place.priority < below)
            };
            let mut skip = None;
            for job in place_order(table).iter().filter(within) {
                let place = job.place;
                if skip == Some(place.priority) {
                    continue;
                }
                if place.run_at > self.now {
                    skip = Some(place.priority);
                }
                if skip.is_some() && skip == Some(place.priority) || self.avoid.contains(&place.id)
                {
                    reading.keep(place);
                    continue;
                }
                if job.key != 0 {
                    let judge = || World::judge(rule, &self.held, table, job.key);
                    let verdict = known.entry(job.key).or_insert_with(judge);
                    if !verdict.lets(place.id, false) {
                        let text: Rc<[u8]> = Rc::from([job.key as u8].as_slice());
                        match self.passed.remember(key(job.key), &text) {
                            true => reading.pass(place),
                            false => reading.keep(place),
                        }
                        continue;
                    }
                }
                reading.keep(place);
                found.push(place);
                walked += 1;
                if walked == limit {
                    return;
                }
            }
            reading.end();
        }
    }
}
