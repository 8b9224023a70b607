//! Jobs whose receipts were rolled back.

use super::lease::JobKey;

/// So many jobs are remembered.
const ROLLBACKS: usize = 4096;

/// Whose receipts were rolled back, how often in a row; found by the job's hash, a newer job takes the
/// place of an older one.
#[repr(C)]
pub struct Rollbacks([(JobKey, u32); ROLLBACKS]);

impl Rollbacks {
    #[cfg(test)]
    pub fn empty() -> Self {
        Rollbacks([(JobKey { table: 0, job: 0 }, 0); ROLLBACKS])
    }

    fn place(&mut self, key: JobKey) -> Option<&mut (JobKey, u32)> {
        let index = key.hash() as usize % ROLLBACKS;
        self.0.get_mut(index)
    }

    /// Counts one; answers how many there were in a row.
    pub(super) fn count(&mut self, key: JobKey) -> u32 {
        let Some(place) = self.place(key) else {
            return 0;
        };
        if place.0 != key {
            *place = (key, 0);
        }
        place.1 = place.1.saturating_add(1);
        place.1
    }

    pub(super) fn forget(&mut self, key: JobKey) {
        if let Some(place) = self.place(key).filter(|place| place.0 == key) {
            place.1 = 0;
        }
    }
}
