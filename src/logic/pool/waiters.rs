//! Sessions that wait for the end of a job, and keepers that look when one has ended.

use super::{Oid, State, Waiter};

impl State {
    /// Those who wait in this database for a job that `has_ended`.
    pub fn waiting_for(
        &self,
        database: Oid,
        has_ended: impl Fn(i64) -> bool,
    ) -> impl Iterator<Item = &Waiter> {
        self.waiters.iter().filter(move |waiter| {
            waiter.pid != 0 && waiter.database == database && has_ended(waiter.job)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(pid: i32, database: Oid, job: i64) -> Waiter {
        Waiter {
            pid,
            procno: pid,
            database,
            job,
            is_keeper: false,
        }
    }

    #[test]
    fn only_those_who_wait_for_the_job_in_its_database_are_told() {
        let mut state = State::empty();
        let waiters = [
            waiter(1, 5, 7),
            waiter(2, 6, 7),
            waiter(0, 5, 7),
            waiter(3, 5, 8),
            waiter(4, 5, 7),
        ];
        state.waiters[..waiters.len()].copy_from_slice(&waiters);
        let told = |job: i64| -> Vec<i32> {
            let waiting = state.waiting_for(5, |ended| ended == job);
            waiting.map(|waiter| waiter.pid).collect()
        };
        assert_eq!(told(7), [1, 4]);
        assert_eq!(told(8), [3]);
        assert!(told(9).is_empty());
    }
}
