//! What consumers say of the progress of their jobs.

use super::lease::JobKey;
use crate::logic::pool::{MESSAGE_BYTES, Text};

/// So many are kept; found by the job's hash, a newer one takes the place of an older one.
const NOTES: usize = 1024;

/// What was said of one job.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Note {
    key: JobKey,
    /// The lease under which it was said; 0: nothing was.
    token: i64,
    /// 0 to 100.
    pub percent: f32,
    /// Its words.
    pub message: Text<MESSAGE_BYTES>,
}

/// All of them. Zero bytes are their first state.
#[repr(C)]
pub struct Notes([Note; NOTES]);

impl Notes {
    #[cfg(test)]
    pub fn empty() -> Self {
        let key = JobKey { table: 0, job: 0 };
        Notes(
            [Note {
                key,
                token: 0,
                percent: 0.0,
                message: Text::EMPTY,
            }; NOTES],
        )
    }

    fn index(key: JobKey) -> usize {
        key.hash() as usize % NOTES
    }

    /// Keeps what is said of a job under a lease.
    pub fn set(&mut self, key: JobKey, token: i64, percent: f32, words: &[u8]) {
        if let Some(note) = self.0.get_mut(Notes::index(key)) {
            (note.key, note.token, note.percent) = (key, token, percent);
            note.message.set(words);
        }
    }

    /// What was said last under that lease.
    pub fn get(&self, key: JobKey, token: i64) -> Option<&Note> {
        let note = self.0.get(Notes::index(key))?;
        (note.key == key && note.token == token && token != 0).then_some(note)
    }
}

#[cfg(test)]
mod tests {
    use super::super::lease::JobKey;
    use super::Notes;

    #[test]
    fn a_note_is_of_one_lease() {
        let mut notes = Notes::empty();
        let key = JobKey { table: 1, job: 5 };
        notes.set(key, 7, 50.0, b"half");
        assert_eq!(notes.get(key, 7).map(|note| note.percent), Some(50.0));
        assert!(notes.get(key, 8).is_none());
        assert!(notes.get(JobKey { table: 1, job: 6 }, 7).is_none());
    }
}
