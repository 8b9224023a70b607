//! The keys whose jobs a process has passed by: its low-water marks may stand behind such jobs only while it
//! remembers their key.
//!
//! A key is looked at again when somebody says that one of its jobs may start, or when its time has come, where the
//! rate of its queue holds it back. Looks ask for those keys in the order of their first jobs.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::rc::Rc;

use super::KeyId;
use crate::logic::Timestamp;
use crate::logic::low_water::Place;

/// What a process remembers of keys takes no more bytes than this, in all its queues together: jobs of further keys are
/// read again by each look.
const MOST: usize = 8 << 20;
/// What a key takes, beside its text.
const EACH: usize = 160;

/// How many bytes a process remembers.
#[derive(Clone, Default)]
pub struct Room(Rc<Cell<usize>>);

impl Room {
    fn take(&self, bytes: usize) -> bool {
        let all = self.0.get().saturating_add(bytes);
        let fits = all <= MOST;
        if fits {
            self.0.set(all);
        }
        fits
    }

    fn give_back(&self, bytes: usize) {
        self.0.set(self.0.get().saturating_sub(bytes));
    }
}

/// The text of a key; jobs without a key count as one key, which has none.
pub type Text = Option<Rc<[u8]>>;

/// The keys of one queue and owner.
#[derive(Default)]
pub struct Passed {
    keys: BTreeMap<KeyId, Key>,
    /// Those of which a job may start.
    stirred: BTreeSet<(Place, KeyId)>,
    /// Those of which none may before a time.
    resting: BTreeSet<(Timestamp, KeyId)>,
    /// The time of the last look.
    looked: Timestamp,
    room: Room,
}

struct Key {
    text: Text,
    /// Where its first job stands that was passed by, or one before that.
    place: Place,
    state: State,
}

/// When a job of a key may start.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not before somebody says so.
    Told,
    /// Nor before that time.
    From(Timestamp),
    /// Perhaps now.
    Now,
}

/// What a look found out about a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// A job of it may start, or nobody tells when one may.
    Stirred,
    /// No job of it can start before somebody says so.
    Rests,
    /// None can before that time.
    RestsUntil(Timestamp),
    /// It has no job that was passed by.
    Gone,
}

impl Passed {
    /// None, of a process that remembers others.
    pub fn within(room: &Room) -> Passed {
        let mut passed = Passed::default();
        passed.room = room.clone();
        passed
    }

    /// A job of the key at that place is passed by, as its rate holds it back until then; 0: for another reason. False if the
    /// key cannot be remembered.
    pub fn remember(&mut self, id: KeyId, text: &Text, place: Place, until: Timestamp) -> bool {
        if let Some(known) = self.keys.get_mut(&id) {
            if known.text != *text {
                return false;
            }
            if place < known.place {
                let before = std::mem::replace(&mut known.place, place);
                if self.stirred.remove(&(before, id)) {
                    self.stirred.insert((place, id));
                }
            }
            if until != 0 && known.state != State::Now {
                self.put(id, State::From(until));
            }
            return true;
        }
        if !self.room.take(size(text)) {
            return false;
        }
        let key = Key {
            text: text.clone(),
            place,
            state: State::Told,
        };
        self.keys.insert(id, key);
        if until != 0 {
            self.put(id, State::From(until));
        }
        true
    }

    /// Whether there is nothing to be told of.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// All of them, with the places of their first jobs.
    pub fn keys(&self) -> impl Iterator<Item = (KeyId, &Text, Place)> {
        let keys = self.keys.iter();
        keys.map(|(id, key)| (*id, &key.text, key.place))
    }

    fn put(&mut self, id: KeyId, state: State) {
        let Some(key) = self.keys.get_mut(&id) else {
            return;
        };
        match std::mem::replace(&mut key.state, state) {
            State::Told => false,
            State::From(time) => self.resting.remove(&(time, id)),
            State::Now => self.stirred.remove(&(key.place, id)),
        };
        match state {
            State::Told => false,
            State::From(time) => self.resting.insert((time, id)),
            State::Now => self.stirred.insert((key.place, id)),
        };
    }

    /// The key was given back, or the first of its jobs has gone.
    pub fn stir(&mut self, id: KeyId) {
        self.put(id, State::Now);
    }

    /// Any of them was.
    pub fn stir_all(&mut self) {
        self.resting.clear();
        for (id, key) in &mut self.keys {
            key.state = State::Now;
            self.stirred.insert((key.place, *id));
        }
    }

    /// A look begins: those whose time has come by `soon` are to be looked at. All of them if the clock was set back.
    pub fn look(&mut self, now: Timestamp, soon: Timestamp) {
        if std::mem::replace(&mut self.looked, now) > now {
            return self.stir_all();
        }
        while let Some((_, id)) = self.resting.first().filter(|first| first.0 <= soon) {
            self.put(*id, State::Now);
        }
    }

    /// When the next of those may start that rest until a time; 0: none do.
    pub fn next(&self) -> Timestamp {
        self.resting.first().map_or(0, |first| first.0)
    }

