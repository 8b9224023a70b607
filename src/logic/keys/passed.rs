//! The keys whose jobs a process has passed by: its low-water marks may stand behind such jobs only while it
//! remembers their key.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::KeyId;

/// The most keys of a queue that a process remembers: jobs of others are read again by each look.
const MOST: usize = 2048;

/// The keys of one queue and owner.
#[derive(Default)]
pub struct Passed {
    keys: BTreeMap<KeyId, Key>,
    /// How many of them may have a job that can start.
    stirred: usize,
}

struct Key {
    text: Rc<[u8]>,
    /// One of its jobs may start.
    is_stirred: bool,
}

impl Passed {
    /// A job of the key is passed by; false if the key cannot be remembered.
    pub fn remember(&mut self, id: KeyId, text: &Rc<[u8]>) -> bool {
        if let Some(known) = self.keys.get(&id) {
            return known.text == *text;
        }
        if self.keys.len() >= MOST {
            return false;
        }
        let key = Key {
            text: Rc::clone(text),
            is_stirred: false,
        };
        self.keys.insert(id, key);
        true
    }

    /// Whether there is nothing to be told of.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// All of them.
    pub fn keys(&self) -> impl Iterator<Item = (KeyId, &[u8])> {
        self.keys.iter().map(|(id, key)| (*id, key.text.as_ref()))
    }

    /// The key was given back, or the first of its jobs has gone.
    pub fn stir(&mut self, id: KeyId) {
        if let Some(key) = self.keys.get_mut(&id)
            && !std::mem::replace(&mut key.is_stirred, true)
        {
            self.stirred = self.stirred.saturating_add(1);
        }
    }

    /// Any of them was.
    pub fn stir_all(&mut self) {
        self.keys.values_mut().for_each(|key| key.is_stirred = true);
        self.stirred = self.keys.len();
    }

    /// Those of which a job may start.
    pub fn stirred(&self) -> Vec<(KeyId, Rc<[u8]>)> {
        if self.stirred == 0 {
            return Vec::new();
        }
        let stirred = self.keys.iter().filter(|(_, key)| key.is_stirred);
        stirred
            .map(|(id, key)| (*id, Rc::clone(&key.text)))
            .collect()
    }

    /// No job of the key can start before somebody says so.
    pub fn settle(&mut self, id: KeyId) {
        if let Some(key) = self.keys.get_mut(&id)
            && std::mem::take(&mut key.is_stirred)
        {
            self.stirred = self.stirred.saturating_sub(1);
        }
    }

    /// The key has no job that was passed by.
    pub fn forget(&mut self, id: KeyId) {
        self.settle(id);
        self.keys.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::{KeyId, MOST, Passed};

    fn text(text: &str) -> Rc<[u8]> {
        Rc::from(text.as_bytes())
    }

    #[test]
    fn a_key_is_looked_at_once_it_is_stirred() {
        let mut passed = Passed::default();
        assert!(passed.remember(KeyId(1), &text("a")));
        assert!(passed.remember(KeyId(2), &text("b")));
        assert!(passed.stirred().is_empty());
        passed.stir(KeyId(2));
        passed.stir(KeyId(9));
        assert_eq!(passed.stirred(), [(KeyId(2), text("b"))]);
        passed.settle(KeyId(2));
        assert!(passed.stirred().is_empty());
        passed.stir_all();
        assert_eq!(passed.stirred().len(), 2);
        passed.forget(KeyId(1));
        assert_eq!(passed.stirred(), [(KeyId(2), text("b"))]);
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered() {
        let mut passed = Passed::default();
        for number in 1..=MOST as u64 {
            assert!(passed.remember(KeyId(number), &text("x")));
        }
        assert!(!passed.remember(KeyId(0), &text("y")));
        assert!(passed.remember(KeyId(5), &text("x")));
        assert!(!passed.remember(KeyId(5), &text("other")));
    }
}
