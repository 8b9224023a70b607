//! Leases by the keys of their jobs: how many are out of one key. Entries whose keys hash alike are in one chain,
//! as those of jobs are.

use super::Consumers;
use super::lease::Lease;
use crate::logic::keys::KeyId;
use crate::logic::pool::Oid;

impl Consumers<'_> {
    fn group_chain(&self, key: KeyId) -> usize {
        let count = self.leases.len().max(1) as u64;
        key.spread().checked_rem(count).unwrap_or(0) as usize
    }

    /// The lease in that entry, which was just filled, is found by its key from here on.
    pub(super) fn join_group(&mut self, index: usize) {
        let Some(key) = self.group_of(index) else {
            return;
        };
        let chain = self.group_chain(key);
        let number = u32::try_from(index).map_or(0, |index| index.saturating_add(1));
        let second = self.leases.get(chain).map_or(0, |l| l.first_of_group);
        if let Some(entry) = self.leases.get_mut(index) {
            entry.next_of_group = second;
        }
        if let Some(entry) = self.leases.get_mut(chain) {
            entry.first_of_group = number;
        }
    }

    /// The lease in that entry, which is about to be freed, is found no more.
    pub(super) fn leave_group(&mut self, index: usize) {
        let Some(key) = self.group_of(index) else {
            return;
        };
        let chain = self.group_chain(key);
        let number = u32::try_from(index).map_or(0, |index| index.saturating_add(1));
        let next = self.leases.get(index).map_or(0, |l| l.next_of_group);
        let first = self.leases.get(chain).map_or(0, |l| l.first_of_group);
        if first == number {
            if let Some(entry) = self.leases.get_mut(chain) {
                entry.first_of_group = next;
            }
            return;
        }
        let mut at = first;
        while let Some(place) = (at as usize).checked_sub(1) {
            let Some(entry) = self.leases.get_mut(place) else {
                return;
            };
            if entry.next_of_group == number {
                entry.next_of_group = next;
                return;
            }
            at = entry.next_of_group;
        }
    }

    fn group_of(&self, index: usize) -> Option<KeyId> {
        let key = self.leases.get(index)?.group;
        key.is_some().then_some(key)
    }

    fn of_group(&self, key: KeyId) -> impl Iterator<Item = &Lease> {
        let entry = |number: u32| self.leases.get((number as usize).checked_sub(1)?);
        let first = match self.head.out {
            0 => None,
            _ => self.leases.get(self.group_chain(key)),
        };
        let first = first.and_then(|chain| entry(chain.first_of_group));
        let all = std::iter::successors(first, move |lease| entry(lease.next_of_group));
        all.filter(move |lease| lease.group == key)
    }

    /// The keys of the jobs of a database that are out; once for each lease.
    pub fn keys_out(&self, database: Oid) -> impl Iterator<Item = KeyId> {
        let groups = self.of_database(database).map(|lease| lease.group);
        groups.filter(|group| group.is_some())
    }

    /// How many leases of jobs of that key are out, of whatever stage.
    pub fn holders_of(&self, key: KeyId) -> usize {
        self.of_group(key).count()
    }
}

#[cfg(test)]
mod tests {
    use super::super::lease::{JobKey, Lease, Stage};
    use super::super::testing::Memory;
    use crate::logic::keys::KeyId;

    fn lease(job: i64, group: u64) -> Lease {
        Lease {
            token: job + 1000,
            key: JobKey { table: 1, job },
            stage: Stage::Held,
            group: KeyId::test(group),
            ..Lease::NONE
        }
    }

    #[test]
    fn leases_are_counted_by_their_keys_whatever_comes_and_goes() {
        let mut memory = Memory::with(8);
        let mut consumers = memory.open();
        let mut out: Vec<(i64, u64)> = Vec::new();
        let mut seed = 7_u64;
        for job in 0..5_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let pick = (seed >> 33) as usize;
            if out.len() == 8 || (pick.is_multiple_of(2) && !out.is_empty()) {
                let (job, _) = out.remove(pick % out.len());
                let (id, _) = consumers.find(JobKey { table: 1, job }).unwrap();
                assert!(consumers.free(id).is_some());
            } else {
                let group = (pick % 4) as u64;
                assert!(consumers.publish(&lease(job, group)).id().is_some());
                out.push((job, group));
            }
            for group in 1..4 {
                let expected = out.iter().filter(|(_, of)| *of == group).count();
                assert_eq!(consumers.holders_of(KeyId::test(group)), expected);
            }
        }
    }
}
