//! Which database needs its keeper now, and which keeper gives way to work.
//!
//! A keeper that has nothing to do leaves when the server has no place for another process of
//! ours and one is wanted. It is *away* then: it comes back when something is due in its database,
//! when somebody asks it to look, or after a nap in which the server has changed.

use super::{Database, Kind, Known, Micros, Oid, Phase, State, Step, TURN};

/// A keeper with something due so soon stays, unless a lane has no worker at all.
const SOON: Micros = 1_000_000;

/// How much a database needs its keeper.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Not at all.
    No,
    /// To see what no COMMIT has announced.
    Nap,
    /// Something is due, or nobody knows.
    Now,
}

fn need(entry: &Database, now: Micros, nap: Micros, completed: u64) -> Need {
    let due = entry.next_due != 0 && entry.next_due <= now;
    let napped = !(0..nap).contains(&now.saturating_sub(entry.away_at));
    match entry.known {
        Known::Absent if entry.look || entry.probe => Need::Now,
        Known::Absent => Need::No,
        _ if !entry.away || entry.look || entry.news || due => Need::Now,
        _ if napped && entry.seen != completed => Need::Nap,
        _ => Need::No,
    }
}

impl State {
    /// A database needs its keeper: to find out about it, or because it has the extension.
    pub(super) fn keeper_step(
        &self,
        now: Micros,
        rules: &super::Rules,
        next: &mut Micros,
    ) -> Option<Step> {
        for entry in self.databases.iter().filter(|entry| entry.oid != 0) {
            if self.has_keeper(entry.oid) {
                continue;
            }
            if need(entry, now, rules.nap, rules.completed) == Need::Now {
                let at = entry.blocked_until.max(entry.retry_at);
                if at <= now {
                    return Some(Step::StartKeeper(entry.oid));
                }
                *next = (*next).min(at);
            } else if entry.away && entry.next_due != 0 {
                *next = (*next).min(entry.next_due);
            }
        }
        None
    }

    /// A keeper that gave way comes back after its nap: one at a time, the longest away first.
    pub(super) fn returning_step(
        &mut self,
        now: Micros,
        rules: &super::Rules,
        next: &mut Micros,
    ) -> Option<Step> {
        let mut longest: Option<(Micros, Oid)> = None;
        for entry in self.databases.iter().filter(|e| e.oid != 0 && e.away) {
            let napped = entry.away_at.saturating_add(rules.nap);
            let at = napped.max(entry.blocked_until).max(entry.retry_at);
            if at > now {
                *next = (*next).min(at);
                continue;
            }
            let wants = need(entry, now, rules.nap, rules.completed) == Need::Nap
                && !self.has_keeper(entry.oid);
            if wants && longest.is_none_or(|first| (entry.away_at, entry.oid) < first) {
                longest = Some((entry.away_at, entry.oid));
            }
        }
        let (_, database) = longest?;
        if (0..TURN).contains(&now.saturating_sub(self.returned_at)) {
            *next = (*next).min(now.saturating_add(TURN));
            return None;
        }
        self.returned_at = now;
        Some(Step::StartKeeper(database))
    }

    fn has_keeper(&self, database: Oid) -> bool {
        let slots = self.used_slots();
        slots.iter().any(|s| s.serves(Kind::Keeper, database, 0))
    }

    /// Has an idle keeper leave: the one with nothing due for longest, of those with nothing due
    /// soon unless it is `urgent`. The last keeper stays while jobs run, unless it leaves for another
    /// keeper: else nothing would see what is due. Answers whom to wake.
    pub(super) fn send_keeper_away(
        &mut self,
        urgent: bool,
        for_keeper: bool,
        now: Micros,
    ) -> Option<i32> {
        let held = |kind| {
            let slots = self.used_slots().iter();
            slots.filter(move |s| s.phase != Phase::Free && s.kind == kind)
        };
        let staying = held(Kind::Keeper).filter(|s| !s.leaves()).count();
        let others = held(Kind::Worker).count().max(held(Kind::Dynamic).count());
        if !for_keeper && staying < 2 && others > 0 {
            return None;
        }
        let horizon = if urgent { 0 } else { SOON };
        let soon = now.saturating_add(horizon);
        let mut best: Option<(Micros, Oid)> = None;
        for slot in self.used_slots() {
            if slot.phase != Phase::Idle || slot.kind != Kind::Keeper || slot.leaves() {
                continue;
            }
            let entry = self.databases.iter().find(|e| e.oid == slot.database);
            let Some(entry) = entry.filter(|e| e.known == Known::Present && !e.look && !e.news)
            else {
                continue;
            };
            let due = match entry.next_due {
                0 => Micros::MAX,
                due => due,
            };
            if due > soon && best.is_none_or(|first| (due, entry.oid) > first) {
                best = Some((due, entry.oid));
            }
        }
        let (_, database) = best?;
        let entry = self.database(database)?;
        entry.away = true;
        entry.away_at = now;
        let keeper = |s: &&mut super::Slot| s.serves(Kind::Keeper, database, 0);
        let slot = self.used_slots_mut().iter_mut().find(keeper)?;
        slot.dismiss(now);
        Some(slot.procno)
    }

    /// Whether a keeper is only to see whether something has changed: nobody at work leaves for it.
    pub(super) fn is_nap(&self, step: Step, now: Micros) -> bool {
        let Step::StartKeeper(database) = step else {
            return false;
        };
        let entry = self.databases.iter().find(|entry| entry.oid == database);
        // Whatever has completed since: a nap is over, or the step would not have been taken.
        entry.is_some_and(|e| need(e, now, 0, e.seen.wrapping_add(1)) == Need::Nap)
    }

    /// How many keepers gave way to work.
    pub fn keepers_away(&self) -> usize {
        let away = |e: &&Database| e.oid != 0 && e.away && e.known == Known::Present;
        self.databases.iter().filter(away).count()
    }
}