    /// The first of those of which a job may start, or the next one behind another.
    pub fn stirred(&self, after: Option<(Place, KeyId)>) -> Option<(Place, KeyId, Text)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (place, id) = self.stirred.range((from, Bound::Unbounded)).next()?;
        let text = &self.keys.get(id)?.text;
        Some((*place, *id, text.clone()))
    }

    /// What a look has found of a key, and where its first job stands, if that was found out.
    pub fn note(&mut self, id: KeyId, found: Found, first: Option<Place>) {
        match found {
            Found::Stirred => {}
            Found::Rests => self.put(id, State::Told),
            Found::RestsUntil(time) => self.put(id, State::From(time)),
            Found::Gone => return self.forget(id),
        }
        if let (Some(first), Some(key)) = (first, self.keys.get_mut(&id)) {
            let before = std::mem::replace(&mut key.place, first);
            if self.stirred.remove(&(before, id)) {
                self.stirred.insert((first, id));
            }
        }
    }

    fn forget(&mut self, id: KeyId) {
        self.put(id, State::Told);
        if let Some(key) = self.keys.remove(&id) {
            self.room.give_back(size(&key.text));
        }
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        let all = self.keys.values().map(|key| size(&key.text));
        self.room.give_back(all.fold(0, usize::saturating_add));
    }
}

fn size(text: &Text) -> usize {
    let length = text.as_ref().map_or(0, |text| text.len());
    EACH.saturating_add(length)
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::{EACH, Found, KeyId, MOST, Passed, Place, Room, Text};

    fn text(text: &str) -> Text {
        Some(Rc::from(text.as_bytes()))
    }

    fn at(id: i64) -> Place {
        Place {
            priority: 0,
            run_at: 10,
            id,
        }
    }

    fn stirred(passed: &Passed) -> Vec<u64> {
        let mut found = Vec::new();
        let mut after = None;
        while let Some((place, id, _)) = passed.stirred(after) {
            found.push(id.spread());
            after = Some((place, id));
        }
        found
    }

    #[test]
    fn a_key_is_looked_at_once_it_is_stirred() {
        let mut passed = Passed::default();
        assert!(passed.remember(KeyId(1), &text("a"), at(1), 0));
        assert!(passed.remember(KeyId(2), &text("b"), at(2), 0));
        assert!(stirred(&passed).is_empty());
        passed.stir(KeyId(2));
        passed.stir(KeyId(9));
        assert_eq!(passed.stirred(None), Some((at(2), KeyId(2), text("b"))));
        assert_eq!(stirred(&passed), [2]);
        passed.note(KeyId(2), Found::Rests, None);
        assert!(stirred(&passed).is_empty());
        passed.stir_all();
        assert_eq!(stirred(&passed), [1, 2]);
        passed.note(KeyId(1), Found::Gone, None);
        assert_eq!(stirred(&passed), [2]);
    }

    #[test]
    fn keys_come_in_the_order_of_their_first_jobs() {
        let mut passed = Passed::default();
        for (id, place) in [(1, 30), (2, 20), (3, 10)] {
            assert!(passed.remember(KeyId(id), &text("x"), at(place), 0));
        }
        passed.stir_all();
        assert_eq!(stirred(&passed), [3, 2, 1]);
        // Another job comes to stand before the first one of a key; the first one of another has gone.
        assert!(passed.remember(KeyId(1), &text("x"), at(5), 0));
        passed.note(KeyId(3), Found::Stirred, Some(at(25)));
        assert_eq!(stirred(&passed), [1, 2, 3]);
    }

    #[test]
    fn a_key_rests_until_its_time() {
        let mut passed = Passed::default();
        assert!(passed.remember(KeyId(1), &text("a"), at(1), 100));
        assert!(passed.remember(KeyId(2), &text("b"), at(2), 50));
        assert_eq!(passed.next(), 50);
        passed.look(40, 49);
        assert!(stirred(&passed).is_empty());
        passed.look(50, 50);
        assert_eq!((stirred(&passed), passed.next()), (vec![2], 100));
        passed.note(KeyId(2), Found::RestsUntil(150), None);
        assert_eq!((stirred(&passed), passed.next()), (vec![], 100));
        // Somebody says that it may start sooner.
        passed.stir(KeyId(2));
        assert_eq!(stirred(&passed), [2]);
        assert!(passed.remember(KeyId(2), &text("b"), at(2), 200));
        assert_eq!(stirred(&passed), [2]);
        // The clock is set back.
        passed.look(20, 20);
        assert_eq!((stirred(&passed), passed.next()), (vec![1, 2], 0));
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered() {
        let room = Room::default();
        let mut passed = Passed::within(&room);
        let most = (MOST / (EACH + 1)) as u64;
        for number in 1..=most {
            assert!(passed.remember(KeyId(number), &text("x"), at(1), 0));
        }
        assert!(!passed.remember(KeyId(0), &text("y"), at(1), 0));
        assert!(passed.remember(KeyId(5), &text("x"), at(1), 0));
        assert!(!passed.remember(KeyId(5), &text("other"), at(1), 0));
        let mut other = Passed::within(&room);
        assert!(!other.remember(KeyId(5), &text("x"), at(1), 0));
        passed.note(KeyId(7), Found::Gone, None);
        assert!(other.remember(KeyId(5), &text("x"), at(1), 0));
        drop((passed, other));
        assert_eq!(room.0.get(), 0);
    }
}
