//! Leases that end by their time, or with the service of their database.

use super::Consumers;
use super::lease::{Lease, LeaseId, Loss, Stage};
use crate::logic::Micros;
use crate::logic::pool::Oid;

impl Consumers<'_> {
    /// Ends the attempts of a database that have taken too long; answers whether there are any, and when
    /// the next one will have (0: none).
    pub fn time_out(&mut self, database: Oid, now: Micros) -> (bool, Micros) {
        let (mut some, mut next) = (false, 0);
        let used = self.head.used.min(self.leases.len());
        let leases = self.leases.get_mut(..used).unwrap_or_default();
        let timed = |lease: &&mut Lease| {
            lease.token != 0
                && lease.channel.database == database
                && lease.until != 0
                && lease.is_current()
        };
        for lease in leases.iter_mut().filter(timed) {
            if lease.until <= now {
                lease.stage = Stage::Lost;
                lease.loss = Loss::TimedOut;
                some = true;
            } else {
                next = super::sooner(next, lease.until);
            }
        }
        (some, next)
    }

    /// Forgets what was lost in databases that nobody serves any more.
    pub fn drop_lost(&mut self, is_served: impl Fn(Oid) -> bool) {
        for index in 0..self.head.used {
            let Some(lease) = self.leases.get(index) else {
                return;
            };
            let token = lease.token;
            if lease.stage == Stage::Lost && !is_served(lease.channel.database) {
                self.free(LeaseId { index, token });
            }
        }
    }
}
